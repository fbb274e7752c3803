"""What a safe file holds of a fitted model, without the code that trains: parameters and fitted values."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

from agegender._extraction.crops import SeenCrops
from agegender._extraction.extraction import Extraction, Running
from agegender._extraction.resolved import Asked, Resolved, Source, resolve
from agegender._fitting.fitted_head import FittedHead, check_fitted
from agegender._safe.absent_head import AbsentHead
from agegender._safe.declaration import SafeState
from agegender._safe.declared import CLASSIFIER, ENSEMBLE, EXTRACTOR, PIPELINE
from agegender.calibration import Calibration
from agegender.exceptions import ModelFileError
from agegender.faces import RecordedDetector
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


class SavedEnsemble(_Saved):
    """An AgeGenderEnsemble."""

    kind = "AgeGenderEnsemble"
    _safe: ClassVar[SafeState] = ENSEMBLE


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
