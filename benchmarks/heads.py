"""What it takes to train a head, beside scikit-learn's MLPClassifier and a plain Keras loop.

    python benchmarks/heads.py

Each trains one hidden layer on the same 20,000 rows of 512 numbers for the same 60 epochs in batches of 256, without
early stopping. They take turns in one process. The first turn, which pays for imports, is not counted; what a fit
compiles is. `AgeGenderClassifier` and Keras learn age and gender, `MLPClassifier`, which has one output, age alone.
Keras is timed twice: as its users write it, and with every step of an epoch in one call (``steps_per_execution``),
the fastest that `keras.Model.fit` can be made by its own means.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from agegender import AgeGenderClassifier, DenseHead

UNITS, BATCH = 256, 256
Rows, Target = np.ndarray, np.ndarray


def with_agegender(X: Rows, y: Target, epochs: int) -> None:
    AgeGenderClassifier(
        DenseHead(units=(UNITS,)),
        age_loss="categorical_crossentropy",
        epochs=epochs,
        batch_size=BATCH,
        schedule=None,
        validation_fraction=0,
        calibration_fraction=0,
        random_state=0,
    ).fit(X, y)


def with_keras(X: Rows, y: Target, epochs: int, steps_per_execution: int = 1) -> None:
    keras.utils.set_random_seed(0)
    row = keras.Input((X.shape[1],))
    hidden = keras.layers.Dense(UNITS, activation="relu")(keras.layers.BatchNormalization()(row))
    outputs = [
        keras.layers.Dense(101, activation="softmax", name="age")(hidden),
        keras.layers.Dense(2, activation="softmax", name="gender")(hidden),
    ]
    model = keras.Model(row, outputs)
    model.compile("adam", ["sparse_categorical_crossentropy"] * 2, steps_per_execution=steps_per_execution)
    model.fit(X, [y[:, 0], y[:, 1]], batch_size=BATCH, epochs=epochs, verbose=0)


def with_scikit_learn(X: Rows, y: Target, epochs: int) -> None:
    model = MLPClassifier(
        (UNITS,), batch_size=BATCH, max_iter=epochs, n_iter_no_change=epochs, tol=0, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y[:, 0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    y = np.column_stack([rng.integers(0, 101, options.rows), rng.integers(0, 2, options.rows)])
    X = rng.normal(size=(options.rows, 512)).astype(np.float32)
    X[:, 0] += y[:, 0] / 25
    X[:, 1] += 2 * y[:, 1]
    ways: dict[str, Callable[[Rows, Target, int], None]] = {
        "AgeGenderClassifier": with_agegender,
        "keras.Model.fit": with_keras,
        "keras.Model.fit, an epoch a call": partial(
            with_keras, steps_per_execution=max(1, options.rows // BATCH)
        ),
        "MLPClassifier (age alone)": with_scikit_learn,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.turns + 1):
        for name, fit in ways.items():
            started = time.perf_counter()
            fit(X, y, options.epochs)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    ours = seconds["AgeGenderClassifier"]
    print(f"{options.rows:,} rows, {options.epochs} epochs, median of {options.turns} turns\n")
    print("| trained by | seconds | times AgeGenderClassifier's |\n|---|---|---|")
    for name, times in seconds.items():
        ratio = statistics.median(theirs / mine for theirs, mine in zip(times, ours, strict=True))
        print(f"| {name} | {statistics.median(times):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
