"""Pictures in data sets, tars and Parquet columns: read one by one, the rows of the same files."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor, images
from agegender._utils.stored import StoredPicture
from agegender.datasets import load_table, open_pictures
from agegender.exceptions import PictureError


@pytest.fixture
def extractor(backbone) -> EmbeddingExtractor:
    return EmbeddingExtractor(backbone, cache=None)


@pytest.fixture
def contents(paths: list[str]) -> list[bytes]:
    return [Path(path).read_bytes() for path in paths]


@pytest.fixture
def labels(paths: list[str]) -> pd.DataFrame:
    split = [Path(path).name.split("_") for path in paths]
    return pd.DataFrame({"age": [int(part[0]) for part in split], "gender": [int(part[1]) for part in split]})


@pytest.fixture
def tar(paths: list[str], labels: pd.DataFrame, tmp_path: Path) -> Path:
    """A tar as WebDataset writes it: a picture and a .json under one key."""
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        for number, path in enumerate(paths):
            said = json.dumps({"age": int(labels.age[number]), "gender": int(labels.gender[number])}).encode()
            for kind, content in (("jpg", Path(path).read_bytes()), ("json", said)):
                entry = tarfile.TarInfo(f"train/{number:05d}.{kind}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return tmp_path / "faces.tar"


@pytest.fixture
def parquet(contents: list[bytes], labels: pd.DataFrame, tmp_path: Path) -> Path:
    labels.assign(image=contents).to_parquet(tmp_path / "faces.parquet", index=False, row_group_size=7)
    return tmp_path / "faces.parquet"


@pytest.fixture
def huggingface(paths: list[str], labels: pd.DataFrame):
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face datasets: pip install datasets")
    columns = {"photo": paths, "age": labels.age.tolist(), "sex": labels.gender.tolist()}
    data = datasets.Dataset.from_dict(columns)
    data = data.cast_column("photo", datasets.Image())
    return data.cast_column("sex", datasets.ClassLabel(names=["male", "female"]))


def test_a_tar_is_read_where_its_members_lie(extractor, paths, tar) -> None:
    pictures = open_pictures(tar)
    assert len(pictures) == 60
    assert str(pictures[3]) == f"{tar}/train/00003.jpg"
    np.testing.assert_array_equal(extractor.transform(pictures), extractor.transform(paths))
    assert images.read(pickle.loads(pickle.dumps(pictures[5]))) == Path(paths[5]).read_bytes()


def test_a_parquet_column_of_bytes(extractor, paths, parquet) -> None:
    pictures = open_pictures(parquet)
    np.testing.assert_array_equal(extractor.transform(pictures), extractor.transform(paths))
    np.testing.assert_array_equal(
        extractor.transform(pickle.loads(pickle.dumps(pictures))[-5:]), extractor.transform(paths[-5:])
    )


def test_a_hugging_face_data_set_and_its_column_are_the_files(
    extractor, paths, huggingface, tmp_path
) -> None:
    rows = extractor.transform(paths)
    np.testing.assert_array_equal(extractor.transform(huggingface), rows)
    np.testing.assert_array_equal(extractor.transform(huggingface["photo"]), rows)
    np.testing.assert_array_equal(extractor.transform(huggingface.with_format("numpy")), rows)
    shuffled = huggingface.shuffle(seed=0).select(range(20))
    picked = extractor.transform(shuffled["photo"])
    np.testing.assert_array_equal(
        picked, extractor.transform([np.asarray(item) for item in shuffled["photo"]])
    )
    huggingface.to_parquet(tmp_path / "hub.parquet")
    np.testing.assert_array_equal(extractor.transform(open_pictures(tmp_path / "hub.parquet")), rows)


def test_a_stream_and_a_data_set_without_pictures_are_told_of(extractor, huggingface) -> None:
    with pytest.raises(TypeError, match="is a stream"):
        extractor.transform(huggingface.to_iterable_dataset())
    with pytest.raises(ValueError, match="0 columns of pictures among"):
        extractor.transform(huggingface.remove_columns("photo"))


class MapStyle:
    """What torch calls a map-style data set: a length, and pairs of picture and label by number."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.read.append(index)
        return Image.open(self.paths[index]).convert("RGB"), 1


