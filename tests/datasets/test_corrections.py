"""Corrections, as a person edits them and loaders take them back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import write_drawn_faces

from agegender.datasets import load_table, load_utkface
from agegender.exceptions import CorrectionsWarning


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_drawn_faces(tmp_path / "faces", 12)


def corrections(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(list(rows))


def test_a_relabelled_picture_has_its_new_label_and_stands_in_corrected(folder: Path, tmp_path: Path) -> None:
    before = load_utkface(folder)
    path, (age, gender) = before.data[3], before.target[3]
    file = tmp_path / "corrections.csv"
    row = {"path": path, "action": "relabel", "new_age": 77, "new_gender": "", "reason": "he is old"}
    corrections(row).to_csv(file, index=False)
    after = load_utkface(folder, corrections=file)
    assert after.data.tolist() == before.data.tolist()
    assert after.target[3].tolist() == [77, gender]
    assert np.delete(after.target, 3, axis=0).tolist() == np.delete(before.target, 3, axis=0).tolist()
    assert after.corrected.to_dict("records") == [
        {
            "path": path,
            "age": 77,
            "gender": gender,
            "given_age": age,
            "given_gender": gender,
            "reason": "he is old",
        }
    ]
    assert before.corrected.empty
    assert list(before.corrected) == list(after.corrected)


def test_a_dropped_picture_is_excluded_with_its_reason(folder: Path) -> None:
    before = load_utkface(folder)
    row = {"path": before.data[0], "action": "drop", "reason": "no face"}
    after = load_utkface(folder, corrections=corrections(row))
    assert after.data.tolist() == before.data[1:].tolist()
    assert after.excluded.to_dict("records") == [
        {"path": before.data[0], "reason": "dropped by a correction: no face"}
    ]
    assert Path(before.data[0]).is_file()


def test_paths_may_begin_at_the_folder_and_come_from_another_system(folder: Path) -> None:
    name = Path(load_utkface(folder).data[0]).name
    for written in (name, f".\\{name}"):
        row = {"path": written, "action": "relabel", "new_gender": "female", "new_age": None}
        assert len(load_utkface(folder, corrections=corrections(row)).corrected) == 1


def test_keep_and_review_change_nothing(folder: Path) -> None:
    before = load_utkface(folder)
    rows = [
        {"path": path, "action": a, "new_age": 3}
        for path, a in zip(before.data, ["keep", "review"], strict=False)
    ]
    after = load_utkface(folder, corrections=corrections(*rows))
    assert after.target.tolist() == before.target.tolist()
    assert after.corrected.empty


def test_a_corrected_age_is_judged_by_the_range(folder: Path) -> None:
    path = load_utkface(folder).data[0]
    row = {"path": path, "action": "relabel", "new_age": 99}
    after = load_utkface(folder, max_age=98, corrections=corrections(row))
    assert after.excluded.set_index("path")["reason"][path] == "age outside range: 99 is not in 0…98"
    assert after.corrected.empty


def test_a_table_takes_corrections_by_the_paths_in_it(folder: Path) -> None:
    table = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "age": ["20-30", 40], "gender": ["f", "m"]})
    rows = [
        {"path": "a.jpg", "action": "relabel", "new_age": 8, "new_gender": "male", "reason": "a boy"},
        {"path": "b.jpg", "action": "drop", "reason": "blurred"},
    ]
    faces = load_table(table, corrections=corrections(*rows))
    assert faces.frame[["path", "age", "age_low", "age_high", "gender"]].to_dict("records") == [
        {"path": "a.jpg", "age": 8, "age_low": 8, "age_high": 8, "gender": 0}
    ]
    assert faces.excluded["reason"].tolist() == ["dropped by a correction: blurred"]
    assert faces.corrected[["given_age", "given_gender"]].to_numpy().tolist() == [[25, 1]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"path": "x.jpg", "action": "delete"}, "'delete' is not one of 'keep', 'relabel', 'drop', 'review'"),
        (
            {"path": "x.jpg", "action": "relabel"},
            r"row 0 \('x.jpg'\): .* new_age and new_gender are both empty",
        ),
        ({"path": "x.jpg", "action": "relabel", "new_age": "old"}, "new_age='old' is not a number of years"),
        ({"path": "x.jpg", "action": "relabel", "new_gender": "x"}, "new_gender='x' is not male, female"),
        ({"path": None, "action": "drop"}, "there is an action but no path"),
        ({"path": "x.jpg", "what": "drop"}, "has no column 'action'"),
    ],
)
def test_an_entry_that_cannot_be_read_is_named(folder: Path, row: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_utkface(folder, corrections=corrections(row))


def test_two_corrections_of_one_picture_are_an_error(folder: Path) -> None:
    name = Path(load_utkface(folder).data[0]).name
    row = {"path": name, "action": "drop"}
    with pytest.raises(ValueError, match=f"several different corrections of '{name}'"):
        load_utkface(folder, corrections=corrections(row, {**row, "action": "relabel", "new_age": 3}))


def test_a_picture_that_stands_in_a_table_twice_may_be_corrected_twice_in_the_same_way() -> None:
    table = pd.DataFrame(
        {"path": ["a.jpg", "a.jpg", "b.jpg"], "age": [20, 30, 40], "gender": ["f", "f", "m"]}
    )
    row = {"path": "a.jpg", "action": "drop", "reason": "blurred"}
    faces = load_table(table, corrections=corrections(row, row))
    assert faces.data.tolist() == ["b.jpg"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_spreadsheet_may_save_corrections_in_its_own_way(
    folder: Path, tmp_path: Path, separator: str, encoding: str
) -> None:
    name = Path(load_utkface(folder).data[0]).name
    cells = [
        ("path", "action", "new_age", "new_gender"),
        (name, " Relabel", '"61,5"', "Woman"),
        ("", "", "", ""),
    ]
    text = "\r\n".join(map(separator.join, cells))
    (tmp_path / "c.csv").write_bytes(text.encode(encoding))
    corrected = load_utkface(folder, corrections=tmp_path / "c.csv").corrected
    assert corrected[["age", "gender"]].to_numpy().tolist() == [[61.5, 1]]


def test_a_file_that_is_not_utf_8_says_how_to_save_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes("path,action,reason\nx.jpg,drop,read as 61–75\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"'.*c\.csv' cannot be read as a table .*; save it as CSV in UTF-8"):
        load_utkface(folder, corrections=tmp_path / "c.csv")
    (tmp_path / "c.csv").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        load_utkface(folder, corrections=tmp_path / "c.csv")


def test_paths_that_begin_at_the_current_folder_and_whole_ones_are_the_same(
    folder: Path, monkeypatch
) -> None:
    monkeypatch.chdir(folder.parent)
    whole = load_utkface(folder).data[0]
    for given, loaded in ((whole, "faces"), (f"faces/{Path(whole).name}", folder)):
        row = {"path": given, "action": "relabel", "new_age": 3}
        assert load_utkface(loaded, corrections=corrections(row)).corrected["age"].tolist() == [3]


@pytest.mark.parametrize("source", [7, {"x.jpg": 3}])
def test_corrections_of_another_kind_are_an_error(folder: Path, source: object) -> None:
    with pytest.raises(
        TypeError, match=rf"corrections is a {type(source).__name__}; pass the path of a table"
    ):
        load_utkface(folder, corrections=source)


def test_corrections_of_pictures_that_are_elsewhere_are_told(folder: Path) -> None:
    name = Path(load_utkface(folder).data[0]).name
    here, away = {"path": name, "action": "drop"}, {"path": "away.jpg", "action": "drop"}
    with pytest.warns(CorrectionsWarning, match=r"1 of the 2 pictures .* 'away.jpg'"):
        load_utkface(folder, corrections=corrections(here, away))
    with pytest.raises(ValueError, match="none of the 1 pictures"):
        load_utkface(folder, corrections=corrections(away))


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no corrections 'nowhere.csv'"):
        load_utkface(folder, corrections="nowhere.csv")
