"""What a spawned process does, in a module that it can import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib

from agegender import load_model


def predict_elsewhere(model: Any, pictures: list[str]) -> list[list[float]]:
    """Predict with a model, or with the one in a file."""
    if isinstance(model, Path):
        model = load_model(model) if model.suffix == ".agegender" else joblib.load(model)
    return model.predict(pictures).tolist()
