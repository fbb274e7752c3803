"""Training of a head: epochs that run inside TensorFlow, early stopping, learning rate schedules.

An epoch, or the part of it whose rows fit in memory, is one call of a compiled loop, without Python between two
steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._fitting.adam import Adam, learning_rate_factors
from agegender._fitting.head_model import build
from agegender._fitting.holdout import balance_weights, split
from agegender._machine.fork import check_tensorflow
from agegender._machine.threads import limit_tensorflow
from agegender._utils.rows import moments, take
from agegender.losses import AGE_LOSSES, expected_age_error, gender_loss

__all__ = ["SCHEDULES", "Settings", "Trainer", "TrainingData", "split_samples", "train"]

# Up to this size, all rows are kept in one tensor; otherwise they are read in chunks, with two chunks in memory.
HELD_BYTES = 512 * 2**20
CHUNK_BYTES = 128 * 2**20
EVALUATED_BYTES = 8 * 2**20


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


def train(
    head: Any, data: TrainingData, settings: Settings, seed: int, report: Callable[[dict[str, Any]], None]
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

    Returns
    -------
    keras.Model
        It maps a row, not standardised, to the probabilities of the ages and of the genders.

    See Also
    --------
    agegender.training.Trainer : Trains a head.
    agegender.AgeGenderClassifier : The classifier on embeddings.
    """
    _prepare_tensorflow()
    rng = np.random.default_rng(seed)
    training, validation = split_samples(data, settings.validation_fraction, rng)
    trainer = Trainer(_build(head, data, training, settings, seed), data, settings)
    for number in range(1, settings.rounds + 1):
        if number > 1:
            training, validation = split_samples(data, settings.validation_fraction, rng)
        weights = data.weights[training] * balance_weights(data.ages[training], settings.balance, rng)
        kept = weights > 0
        trainer.run(training[kept], validation, weights[kept], rng, partial(_number, report, number))
    return trainer.model


def _number(report: Callable[[dict[str, Any]], None], number: int, record: dict[str, Any]) -> None:
    report({"round": number} | record)


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


def _cosine(settings: Settings, errors: list[float]) -> float:
    """Half a cosine from the learning rate down to zero over all epochs (Loshchilov & Hutter 2017)."""
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * len(errors) / settings.epochs))


