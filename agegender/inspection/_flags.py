"""From measurements of pictures to flags for unusual pictures, and to the framing of the set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender._utils.figures import share_interval
from agegender.faces import TEMPLATES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FLAGS", "flag_pictures", "framing_of"]

CROP_SHARE = 0.25
"""If the face takes this share of most pictures, they are face crops."""

FEWEST_PIXELS = 48
"""A face of fewer pixels in width shows little of the age."""

FITS = 0.06
"""Largest distance of landmarks from a template that fits (root mean square, fractions of the side)."""

# A flag: its name, its condition (measures, whether they are crops, median share of the face), its text.
_Rule = Callable[[Any, bool, float], Any]
FLAGS: dict[str, tuple[_Rule, str]] = {
    "no face": (lambda m, crops, share: m.n_faces == 0, "the detector finds no face in it"),
    "several faces": (
        lambda m, crops, share: m.n_faces > 1,
        "it shows more than one face, and the label may be another's",
    ),
    "tiny face": (
        lambda m, crops, share: (
            np.sqrt(m.face_share * m.width * m.height) < FEWEST_PIXELS
            if not crops
            else m.face_share < 0.4 * share
        ),
        "the face has few pixels",
    ),
    "off-centre": (
        lambda m, crops, share: crops & ((m.face_x - 0.5).abs().gt(0.17) | (m.face_y - 0.5).abs().gt(0.17)),
        "the face is far from the middle of the crop",
    ),
    "rotated": (lambda m, crops, share: m.face_roll.abs() > 15, "the eyes are more than 15° off the level"),
    "blurred": (lambda m, crops, share: m.sharpness < 8, "it has hardly any edges"),
    "grey": (lambda m, crops, share: m.colour < 3, "it has no colours"),
    "dark": (lambda m, crops, share: m.brightness < 40, "it is nearly black"),
    "pale": (lambda m, crops, share: m.contrast < 18, "its greys hardly differ"),
    "black border": (lambda m, crops, share: m.border > 0.1, "a tenth of it or more is black border"),
    "flat": (
        lambda m, crops, share: m.flatness > 0.45,
        "most of its pixels equal their neighbours, as in a graphic or an empty picture",
    ),
}


def flag_pictures(measures: pd.DataFrame) -> pd.DataFrame:
    """Return one boolean column per flag.

    Parameters
    ----------
    measures : DataFrame
        From `measure_pictures`.

    Returns
    -------
    DataFrame
        One column per entry of `FLAGS`; false if nothing was measured.
    """
    import pandas as pd

    share = float(measures["face_share"].median())
    crops = bool(share >= CROP_SHARE)
    return pd.DataFrame(
        {name: np.asarray(rule(measures, crops, share), dtype=bool) for name, (rule, _) in FLAGS.items()}
    )


def framing_of(measures: pd.DataFrame, landmarks: NDArray[np.floating]) -> dict[str, Any]:
    """Find out whether pictures are face crops or photographs, and which template fits the crops.

    Parameters
    ----------
    measures : DataFrame
    landmarks : ndarray of shape (n_pictures, 5, 2)
        In fractions of the square around each picture.

    Returns
    -------
    dict
        kind ("face crops", "photographs", "mixed", or "unknown" if no face was searched for or found),
        face_share (median), n_searched, n_with_face and the interval of their share (with_face_low,
        with_face_high), template (the nearest, or None), template_distance (fractions of the side), sizes
        (the commonest five, as text, with their counts), n_sizes, advice.
    """
    sizes = (measures["width"].map("{:.0f}".format) + " × " + measures["height"].map("{:.0f}".format))[
        measures["width"].notna()
    ]
    found: dict[str, Any] = {"sizes": sizes.value_counts().head(5).to_dict(), "n_sizes": int(sizes.nunique())}
    searched = measures["n_faces"].dropna()
    n_with = int((searched > 0).sum())
    low, high = share_interval(n_with, len(searched))
    found |= {"n_searched": len(searched), "n_with_face": n_with}
    found |= {"with_face_low": low, "with_face_high": high} if len(searched) else {}
    shares = measures["face_share"].dropna()
    if not len(shares):
        return found | {
            "kind": "unknown",
            "face_share": None,
            "template": None,
            "template_distance": None,
            "advice": "No face was found, or none was looked for.",
        }
    crops = float((shares >= CROP_SHARE).mean())
    kind = "mixed"
    if crops > 0.9:
        kind = "face crops"
    elif crops < 0.1:
        kind = "photographs"
    template, distance = _nearest_template(landmarks)
    fits = distance <= FITS
    return found | {
        "kind": kind,
        "face_share": float(shares.median()),
        "template": template if fits else None,
        "template_distance": distance,
        "advice": _advice(kind, template if fits else None),
    }


def _nearest_template(landmarks: NDArray[np.floating]) -> tuple[str, float]:
    known = landmarks[np.isfinite(landmarks).all(axis=(1, 2))]
    usual = np.median(known, axis=0)
    distances = {
        name: float(np.sqrt(((usual - np.array(points) / side) ** 2).sum(axis=1).mean()))
        for name, (side, points) in TEMPLATES.items()
    }
    nearest = min(distances, key=lambda name: distances[name])
    return nearest, distances[nearest]


def _advice(kind: str, template: str | None) -> str:
    if kind == "photographs":
        return 'Find the face first: EmbeddingExtractor(faces="auto").'
    if kind == "mixed":
        return (
            'Crops and photographs are mixed: EmbeddingExtractor(faces="auto") brings all into one framing.'
        )
    if template == "utkface":
        return 'The crops are tight, as UTKFace\'s: take them as they are, or EmbeddingExtractor(framing="utkface").'
    if template == "arcface":
        return "The crops are framed as face-recognition networks expect: take them as they are (faces=None)."
    return 'The crops fit no known template: EmbeddingExtractor(faces="auto") aligns them.'
