"""Checks of what predicts without the code that trains: the same numbers as the estimator, few imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agegender import inference

HEAVY = {"sklearn", "scipy", "pandas", "joblib", "matplotlib", "tensorflow", "keras", "numpy.ma"}
# A file of a stranger is checked by the package onnx; the model in the package is known.
HEAVIER = HEAVY | {"onnx", "google.protobuf"}


def imported_after(script: str, *arguments: object, heavy: set[str] = HEAVY) -> set[str]:
    """Run a script, and return which heavy modules it has imported."""
    tail = f"\nimport sys; print(*({heavy!r} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script + tail, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def check_same(model: Any, file: Path, pictures: Any) -> None:
    predictor = inference.load(file, cache=None)
    np.testing.assert_array_equal(predictor.predict(pictures), model.predict(pictures))
    for mine, theirs in zip(predictor.predict_proba(pictures), model.predict_proba(pictures), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    limits = {"coverage": 0.6, "max_age_range": 20.0, "min_gender_proba": 0.6}
    columns = pd.DataFrame(predictor.predict_columns(pictures, **limits))
    pd.testing.assert_frame_equal(columns, model.predict_frame(pictures, **limits))
    faces = pd.DataFrame(predictor.predict_faces(pictures, faces="mtcnn", **limits))
    pd.testing.assert_frame_equal(faces, model.predict_faces(pictures, faces="mtcnn", **limits))
    assert len(faces)
