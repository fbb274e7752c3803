"""The description inside an exported file: input and output, framing of faces, and origin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from agegender._exporting.parts import NetworkPart
from agegender._networks.exported import EXPORTED
from agegender._pixels.alignment import TEMPLATES
from agegender._utils.versions import versions

if TYPE_CHECKING:
    from agegender._extraction.resolved import Resolved
    from agegender.classifier import AgeGenderClassifier

__all__ = ["describe", "state"]

FORMAT_VERSION = 1
_LANDMARKS = ("right eye", "left eye", "nose", "right corner of the mouth", "left corner of the mouth")
_PURPOSE = (
    "Age and gender from pictures of faces: estimates about appearance, not facts about people. Not for decisions "
    "about a person, not proof of age, not for identifying anyone."
)


def describe(
    resolved: Resolved,
    classifier: AgeGenderClassifier,
    networks: Sequence[NetworkPart],
    *,
    input_size: tuple[int, int] | None,
    coverage: float | None,
    float16: bool,
) -> dict[str, Any]:
    """Return the description of a file, as values for JSON.

    Parameters
    ----------
    resolved : Resolved
    classifier : AgeGenderClassifier
    networks : sequence of NetworkPart
    input_size : tuple of int or None
        Height and width of the pictures; None if they may have any size.
    coverage : float or None
        None if it is an input of the model.
    float16 : bool
        Whether weights are stored in half precision.
    """
    import onnx

    head = classifier._onnx or b""
    return {
        "format_version": FORMAT_VERSION,
        "purpose": _PURPOSE,
        "input": {
            "type": "uint8",
            "layout": "nhwc",
            "color": "rgb",
            "size": "any" if input_size is None else list(input_size),
            "framing": _framing(resolved),
        },
        "detector": _detector(resolved),
        "ages": [0, classifier.max_age],
        "genders": classifier.classes_[1].tolist(),
        "coverage": "input" if coverage is None else coverage,
        "calibrated_on": classifier.calibration_.n_pictures,
        "views": [str(view) for view in resolved.views],
        "weights": "float16" if float16 else "float32",
        "networks": [
            {
                "name": part.backbone.name,
                "layer": part.layer,
                "sha256": part.backbone.sha256,
                "licence": part.backbone.licence,
            }
            for part in networks
        ],
        "head": {"name": type(classifier.head).__name__, "sha256": hashlib.sha256(head).hexdigest()},
        "licence": sorted({part.backbone.licence or "unknown" for part in networks}),
        "versions": versions() | {"onnx": onnx.__version__},
    }


def state(model: Any, description: dict[str, Any]) -> None:
    """Write the description into a file."""
    entry = model.metadata_props.add()
    entry.key, entry.value = EXPORTED, json.dumps(description)
    model.producer_name, model.producer_version = "agegender", description["versions"]["agegender"]
    model.doc_string = _PURPOSE


def _framing(resolved: Resolved) -> dict[str, Any]:
    """Return the positions of a face's landmarks in a picture, in fractions of the square's side."""
    own = None if resolved.crops is None else resolved.crops.landmarks
    aligned = resolved.finds_faces or resolved.framing is not None
    if resolved.framing is None and own is not None:
        name, points = "own", np.asarray(own)
    elif aligned:
        name, points = "arcface", np.array(TEMPLATES["arcface"][1]) / TEMPLATES["arcface"][0]
    else:
        return {"name": "unknown", "landmarks": None}
    # A negative crop shows more than the template around an aligned face.
    wider = 1 + 2 * max(-resolved.crop, 0.0) if aligned else 1.0
    placed = ((points - 0.5) / wider + 0.5).round(5).tolist()
    return {"name": name, "landmarks": dict(zip(_LANDMARKS, placed, strict=True))}


def _detector(resolved: Resolved) -> dict[str, Any] | None:
    """Return the face detector that the library uses for this model."""
    found = resolved.detector
    return None if found is None else {"name": found.name, "sha256": found.sha256}
