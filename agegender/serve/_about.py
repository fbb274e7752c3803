"""Information about the service's model: training data, parts, versions and licences."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from typing import Any

from agegender._utils.genders import gender_word
from agegender.backbones import Backbone
from agegender.faces import Detector
from agegender.serve._limits import Limits
from agegender.serve._parameters import LAYERS
from agegender.serve._predictor import plain

__all__ = ["NOT_FOR", "about"]

NOT_FOR = (
    "Age and gender read from a face are estimates about appearance, wrong for many people and unevenly so: never "
    "decide about a person by them, not on access, work, credit, policing or proof of age."
)
"""What such estimates must not be used for, in one sentence."""

_PACKAGES = ("agegender", "onnxruntime", "numpy", "scikit-learn", "opencv-contrib-python-headless", "Pillow")


def about(
    model: Any,
    detectors: Mapping[str, Detector],
    *,
    name: str,
    sha256: str | None,
    trained_on: str | None,
    limits: Limits,
) -> dict[str, Any]:
    """Describe a model and its service as the members of a JSON object.

    Parameters
    ----------
    model : agegender.inference.Predictor
    detectors : mapping of str to Detector
    name, sha256 : str
        Of the model's file.
    trained_on : str or None
        None if the file does not state it.
    limits : Limits
    """
    training = model.training
    ages, genders = model.classes_
    return {
        "name": name,
        "sha256": sha256,
        "trained_on": trained_on or "not recorded in the model's file",
        "n_training_pictures": training and training.n_pictures,
        "networks": [_network(backbone) for backbone in model.networks],
        "head": training and training.head,
        "n_epochs": training and plain(training.n_epochs),
        "n_calibration_pictures": plain(model.calibration_.n_pictures),
        "ages": [plain(ages[0]), plain(ages[-1])],
        "genders": [{"label": plain(label), "word": gender_word(label)} for label in genders],
        "faces": {asked: _detector(found) for asked, found in detectors.items()} | {"none": None},
        "layers": list(LAYERS),
        "versions": {package: _version(package) for package in _PACKAGES}
        | {"python": platform.python_version()},
        "limits": asdict(limits),
        "must_not_be_used_for": NOT_FOR,
    }


def _network(backbone: Backbone) -> dict[str, Any]:
    return {
        "name": backbone.name,
        "input_size": list(backbone.input_size),
        "sha256": backbone.sha256,
        "terms": backbone.licence,
    }


def _detector(detector: Detector) -> dict[str, Any]:
    return {"name": detector.name, "sha256": detector.sha256, "min_score": detector.min_score}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
