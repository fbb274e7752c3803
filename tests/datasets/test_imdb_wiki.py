"""load_imdb_wiki: the published struct with its oddities, in both of MATLAB's formats."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matlab_files import save_v5, save_v73

from agegender.datasets import load_imdb_wiki

NAN, INF = float("nan"), float("inf")


def datenum(year: int, month: int, day: int) -> int:
    """MATLAB's serial number of a day, by way of Python's own calendar."""
    return datetime.date(year, month, day).toordinal() + 366


# path, dob, photo_taken, gender, face_score, second_face_score, name, celeb_id
ROWS = [
    ("01/a.jpg", datenum(1980, 6, 30), 2000, 1.0, 3.5, NAN, "Ann Ü.", 1),
    ("01/b.jpg", datenum(1980, 7, 1), 2000, 0.0, 1.0, NAN, "Bea", 2),
    ("02/c.jpg", datenum(1980, 7, 2), 2000, 0.0, 4.2, NAN, "Bea", 2),
    ("02/d.jpg", datenum(1960, 2, 29), 2001, 1.0, 2.0, NAN, "", 3),
    ("03/gender.jpg", datenum(1980, 1, 1), 2000, NAN, 3.0, NAN, "Ann Ü.", 1),
    ("03/noface.jpg", datenum(1980, 1, 1), 2000, 1.0, -INF, NAN, "Ann Ü.", 1),
    ("03/nanface.jpg", datenum(1980, 1, 1), 2000, 1.0, NAN, NAN, "Ann Ü.", 1),
    ("03/lowface.jpg", datenum(1980, 1, 1), 2000, 1.0, 0.9, NAN, "Ann Ü.", 1),
    ("03/second.jpg", datenum(1980, 1, 1), 2000, 1.0, 3.0, 2.5, "Ann Ü.", 1),
    ("04/year0.jpg", 40, 2000, 1.0, 3.0, NAN, "Ann Ü.", 1),
    ("04/before.jpg", -400, 2014, 1.0, 3.0, NAN, "Ann Ü.", 1),
    ("04/unborn.jpg", datenum(2010, 1, 1), 1979, 1.0, 3.0, NAN, "Ann Ü.", 1),
    ("04/absurd.jpg", 2_000_000_000, 2000, 1.0, 3.0, NAN, "Ann Ü.", 1),
    ("04/noyear.jpg", datenum(1980, 1, 1), 0, 1.0, 3.0, NAN, "Ann Ü.", 1),
    ("", datenum(1980, 1, 1), 2000, 1.0, 3.0, NAN, "Ann Ü.", 1),
]


def fields_of(rows=ROWS) -> dict[str, object]:
    path, dob, taken, gender, score, second, name, celeb = zip(*rows, strict=True)
    return {
        "dob": np.array(dob, dtype=np.int32),
        "photo_taken": np.array(taken, dtype=np.uint16),
        "full_path": list(path),
        "gender": np.array(gender),
        "name": list(name),
        "face_location": [np.array([1.0, 2.0, 30.5, 40.5]) + i for i in range(len(rows))],
        "face_score": np.array(score),
        "second_face_score": np.array(second),
        "celeb_names": ["Ann Ü.", "Bea", "Cid"],
        "celeb_id": np.array(celeb, dtype=np.uint16),
    }


@pytest.fixture(params=[save_v5, save_v73], ids=["v5", "v7.3"])
def save(request):
    return request.param


@pytest.fixture
def mat_file(save, tmp_path) -> Path:
    return save(tmp_path / "imdb.mat", "imdb", fields_of())


def by_file(faces) -> pd.DataFrame:
    return faces.frame.assign(file=[Path(p).name for p in faces.frame["path"]]).set_index("file").sort_index()


def test_good_rows_come_out_with_their_labels(mat_file):
    faces = load_imdb_wiki(mat_file, "/faces/imdb", which="imdb")
    frame = by_file(faces)
    assert frame.index.tolist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert frame["age"].tolist() == [20, 20, 19, 41]
    assert frame["gender"].tolist() == [0, 1, 1, 0]
    assert frame["name"].tolist() == ["Ann Ü.", "Bea", "Bea", ""]
    assert frame["celeb_id"].tolist() == [1, 2, 2, 3]
    assert frame.loc["d.jpg", "born"] == pd.Timestamp(1960, 2, 29)
    assert frame["photo_taken"].tolist() == [2000, 2000, 2000, 2001]
    box = frame.loc["b.jpg", ["face_left", "face_top", "face_right", "face_bottom"]]
    assert box.tolist() == [2.0, 3.0, 31.5, 41.5]
    assert str(Path(faces.frame["path"].iloc[0]).parent).startswith(str(Path("/faces/imdb/0")))
    assert np.array_equal(faces.target, faces.frame[["age", "gender"]].to_numpy(dtype=float))
    assert faces.data.tolist() == faces.frame["path"].tolist()
    assert "academic research" in faces.DESCR


def test_every_other_row_is_excluded_with_its_reason(mat_file):
    faces = load_imdb_wiki(mat_file, "faces")
    assert len(faces.frame) + len(faces.excluded) == len(ROWS)
    reasons = {Path(path).stem: reason.split(":")[0] for path, reason in faces.excluded.to_numpy()}
    assert reasons == {
        "gender": "unknown gender",
        "noface": "no face",
        "nanface": "no face",
        "lowface": "low face score",
        "second": "second face",
        "year0": "age outside range",
        "before": "age outside range",
        "unborn": "age outside range",
        "absurd": "unknown date of birth",
        "noyear": "unknown year of photograph",
        "": "no path",
    }
    said = dict(faces.excluded.to_numpy())
    assert "2000 is not in 0…100" in said[str(Path("faces/04/year0.jpg"))]
    assert "-31 is not in" in said[str(Path("faces/04/unborn.jpg"))]


def test_filters_can_be_opened_one_by_one(mat_file):
    def kept(**options):
        return set(by_file(load_imdb_wiki(mat_file, "faces", **options)).index)

    good = {"a.jpg", "b.jpg", "c.jpg", "d.jpg"}
    assert kept(second_face=True) == good | {"second.jpg"}
    assert kept(min_face_score=0.5) == good | {"lowface.jpg"}
    assert kept(min_face_score=None) == good | {"lowface.jpg", "noface.jpg", "nanface.jpg"}
    assert kept(min_age=20, max_age=20) == {"a.jpg", "b.jpg"}
    assert kept(max_age=5000) == good | {"year0.jpg", "before.jpg"}


def test_pictures_of_one_person_share_a_group(mat_file):
    groups = by_file(load_imdb_wiki(mat_file, "faces"))["group"]
    assert groups["b.jpg"] == groups["c.jpg"]
    assert groups.nunique() == 3


def test_wiki_groups_by_name_and_nameless_rows_stand_alone(save, tmp_path):
    fields = fields_of([*ROWS[:4], ("05/e.jpg", *ROWS[3][1:])])
    del fields["celeb_id"], fields["celeb_names"]
    faces = load_imdb_wiki(save(tmp_path / "wiki.mat", "wiki", fields), "faces")
    groups = by_file(faces)["group"]
    assert "celeb_id" not in faces.frame
    assert groups["b.jpg"] == groups["c.jpg"]
    assert groups.nunique() == 4
    assert "WIKI" in faces.DESCR


def test_missing_files_are_excluded_only_when_asked_for(mat_file, tmp_path):
    (tmp_path / "01").mkdir()
    (tmp_path / "01" / "a.jpg").write_bytes(b"not looked into")
    (tmp_path / "01" / "b.jpg").mkdir()
    assert len(load_imdb_wiki(mat_file, tmp_path).frame) == 4
    faces = load_imdb_wiki(mat_file, tmp_path, check_files=True)
    assert faces.data.tolist() == [str(tmp_path / "01" / "a.jpg")]
    assert faces.excluded["reason"].str.startswith("missing file:").sum() == 3


def test_the_order_depends_on_the_seed_alone(mat_file, tmp_path):
    files = [Path(p).name for p in load_imdb_wiki(mat_file, "x").data]
    backwards = save_v5(tmp_path / "backwards.mat", "imdb", fields_of(ROWS[::-1]))
    assert [Path(p).name for p in load_imdb_wiki(backwards, "y").data] == files
    orders = {tuple(load_imdb_wiki(mat_file, "x", random_state=seed).data) for seed in range(5)}
    assert len(orders) > 1


def completed_years(born: datetime.date, on: datetime.date) -> int:
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))


def test_ages_agree_with_the_calendar_for_a_thousand_people(tmp_path):
    rng = np.random.RandomState(7)
    first, last = datetime.date(1850, 1, 1).toordinal(), datetime.date(2015, 12, 31).toordinal()
    leap_days = [datetime.date(year, 2, 29).toordinal() for year in range(1852, 2015, 4) if year != 1900]
    ordinals = [*rng.randint(first, last, 1000 - len(leap_days)), *leap_days]
    taken = rng.randint(1850, 2020, 1000)
    rows = [
        (f"00/{i}.jpg", int(ordinals[i]) + 366, int(taken[i]), float(i % 2), 5.0, NAN, f"p{i}", i + 1)
        for i in range(1000)
    ]
    faces = load_imdb_wiki(save_v5(tmp_path / "imdb.mat", "imdb", fields_of(rows)), "faces")
    expected = {}
    for i in range(1000):
        age = completed_years(datetime.date.fromordinal(int(ordinals[i])), datetime.date(int(taken[i]), 7, 1))
        if 0 <= age <= 100:
            expected[i] = age
    found = {
        int(Path(path).stem): age for path, age in zip(faces.frame["path"], faces.frame["age"], strict=True)
    }
    assert len(expected) > 400
    assert found == expected


def test_a_file_without_scores_and_boxes_is_not_filtered_by_them(save, tmp_path):
    required = {k: v for k, v in fields_of().items() if k in ("dob", "photo_taken", "full_path", "gender")}
    faces = load_imdb_wiki(save(tmp_path / "imdb.mat", "imdb", required), "faces")
    assert len(faces.frame) == 8
    assert "face_left" not in faces.frame
    assert len(set(faces.groups)) == 8


def test_names_come_from_the_list_of_celebrities_where_rows_have_none(save, tmp_path):
    fields = fields_of(ROWS[:4])
    del fields["name"]
    frame = by_file(load_imdb_wiki(save(tmp_path / "imdb.mat", "imdb", fields), "faces"))
    assert frame["name"].tolist() == ["Ann Ü.", "Bea", "Bea", "Cid"]


def test_both_formats_give_the_same_frame(tmp_path):
    old = load_imdb_wiki(save_v5(tmp_path / "old.mat", "imdb", fields_of()), "faces")
    new = load_imdb_wiki(save_v73(tmp_path / "new.mat", "imdb", fields_of()), "faces")
    pd.testing.assert_frame_equal(old.frame, new.frame)
    pd.testing.assert_frame_equal(old.excluded, new.excluded)


def test_a_file_of_another_kind_is_refused_with_what_it_holds(save, mat_file, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_imdb_wiki(tmp_path / "nowhere.mat", "faces")
    with pytest.raises(ValueError, match=r"contains \['imdb'\], but no struct 'wiki'"):
        load_imdb_wiki(mat_file, "faces", which="wiki")
    with pytest.raises(ValueError, match=r"which='wikki'.*Did you mean 'wiki'"):
        load_imdb_wiki(mat_file, "faces", which="wikki")
    fields = fields_of()
    del fields["dob"]
    with pytest.raises(ValueError, match="'imdb' has no field 'dob'"):
        load_imdb_wiki(save(tmp_path / "other.mat", "imdb", fields), "faces")
    fields = fields_of() | {"gender": np.zeros(3)}
    with pytest.raises(ValueError, match=r"different lengths.*'gender': 3"):
        load_imdb_wiki(save(tmp_path / "uneven.mat", "imdb", fields), "faces")


@pytest.mark.parametrize(
    "content", [b"", b"this is text", b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"\xff" * 99]
)
def test_what_is_no_mat_file_is_refused(tmp_path, content):
    (tmp_path / "imdb.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"imdb\.mat"):
        load_imdb_wiki(tmp_path / "imdb.mat", "faces")


def test_a_file_cut_off_is_refused(mat_file, tmp_path):
    short = tmp_path / "short.mat"
    shutil.copy(mat_file, short)
    with short.open("r+b") as file:
        file.truncate(short.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"short\.mat.*cannot be read"):
        load_imdb_wiki(short, "faces")


def test_a_file_with_nothing_left_lists_the_reasons(mat_file):
    with pytest.raises(ValueError, match=r"None of the 15 pictures .* was kept: .*age outside range"):
        load_imdb_wiki(mat_file, "faces", min_age=99, max_age=99)


def test_corrections_relabel_and_drop_by_the_paths_of_the_file(mat_file, tmp_path):
    before = by_file(load_imdb_wiki(mat_file, tmp_path / "imdb", which="imdb"))
    table = pd.DataFrame(
        [
            {"path": "01/b.jpg", "action": "relabel", "new_age": 31, "reason": "read as 31"},
            {
                "path": before.loc["c.jpg", "path"],
                "action": "relabel",
                "new_gender": "male",
                "reason": "a beard",
            },
            {"path": "02/d.jpg", "action": "drop", "reason": "no face"},
        ]
    )
    table.to_csv(tmp_path / "corrections.csv", index=False)
    faces = load_imdb_wiki(
        mat_file, tmp_path / "imdb", which="imdb", corrections=tmp_path / "corrections.csv"
    )
    frame = by_file(faces)
    assert frame[["age", "gender"]].to_numpy().tolist() == [[20, 0], [31, 1], [19, 0]]
    assert faces.corrected[["given_age", "given_gender"]].to_numpy().tolist() in (
        [[20, 1], [19, 1]],
        [[19, 1], [20, 1]],
    )
    dropped = faces.excluded[faces.excluded["reason"] == "dropped by a correction: no face"]
    assert [Path(path).name for path in dropped["path"]] == ["d.jpg"]