def test_pairs_of_picture_and_label_are_taken_one_by_one(extractor, paths) -> None:
    data = MapStyle(paths)
    decoded = [images.decode(Path(path).read_bytes()) for path in paths]
    np.testing.assert_array_equal(extractor.transform(data), extractor.transform(decoded))
    assert sorted(set(data.read)) == list(range(60))


def test_columns_of_pyarrow_and_polars(extractor, contents, paths) -> None:
    import polars
    import pyarrow

    rows = extractor.transform(paths)
    np.testing.assert_array_equal(extractor.transform(pyarrow.table({"image": contents})["image"]), rows)
    np.testing.assert_array_equal(extractor.transform(polars.Series(contents)), rows)
    np.testing.assert_array_equal(
        extractor.transform([{"bytes": content, "path": None} for content in contents]), rows
    )


@pytest.mark.parametrize("kind", ["tar", "parquet", "huggingface"])
def test_labels_come_from_where_the_pictures_lie(kind, request, paths, extractor) -> None:
    table = request.getfixturevalue(kind)
    columns = {"tar": {}, "parquet": {"path": "image"}, "huggingface": {"path": "photo", "gender": "sex"}}[
        kind
    ]
    faces = load_table(table, **columns)
    assert all(isinstance(picture, StoredPicture) for picture in faces.data)
    known = {Path(path).read_bytes(): Path(path).name.split("_") for path in paths}
    for picture, (age, gender) in zip(faces.data, faces.target, strict=True):
        name = known[images.read(picture)]
        assert (int(name[0]), int(name[1])) == (age, gender)
    again = load_table(table, **columns)
    assert list(map(str, again.data)) == list(map(str, faces.data))  # one order on every machine
    assert len(set(faces.groups)) == 60
    model = AgeGenderPipeline(extractor, AgeGenderClassifier(epochs=1, random_state=0))
    assert model.fit(faces.data[:40], faces.target[:40]).predict(faces.data[40:]).shape == (20, 2)


def test_a_bad_picture_is_named_by_its_place(extractor, tmp_path) -> None:
    pd.DataFrame({"image": [b"no picture", None]}).to_parquet(tmp_path / "bad.parquet")
    pictures = open_pictures(tmp_path / "bad.parquet")
    with pytest.raises(PictureError, match=r"bad.parquet\[0\]: .*text, not a picture"):
        extractor.transform(pictures)
    with pytest.raises(PictureError, match=r"bad.parquet\[1\]: .*no bytes in it"):
        images.load(pictures[1])


def test_labels_without_a_picture_and_pictures_without_labels(tmp_path, contents) -> None:
    with tarfile.open(tmp_path / "part.tar", "w") as archive:
        for name, content in {
            "a.jpg": contents[0],
            "a.json": b'{"age": 3, "gender": "f"}',
            "b.jpg": contents[1],
        }.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    faces = load_table(tmp_path / "part.tar")
    assert faces.target.tolist() == [[3, 1]]
    assert faces.excluded["path"].tolist() == [f"{tmp_path}/part.tar/b.jpg"]
    assert faces.excluded["reason"].iloc[0].startswith("unknown age")


def test_what_cannot_be_read_row_by_row_is_refused(tmp_path) -> None:
    with tarfile.open(tmp_path / "faces.tar.gz", "w:gz"), pytest.raises(ValueError, match="is compressed"):
        open_pictures(tmp_path / "faces.tar.gz")
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(ValueError, match="No pictures in"):
        open_pictures(tmp_path / "empty.tar")
    pd.DataFrame({"a": [b"1"], "b": [b"2"]}).to_parquet(tmp_path / "two.parquet")
    with pytest.raises(ValueError, match="2 columns of bytes: a, b"):
        open_pictures(tmp_path / "two.parquet")
    with pytest.raises(FileNotFoundError):
        open_pictures(tmp_path / "nowhere.tar")


def test_a_tar_in_a_store(extractor, paths, tar) -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe("/bucket/faces.tar", tar.read_bytes())
    np.testing.assert_array_equal(
        extractor.transform(open_pictures("memory://bucket/faces.tar")), extractor.transform(paths)
    )
    system.rm("/bucket", recursive=True)
