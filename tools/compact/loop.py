"""The training: batches, replicas, losses, checkpoints."""

from __future__ import annotations

import copy
import csv
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compact.augment import plain, random_view, spoil, warp
from compact.network import MEAN, N_AGES, SCALE, SIDE, Student
from compact.soft import age_distributions

BATCH, LEARNING_RATE, WEIGHT_DECAY, WARM_UP, AVERAGING = 128, 2e-3, 0.05, 0.03, 0.998
WEIGHTS = {"age": 1.0, "years": 0.5, "gender": 2.0, "penultimate": 3.0, "embedding": 2.0}
"""What each part of the loss counts."""

SOFT_AGE, SOFT_GENDER = 0.5, 0.6
"""How much of a target is the teacher's word; the rest is the label's."""


@dataclass(frozen=True)
class Lessons:
    """Pictures in memory and what is to be learnt of them, row by row; the labels alone where there is no teacher."""

    pictures: NDArray[np.uint8]
    target: Tensor
    taught: Taught | None


@dataclass(frozen=True)
class Taught:
    """What the teacher says: soft ages (n, 101) and genders (n, 2), its penultimate layer and its embedding."""

    ages: Tensor
    genders: Tensor
    penultimate: Tensor
    embedding: Tensor


@dataclass
class Plan:
    """How long it goes on: a number of epochs, or minutes, over which the learning rate falls like a cosine."""

    epochs: int | None
    minutes: float | None
    steps_an_epoch: int
    step: int = 0
    spent: float = 0.0
    _since: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Start the clock: what came before is in `spent`."""
        self._since = time.monotonic() - 60 * self.spent

    def progress(self) -> float:
        """Return how much of the time is over, from 0 to 1."""
        self.spent = (time.monotonic() - self._since) / 60
        if self.epochs is not None:
            return min(1.0, self.step / (self.epochs * self.steps_an_epoch))
        return min(1.0, self.spent / (self.minutes or 60.0))

    def learning_rate(self) -> float:
        """Rise for a moment, then fall to nothing."""
        done = self.progress()
        if done < WARM_UP:
            return LEARNING_RATE * max(0.02, done / WARM_UP)
        return LEARNING_RATE * (0.5 + 0.5 * math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


class Training:
    """One network in training, with a replica for each thread.

    A thread works through its part of a batch alone, pictures included, and waits for the others once a step: on a
    busy machine that is several times as fast as threads that share every operation.
    """

    def __init__(
        self, lessons: Lessons, learnt: NDArray[np.intp], plan: Plan, n_threads: int, seed: int
    ) -> None:
        torch.manual_seed(seed)
        self.lessons, self.learnt, self.plan, self.seed = lessons, learnt, plan, seed
        self.student = Student().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(_decayed(self.student), lr=LEARNING_RATE)
        self.epoch = 0
        self.pool = ThreadPoolExecutor(n_threads)
        self.replicas = [self.student, *(self._replica() for _ in range(n_threads - 1))]

    def run_epoch(self) -> dict[str, float]:
        """Go once over the pictures, or as far as the time reaches; return the mean losses."""
        self.student.train()
        rng = np.random.default_rng((self.seed, self.epoch))
        sums: dict[str, float] = {}
        n_steps = 0
        for rows in _batches(rng.permutation(self.learnt)):
            rate = self.plan.learning_rate()
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            for name, value in self._step(rows).items():
                sums[name] = sums.get(name, 0.0) + value
            self.plan.step += 1
            n_steps += 1
            if self.plan.progress() >= 1:
                break
        self.epoch += 1
        return {name: value / n_steps for name, value in sums.items()} | {"learning_rate": rate}

    def save(self, path: Path) -> None:
        """Write everything that going on needs; the file is whole or not there."""
        state = {
            "student": self.student.state_dict(),
            "buffers": [dict(replica.named_buffers()) for replica in self.replicas],
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "step": self.plan.step,
            "spent": self.plan.spent,
        }
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path)
        self.student.load_state_dict(state["student"])
        for replica, buffers in zip(self.replicas, state["buffers"], strict=False):
            replica.load_state_dict(buffers, strict=False)
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.plan.step, self.plan.spent = state["epoch"], state["step"], state["spent"]

    def _replica(self) -> Student:
        """Return a network with the student's own parameters, and gradients and statistics of its own."""
        replica = copy.deepcopy(self.student)
        for own, shared in zip(replica.parameters(), self.student.parameters(), strict=True):
            own.data = shared.data
        return replica

    def _step(self, rows: NDArray[np.intp]) -> dict[str, float]:
        parts = np.array_split(rows, len(self.replicas))
        seeds = [(self.seed, self.plan.step, part) for part in range(len(parts))]
        found = list(self.pool.map(self._learn, self.replicas, parts, seeds))
        for parameter, *others in zip(*(replica.parameters() for replica in self.replicas), strict=True):
            for other in others:
                parameter.grad += other.grad
            parameter.grad /= len(self.replicas)
        nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self.optimiser.step()
        self._follow()
        return {name: sum(part[name] for part in found) / len(found) for name in found[0]}

    def _learn(self, replica: Student, rows: NDArray[np.intp], seed: tuple[int, ...]) -> dict[str, float]:
        rng = np.random.default_rng(seed)
        views = [spoil(warp(self.lessons.pictures[row], random_view(rng), SIDE), rng) for row in rows]
        with torch.autocast("cpu", torch.bfloat16):
            answers = replica(as_input(np.stack(views)))
        parts = losses({name: value.float() for name, value in answers.items()}, self.lessons, rows)
        loss = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
        replica.zero_grad()
        loss.backward()
        return {name: part.item() for name, part in parts.items()}

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averaged network, which is the one that is shipped, a little towards the student."""
        share = 1 - min(AVERAGING, (1 + self.plan.step) / (10 + self.plan.step))
        for average, now in zip(self.average.parameters(), self.student.parameters(), strict=True):
            average.lerp_(now, share)
        for average, *now in zip(
            self.average.buffers(), *(replica.buffers() for replica in self.replicas), strict=True
        ):
            if average.is_floating_point():
                average.lerp_(torch.stack(now).mean(0), share)


def losses(answers: dict[str, Tensor], lessons: Lessons, rows: NDArray[np.intp]) -> dict[str, Tensor]:
    """Return the parts of the loss: labels and the teacher's soft targets, and the teacher's own layers."""
    target, taught = lessons.target[rows], lessons.taught
    ages = age_distributions(target[:, 0])
    genders = nn.functional.one_hot(target[:, 1].long(), 2).float()
    if taught is not None:
        ages = SOFT_AGE * taught.ages[rows] + (1 - SOFT_AGE) * ages
        genders = SOFT_GENDER * taught.genders[rows] + (1 - SOFT_GENDER) * genders
    years = torch.arange(N_AGES, dtype=torch.float32)
    error = answers["age"].softmax(1) @ years - ages @ years
    parts = {
        "age": nn.functional.cross_entropy(answers["age"], ages),
        "years": nn.functional.huber_loss(error / 5, torch.zeros_like(error)),
        "gender": nn.functional.cross_entropy(answers["gender"], genders),
    }
    for name in ("penultimate", "embedding"):
        wanted = answers[name].detach() if taught is None else getattr(taught, name)[rows]
        parts[name] = 1 - nn.functional.cosine_similarity(answers[name], wanted).mean()
    return parts


def as_input(pictures: NDArray[np.uint8]) -> Tensor:
    """Return pictures of shape (n, h, w, 3) as the network takes them."""
    return ((torch.from_numpy(pictures).float() - MEAN) * SCALE).permute(0, 3, 1, 2)


@torch.no_grad()
def watch(student: Student, lessons: Lessons, rows: NDArray[np.intp]) -> dict[str, float]:
    """Return the figures of pictures that are not learnt from, in both framings that users have."""
    student.eval()
    found = {}
    years, target = torch.arange(N_AGES, dtype=torch.float32), lessons.target[rows]
    for framing in ("utkface", "arcface"):
        inputs = as_input(plain(lessons.pictures[rows], SIDE, framing=framing))
        parts = [student(part.contiguous(memory_format=torch.channels_last)) for part in inputs.split(64)]
        answers = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        expected = answers["age"].softmax(1) @ years
        found[f"{framing}_mae"] = (expected - target[:, 0]).abs().mean().item()
        found[f"{framing}_gender"] = (answers["gender"].argmax(1) == target[:, 1]).float().mean().item()
        found[f"{framing}_cosine"] = float("nan")
        if lessons.taught is not None:
            cosine = nn.functional.cosine_similarity(answers["embedding"], lessons.taught.embedding[rows])
            found[f"{framing}_cosine"] = cosine.mean().item()
    return found


def write_row(path: Path, row: dict[str, float]) -> None:
    """Append a line to the log, under a heading if it is the first."""
    first = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if first:
            writer.writeheader()
        writer.writerow({name: f"{value:.6g}" for name, value in row.items()})


def _batches(rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    return (rows[start : start + BATCH] for start in range(0, len(rows) - BATCH + 1, BATCH))


def _decayed(student: nn.Module) -> list[dict[str, object]]:
    """Let weights decay, and neither biases nor normalisations."""
    matrices = [p for p in student.parameters() if p.ndim > 1]
    others = [p for p in student.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
