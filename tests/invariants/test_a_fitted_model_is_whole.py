"""A fitted model is whole: saved, cloned, its network's file deleted, it predicts the same and can be refitted."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from conftest import write_drawn_faces, write_tiny_onnx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from agegender import AgeGenderClassifier, AgeGenderPipeline, Backbone, DenseHead, EmbeddingExtractor
from agegender.persistence import load_model, save_model
from agegender.runtime import close_networks

EXAMPLES = int(os.environ.get("INVARIANT_EXAMPLES", "8"))
bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # an example takes seconds: nothing is shrunk
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass(frozen=True, eq=False, repr=False)
class Place:
    """Pictures, two networks' files, and the models trained on them."""

    folder: Path
    paths: list[str]
    y: np.ndarray

    def __repr__(self) -> str:
        return "Place()"

    def networks(self, into: Path) -> list[Path]:
        """Copy the networks' files, to be deleted."""
        into.mkdir(exist_ok=True)
        return [Path(shutil.copy(self.folder / name, into)) for name in ("a.onnx", "b.onnx")]

    def unfitted(self, kind: str, files: list[Path]) -> AgeGenderPipeline:
        first, second = map(Backbone.from_onnx, files)
        backbone: Any = {
            "one": first,
            "two": (first, second),
            "list": [second, first],
            "twice": (first, first),
            "by path": files[0],
            "by path and object": (str(files[0]), second),
        }[kind]
        # Without a framing, that of the pictures is measured: once is enough.
        framing = None if kind == "one" else "utkface"
        extractor = EmbeddingExtractor(backbone, framing=framing, cache=None)
        classifier = AgeGenderClassifier(DenseHead(), epochs=1, random_state=0)
        return AgeGenderPipeline(extractor, classifier)


KINDS = ("one", "two", "list", "twice", "by path", "by path and object")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("place")
    write_tiny_onnx(folder / "a.onnx")
    write_tiny_onnx(folder / "b.onnx", seed=1)
    paths = sorted(map(str, write_drawn_faces(folder / "drawn", 16).iterdir()))
    y = np.array([[int(Path(path).name.split("_")[0]), i % 2] for i, path in enumerate(paths)])
    return Place(folder, paths, y)


@pytest.fixture(scope="module")
def fitted(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[AgeGenderPipeline, Path]]:
    """Fit a model of each kind once; its networks' files lie in a folder of their own."""

    @cache
    def fit(kind: str) -> tuple[AgeGenderPipeline, Path]:
        folder = tmp_path_factory.mktemp("networks")
        return place.unfitted(kind, place.networks(folder)).fit(place.paths, place.y), folder

    return fit


@pytest.fixture(scope="module")
def expected(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, float], np.ndarray]:
    """Return what a model of a kind predicts whose files were never touched."""
    untouched = place.networks(tmp_path_factory.mktemp("untouched"))

    @cache
    def predict(kind: str, crop: float) -> np.ndarray:
        model = place.unfitted(kind, untouched).set_params(extractor__crop=crop)
        return model.fit(place.paths, place.y).predict(place.paths)

    return predict


def copied(model: AgeGenderPipeline) -> AgeGenderPipeline:
    """Return the same fitted model, of which nothing was saved, to be changed."""
    other = clone(model)
    vars(other).update({name: value for name, value in vars(model).items() if name.endswith("_")})
    other.extractor_ = model.extractor_.with_parameters()
    return other


@dataclass
class Journey:
    """A fitted model on its way, and what is true of it."""

    place: Place
    model: AgeGenderPipeline
    folder: Path
    files: list[Path]
    crop: float = 0.0
    carries: bool = False
    """It was saved and loaded: small networks are inside."""
    n: int = 0

    def joblib(self) -> None:
        path = self._next("joblib")
        joblib.dump(self.model, path)
        self.model = joblib.load(path)
        self.carries = True

    def safe(self) -> None:
        self.model = load_model(save_model(self.model, self._next("agegender")))
        self.model.extractor_.cache = None
        if self.model.extractor is not None:
            self.model.extractor.cache = None
        self.carries = True

    def elsewhere(self) -> None:
        """Work in another directory from now on."""
        there = self.folder / f"directory {self.n}"
        there.mkdir()
        os.chdir(there)  # the test's own directory is back when it ends

    def delete(self) -> None:
        """Delete the networks' files, and what this process has read of them."""
        for file in self.files if self.carries else ():
            file.unlink(missing_ok=True)
        shutil.rmtree(Path(os.environ["AGEGENDER_HOME"]), ignore_errors=True)
        close_networks()

    def batch_size(self) -> None:
        """Set a parameter that changes no number, of the extractor that predicts too."""
        self.model.set_params(extractor__batch_size=3)
        self.model.extractor_.set_params(batch_size=5)

    def refit(self) -> None:
        self.model.fit(self.place.paths, self.place.y)

    def cloned(self) -> None:
        self.model = clone(self.model).fit(self.place.paths, self.place.y)

    def recropped(self) -> None:
        self.crop = 0.1 - self.crop
        self.model = (
            clone(self.model).set_params(extractor__crop=self.crop).fit(self.place.paths, self.place.y)
        )

    def other_layer_and_back(self) -> None:
        fitted = self.model.extractor_
        layer = fitted.layer
        fitted.set_params(layer="embedding")
        fitted.transform(self.place.paths[:1])
        fitted.set_params(layer=layer)

    def _next(self, suffix: str) -> Path:
        return self.folder / f"{self.n}.{suffix}"


STEPS = (
    "joblib",
    "safe",
    "elsewhere",
    "delete",
    "batch_size",
    "refit",
    "cloned",
    "recropped",
    "other_layer_and_back",
)


@pytest.mark.slow
@bounded
@given(kind=st.sampled_from(KINDS), steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=6))
def test_journeys(kind, steps, place, fitted, expected, monkeypatch) -> None:
    folder = Path(tempfile.mkdtemp(dir=place.folder))
    monkeypatch.setenv("AGEGENDER_HOME", str(folder / "home"))
    monkeypatch.chdir(folder)
    model, of_networks = fitted(kind)
    journey = Journey(place, copied(model), folder, place.networks(of_networks))
    for journey.n, step in enumerate(steps):
        getattr(journey, step)()
        predicted = journey.model.predict(place.paths)
        np.testing.assert_allclose(predicted, expected(kind, journey.crop), rtol=1e-4, err_msg=step)
