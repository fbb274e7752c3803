from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import RidgeClassifier, RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from agegender.datasets import load_utkface, make_faces


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Bunch:
    return make_faces(240, tmp_path_factory.mktemp("drawn"), random_state=3, size=64)


def test_the_folder_reads_as_utkface_with_the_same_labels(faces: Bunch) -> None:
    read = load_utkface(Path(faces.data[0]).parent, check="pixels")
    assert len(read.excluded) == 0
    ours = faces.frame.set_index("path").sort_index()
    theirs = read.frame.set_index("path").sort_index()
    for column in ("age", "gender", "race", "datetime"):
        assert ours[column].tolist() == theirs[column].tolist()
    assert ours["group"].is_unique
    assert theirs["group"].is_unique
    assert list(faces.frame.dtypes) == list(read.frame.dtypes)
    assert set(faces) == set(read)


def test_the_same_number_draws_the_same_files_to_the_byte(tmp_path: Path) -> None:
    first, again, other = (
        make_faces(4, tmp_path / str(i), random_state=seed, size=96) for i, seed in enumerate((7, 7, 8))
    )
    contents = [[Path(path).read_bytes() for path in faces.data] for faces in (first, again, other)]
    assert contents[0] == contents[1]
    assert not set(contents[0]) & set(contents[2])
    assert [Path(p).name for p in first.data] == [Path(p).name for p in again.data]


def test_the_first_of_a_longer_list_are_those_of_a_shorter_one(tmp_path: Path) -> None:
    few, many = make_faces(3, tmp_path / "few", size=40), make_faces(6, tmp_path / "many", size=40)
    assert many.target[:3].tolist() == few.target.tolist()
    for one, other in zip(few.data, many.data, strict=False):
        assert Path(one).read_bytes() == Path(other).read_bytes()


def test_even_a_few_faces_are_of_all_ages_and_both_genders(tmp_path: Path) -> None:
    faces = make_faces(20, tmp_path, size=32, random_state=np.random.RandomState(5))
    ages, genders = faces.target.T
    assert genders.sum() == 10
    assert len(np.unique(ages // 10)) == 10 - (ages.max() < 90)
    assert ages.min() >= 0
    assert ages.max() <= 90


def test_every_picture_says_that_it_is_a_drawing(faces: Bunch) -> None:
    with Image.open(faces.data[0]) as picture:
        assert picture.size == (64, 64)
        assert b"drawing" in picture.info["comment"]
        assert b"no real person" in picture.info["comment"]
    assert "do not show real people" in faces.DESCR


def _edges(path: str) -> NDArray[np.float64]:
    """Sum the edges of each direction in each of 8 × 8 places: what a glance at a picture sees."""
    with Image.open(path) as picture:
        down, across = np.gradient(np.asarray(picture.convert("L"), dtype=np.float64))
    strength = np.hypot(across, down)
    direction = (np.arctan2(down, across) % np.pi / np.pi * 6).astype(int) % 6
    by_direction = [(strength * (direction == d)).reshape(8, 8, 8, 8).sum(axis=(1, 3)) for d in range(6)]
    return np.sqrt(np.ravel(by_direction))


def test_age_and_gender_can_be_learned_from_a_glance_and_not_perfectly(faces: Bunch) -> None:
    features, folds = np.stack([_edges(path) for path in faces.data]), KFold(5)
    ages, genders = faces.target.T
    age_model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(1, 4, 7)))
    gender_model = make_pipeline(StandardScaler(), RidgeClassifier(300.0))
    age_error = np.abs(cross_val_predict(age_model, features, ages, cv=folds) - ages).mean()
    guessing = np.abs(ages - np.median(ages)).mean()
    correct = (cross_val_predict(gender_model, features, genders, cv=folds) == genders).mean()
    assert 2 < age_error < 0.7 * guessing
    assert 0.7 < correct < 0.98


def test_other_files_stay_and_a_second_call_writes_over_the_first(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    make_faces(2, tmp_path, size=32)
    make_faces(2, tmp_path, size=32)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3


def test_no_half_written_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        make_faces(1, tmp_path, size=32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [0, -3, 2.5, True, "ten"])
def test_a_number_of_faces_that_makes_no_sense_is_refused(n: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"make_faces: n=.* of at least 1"):
        make_faces(n, tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [31, 1025, 64.0])
def test_a_size_out_of_range_is_refused(size: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"size=.* from 32 to 1024"):
        make_faces(1, tmp_path, size=size)  # type: ignore[arg-type]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        make_faces(1, tmp_path / "taken")


def test_importing_the_loaders_does_not_import_opencv() -> None:
    code = "import sys, agegender.datasets; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
