"""Test an exported graph on drawn faces before its file is written."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._machine.sessions import open_session
from agegender.exceptions import ModelFileError

if TYPE_CHECKING:
    from agegender.classifier import AgeGenderClassifier
    from agegender.extractor import EmbeddingExtractor

__all__ = ["OUTPUTS", "try_out"]

OUTPUTS = ("age", "age_low", "age_high", "gender_proba", "age_proba")
"""The outputs of an exported file, in this order."""

EXACT = {"age": 1e-3, "age_low": 1e-2, "age_high": 1e-2, "gender_proba": 1e-4, "age_proba": 1e-4}
"""The largest differences from the pipeline that rounding can explain, in years and in probability."""

ROUNDED = {"age": 1.0, "age_low": 5.0, "age_high": 5.0, "gender_proba": 0.1, "age_proba": 0.1}
"""The same for half-precision weights and for views, which OpenCV rounds differently."""

_N_FACES = 4


def try_out(
    made: Any,
    extractor: EmbeddingExtractor,
    classifier: AgeGenderClassifier,
    *,
    side: tuple[int, int] | None,
    coverage: float | None,
    exact: bool,
) -> dict[str, float]:
    """Run a graph on drawn faces, and return the largest difference of each output from the pipeline's.

    Parameters
    ----------
    made : onnx.ModelProto
    extractor : EmbeddingExtractor
        An extractor for squares, which are the graph's input: without a detector and framing.
    classifier : AgeGenderClassifier
    side : tuple of int or None
        Height and width of the pictures; None if these are open.
    coverage : float or None
        None if it is an input of the model.
    exact : bool
        Whether the numbers should equal the pipeline's, except for rounding.

    Raises
    ------
    ModelFileError
        If they differ by more than the allowed differences.
    """
    pictures, asked = _drawn(side), 0.8 if coverage is None else coverage
    rows = extractor.with_parameters(cache=None, device="cpu", verbose=0).transform(pictures)
    frame = classifier.predict_frame(rows, coverage=asked)
    ages, genders = classifier.predict_proba(rows)
    expected = [*(frame[name].to_numpy() for name in OUTPUTS[:3]), genders, ages]
    feed: dict[str, NDArray[Any]] = {"pictures": pictures}
    if coverage is None:
        feed["coverage"] = np.array([asked], np.float32)
    found = open_session(made.SerializeToString()).run(list(OUTPUTS), feed)
    differences = {
        name: float(np.abs(theirs - ours).max())
        for name, ours, theirs in zip(OUTPUTS, expected, found, strict=True)
    }
    for name, difference in differences.items():
        limit = (EXACT if exact else ROUNDED)[name]
        if not difference <= limit:
            remedy = (
                "Please report this network." if exact else "Export without float16 and without such views."
            )
            raise ModelFileError(
                f"The exported graph gives another {name} than the pipeline, by up to {difference:.3g} on drawn "
                f"faces where {limit:g} is allowed; nothing was written. {remedy}"
            )
    return {name: float(f"{difference:.2g}") for name, difference in differences.items()}


def _drawn(side: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Return a few drawn faces, of the graph's input size, or else of a size that no network has."""
    from agegender.datasets import make_faces

    with tempfile.TemporaryDirectory() as folder:
        faces = [images.load(path) for path in make_faces(_N_FACES, folder, size=200, verbose=0).data]
    if side is None:
        return np.stack([face[:, 10:187] for face in faces])
    return np.stack([images.letterbox(face, side) for face in faces])
