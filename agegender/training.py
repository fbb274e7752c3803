"""Training of a head: epochs that run inside TensorFlow, early stopping, rounds, checkpoints.

An epoch, or the part of it whose rows fit in memory, is one call of a compiled loop, without Python between two
steps.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._fitting.adam import Adam, learning_rate_factors
from agegender._fitting.averages import Averages
from agegender._fitting.checkpoint import Arrays, Checkpoint, Progress, open_checkpoint
from agegender._fitting.head_model import build
from agegender._fitting.holdout import balance_weights, split
from agegender._fitting.identity import identity_of
from agegender._fitting.mixing import neighbours
from agegender._fitting.reading import RowReader, tensor
from agegender._fitting.schedules import SCHEDULES
from agegender._fitting.settings import Settings, TrainingData
from agegender._fitting.steps import compile_evaluation, compile_steps
from agegender._machine.fork import check_tensorflow
from agegender._machine.threads import limit_tensorflow
from agegender._utils.rows import moments

__all__ = ["SCHEDULES", "Settings", "Trainer", "TrainingData", "split_samples", "train"]

EVALUATED_BYTES = 8 * 2**20

Report = Callable[[dict[str, Any]], None]


def train(
    head: Any,
    data: TrainingData,
    settings: Settings,
    seed: int,
    report: Report,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Any:
    """Train one head through all its rounds.

    Parameters
    ----------
    head : callable
        ``(input_shape, n_ages, n_genders) -> keras.Model``.
    data : TrainingData
    settings : Settings
    seed : int
        Seed of all random numbers.
    report : callable
        Is called with a record of each epoch.
    checkpoint : path, default=None
        A folder, in which the state of the training is written after each epoch. If it has the state of the same
        training, the training goes on from there, and `report` is called with the earlier records first.

    Returns
    -------
    keras.Model
        It maps a row, not standardised, to the probabilities of the ages and of the genders.

    Raises
    ------
    CheckpointError
        If the folder has the state of another training that was interrupted, or another process is training the
        same.

    See Also
    --------
    agegender.training.Trainer : Trains a head.
    agegender.AgeGenderClassifier : The classifier on embeddings.
    """
    _prepare_tensorflow()
    rng = np.random.default_rng(seed)
    progress = Progress(rng.bit_generator.state)
    parts = split_samples(data, settings.validation_fraction, rng)
    trainer = Trainer(_build(head, data, parts[0], settings, seed), data, settings)
    if checkpoint is None:
        _train_rounds(trainer, progress, parts, rng, report)
        return trainer.model
    identity = identity_of(trainer.model, head, data, settings, seed)
    with open_checkpoint(Path(checkpoint).expanduser(), identity) as file:
        if (kept := file.read()) is not None:
            progress = kept[0]
            trainer.restore(kept[1], progress.errors)
            for record in progress.records:
                report(record)
        if not progress.finished:
            _train_rounds(trainer, progress, parts, rng, report, file)
    return trainer.model


def _train_rounds(
    trainer: Trainer,
    progress: Progress,
    parts: tuple[NDArray[np.int64], NDArray[np.int64]],
    rng: np.random.Generator,
    report: Report,
    file: Checkpoint | None = None,
) -> None:
    """Train the current round and all that follow; `parts` is the split of the first one."""
    data, settings = trainer.data, trainer.settings
    for number in range(progress.round, settings.rounds + 1):
        resumed = progress.rng is not None
        if resumed or number > 1:
            rng.bit_generator.state = progress.at_split
            parts = split_samples(data, settings.validation_fraction, rng)
        training, validation = parts
        weights = data.weights[training] * balance_weights(data.ages[training], settings.balance, rng)
        if progress.rng is not None:
            rng.bit_generator.state = progress.rng
        kept = weights > 0
        trainer.run(
            training[kept],
            validation,
            weights[kept],
            rng,
            partial(_after_epoch, trainer, progress, rng, report, file),
            resume=resumed,
        )
        progress = replace(progress, round=number + 1, rng=None, at_split=rng.bit_generator.state)
    if file is not None:
        variables = {"variables": trainer.state()["variables"]}
        file.write(replace(progress, errors=[], finished=True), variables)


def _after_epoch(
    trainer: Trainer,
    progress: Progress,
    rng: np.random.Generator,
    report: Report,
    file: Checkpoint | None,
    record: dict[str, Any],
) -> None:
    record = {"round": progress.round} | record
    if file is not None:
        progress.records.append(record)
        progress.rng, progress.errors = rng.bit_generator.state, trainer.errors
        file.write(progress, trainer.state())
    report(record)


def _prepare_tensorflow() -> None:
    """Check that Keras runs on TensorFlow, and set its number of threads."""
    check_tensorflow()
    import keras

    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"Heads are trained by TensorFlow, but Keras runs on {keras.backend.backend()!r}; set "
            "KERAS_BACKEND=tensorflow before Keras is imported."
        )
    limit_tensorflow()


def split_samples(
    data: TrainingData, fraction: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out a fraction of the pictures, stratified by age and gender, with groups kept together.

    See Also
    --------
    agegender.training.train : Train a head through all rounds.
    agegender.model_selection.grouped_split : One split that keeps groups together.
    """
    groups = np.unique(data.groups[data.samples], return_inverse=True)[1]
    ages, genders = data.ages[data.samples], data.genders[data.samples]
    training, validation = split(ages, genders, groups, fraction, rng)
    return data.samples[training], data.samples[validation]


