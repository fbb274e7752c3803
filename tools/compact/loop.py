"""The training: batches, replicas, losses, checkpoints."""

from __future__ import annotations

import copy
import csv
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compact.augment import plain, seen, studio, wild
from compact.network import N_AGES, PENULTIMATE, SIDE, Student, as_input, layers_of, put_norms_in
from compact.soft import age_distributions

BATCH, DROPOUT, WEIGHT_DECAY, WARM_UP, AVERAGING = 128, 0.2, 0.05, 0.04, 0.998
NETWORK_RATE, HEADS_RATE = 6e-4, 2e-3
"""Learning rates at their highest: of what FaceRes has learnt already, and of what is new."""

WEIGHTS = {
    "age": 1.0,
    "years": 0.5,
    "gender": 2.0,
    "imdb_ages": 0.15,
    "imdb_male": 0.15,
    "penultimate": 1.5,
    "pooled": 1.5,
    "embedding": 1.5,
}
"""What each part of the loss counts."""

SOFT_AGE, SOFT_GENDER = 0.5, 0.5
"""How much of a target is the teachers' word; the rest is the label's."""

RARE_AGES, RARE_LABELS = 0.35, 0.35
"""Pictures are drawn as often as the number of pictures of about their age to the power of minus this says, and
likewise the number of those with their labels of race and gender."""


@dataclass(frozen=True)
class Lessons:
    """Pictures in memory and what is to be learnt of them, row by row."""

    pictures: NDArray[np.uint8]
    target: Tensor
    races: NDArray[np.intp]
    taught: Taught


@dataclass(frozen=True)
class Taught:
    """What the teachers say: soft ages (n, 101) and genders (n, 2), their layers, FaceRes' own ages and genders."""

    ages: Tensor
    genders: Tensor
    penultimate: Tensor
    pooled: Tensor
    embedding: Tensor
    imdb_ages: Tensor
    imdb_male: Tensor


@dataclass
class Plan:
    """How long it goes on: a number of epochs, over which the learning rate falls like a cosine."""

    epochs: int
    steps_an_epoch: int
    step: int = 0
    spent: float = 0.0
    _since: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Start the clock: what came before is in `spent`."""
        self._since = time.monotonic() - 60 * self.spent

    @property
    def minutes(self) -> float:
        """Minutes of training so far, those before an interruption included."""
        return (time.monotonic() - self._since) / 60

    def progress(self) -> float:
        """Return how much of the work is over, from 0 to 1."""
        return self.step / (self.epochs * self.steps_an_epoch)

    def learning_rate(self) -> float:
        """Rise for a moment, then fall to nothing: what the rates are multiplied with."""
        done = self.progress()
        if done < WARM_UP:
            return max(0.02, done / WARM_UP)
        return 0.5 + 0.5 * math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))


class Training:
    """One network in training, with a replica for each thread.

    A thread works through its part of a batch alone, pictures included, and waits for the others once a step: on a
    busy machine that is several times as fast as threads that share every operation.
    """

    def __init__(
        self,
        lessons: Lessons,
        learnt: NDArray[np.intp],
        plan: Plan,
        n_threads: int,
        seed: int,
        faceres: Path,
    ) -> None:
        torch.manual_seed(seed)
        self.lessons, self.learnt, self.plan, self.seed = lessons, learnt, plan, seed
        layers, biases = layers_of(faceres)
        self.student = Student(layers)
        some = lessons.pictures[np.random.default_rng(seed).choice(learnt, 256, replace=False)]
        put_norms_in(self.student, biases, as_input(plain(some, SIDE, framing="utkface")))
        self.student = self.student.to(memory_format=torch.channels_last)
        self.chances = chances(lessons.target[learnt].numpy(), lessons.races[learnt])
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(_groups(self.student))
        self.epoch = 0
        self.pool = ThreadPoolExecutor(n_threads)
        self.replicas = [self.student, *(self._replica() for _ in range(n_threads - 1))]

    def run_epoch(self) -> dict[str, float]:
        """Look at as many pictures as there are, rare ages more often than others; return the mean losses."""
        self.student.train()
        rng = np.random.default_rng((self.seed, self.epoch))
        sums: dict[str, float] = {}
        drawn = rng.choice(self.learnt, (self.plan.steps_an_epoch, BATCH), p=self.chances)
        for rows in drawn:
            factor = self.plan.learning_rate()
            for group in self.optimiser.param_groups:
                group["lr"] = factor * group["highest"]
            for name, value in self._step(rows).items():
                sums[name] = sums.get(name, 0.0) + value
            self.plan.step += 1
        self.epoch += 1
        return {name: value / len(drawn) for name, value in sums.items()} | {"learning_rate": factor}

    def save(self, path: Path) -> None:
        """Write everything that going on needs; the file is whole or not there."""
        state = {
            "layers": self.student.net.layers(),
            "student": self.student.state_dict(),
            "buffers": [dict(replica.named_buffers()) for replica in self.replicas],
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "step": self.plan.step,
            "spent": self.plan.minutes,
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
        pictures = self.lessons.pictures
        views = [
            seen(pictures[row], pictures[other], SIDE, rng)
            for row, other in zip(rows, np.roll(rows, 1), strict=True)
        ]
        with torch.autocast("cpu", torch.bfloat16):
            answers = replica(as_input(np.stack(views)), _kept(rng, len(rows)))
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
    """Return the parts of the loss: labels and the teachers' soft targets, and the teachers' own layers."""
    target, taught = lessons.target[rows], lessons.taught
    ages = SOFT_AGE * taught.ages[rows] + (1 - SOFT_AGE) * age_distributions(target[:, 0])
    genders = nn.functional.one_hot(target[:, 1].long(), 2).float()
    genders = SOFT_GENDER * taught.genders[rows] + (1 - SOFT_GENDER) * genders
    years = torch.arange(N_AGES, dtype=torch.float32)
    error = answers["age"].softmax(1) @ years - ages @ years
    male = taught.imdb_male[rows].clamp(0, 1)
    parts = {
        "age": nn.functional.cross_entropy(answers["age"], ages),
        "years": nn.functional.huber_loss(error / 5, torch.zeros_like(error)),
        "gender": nn.functional.cross_entropy(answers["gender"], genders),
        "imdb_ages": nn.functional.cross_entropy(answers["imdb_ages"], taught.imdb_ages[rows]),
        "imdb_male": nn.functional.binary_cross_entropy_with_logits(answers["imdb_male"], male),
    }
    for name in ("penultimate", "pooled", "embedding"):
        wanted = getattr(taught, name)[rows]
        parts[name] = 1 - nn.functional.cosine_similarity(answers[name], wanted).mean()
    return parts


def chances(target: NDArray[np.floating], races: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return how likely each picture is drawn: rarer ones more often (`RARE_AGES`, `RARE_LABELS`)."""
    ages, labels = target[:, 0].astype(int), 2 * races + target[:, 1].astype(int)
    counts = np.bincount(ages, minlength=N_AGES).astype(float)
    bell = np.exp(-0.5 * (np.arange(-9, 10) / 3) ** 2)
    density = np.convolve(counts, bell, "same") / np.convolve(np.ones(N_AGES), bell, "same")
    weights = np.maximum(density, 1.0)[ages] ** -RARE_AGES * np.bincount(labels)[labels] ** -RARE_LABELS
    return np.asarray(weights / weights.sum())


