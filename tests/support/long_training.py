"""A training that is killed: run in a process of its own as ``python long_training.py rows.npz folder``."""

from __future__ import annotations

import sys

import numpy as np

from agegender import AgeGenderClassifier, DenseHead


def classifier(folder: str | None) -> AgeGenderClassifier:
    """More epochs than anyone would wait for."""
    head = DenseHead((16,), dropout=0.3, batch_norm=True)
    return AgeGenderClassifier(
        head, epochs=60, patience=60, batch_size=32, max_age=80, random_state=3, checkpoint=folder
    )


if __name__ == "__main__":
    stored = np.load(sys.argv[1])
    classifier(sys.argv[2]).fit(stored["X"], stored["y"])
