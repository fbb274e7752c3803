"""One picture, one row: whatever way a picture takes, its numbers are the same and stand at its place."""

from __future__ import annotations

import copy
import io
import itertools
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from conftest import write_drawn_faces, write_tiny_onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from several_faces import SeveralFaces
from sklearn.base import clone

from agegender import AgeGenderClassifier, AgeGenderPipeline, Backbone, DenseHead, EmbeddingExtractor
from agegender.persistence import load_model, save_model
from agegender.shards import open_shards, shard_extractor, write_shard

EXAMPLES = int(os.environ.get("INVARIANT_EXAMPLES", "50"))
ALIKE = 1e-5
bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
# Pictures of noise have no framing, and the detector of this test finds faces wherever it likes.
pytestmark = pytest.mark.filterwarnings("ignore::agegender.exceptions.FramingWarning")


# Pictures, and the forms in which they are given


def write_pictures(folder: Path) -> list[str]:
    """Write pictures of many kinds: one turned by its EXIF data, one grey, one with alpha, one broken, a copy."""
    folder.mkdir()
    rng = np.random.default_rng(5)

    def noise(height: int, width: int, red: int) -> Image.Image:
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        pixels[0, 0] = red
        return Image.fromarray(pixels)

    for number, red in enumerate((60, 61, 62, 100, 0, 250)):
        noise(30 + number, 40, red).save(folder / f"{number}.png")
    noise(24, 24, 80).save(folder / "6.jpg", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(20, 36, 90).save(folder / "7.jpg", exif=exif)
    noise(33, 21, 120).convert("L").save(folder / "8.png")
    faint = noise(28, 28, 130)
    faint.putalpha(128)
    faint.save(folder / "9.png")
    (folder / "a.png").write_bytes((folder / "1.png").read_bytes())
    (folder / "b.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return sorted(map(str, folder.iterdir()))


BROKEN = 11
N = 12


def opened(path: str) -> Any:
    """Return a PIL image that is read at its first use; of what is broken, its bytes."""
    content = Path(path).read_bytes()
    try:
        return Image.open(io.BytesIO(content))
    except OSError:
        return content


def pixels_of(path: str) -> Any:
    from agegender import images
    from agegender.exceptions import PictureError

    try:
        return images.load(path)
    except PictureError:
        return Path(path).read_bytes()


FORMS: dict[str, Callable[[str], Any]] = {
    "path": str,
    "Path": Path,
    "bytes": lambda path: Path(path).read_bytes(),
    "image": opened,
    "array": pixels_of,
    "strided array": lambda path: np.asfortranarray(pixels_of(path)) if "b.jpg" not in path else path,
}


def object_array(pictures: list[Any]) -> np.ndarray:
    array = np.empty(len(pictures), object)
    for place, picture in enumerate(pictures):
        array[place] = picture
    return array


def labels(n: int) -> list[int]:
    """Return an index in disorder, some labels twice."""
    return [(7 * i) % 5 * 10 for i in range(n)]


class OneByOne:
    """A sequence of the user's own."""

    def __init__(self, pictures: list[Any]) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Any:
        return self.pictures[index]


CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "object array": object_array,
    "column array": lambda pictures: object_array(pictures)[:, np.newaxis],
    "generator": lambda pictures: (picture for picture in pictures),
    "sequence": OneByOne,
    "Series": lambda pictures: pd.Series(object_array(pictures), index=labels(len(pictures))),
    "frame": lambda pictures: pd.DataFrame(
        {"n": 1, "path": pd.Series(object_array(pictures), index=labels(len(pictures)))}
    ),
    "column": lambda pictures: pd.DataFrame(
        {"p": pd.Series(object_array(pictures), index=labels(len(pictures)))}
    )["p"],
    "polars": lambda pictures: pl.Series(pictures, dtype=pl.Object),
}
PATHS_ONLY: dict[str, Callable[[list[str]], Any]] = {
    "text array": np.array,
    "text Series": lambda paths: pd.Series(paths, index=labels(len(paths)), dtype="str"),
    "categories": lambda paths: pd.Series(paths, index=labels(len(paths)), dtype="category"),
    "pandas Index": pd.Index,
    "polars Series": pl.Series,
    "polars frame": lambda paths: pl.DataFrame({"path": paths}),
    "polars categories": lambda paths: pl.Series(paths, dtype=pl.Categorical),
}


@dataclass(frozen=True)
class Given:
    """Pictures' numbers, and the way in which they are given: objects repeated, or each of its own."""

    numbers: tuple[int, ...]
    forms: tuple[str, ...]
    container: str
    repeats_objects: bool

    def X(self, paths: list[str]) -> Any:
        if self.container in PATHS_ONLY:
            return PATHS_ONLY[self.container]([paths[number] for number in self.numbers])
        known: dict[tuple[int, str], Any] = {}
        made = []
        for place, key in enumerate(zip(self.numbers, itertools.cycle(self.forms))):
            own = key if self.repeats_objects else (place, "")
            if own not in known:
                known[own] = FORMS[key[1]](paths[key[0]])
            made.append(known[own])
        return CONTAINERS[self.container](made)

    def __len__(self) -> int:
        return len(self.numbers)


GIVEN = st.builds(
    Given,
    numbers=st.lists(st.integers(0, N - 1), min_size=1, max_size=10).map(tuple),
    forms=st.lists(st.sampled_from(list(FORMS)), min_size=1, max_size=4).map(tuple),
    container=st.sampled_from([*CONTAINERS, *PATHS_ONLY]),
    repeats_objects=st.booleans(),
)


# Extractors


@dataclass(frozen=True, eq=False, repr=False)
class World:
    """Pictures, networks, and a cache that all examples share: what one has written, others read."""

    folder: Path
    paths: list[str]
    networks: list[Backbone]

    def __repr__(self) -> str:
        return "World()"

    def extractor(self, networks: str, look: str, **options: Any) -> EmbeddingExtractor:
        numbers, layers = NETWORKS[networks]
        backbones = tuple(self.networks[number] for number in numbers)
        one = len(backbones) == 1
        return EmbeddingExtractor(
            backbones[0] if one else backbones,
            layer=layers[0] if one else layers,
            on_error="nan",
            **({"cache": None} | LOOKS[look] | options),
        )

    @cache  # noqa: B019
    def rows(self, networks: str, look: str) -> np.ndarray:
        """Return the row of each picture, each network and picture by itself, from its path, without a cache."""
        parts = []
        for number, layer in zip(*NETWORKS[networks], strict=True):
            alone = EmbeddingExtractor(
                self.networks[number], layer=layer, on_error="nan", cache=None, n_jobs=1, **LOOKS[look]
            )
            parts.append(np.concatenate([alone.transform([path]) for path in self.paths]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    networks = [
        Backbone.from_onnx(write_tiny_onnx(folder / "a.onnx")),
        Backbone.from_onnx(write_tiny_onnx(folder / "b.onnx", seed=1)),
    ]
    return World(folder, write_pictures(folder / "pictures"), networks)


NETWORKS = {
    "one": ((0,), ("penultimate",)),
    "other": ((1,), ("embedding",)),
    "map": ((0,), ("feature_map",)),
    "pixels": ((1,), ("input",)),
    "both": ((0, 1), ("penultimate", "embedding")),
    "twice": ((1, 1), ("embedding", "pooled")),
}
LOOKS = {
    "plain": {},
    "views": {"views": ("plain", "mirror")},
    "cropped": {"crop": 0.1},
    "wide": {"crop": -0.2},
    "reframed": {"framing": "utkface"},
    "found": {"faces": SeveralFaces()},
    "found, wide, views": {"faces": SeveralFaces(), "crop": -0.1, "views": 3},
}


def through_pickle(extractor: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(extractor, file)
    file.seek(0)
    return joblib.load(file)


def through_safe_file(estimator: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return load_model(save_model(estimator, Path(folder) / "m.agegender"))


def with_own_faces(extractor: EmbeddingExtractor) -> EmbeddingExtractor:
    """Take an extractor through a safe file, which keeps no detector of a user's own."""
    faces = extractor.faces
    kept = (
        through_safe_file(clone(extractor).set_params(faces=None).fit())
        if faces
        else through_safe_file(extractor)
    )
    return kept.set_params(faces=faces, cache=extractor.cache)


def detour(extractor: EmbeddingExtractor) -> EmbeddingExtractor:
    crop = extractor.crop
    return extractor.fit().set_params(crop=0.3).fit().set_params(crop=crop)


ARRIVALS: dict[str, Callable[[EmbeddingExtractor], EmbeddingExtractor]] = {
    "as made": lambda extractor: extractor,
    "fitted": lambda extractor: extractor.fit(),
    "cloned": lambda extractor: clone(extractor.fit()),
    "joblib": lambda extractor: through_pickle(extractor.fit()),
    "unfitted joblib": through_pickle,
    "safe": lambda extractor: with_own_faces(extractor.fit()),
    "unfitted safe": with_own_faces,
    "parameters": lambda extractor: extractor.fit().with_parameters(batch_size=5),
    "detour": detour,
}


def transformed(extractor: EmbeddingExtractor, X: Any, n: int, folder: Path) -> np.ndarray:
    return extractor.transform(X)


def into_out(dtype: str, kind: str) -> Callable[..., np.ndarray]:
    def run(extractor: EmbeddingExtractor, X: Any, n: int, folder: Path) -> np.ndarray:
        shape = (n, *extractor.row_shape())
        if kind == "map":
            out: np.ndarray = np.memmap(folder / "rows", dtype, "w+", shape=shape)
        elif kind == "strided":
            out = np.zeros((2 * n, *shape[1:]), dtype)[::2]
        else:
            out = np.full(shape, -1, dtype)
        assert extractor.transform(X, out=out) is out
        return np.array(out)

    return run


def in_blocks(extractor: EmbeddingExtractor, X: Any, n: int, folder: Path) -> np.ndarray:
    rows = np.concatenate(list(extractor.transform_blocks(X, 3 * 4 * np.prod(extractor.row_shape()))))
    assert extractor.report_.n_images == n
    return rows


def embedded(extractor: EmbeddingExtractor, X: Any, n: int, folder: Path) -> np.ndarray:
    rows, digests, _ = extractor.embed(X)
    failed = {failure.index for failure in extractor.report_.failures}
    assert {place for place, digest in enumerate(digests) if digest is None} == failed
    return rows


WAYS: dict[str, Callable[..., np.ndarray]] = {
    "transform": transformed,
    "blocks": in_blocks,
    "embed": embedded,
    "out": into_out("float32", "array"),
    "out of halves": into_out("float16", "array"),
    "out as a map": into_out("float32", "map"),
    "out with strides": into_out("float32", "strided"),
}


@bounded
@given(
    pictures=GIVEN,
    networks=st.sampled_from(list(NETWORKS)),
    look=st.sampled_from(list(LOOKS)),
    dtype=st.sampled_from(["float32", "float16"]),
    arrival=st.sampled_from(list(ARRIVALS)),
    way=st.sampled_from(list(WAYS)),
    cached=st.booleans(),
    trusting=st.booleans(),
    batch_size=st.sampled_from([1, 3, 64]),
    n_jobs=st.sampled_from([1, 3]),
)
def test_rows(
    pictures, networks, look, dtype, arrival, way, cached, trusting, batch_size, n_jobs, world, tmp_path
) -> None:
    if networks == "pixels":
        dtype = "float32"
    expected = world.rows(networks, look)[list(pictures.numbers)]
    extractor = ARRIVALS[arrival](
        world.extractor(
            networks,
            look,
            dtype=dtype,
            cache=world.folder / "cache" if cached else None,
            trust_mtime=trusting,
            batch_size=batch_size,
            n_jobs=n_jobs,
        )
    )
    rows = WAYS[way](extractor, pictures.X(world.paths), len(pictures), tmp_path)
    failed = np.isnan(expected.reshape(len(expected), -1)).any(axis=1)
    assert [failure.index for failure in extractor.report_.failures] == np.flatnonzero(failed).tolist()
    if dtype == "float16" or rows.dtype == np.float16:
        np.testing.assert_allclose(rows, expected.astype(np.float16).astype(rows.dtype), rtol=1e-3, atol=1e-5)
    else:
        np.testing.assert_allclose(rows, expected, rtol=ALIKE, atol=ALIKE)


# Models

MODELS = {
    "one": ("one", "plain"),
    "both": ("both", "plain"),
    "views": ("one", "views"),
    "found": ("other", "found"),
}
MODEL_ARRIVALS: dict[str, Callable[[AgeGenderPipeline], AgeGenderPipeline]] = {
    "as made": lambda model: model,
    "joblib": through_pickle,
    "safe": through_safe_file,
    "joblib, then safe": lambda model: through_safe_file(through_pickle(model)),
    "safe, then joblib": lambda model: through_pickle(through_safe_file(model)),
}


@pytest.fixture(scope="module")
def model_of(world: World) -> Callable[[str], AgeGenderPipeline]:
    """Train a small head on some of the networks' rows, once each."""
    folder = write_drawn_faces(world.folder / "drawn", 24)
    drawn = sorted(map(str, folder.iterdir()))
    y = [[int(Path(path).name.split("_")[0]), i % 2] for i, path in enumerate(drawn)]

    @cache
    def train(name: str) -> AgeGenderPipeline:
        extractor = world.extractor(*MODELS[name])
        return AgeGenderPipeline(extractor, AgeGenderClassifier(DenseHead(), epochs=2, random_state=0)).fit(
            drawn, y
        )

    return train


@pytest.fixture(scope="module")
def table_of(
    world: World, model_of: Callable[[str], AgeGenderPipeline]
) -> Callable[[str, bool], pd.DataFrame]:
    """Predict each picture by itself, as it is or in its largest face, once each."""

    @cache
    def predict(name: str, found: bool) -> pd.DataFrame:
        faces = SeveralFaces() if found else "own"
        frames = [model_of(name).predict_frame([path], faces=faces) for path in world.paths]
        return pd.concat(frames, ignore_index=True)

    return predict


def arrived(model: AgeGenderPipeline, arrival: str, **options: Any) -> AgeGenderPipeline:
    """Take a fitted model to another machine, where its extractor has other options."""
    faces = model.extractor.faces
    if faces is not None and "safe" in arrival:
        arrival = "joblib"  # a safe file keeps no detector of a user's own
    there = MODEL_ARRIVALS[arrival](model)
    fitted = copy.copy(there)
    fitted.extractor_ = there.extractor_.with_parameters(**options)
    return fitted


def index_of(X: Any, n: int) -> np.ndarray:
    return np.asarray(X.index) if isinstance(X, pd.Series | pd.DataFrame) else np.arange(n)


def same_table(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    found, expected = found.reset_index(drop=True), expected.reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, rtol=ALIKE, check_dtype=False)


@pytest.mark.slow
@bounded
@given(
    pictures=GIVEN,
    name=st.sampled_from(list(MODELS)),
    arrival=st.sampled_from(list(MODEL_ARRIVALS)),
    limit=st.sampled_from([0, 100, None]),
    cached=st.booleans(),
    found=st.booleans(),
    batch_size=st.sampled_from([1, 3, 64]),
)
def test_predictions(
    pictures, name, arrival, limit, cached, found, batch_size, world, model_of, table_of
) -> None:
    expected = table_of(name, found).iloc[list(pictures.numbers)]
    options = {"cache": world.folder / "cache" if cached else None, "batch_size": batch_size}
    model = arrived(model_of(name), arrival, **options)
    model.memory_limit = limit
    faces = SeveralFaces() if found else "own"

    X = pictures.X(world.paths)
    frame = model.predict_frame(X, faces=faces)
    assert list(frame.index) == list(
        X.index if isinstance(X, pd.Series | pd.DataFrame) else range(len(pictures))
    )
    pd.testing.assert_frame_equal(
        frame.reset_index(drop=True), expected.reset_index(drop=True), rtol=ALIKE, check_dtype=False
    )
    unread = [failure.index for failure in model.report_.failures]
    assert unread == np.flatnonzero(expected["age"].isna()).tolist()
    predicted = model.predict(pictures.X(world.paths), faces=faces)
    np.testing.assert_allclose(predicted[:, 0], expected["age"], rtol=ALIKE)
    np.testing.assert_array_equal(predicted[:, 1], expected["gender"].astype(float))
    ages, genders = model.predict_proba(pictures.X(world.paths), faces=faces)
    np.testing.assert_allclose(ages @ np.arange(101), expected["age"], rtol=ALIKE)
    np.testing.assert_allclose(genders.max(axis=1), expected["gender_proba"], rtol=ALIKE)


@bounded
@given(
    pictures=GIVEN,
    name=st.sampled_from(list(MODELS)),
    limit=st.sampled_from([0, 100, None]),
    cached=st.booleans(),
    batch_size=st.sampled_from([1, 3, 64]),
)
def test_every_face(pictures, name, limit, cached, batch_size, world, model_of, table_of) -> None:
    expected = table_of(name, True).iloc[list(pictures.numbers)].reset_index(drop=True)
    options = {"cache": world.folder / "cache" if cached else None, "batch_size": batch_size}
    model = arrived(model_of(name), "joblib", **options)
    model.memory_limit = limit
    X = pictures.X(world.paths)
    table = model.predict_faces(X, faces=SeveralFaces())
    at = table["picture"].to_numpy()
    expected_index = index_of(X, 0)[at] if len(index_of(X, 0)) else np.arange(len(table))
    assert list(table.index) == list(expected_index)
    assert (np.diff(at) >= 0).all()
    largest = table[~table["picture"].duplicated()]
    assert largest["picture"].tolist() == np.flatnonzero(expected["age"].notna()).tolist()
    same_table(largest[list(expected)], expected[expected["age"].notna()])
    # A copy of a picture has the same faces.
    first_at = {number: place for place, number in reversed(list(enumerate(pictures.numbers)))}
    for place, number in enumerate(pictures.numbers):
        same_table(
            table[at == place].drop(columns="picture"), table[at == first_at[number]].drop(columns="picture")
        )


# Shards and clusters


@bounded
@given(
    numbers=st.lists(st.integers(0, N - 1), max_size=8),
    networks=st.sampled_from(list(NETWORKS)),
    look=st.sampled_from(list(LOOKS)),
    dtype=st.sampled_from(["float32", "float16"]),
    total=st.integers(1, 3),
    fitted=st.booleans(),
)
def test_shards(numbers, networks, look, dtype, total, fitted, world) -> None:
    extractor = world.extractor(networks, look, dtype="float32" if networks == "pixels" else dtype)
    if fitted:
        extractor = through_pickle(extractor.fit())
    expected = world.rows(networks, look)[numbers]
    found = np.full((len(numbers), *expected.shape[1:]), np.nan)
    tolerance = {"rtol": 1e-3 if dtype == "float16" else ALIKE, "atol": ALIKE}
    listed = [world.paths[i] for i in numbers]
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, total + 1):
            report = write_shard(listed, folder, extractor, f"{number}/{total}")
            shard = pq.read_table(report.path).to_pylist()
            assert [row["path"] for row in shard] == listed[number - 1 :: total]
            for place, row in zip(range(number - 1, len(numbers), total), shard, strict=True):
                assert (row["embedding"] is None) == (row["error"] is not None)
                if row["error"] is None:
                    found[place] = np.reshape(row["embedding"], expected.shape[1:])
        np.testing.assert_allclose(found, expected, **tolerance)
        readable = np.flatnonzero(~np.isnan(found).any(axis=tuple(range(1, found.ndim))))
        if len(readable):
            opened = open_shards(folder)
            assert opened.frame["place"].tolist() == readable.tolist()
            np.testing.assert_allclose(opened.data, expected[readable], **tolerance)
            assert len(opened.excluded) == len(numbers) - len(readable)
            if extractor.faces is None:  # a footer describes no detector of a user's own
                described = shard_extractor(folder, extractor.backbone).set_params(cache=None, on_error="nan")
                np.testing.assert_allclose(described.transform(listed), expected, **tolerance)


def test_a_cluster(world, tmp_path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'agegender[dask]'")
    numbers = [3, 0, 11, 7, 3, 10, 1, 4, 5]
    cluster = distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        dashboard_address="127.0.0.1:0",
        local_directory=tmp_path,
    )
    X = Given(tuple(numbers), ("path", "array", "bytes"), "Series", True).X(world.paths)
    with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        for networks, look in (("both", "plain"), ("other", "found")):
            extractor = world.extractor(networks, look, batch_size=2)
            rows = extractor.transform(X)
            np.testing.assert_allclose(rows, world.rows(networks, look)[numbers], rtol=ALIKE, atol=ALIKE)
