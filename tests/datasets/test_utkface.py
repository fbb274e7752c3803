"""load_utkface: every picture ends in the frame or among the excluded, in an order that never changes."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from agegender.datasets import load_utkface


def save_picture(path: Path, colour: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(colour).randint(0, 255, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG" if path.suffix == ".png" else "JPEG")
    return path


def name(age: object, gender: object = 0, race: object = 1, stamp: str = "20170112213500903") -> str:
    return f"{age}_{gender}_{race}_{stamp}.jpg.chip.jpg"


def excluded_reasons(faces: object) -> dict[str, str]:
    return {Path(path).name: reason for path, reason in faces.excluded.itertuples(index=False)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for age in range(1, 13):
        save_picture(tmp_path / name(age, age % 2, age % 5), age)
    return tmp_path


def test_labels_are_read_from_the_names(tmp_path):
    path = save_picture(tmp_path / name(26, 1, 3))
    faces = load_utkface(tmp_path)
    row = faces.frame.iloc[0]
    assert list(faces.frame.columns) == ["path", "age", "gender", "race", "datetime", "group"]
    assert (row.path, row.age, row.gender, row.race) == (str(path), 26, 1, "indian")
    assert row.datetime == pd.Timestamp("2017-01-12 21:35:00.903")
    assert faces.data.dtype == object
    assert faces.data.tolist() == [str(path)]
    assert faces.target.dtype == np.float64
    assert faces.target.tolist() == [[26.0, 1.0]]
    assert "non-commercial" in faces.DESCR


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("39_1_20170116174525125.jpg.chip.jpg", "malformed name: 3 of the 4 fields"),
        ("holiday.jpg", "malformed name: 1 of the 4 fields"),
        (name("x"), "malformed name: age 'x'"),
        ("53__0_20170116184028385.jpg", "malformed name: gender ''"),
        (name(20, 3), "malformed name: gender '3'"),
        (name(20, 0, 7), "malformed name: race '7'"),
        (name("-5"), "malformed name: age '-5'"),
        (name("٣"), "malformed name: age"),
        (name("9" * 40), "malformed name: age"),
        ("._" + name(20), "malformed name: age '.'"),
        (name(101), "age outside range: 101 is not in 0…100"),
    ],
)
def test_a_name_that_cannot_be_used_is_excluded_with_its_reason(folder, file, reason):
    save_picture(folder / file)
    faces = load_utkface(folder)
    assert len(faces.frame) == 12
    assert list(excluded_reasons(faces)) == [file]
    assert excluded_reasons(faces)[file].startswith(reason)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are Unicode")
def test_a_name_that_is_not_utf_8_is_excluded_and_shown_with_escapes(folder):
    shutil.copy(save_picture(folder / name(20)), os.fsencode(folder) + b"/20_1_1_\xe9.jpg")
    assert excluded_reasons(load_utkface(folder)) == {
        r"20_1_1_\udce9.jpg": "malformed name: not UTF-8; rename the file"
    }


def test_a_folder_with_other_names_is_told_of_load_table(tmp_path):
    save_picture(tmp_path / "holiday.jpg")
    with pytest.raises(ValueError, match="other names are listed in a table: load_table"):
        load_utkface(tmp_path)


@pytest.mark.parametrize(
    "stamp",
    [
        "2017011221350090",
        "201701122135009031",
        "20170112213500 ",
        "20170112213500903 ",
        "x",
        "20179912213500903",
    ],
)
def test_a_malformed_moment_costs_no_picture(tmp_path, stamp):
    save_picture(tmp_path / name(24, 0, 1, stamp))
    faces = load_utkface(tmp_path)
    assert faces.target.tolist() == [[24.0, 0.0]]
    moment = faces.frame["datetime"].iloc[0]
    assert pd.isna(moment) if stamp in ("x", "20179912213500903") else moment.year == 2017


def test_pictures_that_cannot_be_read_are_excluded_with_their_reason(folder):
    jpeg = save_picture(folder / name(40), 40).read_bytes()
    (folder / name(41)).write_bytes(b"")
    (folder / name(42)).write_text("this is text")
    (folder / name(43)).write_bytes(jpeg[: len(jpeg) // 2])
    os.symlink(folder / "nowhere.jpg", folder / name(44))
    reasons = excluded_reasons(load_utkface(folder))
    assert sorted(reasons) == [name(41), name(42), name(43), name(44)]
    assert all(reason.startswith("unreadable: ") for reason in reasons.values())
    assert len(set(reasons.values())) == 4


def test_damage_inside_a_picture_is_found_when_pixels_are_checked(folder):
    path = save_picture(folder / "30_0_0_20170112213500903.png", 30)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = b"\0" * 8
    path.write_bytes(content)
    assert path.name in excluded_reasons(load_utkface(folder, check="pixels"))
    assert path.name not in excluded_reasons(load_utkface(folder, check=None))


def test_ages_at_both_ends_of_the_range_are_kept(folder):
    faces = load_utkface(folder, min_age=3, max_age=7)
    assert sorted(faces.frame["age"]) == [3, 4, 5, 6, 7]
    assert len(faces.excluded) == 7
    assert faces.excluded["reason"].str.match("age outside range: [0-9]+ is not in 3…7").all()


def test_copies_share_a_group_and_nothing_else_does(folder):
    original = next(folder.glob("5_*"))
    shutil.copy(original, folder / name(9, 1, 1, "20200101000000000"))
    (folder / "part2").mkdir()
    shutil.copy(original, folder / "part2" / original.name)
    faces = load_utkface(folder)
    sizes = np.bincount(faces.groups)
    assert sorted(sizes) == [1] * 11 + [3]
    assert sorted(faces.frame["age"][faces.groups == sizes.argmax()]) == [5, 5, 9]
    assert faces.groups.tolist() == faces.frame["group"].tolist()


def test_subfolders_and_links_to_them_are_read_once(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("disk")
    save_picture(elsewhere / name(60), 60)
    save_picture(folder / "part1" / "deep" / name(50), 50)
    os.symlink(elsewhere, folder / "part3")
    os.symlink(folder, folder / "part1" / "back")
    ages = sorted(load_utkface(folder).frame["age"])
    assert ages == [*range(1, 13), 50, 60]


def test_the_order_is_shuffled_and_depends_on_the_seed_alone(folder, monkeypatch):
    faces = load_utkface(folder)
    ages = faces.frame["age"].tolist()
    assert ages != sorted(ages)
    assert ages != load_utkface(folder, random_state=1).frame["age"].tolist()
    walk = os.walk

    def backwards(top, **options):
        for place, folders, files in walk(top, **options):
            yield place, folders, files[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert load_utkface(folder).data.tolist() == faces.data.tolist()


def test_a_picture_more_or_less_moves_no_other(folder):
    before = load_utkface(folder).data.tolist()
    added = save_picture(folder / name(77), 77)
    after = load_utkface(folder).data.tolist()
    assert str(added) in after
    assert [path for path in after if path != str(added)] == before
    assert load_utkface(folder, max_age=70).data.tolist() == before


def test_files_that_are_no_pictures_are_passed_over(folder):
    (folder / "README.txt").write_text("hello")
    (folder / ".DS_Store").write_bytes(b"\0")
    assert len(load_utkface(folder).excluded) == 0


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_utkface(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="unpack it"):
        load_utkface(save_picture(tmp_path / name(3)))


def test_a_folder_without_pictures_says_what_is_looked_for(tmp_path):
    with pytest.raises(ValueError, match=r"No pictures in .*age_gender_race_datetime"):
        load_utkface(tmp_path)


def test_a_folder_with_nothing_left_lists_the_reasons(tmp_path):
    save_picture(tmp_path / "holiday.jpg")
    save_picture(tmp_path / name(120))
    with pytest.raises(ValueError, match=r"None of the 2 pictures .* malformed name \(1\)"):
        load_utkface(tmp_path)


def test_bad_parameters_are_named(folder):
    with pytest.raises(ValueError, match=r"check='heade' .*Did you mean 'header'"):
        load_utkface(folder, check="heade")
    with pytest.raises(ValueError, match="min_age=50 and max_age=10"):
        load_utkface(folder, min_age=50, max_age=10)


def test_a_progress_bar_is_shown_when_asked_for(folder, capsys):
    load_utkface(folder)
    assert capsys.readouterr().err == ""
    load_utkface(folder, verbose=1)
    assert "12/12" in capsys.readouterr().err


def test_real_pictures_are_all_accounted_for(shared):
    folder = shared / "data/utkface_mini"
    faces = load_utkface(folder)
    n_files = sum(1 for _ in folder.iterdir())
    assert len(faces.frame) + len(faces.excluded) == n_files
    old = sum(int(path.name.split("_")[0]) > 100 for path in folder.iterdir())
    kinds = faces.excluded["reason"].str.split(":").str[0].value_counts()
    assert kinds.get("age outside range", 0) == old
    assert set(kinds.index) <= {"age outside range", "malformed name"}
    for path, (age, gender) in zip(faces.data, faces.target, strict=True):
        fields = re.match(r"(\d+)_(\d)_", Path(path).name)
        assert (float(fields[1]), float(fields[2])) == (age, gender)
    assert set(faces.frame["race"]) == {"white", "black", "asian", "indian", "other"}
    assert faces.frame["datetime"].notna().all()
