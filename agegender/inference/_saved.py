"""What a safe file holds of a fitted model, without the code that trains: parameters and fitted values."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

from agegender._extraction.crops import SeenCrops
from agegender._extraction.extraction import Extraction, Running
from agegender._extraction.resolved import Asked, Resolved, Source, resolve
from agegender._extraction.shared import SharedExtraction
from agegender._fitting.averaged_head import AveragedHead, check_averaged
from agegender._fitting.fitted_head import FittedHead, check_fitted
from agegender._safe.absent_head import AbsentHead
from agegender._safe.declaration import SafeState
from agegender._safe.declared import CLASSIFIER, ENSEMBLE, EXTRACTOR, PIPELINE
from agegender.calibration import Calibration
from agegender.exceptions import ModelFileError
from agegender.faces import RecordedDetector
from agegender.inference._predictor import Training
from agegender.views import View

__all__ = ["CLASSES", "SavedClassifier", "SavedEnsemble", "SavedExtractor", "SavedPipeline"]


class _Saved:
    """The parameters of an object in a file as attributes; the fitted values are added by the reader."""

    _safe: ClassVar[SafeState] = SafeState()
    kind: ClassVar[str] = ""
    """The class that it was."""
    names: ClassVar[tuple[str, ...] | None] = None
    """The parameters that there are; None if all are accepted, because none of them changes a prediction."""

    def __init__(self, **parameters: Any) -> None:
        if self.names is not None and (strange := sorted(set(parameters) - set(self.names))):
            raise TypeError(f"unknown parameter {strange[0][:80]!r}")
        vars(self).update(parameters)


class SavedExtractor(_Saved):
    """An EmbeddingExtractor."""

    kind = "EmbeddingExtractor"
    _safe: ClassVar[SafeState] = EXTRACTOR
    names = tuple(field.name for kind in (Asked, Running) for field in fields(kind))

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**vars(Asked()) | parameters)

    def _check_safe(self) -> None:
        if not isinstance(vars(self).get("resolved_"), Resolved | None):
            raise ModelFileError("its fitted state is none")

    def extraction(self) -> Extraction:
        """Return what computes rows; parameters that were changed after fit are resolved again."""
        asked = Asked.of(self)
        resolved = vars(self).get("resolved_") or resolve(asked)
        running = Running.of(vars(self))
        running.check("EmbeddingExtractor")
        return Extraction(resolved, running, asked.faces)


class SavedClassifier(_Saved):
    """An AgeGenderClassifier; its parameters are for training."""

    kind = "AgeGenderClassifier"
    _safe: ClassVar[SafeState] = CLASSIFIER
    names = (
        *("head", "age_loss", "age_sigma", "expected_age_weight", "gender_weight", "max_age", "epochs"),
        *("batch_size", "learning_rate", "schedule", "validation_fraction", "calibration_fraction"),
        *("patience", "averaging", "mixup", "rounds", "ensemble", "balance", "n_views", "standardize"),
        *("checkpoint", "random_state", "verbose"),
    )

    def _check_safe(self) -> None:
        state = vars(self)
        if state.get("_onnx") is not None:
            state["_keras"] = None  # it is not used, and need not be checked
        check_fitted(state)

    def fitted_head(self) -> FittedHead | None:
        """Return the head, or None if it was not fitted."""
        return FittedHead.of(vars(self)) if "classes_" in vars(self) else None


class SavedPipeline(_Saved):
    """An AgeGenderPipeline."""

    kind = "AgeGenderPipeline"
    _safe: ClassVar[SafeState] = PIPELINE
    names = ("extractor", "classifier", "memory_limit", "calibration_views")

    def _check_safe(self) -> None:
        for name, kind in {"extractor": SavedExtractor, "classifier": SavedClassifier}.items():
            for attribute in (name, f"{name}_"):
                found = vars(self).get(attribute)
                if not isinstance(found, kind | None):
                    raise ModelFileError(f"its {attribute} is a {type(found).__name__}")

    def head(self) -> FittedHead | None:
        """Return the head, or None if it was not fitted."""
        extractor, classifier = (vars(self).get(name) for name in ("extractor_", "classifier_"))
        return None if extractor is None or classifier is None else classifier.fitted_head()

    def parts(self) -> tuple[Extraction, FittedHead] | None:
        """Return what computes rows and what reads them, or None if it was not fitted."""
        head = self.head()
        return None if head is None else (vars(self)["extractor_"].extraction(), head)

    def training(self) -> Training:
        """Return what is known of its training."""
        return Training.of(self)


class SavedEnsemble(_Saved):
    """An AgeGenderEnsemble."""

    kind = "AgeGenderEnsemble"
    _safe: ClassVar[SafeState] = ENSEMBLE
    names = ("models", "prefit", "held_out_fraction", "random_state", "memory_limit")

    def _check_safe(self) -> None:
        for name in ("models", "models_"):
            found = vars(self).get(name, ())
            if not isinstance(found, list | tuple) or not all(
                isinstance(one, SavedPipeline) for one in found
            ):
                raise ModelFileError(f"its {name} are no pipelines")
        if "models_" in vars(self):
            check_averaged(vars(self), [head.classes for head in self._heads()])

    def parts(self) -> tuple[SharedExtraction, AveragedHead] | None:
        """Return what computes rows and what reads them, or None if it was not fitted."""
        if "models_" not in vars(self):
            return None
        extractions = [vars(model)["extractor_"].extraction() for model in vars(self)["models_"]]
        head = AveragedHead(self._heads(), vars(self)["weights_"], vars(self)["calibration_"])
        return SharedExtraction(extractions), head

    def training(self) -> Training:
        """Return what is known of the training of its models."""
        return Training.of_each(vars(self)["models_"])

    def _heads(self) -> tuple[FittedHead, ...]:
        heads = [model.head() for model in vars(self)["models_"]]
        if None in heads:
            raise ModelFileError("one of its models is not fitted")
        return tuple(head for head in heads if head is not None)


CLASSES: dict[str, Any] = {
    "AgeGenderPipeline": SavedPipeline,
    "EmbeddingExtractor": SavedExtractor,
    "AgeGenderClassifier": SavedClassifier,
    "AgeGenderEnsemble": SavedEnsemble,
    **{name: type(name, (_Saved,), {}) for name in ("DenseHead", "ConvHead", "FineTuneHead", "Augmentation")},
    "AbsentHead": AbsentHead,
    "Calibration": Calibration,
    "View": View,
    "Resolved": Resolved,
    "Source": Source,
    "SeenCrops": SeenCrops,
    "RecordedDetector": RecordedDetector,
}
"""The classes of `agegender.persistence`, by the names in files."""
