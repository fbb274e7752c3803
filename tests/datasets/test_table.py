"""load_table: columns of any name, ages as numbers or bands, genders as words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agegender.datasets import load_table

CSV = """file,years,sex,person,camera
a.jpg,31,Female,NA,left
b.jpg,25-32,M,None,right
sub/c.jpg,"(60, 100)",woman,NA,
d.jpg,abc,F,x,left
e.jpg,40,?,x,left
f.jpg,130,F,x,left
,40,F,x,left
0012,7.5,boy,,left
"""
COLUMNS = {"path": "file", "age": "years", "gender": "sex"}


@pytest.fixture
def csv(tmp_path) -> Path:
    (tmp_path / "faces.csv").write_text(CSV)
    return tmp_path / "faces.csv"


def by_file(faces) -> pd.DataFrame:
    return faces.frame.assign(file=[Path(p).name for p in faces.frame["path"]]).set_index("file").sort_index()


def one_age(entry: object, **options: object) -> tuple[float, float, float]:
    table = pd.DataFrame({"path": ["a.jpg"], "age": pd.Series([entry], dtype=object), "gender": [0]})
    row = load_table(table, **options).frame.iloc[0]
    return row["age_low"], row["age"], row["age_high"]


def test_columns_named_by_the_user_are_read(csv):
    faces = load_table(csv, **COLUMNS)
    frame = by_file(faces)
    assert list(faces.frame.columns) == [
        "path",
        "age",
        "age_low",
        "age_high",
        "gender",
        "group",
        "person",
        "camera",
    ]
    assert frame.index.tolist() == ["0012", "a.jpg", "b.jpg", "c.jpg"]
    assert frame["age"].tolist() == [7.5, 31.0, 28.5, 80.0]
    assert frame[["age_low", "age_high"]].to_numpy().tolist() == [[7.5, 7.5], [31, 31], [25, 32], [60, 100]]
    assert frame["gender"].tolist() == [0, 1, 0, 1]
    assert faces.frame["path"].tolist() == faces.data.tolist()
    assert np.array_equal(faces.target, faces.frame[["age", "gender"]].to_numpy(dtype=float))


def test_paths_begin_at_the_folder_of_the_file_unless_told_otherwise(csv):
    assert by_file(load_table(csv, **COLUMNS)).loc["c.jpg", "path"] == str(csv.parent / "sub" / "c.jpg")
    elsewhere = load_table(csv, **COLUMNS, image_root="/faces")
    assert by_file(elsewhere).loc["c.jpg", "path"] == str(Path("/faces/sub/c.jpg"))
    frame = pd.DataFrame({"path": ["/x/a.jpg", Path("b.jpg")], "age": [1, 2], "gender": [0, 1]})
    assert sorted(load_table(frame).data) == sorted([str(Path("/x/a.jpg")), "b.jpg"])


def test_every_other_row_is_excluded_with_its_reason(csv):
    faces = load_table(csv, **COLUMNS)
    assert len(faces.frame) + len(faces.excluded) == 8
    reasons = {Path(path).name: reason for path, reason in faces.excluded.to_numpy()}
    assert reasons["d.jpg"].startswith("unknown age: 'abc'")
    assert reasons["e.jpg"].startswith("unknown gender: '?'")
    assert reasons["f.jpg"] == "age outside range: 130 is not in 0…100"
    assert reasons[""].startswith("no path:")


def test_a_group_column_keeps_people_together_and_names_like_na_are_names(csv):
    groups = by_file(load_table(csv, **COLUMNS, group="person"))["group"]
    assert groups["a.jpg"] == groups["c.jpg"]
    assert groups.nunique() == 3
    assert by_file(load_table(csv, **COLUMNS))["group"].nunique() == 4


def test_equal_paths_share_a_group_where_no_column_says_more():
    table = pd.DataFrame({"path": ["a.jpg", "b.jpg", "a.jpg"], "age": [30, 31, 32], "gender": [0, 1, 0]})
    faces = load_table(table)
    assert sorted(np.bincount(faces.groups)) == [1, 2]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (31, (31, 31, 31)),
        (" 31 ", (31, 31, 31)),
        ("31.5", (31.5, 31.5, 31.5)),
        ("25-32", (25, 28.5, 32)),
        ("25 – 32", (25, 28.5, 32)),
        ("(25, 32)", (25, 28.5, 32)),
        ("[0;2]", (0, 1, 2)),
        ("3 to 9", (3, 6, 9)),
        ("60-60", (60, 60, 60)),
    ],
)
def test_ages_and_bands_are_read_in_the_usual_spellings(entry, expected):
    assert one_age(entry) == expected


def test_entries_that_say_nothing_themselves_are_looked_up():
    ages = {"60+": (60, 75), "child": 8, 3: [40, 49]}
    assert one_age("60+", ages=ages) == (60, 67.5, 75)
    assert one_age("child", ages=ages) == (8, 8, 8)
    assert one_age(3, ages=ages) == (40, 44.5, 49)


@pytest.mark.parametrize("entry", ["60+", "32-25", "1990-01-01", "", None, float("nan"), "-", "more than 70"])
def test_entries_that_are_no_age_are_excluded(entry):
    with pytest.raises(ValueError, match="unknown age"):
        one_age(entry)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=30))
def test_any_text_is_an_age_in_the_range_or_excluded(entries):
    ages = pd.Series(["30", *entries], dtype=object)
    table = pd.DataFrame({"path": [f"{i}.jpg" for i in range(len(ages))], "age": ages, "gender": 0})
    faces = load_table(table)
    assert len(faces.frame) + len(faces.excluded) == len(ages)
    low, age, high = faces.frame[["age_low", "age", "age_high"]].to_numpy().T
    assert ((low <= age) & (age <= high) & (age >= 0) & (age <= 100)).all()
    assert faces.excluded["reason"].str.match("unknown age:|age outside range:").all()


def test_genders_are_mapped_as_told():
    table = pd.DataFrame({"path": list("abc"), "age": [1, 2, 3], "gender": ["H", "F", "X"]})
    faces = load_table(table, genders={"H": 0, "F": 1})
    assert by_file(faces)["gender"].tolist() == [0, 1]
    assert faces.excluded["reason"].str.startswith("unknown gender: 'X'").all()
    with pytest.raises(ValueError, match="genders maps to 2"):
        load_table(table, genders={"H": 1, "F": 2})


def test_codes_that_nobody_explained_are_refused_instead_of_guessed():
    table = pd.DataFrame({"path": list("abc"), "age": [1, 2, 3], "gender": [1, 2, np.nan]})
    with pytest.raises(ValueError, match="numbers 1, 2; explain them with"):
        load_table(table)
    faces = load_table(table, genders={1: 0, 2: 1})
    assert by_file(faces)["gender"].tolist() == [0, 1]
    assert len(faces.excluded) == 1


def test_tab_separated_and_compressed_tables_give_the_same_faces(csv, tmp_path):
    table = pd.read_csv(csv, dtype=str, keep_default_na=False, na_values=[""])
    table.to_csv(tmp_path / "faces.tsv.gz", sep="\t", index=False)
    faces = load_table(tmp_path / "faces.tsv.gz", **COLUMNS)
    pd.testing.assert_frame_equal(faces.frame, load_table(csv, **COLUMNS).frame, check_dtype=False)


def test_a_frame_of_polars_gives_the_same_faces(csv):
    polars = pytest.importorskip("polars")
    expected = load_table(csv, **COLUMNS)
    faces = load_table(polars.read_csv(csv, null_values=[""]), **COLUMNS, image_root=csv.parent)
    pd.testing.assert_frame_equal(faces.frame, expected.frame, check_dtype=False)
    assert faces.excluded["path"].tolist() == expected.excluded["path"].tolist()


def test_parquet_is_read_as_csv_is(csv, tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    pd.read_csv(csv, dtype=str, keep_default_na=False, na_values=[""]).to_parquet(tmp_path / "faces.parquet")
    faces = load_table(tmp_path / "faces.parquet", **COLUMNS)
    pd.testing.assert_frame_equal(faces.frame, load_table(csv, **COLUMNS).frame, check_dtype=False)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "faces.parquet").write_bytes(b"PAR1")
    with pytest.raises(ModuleNotFoundError, match=r"agegender\[parquet\]"):
        load_table(tmp_path / "faces.parquet")


def test_columns_whose_names_are_taken_are_kept_under_another():
    table = pd.DataFrame({"path": ["a"], "years": [3], "gender": [1], "age": ["toddler"], "group": ["g"]})
    frame = load_table(table, age="years").frame
    assert frame.loc[0, ["age", "age_given", "group", "group_given"]].tolist() == [3, "toddler", 0, "g"]


def test_missing_files_are_excluded_only_when_asked_for(csv):
    (csv.parent / "a.jpg").write_bytes(b"not looked into")
    assert len(load_table(csv, **COLUMNS).frame) == 4
    faces = load_table(csv, **COLUMNS, check_files=True)
    assert faces.data.tolist() == [str(csv.parent / "a.jpg")]
    assert faces.excluded["reason"].str.startswith("missing file:").sum() == 3


def test_the_order_depends_on_the_seed_alone():
    table = pd.DataFrame({"path": [f"{i}.jpg" for i in range(30)], "age": range(30), "gender": [0, 1] * 15})
    faces = load_table(table)
    assert faces.frame["age"].tolist() != list(range(30))
    assert load_table(table.iloc[::-1]).data.tolist() == faces.data.tolist()
    assert load_table(table, random_state=1).data.tolist() != faces.data.tolist()


def test_wrong_tables_and_columns_are_refused_with_a_remedy(csv, tmp_path):
    with pytest.raises(ValueError, match=r"no column 'yers' .*Did you mean 'years'"):
        load_table(csv, path="file", age="yers", gender="sex")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_table(tmp_path / "nowhere.csv")
    (tmp_path / "faces.xlsx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of \.csv, \.tsv, \.parquet"):
        load_table(tmp_path / "faces.xlsx")
    with pytest.raises(TypeError, match="table is a int"):
        load_table(3)
