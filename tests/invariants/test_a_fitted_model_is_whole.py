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

EXAMPLES = int(os.environ.get("INVARIANT_EXAMPLES", "25"))
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

    def model(self, kind: str, files: list[Path]) -> AgeGenderPipeline:
        first, second = map(Backbone.from_onnx, files)
        backbone: Any = {
            "one": first,
            "two": (first, second),
            "list": [second, first],
            "twice": (first, first),
            "by path": files[0],
            "by path and object": (str(files[0]), second),
        }[kind]
        extractor = EmbeddingExtractor(backbone, cache=None)
        classifier = AgeGenderClassifier(DenseHead(), epochs=2, random_state=0)
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
def expected(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, float], np.ndarray]:
    """What a model of a kind says whose files were never touched."""

    @cache
    def predict(kind: str, crop: float) -> np.ndarray:
        files = place.networks(tmp_path_factory.mktemp("untouched"))
        model = place.model(kind, files).set_params(extractor__crop=crop)
        return model.fit(place.paths, place.y).predict(place.paths)

    return predict


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
        os.chdir(there)

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


@bounded
@given(kind=st.sampled_from(KINDS), steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=7))
def test_journeys(kind, steps, place, expected, monkeypatch) -> None:
    monkeypatch.setenv("AGEGENDER_HOME", tempfile.mkdtemp(dir=place.folder))
    here = os.getcwd()
    folder = Path(tempfile.mkdtemp(dir=place.folder))
    files = place.networks(folder)
    journey = Journey(place, place.model(kind, files).fit(place.paths, place.y), folder, files)
    try:
        for journey.n, step in enumerate(steps):
            getattr(journey, step)()
            np.testing.assert_allclose(
                journey.model.predict(place.paths), expected(kind, journey.crop), rtol=1e-4, err_msg=step
            )
    finally:
        os.chdir(here)
