"""Conversion of fitted extractors in safe files of agegender 0.1 to the form of this version."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agegender._extraction.crops import SeenCrops
from agegender._extraction.resolved import Asked, resolve
from agegender.backbones import Backbone
from agegender.exceptions import ModelFileError
from agegender.faces import RecordedDetector

__all__ = ["FITTED_BEFORE", "RENAMED", "upgraded"]

FITTED_BEFORE = {"EmbeddingExtractor": ("backbone_", "framing_", "_detector_name")}
"""The attributes that only files of format 1 contain, by class."""

RENAMED: dict[Any, str] = {"DescribedHead": "AbsentHead"}
"""Classes that have a different name in files of format 1."""


def upgraded(made: Any, fitted: dict[str, Any]) -> dict[str, Any]:
    """Return the fitted attributes of an object in the form of this version.

    Parameters
    ----------
    made : object
        The object, with the parameters of the file.
    fitted : dict
        The attributes of the file.

    Raises
    ------
    ModelFileError
        If they are not the attributes of such a file.
    """
    if "backbone_" not in fitted:
        return {name: value for name, value in fitted.items() if name not in ("framing_", "_detector_name")}
    backbone = fitted.pop("backbone_")
    if not isinstance(backbone, Backbone):
        raise ModelFileError("its fitted backbone is no network")
    detector = fitted.pop("_detector_name", None)
    asked = Asked.of(made)
    resolved = replace(
        resolve(replace(asked, backbone=backbone, weights=None, engine="auto", faces=None)),
        finds_faces=asked.faces is not None,
        detector=None if detector is None else RecordedDetector(detector, None),
        crops=SeenCrops(fitted.pop("framing_")) if "framing_" in fitted else None,
    )
    parts: list[Any] = [resolved, resolved.detector, resolved.crops]
    for part in parts:
        if part is not None:
            part._check_safe()
    return fitted | {"resolved_": resolved}
