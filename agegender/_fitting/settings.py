"""How a head is trained, and what it is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Settings", "TrainingData"]


@dataclass(frozen=True)
class Settings:
    """How a head is trained; the names are those of `AgeGenderClassifier`.

    See Also
    --------
    agegender.training.train : Train a head through all rounds.
    """

    age_loss: str
    age_sigma: float
    expected_age_weight: float
    gender_weight: float
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str | None
    validation_fraction: float
    patience: int
    rounds: int
    balance: str | None
    standardize: bool
    max_age: int
    averaging: float = 0.0
    mixup: float = 0.0


@dataclass(frozen=True)
class TrainingData:
    """Rows and their labels.

    ``rows`` is (n · n_views, ...), the views of a picture one after the other; ``ages`` float32, ``genders`` int32
    class indices, ``weights`` float32 and ``groups`` int64 (rows that belong together) are (n,). Only ``samples``,
    row numbers in ascending order, are trained on.

    See Also
    --------
    agegender.training.train : Train a head through all rounds.
    """

    rows: NDArray[Any]
    n_views: int
    ages: NDArray[np.float32]
    genders: NDArray[np.int32]
    weights: NDArray[np.float32]
    groups: NDArray[np.int64]
    samples: NDArray[np.int64]
