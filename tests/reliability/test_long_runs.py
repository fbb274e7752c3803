"""Threads, processes, loops and interruptions: what a service or a long run meets."""

from __future__ import annotations

import gc
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from elsewhere import predict_elsewhere

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    Backbone,
    DenseHead,
    EmbeddingExtractor,
    save_model,
)
from agegender.exceptions import PictureError

N_THREADS = 8


@pytest.fixture(scope="module")
def pictures(drawn_faces: Path) -> list[str]:
    return sorted(map(str, drawn_faces.glob("*.jpg")))


@pytest.fixture(scope="module")
def model(tiny_onnx: Path, pictures: list[str]) -> AgeGenderPipeline:
    labels = [[int(part) for part in Path(path).name.split("_")[:2]] for path in pictures]
    extractor = EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), cache=None)
    classifier = AgeGenderClassifier(DenseHead(), epochs=2, random_state=0)
    return AgeGenderPipeline(extractor, classifier).fit(pictures, labels)


def in_threads(function: Any, parts: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(N_THREADS) as threads:
        return list(threads.map(function, parts))


@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "one cache"])
def test_eight_threads_give_what_one_gives(
    model: AgeGenderPipeline, pictures: list[str], tmp_path: Path, cached: bool
) -> None:
    extractor = EmbeddingExtractor(
        model.extractor.backbone, cache=tmp_path / "cache" if cached else None, batch_size=4
    )
    # Parts that overlap: several threads want the same rows at the same time.
    parts = [pictures[start : start + 20] for start in (0, 10, 20, 30, 40, 0, 10, 20)] * 2
    rows = in_threads(extractor.transform, parts)
    ages = in_threads(model.predict, parts)
    alone = EmbeddingExtractor(model.extractor.backbone, cache=None)
    for part, found, predicted in zip(parts, rows, ages, strict=True):
        assert found.tobytes() == alone.transform(part).tobytes()
        assert predicted.tobytes() == model.predict(part).tobytes()


def test_pickles_and_safe_files_predict_the_same_in_a_spawned_process(
    model: AgeGenderPipeline, pictures: list[str], tmp_path: Path
) -> None:
    joblib.dump(model, tmp_path / "model.joblib")
    save_model(model, tmp_path / "model.agegender")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        given = pool.apply(predict_elsewhere, (model, pictures[:3]))
        dumped = pool.apply(predict_elsewhere, (tmp_path / "model.joblib", pictures[:3]))
        saved = pool.apply(predict_elsewhere, (tmp_path / "model.agegender", pictures[:3]))
    expected = model.predict(pictures[:3]).tolist()
    assert given == dumped == saved == expected


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident memory from /proc")
def test_predicting_in_a_loop_does_not_grow_memory(model: AgeGenderPipeline) -> None:
    rng = np.random.default_rng(0)

    def predict(times: int) -> int:
        for _ in range(times):
            model.predict([rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)])
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = predict(300)
    assert predict(1500) - before < 30 * 2**20  # 20 kB a prediction would be a leak of 30 MB


def test_calls_one_after_another_use_the_same_threads(model: AgeGenderPipeline, pictures: list[str]) -> None:
    """OpenCV keeps a little memory for ever of each thread that has once used it."""

    def readers() -> set[int | None]:
        return {thread.ident for thread in threading.enumerate() if thread.name.startswith("agegender-read")}

    model.predict(pictures)
    before = readers()
    for _ in range(5):
        model.predict(pictures)
    assert readers() == before != set()


def test_threads_that_an_error_stopped_are_not_lent_again(
    model: AgeGenderPipeline, pictures: list[str]
) -> None:
    expected = model.predict(pictures).tobytes()
    for _ in range(3):
        with pytest.raises(PictureError):
            model.predict([*pictures, b"no picture"])
        assert model.predict(pictures).tobytes() == expected