@torch.no_grad()
def watch(student: Student, lessons: Lessons, rows: NDArray[np.intp]) -> dict[str, float]:
    """Return the figures of pictures that are not learnt from: in users' two framings, in a studio, and spoilt."""
    student.eval()
    found = {}
    years, target = torch.arange(N_AGES, dtype=torch.float32), lessons.target[rows]
    pictures = lessons.pictures[rows]
    for framing, views in (
        ("utkface", plain(pictures, SIDE, framing="utkface")),
        ("arcface", plain(pictures, SIDE, framing="arcface")),
        ("studio", studio(pictures, SIDE)),
        ("wild", wild(pictures, SIDE, seed=0)),
    ):
        parts = [
            student(part.contiguous(memory_format=torch.channels_last)) for part in as_input(views).split(64)
        ]
        answers = {name: torch.cat([part[name] for part in parts]) for name in ("age", "gender", "embedding")}
        expected = answers["age"].softmax(1) @ years
        cosine = nn.functional.cosine_similarity(answers["embedding"], lessons.taught.embedding[rows])
        found[f"{framing}_mae"] = (expected - target[:, 0]).abs().mean().item()
        found[f"{framing}_gender"] = (answers["gender"].argmax(1) == target[:, 1]).float().mean().item()
        found[f"{framing}_cosine"] = cosine.mean().item()
    return found


def _kept(rng: np.random.Generator, n_pictures: int) -> Tensor:
    """Draw what dropout leaves, by the part's own generator: threads would draw from a common one in any order."""
    drawn = rng.random((n_pictures, PENULTIMATE), np.float32) >= DROPOUT
    return torch.from_numpy(drawn.astype(np.float32) / (1 - DROPOUT))


def write_row(path: Path, row: dict[str, float]) -> None:
    """Append a line to the log, under a heading if it is the first."""
    first = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if first:
            writer.writeheader()
        writer.writerow({name: f"{value:.6g}" for name, value in row.items()})


def _groups(student: Student) -> list[dict[str, object]]:
    """Let weights decay, and neither biases nor normalisations; move what is new faster than what has been learnt."""
    groups: list[dict[str, object]] = []
    trained = {id(parameter) for parameter in student.net.maps.parameters()}
    for known, highest in ((True, NETWORK_RATE), (False, HEADS_RATE)):
        mine = [p for p in student.parameters() if (id(p) in trained) == known]
        for decays in (True, False):
            parameters = [p for p in mine if (p.ndim > 1) == decays]
            decay = WEIGHT_DECAY if decays else 0.0
            groups.append({"params": parameters, "weight_decay": decay, "lr": highest, "highest": highest})
    return groups
