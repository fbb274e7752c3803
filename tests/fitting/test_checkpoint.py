"""Trainings that were interrupted go on, and give the model of an uninterrupted one, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import long_training
import networks
import numpy as np
import pytest
from networks import NETWORKS
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate

from agegender import AgeGenderClassifier, ConvHead, DenseHead, FineTuneHead, load_model, save_model
from agegender._fitting import checkpoint as checkpoints
from agegender._fitting.locks import is_locked, locked
from agegender.backbones import Backbone
from agegender.exceptions import CheckpointError, TrainingWarning
from agegender.metrics import SCORERS
from agegender.model_selection import AgeGenderKFold
from agegender.runtime import open_network
from agegender.training import Trainer


def rows(n: int = 120, shape: tuple[int, ...] = (6,), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    ages, genders = rng.integers(10, 71, n), np.arange(n) % 2
    X = rng.normal(size=(n, *shape)).astype(np.float32)
    X[..., 0] += (ages.reshape(-1, *[1] * (len(shape) - 1)) - 40) / 5
    return X, np.column_stack([ages, genders])


def quick(head: Any = None, **params: Any) -> AgeGenderClassifier:
    head = DenseHead((8,), dropout=0.3, batch_norm=True) if head is None else head
    settings = {"epochs": 5, "learning_rate": 0.03, "batch_size": 32, "random_state": 0, "max_age": 80}
    return AgeGenderClassifier(head, **settings | params)


class Stopped(Exception):
    """What stops a training."""


def stop_after(monkeypatch: pytest.MonkeyPatch, n_epochs: int) -> list[int]:
    """Stop a training in the epoch after `n_epochs` of them; return a list with an entry per epoch."""
    begun: list[int] = []
    train_epoch = Trainer._train_epoch

    def stopping(self: Trainer, *args: Any) -> float:
        begun.append(1)
        if len(begun) > n_epochs:
            raise Stopped
        return train_epoch(self, *args)

    monkeypatch.setattr(Trainer, "_train_epoch", stopping)
    return begun


def interrupted(model: Any, X: Any, y: Any, after: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, after)
        with pytest.raises(Stopped):
            model.fit(X, y)


def without_time(model: AgeGenderClassifier) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name != "seconds"} for one in model.history_]


def assert_same(found: AgeGenderClassifier, expected: AgeGenderClassifier) -> None:
    assert repr(without_time(found)) == repr(without_time(expected))
    weights = [model.keras_model_.get_weights() for model in (found, expected)]
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))
    assert found.calibration_ == expected.calibration_


@pytest.mark.parametrize(
    ("params", "after"),
    [
        ({}, 3),
        ({"validation_fraction": 0.0, "schedule": "cosine", "averaging": 0.9}, 2),
        ({"averaging": 0.9, "mixup": 0.4, "rounds": 2, "epochs": 3}, 5),
        ({"rounds": 2, "ensemble": 2, "epochs": 3, "balance": "age-drop"}, 4),
        ({"rounds": 2, "ensemble": 2, "epochs": 3, "balance": "age-drop"}, 9),
    ],
)
def test_it_goes_on_where_it_was_interrupted(tmp_path: Path, params: dict[str, Any], after: int) -> None:
    X, y = rows()
    expected = quick(**params).fit(X, y)
    model = quick(checkpoint=tmp_path, **params)
    interrupted(model, X, y, after)
    with pytest.MonkeyPatch.context() as patch:
        begun = stop_after(patch, 10**6)
        model.fit(X, y)
    assert_same(model, expected)
    assert len(begun) == len(expected.history_) - after


def test_it_goes_on_after_several_interruptions_and_early_stopping(tmp_path: Path) -> None:
    X, y = rows(60)
    params = {"epochs": 60, "patience": 3, "validation_fraction": 0.3}
    expected = quick(**params).fit(X, y)
    model = quick(checkpoint=str(tmp_path), **params)
    assert 5 < len(expected.history_) < 60
    for _ in range(2):
        interrupted(model, X, y, 2)
    interrupted(model, X, y, len(expected.history_) - 5)
    assert_same(model.fit(X, y), expected)


def test_views_read_from_a_file_go_on_too(tmp_path: Path) -> None:
    X, y = rows(60, (2, 4, 4, 3))
    np.save(tmp_path / "rows.npy", X)
    head = ConvHead((4,), spatial_dropout=0.3)
    expected = quick(head, epochs=3).fit(X, y)
    model = quick(head, epochs=3, checkpoint=tmp_path / "new" / "folder")
    interrupted(model, np.load(tmp_path / "rows.npy", mmap_mode="r"), y, 1)
    assert_same(model.fit(X, y), expected)


@pytest.mark.parametrize(("layer", "batch_norm"), [("input", "frozen"), ("conv_0", "trained")])
def test_fine_tuning_goes_on(tmp_path: Path, layer: str, batch_norm: str) -> None:
    backbone = Backbone.from_onnx(networks.saved(NETWORKS["plain"](), tmp_path / "plain.onnx"))
    pictures = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    X, y = open_network(backbone, layer)(pictures) if layer != "input" else pictures, rows(40)[1]
    head = FineTuneHead(layer, (8,), backbone=backbone, backbone_batch_norm=batch_norm)
    params = {"epochs": 3, "validation_fraction": 0.2, "batch_size": 10}
    expected = quick(head, **params).fit(X, y)
    model = quick(head, checkpoint=tmp_path / "checkpoint", **params)
    interrupted(model, X, y, 2)
    assert_same(model.fit(X, y), expected)


@pytest.mark.slow
def test_a_killed_process_loses_at_most_an_epoch(tmp_path: Path) -> None:
    X, y = rows(600)
    np.savez(tmp_path / "rows.npz", X=X, y=y)
    folder = tmp_path / "checkpoint"
    process = subprocess.Popen(
        [sys.executable, long_training.__file__, str(tmp_path / "rows.npz"), str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        while process.poll() is None and not list(folder.glob("*.checkpoint")):
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (file,) = folder.glob("*.checkpoint")
    n_trained = len(checkpoints._read(file, arrays=False)[0]["progress"]["records"])
    assert 1 <= n_trained < 60
    with pytest.MonkeyPatch.context() as patch:
        begun = stop_after(patch, 10**6)
        model = long_training.classifier(str(folder)).fit(X, y)
    assert len(begun) == 60 - n_trained
    assert_same(model, long_training.classifier(None).fit(X, y))
    assert [path.name for path in folder.iterdir()] == [file.name]


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A folder with a training that was interrupted after two epochs, and its data."""
    X, y = rows(60)
    interrupted(quick(checkpoint=tmp_path), X, y, 2)
    return tmp_path, X, y