def _build(head: Any, data: TrainingData, training: NDArray[np.int64], settings: Settings, seed: int) -> Any:
    measured = None
    if settings.standardize:
        rows = (training[:, None] * data.n_views + np.arange(data.n_views)).ravel()
        measured = moments(data.rows, rows)
    return build(head, data.rows.shape[1:], settings.max_age + 1, 2, measured, seed)


class Trainer:
    """The training of a head on data: compiled once, run for one or more rounds.

    Parameters
    ----------
    model : keras.Model
        Two softmax outputs, ages first; trained in place.
    data : TrainingData
    settings : Settings

    See Also
    --------
    agegender.training.train : Train a head through all rounds.
    """

    def __init__(self, model: Any, data: TrainingData, settings: Settings) -> None:
        self.model = model
        self.data = data
        self.settings = settings
        self.errors: list[float] = []
        self._best: list[NDArray[Any]] = []
        self._optimizer = Adam(model.trainable_variables, learning_rate_factors(model))
        self._averages = Averages(model, settings.averaging)
        self._train_steps = compile_steps(model, self._optimizer, self._averages, data.rows, settings)
        self._evaluate = compile_evaluation(model, data.rows)
        self._reader = RowReader(data.rows)

    def run(
        self,
        training: NDArray[np.int64],
        validation: NDArray[np.int64],
        weights: NDArray[np.floating],
        rng: np.random.Generator,
        report: Report,
        *,
        resume: bool = False,
    ) -> None:
        """Train one round from the current weights, and restore the best weights.

        Parameters
        ----------
        training, validation : ndarray of int64
            Pictures for training and for early stopping; without the latter, all epochs are run.
        weights : ndarray of shape (n_training,)
            Weights of the training pictures.
        rng : numpy.random.Generator
            For the order of rows and the view of each.
        report : callable
            Is called with a record of each epoch.
        resume : bool, default=False
            Whether to go on with the round whose state was restored.
        """
        if not resume:
            self._optimizer.reset()
            self._averages.reset()
            self.errors, self._best = [], []
        while not self._is_over(len(validation) > 0):
            report(self._run_epoch(training, validation, weights, rng))
        if self._best:
            self.model.set_weights(self._best)
        else:
            self._averages.take_over()

    def _is_over(self, stops_early: bool) -> bool:
        """Tell whether all epochs are trained, or the error has not fallen for `patience` epochs."""
        n_epochs = len(self.errors)
        if n_epochs >= self.settings.epochs:
            return True
        return (
            stops_early
            and n_epochs > 0
            and n_epochs - 1 - int(np.argmin(self.errors)) >= self.settings.patience
        )

    def _run_epoch(
        self,
        training: NDArray[np.int64],
        validation: NDArray[np.int64],
        weights: NDArray[np.floating],
        rng: np.random.Generator,
    ) -> dict[str, Any]:
        """Train one epoch and measure its error; return its record."""
        start, epoch = time.perf_counter(), len(self.errors) + 1
        rate = SCHEDULES[self.settings.schedule](self.settings, self.errors)
        loss = self._train_epoch(training, weights, rate, rng)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"Training diverged in epoch {epoch} (loss {loss}); lower learning_rate={rate:g}, or "
                "look for extreme values in X."
            )
        with self._averages.in_place():
            error, accuracy = self._validate(validation)
            if len(validation) and error < min(self.errors, default=math.inf):
                self._best = self.model.get_weights()
        self.errors.append(error)
        return {
            "epoch": epoch,
            "loss": loss,
            "val_age_mae": error,
            "val_gender_accuracy": accuracy,
            "learning_rate": rate,
            "seconds": time.perf_counter() - start,
        }

    def state(self) -> Arrays:
        """Return the weights, the random numbers of layers, the optimiser's state and the best weights so far."""
        return {
            "variables": [np.asarray(variable) for variable in self.model.variables],
            "optimizer": [variable.numpy() for variable in self._optimizer.variables],
            "averages": [variable.numpy() for variable in self._averages.variables],
            "best": self._best,
        }

    def restore(self, state: Arrays, errors: list[float]) -> None:
        """Restore what `state` returned, and the errors of the round so far."""
        for variable, value in zip(self.model.variables, state["variables"], strict=True):
            variable.assign(value)
        for name, own in (("optimizer", self._optimizer.variables), ("averages", self._averages.variables)):
            for variable, value in zip(own, state.get(name, []), strict=False):
                variable.assign(value)
        self._best, self.errors = state.get("best", []), list(errors)

    def _train_epoch(
        self,
        samples: NDArray[np.int64],
        weights: NDArray[np.floating],
        rate: float,
        rng: np.random.Generator,
    ) -> float:
        self._optimizer.learning_rate.assign(rate)
        data = self.data
        order = rng.permutation(len(samples))
        shuffled = samples[order]
        rows = shuffled * data.n_views + rng.integers(data.n_views, size=len(shuffled))
        total = 0.0
        for values, picks, part in self._reader.chunks(rows):
            n_steps = math.ceil(len(picks) / self.settings.batch_size)
            # Steps of nearly equal size, so that the last one is not too small.
            bounds = np.linspace(0, len(picks), n_steps + 1).astype(np.int32)
            chosen = shuffled[part]
            labels = (data.ages[chosen], data.genders[chosen], weights[order[part]].astype(np.float32))
            mixing = self._mixing(labels[0], bounds, rng)
            given = (picks.astype(np.int32), *labels, *mixing, bounds)
            total += float(self._train_steps(values, *map(tensor, given)))
        return total / len(samples)

    def _mixing(
        self, ages: NDArray[np.float32], bounds: NDArray[np.int32], rng: np.random.Generator
    ) -> tuple[NDArray[Any], ...]:
        """Return with mixup the row that each row is mixed with, and its own share; nothing without."""
        alpha = self.settings.mixup
        if not alpha:
            return ()
        return neighbours(ages, bounds), rng.beta(alpha, alpha, len(ages)).astype(np.float32)

    def _validate(self, samples: NDArray[np.int64]) -> tuple[float, float]:
        if not len(samples):
            return math.nan, math.nan
        data = self.data
        rows = (samples[:, None] * data.n_views + np.arange(data.n_views)).ravel()
        ages, genders = [], []
        for values, picks, _ in self._reader.chunks(rows):
            size = max(1, EVALUATED_BYTES // (4 * math.prod(data.rows.shape[1:])))
            for start in range(0, len(picks), size):
                age, gender = self._evaluate(values, tensor(picks[start : start + size].astype(np.int32)))
                ages.append(age.numpy())
                genders.append(gender.numpy())
        age = np.concatenate(ages).reshape(len(samples), -1).mean(axis=1)
        gender = np.concatenate(genders).reshape(len(samples), data.n_views, -1).mean(axis=1)
        weights = data.weights[samples]
        right = gender.argmax(axis=1) == data.genders[samples]
        error = np.average(np.abs(age - data.ages[samples]), weights=weights)
        return float(error), float(np.average(right, weights=weights))