def _plateau(settings: Settings, errors: list[float]) -> float:
    """A third of the rate after every half `patience` of epochs without a smaller validation error."""
    rate, best, stale = settings.learning_rate, math.inf, 0
    for error in errors:
        best, stale = (error, 0) if error < best else (best, stale + 1)
        if stale == max(1, settings.patience // 2):
            rate, stale = rate / 3, 0
    return rate


def _constant(settings: Settings, errors: list[float]) -> float:
    return settings.learning_rate


SCHEDULES: dict[str | None, Callable[[Settings, list[float]], float]] = {
    "cosine": _cosine,
    "plateau": _plateau,
    None: _constant,
}
"""Functions from the settings and the validation errors so far to the next epoch's learning rate."""


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
        self._optimizer = Adam(model.trainable_variables, learning_rate_factors(model))
        self._train_steps = _compile_steps(model, self._optimizer, data.rows, settings)
        self._evaluate = _compile_evaluation(model, data.rows)
        self._held = _tensor(data.rows) if data.rows.nbytes <= HELD_BYTES else None

    def run(
        self,
        training: NDArray[np.int64],
        validation: NDArray[np.int64],
        weights: NDArray[np.floating],
        rng: np.random.Generator,
        report: Callable[[dict[str, Any]], None],
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
        """
        self._optimizer.reset()
        errors: list[float] = []
        best = None
        for epoch in range(self.settings.epochs):
            start = time.perf_counter()
            rate = SCHEDULES[self.settings.schedule](self.settings, errors)
            loss = self._train_epoch(training, weights, rate, rng)
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"Training diverged in epoch {epoch + 1} (loss {loss}); lower learning_rate={rate:g}, or "
                    "look for extreme values in X."
                )
            error, accuracy = self._validate(validation)
            seconds = time.perf_counter() - start
            report(
                {
                    "epoch": epoch + 1,
                    "loss": loss,
                    "val_age_mae": error,
                    "val_gender_accuracy": accuracy,
                    "learning_rate": rate,
                    "seconds": seconds,
                }
            )
            if len(validation) and error < min(errors, default=math.inf):
                best = self.model.get_weights()
            errors.append(error)
            if len(validation) and epoch - int(np.argmin(errors)) >= self.settings.patience:
                break
        if best is not None:
            self.model.set_weights(best)

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
        for values, picks, part in self._chunks(rows):
            n_steps = math.ceil(len(picks) / self.settings.batch_size)
            # Steps of nearly equal size, so that the last one is not too small.
            bounds = np.linspace(0, len(picks), n_steps + 1).astype(np.int32)
            chosen = shuffled[part]
            labels = (data.ages[chosen], data.genders[chosen], weights[order[part]].astype(np.float32))
            total += float(
                self._train_steps(values, *map(_tensor, (picks.astype(np.int32), *labels, bounds)))
            )
        return total / len(samples)

    def _validate(self, samples: NDArray[np.int64]) -> tuple[float, float]:
        if not len(samples):
            return math.nan, math.nan
        data = self.data
        rows = (samples[:, None] * data.n_views + np.arange(data.n_views)).ravel()
        ages, genders = [], []
        for values, picks, _ in self._chunks(rows):
            size = max(1, EVALUATED_BYTES // (4 * math.prod(data.rows.shape[1:])))
            for start in range(0, len(picks), size):
                age, gender = self._evaluate(values, _tensor(picks[start : start + size].astype(np.int32)))
                ages.append(age.numpy())
                genders.append(gender.numpy())
        age = np.concatenate(ages).reshape(len(samples), -1).mean(axis=1)
        gender = np.concatenate(genders).reshape(len(samples), data.n_views, -1).mean(axis=1)
        weights = data.weights[samples]
        right = gender.argmax(axis=1) == data.genders[samples]
        error = np.average(np.abs(age - data.ages[samples]), weights=weights)
        return float(error), float(np.average(right, weights=weights))

    def _chunks(self, rows: NDArray[np.int64]) -> Iterator[tuple[Any, NDArray[np.int64], slice]]:
        """Yield a tensor of rows, the indices to use in order, and the slice of `rows` that it contains."""
        if self._held is not None:
            yield self._held, rows, slice(0, len(rows))
            return
        X = self.data.rows
        size = max(1, CHUNK_BYTES // (X.itemsize * math.prod(X.shape[1:])))
        parts = [slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]

        def read(part: slice) -> tuple[Any, NDArray[np.int64], slice]:
            # In ascending order, the disk is read sequentially.
            wanted, picks = np.unique(rows[part], return_inverse=True)
            values = _tensor(take(X, wanted))
            return values, picks, part

        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(read, parts[0])
            for following in [*parts[1:], None]:
                chunk = coming.result()
                if following is not None:
                    coming = reader.submit(read, following)
                yield chunk
                del chunk


def _compile_steps(model: Any, optimizer: Any, rows: NDArray[Any], settings: Settings) -> Any:
    import tensorflow as tf

    age_loss = AGE_LOSSES[settings.age_loss]

    def step(batch: Any, ages: Any, genders: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            age, gender = model(tf.cast(batch, tf.float32), training=True)
            losses = age_loss(ages, age, settings.age_sigma)
            losses += settings.gender_weight * gender_loss(genders, gender)
            if settings.expected_age_weight:
                losses += settings.expected_age_weight * expected_age_error(ages, age)
            total = tf.reduce_sum(losses * weights)
            loss = total / tf.cast(tf.shape(batch)[0], tf.float32)
            if model.losses:
                loss += tf.add_n([tf.cast(penalty, tf.float32) for penalty in model.losses])
        optimizer.apply(tape.gradient(loss, model.trainable_variables))
        return total

    signature = [
        _spec(rows),
        *(tf.TensorSpec([None], t) for t in ("int32", "float32", "int32", "float32", "int32")),
    ]

    @tf.function(autograph=False, input_signature=signature)
    def steps(values: Any, picks: Any, ages: Any, genders: Any, weights: Any, bounds: Any) -> Any:
        def body(i: Any, total: Any) -> tuple[Any, Any]:
            part = slice(bounds[i], bounds[i + 1])
            batch = tf.gather(values, picks[part])
            return i + 1, total + step(batch, ages[part], genders[part], weights[part])

        n_steps = tf.shape(bounds)[0] - 1
        # Steps must run one after the other, because each starts from the weights of the previous one.
        return tf.while_loop(lambda i, total: i < n_steps, body, (0, 0.0), parallel_iterations=1)[1]

    return steps.get_concrete_function()


def _compile_evaluation(model: Any, rows: NDArray[Any]) -> Any:
    import tensorflow as tf

    @tf.function(autograph=False, input_signature=[_spec(rows), tf.TensorSpec([None], "int32")])
    def evaluate(values: Any, picks: Any) -> Any:
        age, gender = model(tf.cast(tf.gather(values, picks), tf.float32), training=False)
        return tf.linalg.matvec(age, tf.range(age.shape[-1], dtype=tf.float32)), gender

    return evaluate.get_concrete_function()


def _tensor(values: NDArray[Any]) -> Any:
    import tensorflow as tf

    return tf.convert_to_tensor(values)


def _spec(rows: NDArray[Any]) -> Any:
    import tensorflow as tf

    return tf.TensorSpec([None, *rows.shape[1:]], rows.dtype)