def test_another_training_in_the_folder_is_refused_and_the_difference_said(begun) -> None:
    folder, X, y = begun
    other = rows(60, seed=1)[0]
    for params, data, message in (
        (
            {"batch_size": 16},
            (X, y),
            r"after 2 epochs: batch_size=16 here, 32 there\. To continue it, .*delete",
        ),
        (
            {"learning_rate": 0.01, "epochs": 9},
            (X, y),
            "epochs=9 here, 5 there; learning_rate=0.01 here, 0.03",
        ),
        ({"head": DenseHead((4,))}, (X, y), r"head=DenseHead\(units=\(4,\)\) here, DenseHead\(.*dropout=0.3"),
        ({"random_state": 1}, (X, y), "another random_state"),
        ({}, (X[:50], y[:50]), "50 pictures here, 60 there"),
        ({}, (other, y), ": other rows"),
        ({}, (X, y[::-1]), ": other ages, genders"),
    ):
        with pytest.raises(CheckpointError, match=message):
            quick(checkpoint=folder, **params).fit(*data)
    (file,) = folder.iterdir()
    file.unlink()
    quick(checkpoint=folder, batch_size=16).fit(X, y)


def test_other_versions_are_refused(begun, monkeypatch) -> None:
    from agegender._fitting import identity

    folder, X, y = begun
    monkeypatch.setattr(identity, "versions", lambda: {"keras": "2.0"})
    with pytest.raises(CheckpointError, match=r"keras 2\.0 here, .* there"):
        quick(checkpoint=folder).fit(X, y)


def test_a_finished_training_is_not_repeated_and_does_not_stand_in_the_way(begun) -> None:
    folder, X, y = begun
    first = quick(checkpoint=folder).fit(X, y)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 0)
        again = clone(first).fit(X, y)
    assert_same(again, first)
    assert [one["seconds"] for one in again.history_] == [one["seconds"] for one in first.history_]
    quick(checkpoint=folder, batch_size=16).fit(X, y)
    assert len(list(folder.iterdir())) == 2


def test_folds_and_candidates_have_files_of_their_own(begun) -> None:
    folder, X, y = begun
    model = quick(checkpoint=folder, epochs=2)
    cross_validate(model, X, y, cv=AgeGenderKFold(2), scoring=SCORERS, error_score="raise")
    assert len(list(folder.glob("*.checkpoint"))) == 3
    grid = {"batch_size": [16, 32]}
    search = GridSearchCV(
        model, grid, cv=AgeGenderKFold(2), scoring=SCORERS, refit="neg_age_mae", error_score="raise"
    )
    with pytest.MonkeyPatch.context() as patch:
        trained = stop_after(patch, 10**6)
        search.fit(X, y)
    assert (
        len(trained) == 2 * 3
    )  # the folds with 32 rows a step are there; the others and the last fit are new
    assert len(list(folder.glob("*.checkpoint"))) == 6


def test_two_processes_do_not_train_the_same(begun) -> None:
    folder, X, y = begun
    (file,) = folder.iterdir()
    with locked(file.with_suffix(".lock")) as owner:
        assert owner is None
        assert is_locked(file.with_suffix(".lock"))
        with pytest.raises(CheckpointError, match=rf"process {os.getpid()} is training the same.*Wait"):
            quick(checkpoint=folder).fit(X, y)
        # What is at work is not left behind.
        quick(checkpoint=folder, batch_size=16, epochs=1).fit(X, y)
    assert not is_locked(file.with_suffix(".lock"))
    assert not list(folder.glob("*.lock"))


def test_a_damaged_file_is_named(begun) -> None:
    folder, X, y = begun
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=rf"{file.name} cannot be read.*Delete it"):
        quick(checkpoint=folder).fit(X, y)


def test_a_full_disk_does_not_end_the_training(tmp_path: Path, monkeypatch) -> None:
    X, y = rows(60)

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_whole", full)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = quick(checkpoint=tmp_path, epochs=2).fit(X, y)
    messages = [str(one.message) for one in caught if issubclass(one.category, TrainingWarning)]
    assert messages
    assert "No space left on device" in messages[0]
    assert_same(model, quick(epochs=2).fit(X, y))


def test_it_needs_a_seed_and_a_folder(tmp_path: Path) -> None:
    X, y = rows(60)
    with pytest.raises(ValueError, match="needs a random_state, such as random_state=0"):
        quick(checkpoint=tmp_path, random_state=None).fit(X, y)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        quick(checkpoint=tmp_path / "file").fit(X, y)


def test_a_saved_model_names_no_folder(begun) -> None:
    folder, X, y = begun
    model = quick(checkpoint=folder).fit(X, y)
    loaded = load_model(save_model(model, folder / "model.agegender"))
    assert loaded.checkpoint is None
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
