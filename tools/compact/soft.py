"""Soft targets: what heads on the teachers' features say of pictures that they did not learn from."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agegender.model_selection import AgeGenderKFold
from compact.network import N_AGES

FOLDS, HEADS, EPOCHS, BATCH = 5, 3, 15, 256


def age_distributions(ages: Tensor, spread: float = 2.0) -> Tensor:
    """Return a bell around each age, as (n, 101) probabilities: a label of 30 says something of 29 as well.

    It is narrower below seven: nobody is younger than 0, and a bell that is cut off there would make babies older.
    """
    years = torch.arange(N_AGES)
    spreads = spread * ((ages + 1) / 8).clamp(max=1.0)
    return torch.softmax(-((years - ages[:, None]) ** 2) / (2 * spreads[:, None] ** 2), dim=1)


def soft_targets(
    features: NDArray[np.float32],
    target: NDArray[np.float64],
    groups: NDArray[np.intp],
    rows: NDArray[np.intp],
    seed: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return ages (n_pictures, 101) and genders (n_pictures, 2) as probabilities; zeros outside of `rows`.

    `features` are those of both teachers side by side, (2, n_pictures, d): of a picture and of its mirror image.
    Heads trained on four fifths of `rows` speak of the last fifth: what is learnt by heart is not passed on. The
    answers of three heads to both are averaged.
    """
    views = torch.from_numpy(features)
    ages, genders = np.zeros((len(target), N_AGES), np.float32), np.zeros((len(target), 2), np.float32)
    torch.manual_seed(seed)
    for fit, hold in AgeGenderKFold(FOLDS, random_state=seed).split(None, target[rows], groups[rows]):
        found = []
        for _ in range(HEADS):
            head = _train_head(views[:, rows[fit]], torch.from_numpy(target[rows[fit]]))
            with torch.no_grad():
                found += [head(view) for view in views[:, rows[hold]]]
        ages[rows[hold]] = torch.stack([age.softmax(1) for age, _ in found]).mean(0).numpy()
        genders[rows[hold]] = torch.stack([gender.softmax(1) for _, gender in found]).mean(0).numpy()
    return ages, genders


def figures(
    ages: NDArray[np.float32], genders: NDArray[np.float32], target: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the mean absolute error of the expected age, in years, and the share of genders that are right."""
    expected = ages @ np.arange(N_AGES)
    return float(np.abs(expected - target[:, 0]).mean()), float((genders.argmax(1) == target[:, 1]).mean())


class _Head(nn.Module):
    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.mean, self.deviation = nn.Buffer(mean), nn.Buffer(deviation)
        self.hidden = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(len(mean), 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.4)
        )
        self.age, self.gender = nn.Linear(256, N_AGES), nn.Linear(256, 2)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden((rows - self.mean) / self.deviation)
        return self.age(hidden), self.gender(hidden)


def _train_head(views: Tensor, target: Tensor) -> _Head:
    both = views.reshape(-1, views.shape[2])
    head = _Head(both.mean(0), both.std(0) + 1e-3)
    optimiser = torch.optim.AdamW(head.parameters(), weight_decay=1e-2)
    n = views.shape[1]
    steps = EPOCHS * (n // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for _ in range(EPOCHS):
        order, side = torch.randperm(n), torch.randint(2, (n,))
        for batch in order[: n // BATCH * BATCH].split(BATCH):
            age, gender = head(views[side[batch], batch])
            distribution = age_distributions(target[batch, 0]).float()
            loss = nn.functional.cross_entropy(age, distribution)
            loss = loss + nn.functional.cross_entropy(gender, target[batch, 1].long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return head.eval()
