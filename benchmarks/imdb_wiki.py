"""IMDB-WIKI's layout at a large size: how long it takes to load, and the way from there to folds, in how much memory.

    python benchmarks/imdb_wiki.py --rows 100000 --folds 5

writes a synthetic ``imdb.mat`` as it is published (format 5, cells of text and boxes, scores that are not finite,
second faces, absurd dates), loads it, and with ``--folds`` draws a small JPEG for every row with an age and a gender,
passes them through a small network, and cross-validates a head by person. Each step is a process of its own, and its
peak memory its alone.
"""

from __future__ import annotations

import argparse
import datetime
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

YEAR_ZERO = 366
FOLDERS = 100
ALL_FACES: dict[str, Any] = {"min_face_score": None, "second_face": True}


def write_mat(folder: Path, n: int) -> None:
    from matlab_files import save_v5

    rng = np.random.default_rng(0)
    first, last = (datetime.date(year, 1, 1).toordinal() + YEAR_ZERO for year in (1920, 1995))
    persons = rng.integers(1, n // 20 + 2, n)
    born = rng.integers(first, last, n // 20 + 2)[persons]
    born[rng.random(n) < 0.003] = 40
    gender = (persons % 2).astype(float)
    gender[rng.random(n) < 0.02] = np.nan
    score = rng.uniform(0.5, 6, n)
    score[rng.random(n) < 0.15] = -np.inf
    second = np.where(rng.random(n) < 0.2, rng.uniform(0.7, 4, n), np.nan)
    fields = {
        "dob": born.astype(np.int32),
        "photo_taken": rng.integers(1960, 2016, n).astype(np.uint16),
        "full_path": [f"{i % FOLDERS:02}/nm{persons[i]:07}_rm{i}.jpg" for i in range(n)],
        "gender": gender,
        "name": [f"Person {person}" for person in persons],
        "face_location": list(rng.uniform(1, 500, (n, 4))),
        "face_score": score,
        "second_face_score": second,
        "celeb_names": [f"Person {person}" for person in range(1, n // 20 + 2)],
        "celeb_id": persons.astype(np.uint16 if n < 600_000 else np.int32),
    }
    save_v5(folder / "imdb.mat", "imdb", fields)


def load(folder: Path, n: int) -> None:
    from agegender.datasets import describe, load_imdb_wiki

    start = time.perf_counter()
    faces = load_imdb_wiki(folder / "imdb.mat", folder / "faces")
    seconds = time.perf_counter() - start
    assert len(faces.frame) + len(faces.excluded) == n
    print(f"{n:,} rows loaded in {seconds:.1f} s: {len(faces.frame):,} kept")
    print(faces.excluded["reason"].str.split(":").str[0].value_counts().to_string())
    print(str(describe(faces.frame)).splitlines()[2])


def draw(folder: Path, n: int) -> None:
    from PIL import Image

    from agegender.datasets import load_imdb_wiki

    faces = load_imdb_wiki(folder / "imdb.mat", folder / "faces", **ALL_FACES)
    for number in range(FOLDERS):
        (folder / "faces" / f"{number:02}").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for path, age, gender in zip(faces.data, faces.frame["age"], faces.frame["gender"], strict=True):
        pixels = rng.normal(40 + 1.6 * age, 20, (24, 24, 3))
        pixels[..., 0] += 60 * gender
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    print(f"{len(faces.data):,} pictures drawn")


def fold(folder: Path, n_folds: int) -> None:
    from conftest import write_tiny_onnx

    from agegender import AgeGenderClassifier, AgeGenderPipeline, Backbone, DenseHead, EmbeddingExtractor
    from agegender.datasets import load_imdb_wiki
    from agegender.metrics import age_mae, gender_accuracy
    from agegender.model_selection import AgeGenderKFold, cross_val_predict_frame

    faces = load_imdb_wiki(folder / "imdb.mat", folder / "faces", check_files=True, **ALL_FACES)
    network = Backbone.from_onnx(
        write_tiny_onnx(folder / "tiny.onnx"), color="rgb", mean=127.5, scale=1 / 128
    )
    extractor = EmbeddingExtractor(network, layer="embedding", cache=str(folder / "cache"))
    classifier = AgeGenderClassifier(DenseHead((32,)), epochs=5, batch_size=512, random_state=0)
    model = AgeGenderPipeline(extractor, classifier)
    start = time.perf_counter()
    extractor.transform(faces.data)
    print(f"{len(faces.data):,} pictures through the network in {time.perf_counter() - start:.0f} s")
    start = time.perf_counter()
    splits = AgeGenderKFold(n_folds)
    frame = cross_val_predict_frame(model, faces.data, faces.target, groups=faces.groups, cv=splits)
    error, right = age_mae(faces.target, frame), gender_accuracy(faces.target, frame)
    print(
        f"{n_folds} folds in {time.perf_counter() - start:.0f} s: MAE {error:.2f} years, gender {100 * right:.1f} %"
    )


def step(function: Callable[..., None], *arguments: Any) -> None:
    """Run a step in a process of its own, and print its peak memory."""
    process = get_context("spawn").Process(target=measured, args=(function, *arguments))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(process.exitcode)


def measured(function: Callable[..., None], *arguments: Any) -> None:
    function(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{function.__name__}: peak memory {peak / 2**20:,.0f} MiB\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folds", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        step(write_mat, folder, options.rows)
        step(load, folder, options.rows)
        if options.folds:
            step(draw, folder, options.rows)
            step(fold, folder, options.folds)


if __name__ == "__main__":
    main()
