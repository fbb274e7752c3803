"""Loading predictors from safe files, without the code that trains."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from typing import Any

from agegender._extraction.crops import shipped_crops
from agegender._extraction.extraction import Extraction, Running
from agegender._extraction.resolved import Asked, resolve
from agegender._extraction.shared import SharedExtraction
from agegender._extraction.upgrade import FITTED_BEFORE, RENAMED, upgraded
from agegender._fitting.averaged_head import AveragedHead
from agegender._fitting.fitted_head import FittedHead
from agegender._networks.opening import needs_keras
from agegender._networks.shipped import SHIPPED
from agegender._safe.reading import Classes, read_file
from agegender._utils.validation import check_choice
from agegender.backbones import Backbone
from agegender.exceptions import ModelFileError
from agegender.inference._predictor import Predictor, Training
from agegender.inference._saved import CLASSES, SavedClassifier, SavedEnsemble, SavedPipeline

__all__ = ["load", "load_pretrained"]

_TOP = ("AgeGenderPipeline", "AgeGenderClassifier", "EmbeddingExtractor", "AgeGenderEnsemble")
_READ = Classes(CLASSES.__getitem__, CLASSES, _TOP, RENAMED, FITTED_BEFORE, upgraded)
_NEEDS_KERAS = "which needs TensorFlow. keras=True allows this; agegender.load_model does, too."


def load(path: str | os.PathLike[str], *, keras: bool = False, **options: Any) -> Predictor:
    """Load a fitted pipeline or ensemble from a file of :func:`agegender.save_model`, to predict with it.

    The file is checked as by :func:`agegender.load_model`: no code of it is run. Its numbers are those of the
    model. Neither scikit-learn, SciPy, pandas, joblib, matplotlib nor TensorFlow is imported.

    Parameters
    ----------
    path : path
        The file.
    keras : bool, default=False
        Whether a network or a head that only Keras can run is accepted. Then the first prediction imports TensorFlow.
    **options
        As in :meth:`Predictor.with_options`; what is not given is as in the file.

    Returns
    -------
    Predictor

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is damaged, was changed, comes from a later agegender, holds no fitted pipeline or ensemble, or holds a
        network or head that ONNX Runtime cannot run.

    See Also
    --------
    agegender.inference.load_pretrained : The model in the package.
    agegender.load_model : Load an estimator, which can be trained further.

    Examples
    --------
    >>> from agegender.inference import load
    >>> load("model.agegender").predict(["anna.jpg"])  # doctest: +SKIP
    array([[31.4,  1. ]])
    """
    model = read_file(path, _READ)
    extraction, head = _parts(model, str(path))
    limit, training = vars(model).get("memory_limit", "2GB"), model.training()
    predictor = Predictor(extraction, head, memory_limit=limit, training=training)
    if not keras:
        _check_onnx(predictor.networks, head, str(path))
    return predictor.with_options(**options)


def _check_onnx(networks: Sequence[Backbone], head: FittedHead | AveragedHead, path: str) -> None:
    """Raise an error if ONNX Runtime is not enough."""
    if head.needs_keras:
        raise ModelFileError(f"The head in {path} has no ONNX form, only a Keras form, {_NEEDS_KERAS}")
    for backbone in networks:
        if needs_keras(backbone):
            raise ModelFileError(
                f"The network {backbone.name!r} of {path} is a {backbone.suffix} file that has no ONNX form yet, "
                f"{_NEEDS_KERAS}"
            )


def load_pretrained(name: str = "compact", **options: Any) -> Predictor:
    """Load a pretrained model of the package, to predict with it.

    Parameters
    ----------
    name : {"compact"}, default="compact"
        As in :func:`agegender.load_pretrained`, where the terms are.
    **options
        As in :meth:`Predictor.with_options`.

    Returns
    -------
    Predictor

    Raises
    ------
    ValueError
        If there is no model of this name.
    WeightsError
        If the installation is damaged.

    See Also
    --------
    agegender.load_pretrained : The same model as an estimator.

    Examples
    --------
    >>> from agegender.inference import load_pretrained
    >>> load_pretrained("compact")
    <Predictor on compact, genders 0, 1>
    """
    check_choice("name", name, tuple(SHIPPED), "load_pretrained")
    with resources.as_file(resources.files("agegender.pretrained") / f"{name}.agegender") as file:
        classifier = read_file(file, _READ)
    assert isinstance(classifier, SavedClassifier)
    head = classifier.fitted_head()
    assert head is not None
    resolved = resolve(Asked(backbone=name, layer=SHIPPED[name].layer)).with_crops(shipped_crops())
    head_name = type(vars(classifier)["head"]).__name__
    training = Training(head_name, vars(classifier)["n_epochs_"], len(SHIPPED[name].trained_on()))
    return Predictor(Extraction(resolved, Running(), None), head, training=training).with_options(**options)


def _parts(model: Any, path: str) -> tuple[Extraction, FittedHead] | tuple[SharedExtraction, AveragedHead]:
    """Return extraction and head of a fitted model, or raise an error that says what the file holds instead."""
    if not isinstance(model, SavedPipeline | SavedEnsemble):
        raise ModelFileError(
            f"{path} holds an object of class {model.kind}; a fitted AgeGenderPipeline or AgeGenderEnsemble is "
            "needed. agegender.load_model loads what it holds."
        )
    if (parts := model.parts()) is None:
        raise ModelFileError(f"{path} holds an unfitted {model.kind}; fit it, then save it again.")
    return parts
