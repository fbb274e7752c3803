"""A whole set looked at: small drawings whose age is their brightness and whose gender is their colour."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import write_drawn_faces
from PIL import Image
from rich.console import Console

from agegender import AgeGenderClassifier, DenseHead, EmbeddingExtractor
from agegender.datasets import load_table, load_utkface, open_pictures
from agegender.inspection import FacesInspection, _inspect, _page, inspect_faces
from agegender.inspection._inputs import labelled_faces, name_of
from agegender.inspection._look import Look, other_set
from agegender.model_selection import AgeGenderKFold

N = 160
COPIED, CHANGED, FLIPPED, BROKEN = 5, 30, 50, 70


class CountingClassifier(AgeGenderClassifier):
    """Counts how often it is trained, and stops as a person would by Ctrl-C."""

    fits = 0
    stop_at: int | None = None

    def fit(self, X, y, sample_weight=None, groups=None):
        if CountingClassifier.fits == CountingClassifier.stop_at:
            raise KeyboardInterrupt
        CountingClassifier.fits += 1
        return super().fit(X, y, sample_weight=sample_weight, groups=groups)


def quick(kind=AgeGenderClassifier):
    return kind(DenseHead(units=(32,)), epochs=60, learning_rate=0.02, batch_size=32, calibration_fraction=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """160 drawings: one copied under another age, one labelled 60 years off, one of the other gender, one cut off."""
    folder = write_drawn_faces(tmp_path_factory.mktemp("set") / "faces", N)
    paths = sorted(folder.iterdir(), key=lambda path: path.name.split("_")[3])
    shutil.copy(paths[COPIED], folder / "90_0_0_20180101000000000.jpg.chip.jpg")
    content = paths[BROKEN].read_bytes()
    paths[BROKEN].write_bytes(content[: len(content) // 3])
    return folder


@pytest.fixture(scope="module")
def planted(folder: Path):
    faces = load_utkface(folder, check=None)
    numbers = [Path(path).name.split("_")[3][6:17] for path in faces.data]
    place = {int(number): row for row, number in enumerate(numbers) if number.isdigit()}
    y = faces.target.copy()
    y[place[CHANGED], 0] = (y[place[CHANGED], 0] + 60) % 101
    y[place[FLIPPED], 1] = 1 - y[place[FLIPPED], 1]
    return faces, y, place


@pytest.fixture(scope="module")
def found(planted, backbone, tmp_path_factory) -> FacesInspection:
    faces, y, _ = planted
    cache = tmp_path_factory.mktemp("cache")
    return inspect_faces(
        faces.data,
        y,
        frame=faces.frame,
        extractor=EmbeddingExtractor(backbone, cache=cache),
        classifier=quick(),
        detector=None,
        title="A <b>set</b>",
    )


def test_a_changed_age_and_a_flipped_gender_are_the_most_suspicious(found, planted) -> None:
    place = planted[2]
    labels = found.labels
    assert labels["age_suspicion"].rank(ascending=False)[place[CHANGED]] <= 3
    assert labels["gender_suspicion"].rank(ascending=False)[place[FLIPPED]] <= 3
    row = labels.loc[place[CHANGED]]
    assert row["suspicion"] > 0.5
    assert not row["age_low"] <= row["age"] <= row["age_high"]
    assert re.match(rf"labelled {row['age']:g}, read as \d+–\d+ by a model that saw neither", row["reason"])
    assert "read as" in labels["reason"][place[FLIPPED]]


def test_an_unreadable_picture_is_told_and_has_no_reading(found, planted) -> None:
    row = planted[2][BROKEN]
    assert found.unreadable["row"].tolist() == [row]
    assert found.counts["unreadable"] == 1
    assert np.isnan(found.labels["suspicion"][row])
    assert found.clean().set_index("row")["action"][row] == "drop"


def test_copies_stay_together_and_their_labels_are_compared(found, planted) -> None:
    record = found.copies.to_dict("records")[0]
    rows = record["rows"]
    assert planted[2][COPIED] in rows
    assert record["disagree"]
    assert len(set(found.groups[rows])) == len(set(found.labels["fold"][rows])) == 1
    assert len(set(found.groups)) == N
    assert "elsewhere" in found.labels["reason"][rows[0]]


def test_neighbours_are_of_other_groups(found) -> None:
    for row, near in enumerate(found.labels["neighbours"]):
        assert not set(found.groups[near]) & {found.groups[row]}


def test_the_same_call_gives_the_same_inspection(found, planted, backbone) -> None:
    faces, y, _ = planted
    again = inspect_faces(
        faces.data, y, extractor=EmbeddingExtractor(backbone, cache=None), classifier=quick(), detector=None
    )
    pd.testing.assert_series_equal(again.labels["suspicion"], found.labels["suspicion"], rtol=1e-3)


@pytest.mark.slow
def test_an_interrupted_inspection_goes_on_where_it_stopped(planted, backbone, tmp_path: Path) -> None:
    faces, y, _ = planted
    options = {"extractor": EmbeddingExtractor(backbone, cache=tmp_path), "detector": None}
    classifier = quick(CountingClassifier).set_params(epochs=2)
    CountingClassifier.fits, CountingClassifier.stop_at = 0, 3
    with pytest.raises(KeyboardInterrupt) as stopped:
        inspect_faces(faces.data, y, classifier=classifier, **options)
    assert "goes on from there" in stopped.value.__notes__[0]
    CountingClassifier.stop_at = None
    inspect_faces(faces.data, y, classifier=classifier, **options)
    assert CountingClassifier.fits == 5
    inspect_faces(faces.data, y, classifier=classifier, **options)
    assert CountingClassifier.fits == 5
    y = y.copy()
    y[0, 0] += 1
    inspect_faces(faces.data, y, classifier=classifier, **options)
    assert CountingClassifier.fits >= 9


def test_several_readings_are_averaged_and_counted(planted, backbone) -> None:
    faces, y, place = planted
    groups = np.arange(len(y))
    splits = [fold for seed in (0, 1) for fold in AgeGenderKFold(3, random_state=seed).split(y, y, groups)]
    with pytest.warns(UserWarning, match="cv puts a copy"):
        twice = inspect_faces(
            faces.data,
            y,
            groups,
            extractor=EmbeddingExtractor(backbone, cache=None),
            classifier=quick(),
            cv=splits,
            detector=None,
        )
    assert set(twice.labels["n_readings"]) == {0, 2}
    assert "2 models" in twice.labels["reason"][place[CHANGED]]


def test_a_small_set_is_divided_three_times_by_the_model_for_few_faces(
    planted, backbone, monkeypatch
) -> None:
    monkeypatch.setattr(_inspect, "AgeGenderClassifier", lambda **options: quick())
    faces, y, place = planted
    extractor = EmbeddingExtractor(backbone, cache=None)
    small = inspect_faces(faces.data, y, extractor=extractor, model=None, detector=None, cv=3).labels
    assert set(small["n_readings"]) == {0, 3}
    assert set(small["fold"]) == {-1, 0, 1, 2}
    assert small["gender_suspicion"].rank(ascending=False)[place[FLIPPED]] <= 3
    assert small["age_suspicion"].rank(ascending=False)[place[CHANGED]] <= 3


def test_without_an_extractor_the_network_of_the_package_is_used_and_named() -> None:
    look = Look(None, quick(), None, 0)
    assert look.extractor.backbone == "compact"
    assert "trained on UTKFace" in look.notes[0]
    assert len(look.notes) == 2


def test_what_clean_says_is_taken_back_by_the_loader(found, planted, folder: Path, tmp_path: Path) -> None:
    faces, _, place = planted
    found.clean(suspicious="relabel").to_csv(tmp_path / "corrections.csv", index=False)
    again = load_utkface(folder, check=None, corrections=tmp_path / "corrections.csv")
    assert faces.data[place[BROKEN]] in set(again.excluded["path"])
    changed = again.corrected.set_index("path")
    suggested = round(found.labels["suggested_age"][place[CHANGED]])
    assert changed["age"][faces.data[place[CHANGED]]] == suggested
    assert faces.data[place[CHANGED]] in set(changed.index)


def test_nothing_is_changed_before_a_person_decides(found) -> None:
    table = found.clean()
    assert set(table["action"]) == {"keep", "review", "drop"}
    assert (table["action"] == "keep").to_numpy().nonzero()[0].min() > (table["action"] != "keep").sum() - 1
    assert len(table) == len(found.labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suspicious": "delete"}, "suspicious='delete' is not one of 'review', 'drop', 'keep', 'relabel'"),
        ({"no_face": "relabel"}, "no_face='relabel' is not one of"),
        ({"min_suspicion": 50}, "min_suspicion=50 should be above 0 and at most 1"),
        ({"min_suspicion": "high"}, "min_suspicion='high' should be above 0 and at most 1"),
    ],
)
def test_clean_refuses_what_it_does_not_know(found, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        found.clean(**options)


def test_the_json_can_be_read_and_holds_no_nan(found) -> None:
    data = json.loads(found.to_json())
    assert data["schema_version"] == 1
    assert data["counts"]["pictures"] == N + 1
    assert data["suspicious"][0]["rank"] == 1


def test_the_page_loads_nothing_and_escapes_what_it_shows(found) -> None:
    page = found.to_html(n_shown=7)
    assert page.count('data-suspicion="') == 7
    assert "A &lt;b&gt;set&lt;/b&gt;" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    script = re.search(r"<script>(.*?)</script>", page, re.S)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_the_page_is_dark_where_the_reader_wants_it_and_light_on_paper(found) -> None:
    page = found.to_html(n_shown=1)
    assert "@media screen and (prefers-color-scheme: dark)" in page
    assert ":root { color-scheme: light;" in page


def test_tables_that_scroll_can_be_reached_by_keyboard(found) -> None:
    page = found.to_html(n_shown=1)
    tables = re.findall(r'<div class="table[^>]*>', page)
    assert len(tables) >= 4
    assert all('tabindex="0"' in table and "aria-label=" in table for table in tables)


def test_the_page_names_pictures_from_the_folder_on_and_says_what_it_leaves_out(found, monkeypatch) -> None:
    name = Path(found.suspicious(1)["picture"].iloc[0]).name
    page = found.to_html(n_shown=1)
    assert f"<bdi>{name}</bdi>" in page
    assert "The first 24 of 118; all are in <code>inspection.json</code>" in page  # grey drawings
    assert "The first 1 of" not in page
    monkeypatch.setattr(_page, "SHOWN_GROUPS", 1)
    many = replace(found, unreadable=pd.concat([found.unreadable] * 3))
    assert "The first 1 of 3; all are in <code>inspection.json</code>" in many.to_html(n_shown=1)


@pytest.mark.parametrize("n_shown", [-1, 2.5, "ten", True])
def test_a_number_of_shown_pictures_that_is_none_is_refused(found, n_shown) -> None:
    with pytest.raises(ValueError, match=rf"n_shown={n_shown!r} should be an integer of at least 0"):
        found.to_html(n_shown)


def test_corrections_open_in_a_spreadsheet_as_utf_8_with_whole_ages(found, planted, tmp_path: Path) -> None:
    found.save(tmp_path, n_shown=0)
    text = (tmp_path / "corrections.csv").read_bytes()
    assert text.startswith(b"\xef\xbb\xbfpath,action,")
    suggested = pd.read_csv(tmp_path / "corrections.csv", dtype=str)["new_age"].dropna()
    assert suggested.str.fullmatch(r"\d+").all()
    assert len(suggested)


def test_save_leaves_edited_corrections_as_they_are(found, tmp_path: Path) -> None:
    page = found.save(tmp_path, n_shown=3)
    names = {"inspection.html", "inspection.json", "labels.csv", "pictures.csv", "corrections.csv"}
    assert {path.name for path in tmp_path.iterdir()} == names
    (tmp_path / "corrections.csv").write_text("edited")
    assert found.save(tmp_path, n_shown=3) == page
    assert (tmp_path / "corrections.csv").read_text() == "edited"
    assert (tmp_path / "corrections-new.csv").is_file()


def test_the_terminal_names_the_worst(found) -> None:
    console = Console(width=200, record=True)
    console.print(found)
    text = console.export_text()
    assert "more likely wrong than right" in text
    assert "1 pictures are copies" in text
    narrow = Console(width=80, record=True)
    narrow.print(found)
    name = Path(found.suspicious(1)["picture"].iloc[0]).name
    cells = [line.split("│")[4].strip() for line in narrow.export_text().splitlines() if line.count("│") == 6]
    assert name[-30:] in "".join(cells)


def test_leaks_into_another_set_are_listed(planted, backbone, folder: Path, tmp_path: Path) -> None:
    faces, y, place = planted
    rng = np.random.default_rng(0)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(faces.data[place[3]], other / "copy.jpg")
    pattern = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(pattern).save(other / "new.png")
    (other / "broken.jpg").write_bytes(b"broken")
    found = inspect_faces(
        faces.data,
        y,
        extractor=EmbeddingExtractor(backbone, cache=None),
        classifier=quick().set_params(epochs=1),
        detector=None,
        against=other,
        near_copy=0.9999,
    )
    assert "1 of the other set's 3 pictures cannot be read." in found.notes[0]
    copies = found.leaks[found.leaks["kind"] == "copy"]
    assert copies["row"].tolist() == [place[3]]
    assert copies["other_picture"].str.endswith("copy.jpg").all()
    assert found.clean(leaks="drop").set_index("row")["action"][place[3]] == "drop"


def test_a_table_and_persons_are_inspected(folder: Path, backbone, tmp_path: Path) -> None:
    faces = load_utkface(folder, check=None)
    table = pd.DataFrame(
        {"path": faces.data, "age": faces.target[:, 0], "gender": faces.target[:, 1].astype(int)}
    )
    table["person"] = [f"p{i // 2}" for i in range(len(table))]
    table.loc[[0, 1], "age"] = [10, 60]
    found = inspect_faces(
        table,
        extractor=EmbeddingExtractor(backbone, cache=tmp_path),
        classifier=quick().set_params(epochs=1),
        detector=None,
    )
    shuffled = load_table(table).data.tolist()
    assert found.labels["picture"].tolist() == shuffled
    first = found.persons.set_index("person").loc["p0"]
    assert first["age_spread"] == 50
    assert {shuffled[row] for row in first["rows"]} == set(table["path"][:2])
    assert len(set(found.labels["fold"][first["rows"]])) == 1


BAD = {
    "no labels": (lambda faces: (faces.data, None), "there are no labels"),
    "one gender only": (
        lambda faces: (faces.data, np.column_stack([faces.target[:, 0], np.ones(len(faces.data))])),
        "have the gender 1.0; models that read gender need both",
    ),
    "ten pictures": (lambda faces: (faces.data[:10], faces.target[:10]), "10 pictures .* are too few"),
    "all copies": (
        lambda faces: (list(faces.data[:2]) * 60, np.tile([[20, 0], [30, 1]], (60, 1))),
        "are copies of one another",
    ),
    "every picture unreadable": (
        lambda faces: ([b"none"] * 60, np.column_stack([np.arange(60), np.arange(60) % 2])),
        "none of the 60 pictures can be read",
    ),
    "groups of another shape": (
        lambda faces: (faces.data, faces.target, np.zeros((60, 2))),
        r"groups has shape \(60, 2\); it should be \(n_samples,\)",
    ),
    "other lengths": (lambda faces: (faces.data, faces.target[:-1]), "X has 60 pictures and y 59 rows"),
}


@pytest.mark.parametrize("what", BAD)
def test_each_bad_input_has_its_own_sentence(what: str, faces, backbone) -> None:
    make, message = BAD[what]
    with pytest.raises(ValueError, match=message):
        inspect_faces(*make(faces), extractor=EmbeddingExtractor(backbone, cache=None), detector=None)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"near_copy": 0}, ValueError, "near_copy=0 should be a cosine similarity above 0 and at most 1"),
        ({"near_copy": 90}, ValueError, "near_copy=90 should be"),
        ({"near_copy": "0.9"}, ValueError, "near_copy='0.9' should be"),
        ({"cv": "five"}, ValueError, "cv should be a number of folds, .*; it is 'five'"),
        ({"cv": 2.5}, ValueError, "cv should be a number of folds, .*; it is 2.5"),
        ({"cv": [([0, 1], [99])]}, ValueError, "row numbers from 0 to 59; pair 0 of cv has others"),
        ({"cv": [(range(30), range(30, 60))]}, ValueError, "row 0 is in no test part of cv"),
        ({"frame": [1] * 60}, TypeError, "frame is a list; pass a DataFrame"),
        ({"gender_names": ["a", "b"]}, TypeError, "gender_names is a list; pass a dict"),
        ({"gender_names": {0: "x", 1: "x"}}, ValueError, "named 'x' and 'x'; .* two different names"),
        ({"gender_names": {0: "age", 1: "n"}}, ValueError, "named 'age' and 'n'; .* not 'age' or 'n'"),
        ({"extractor": "arcface"}, TypeError, "extractor is a str; it should be an EmbeddingExtractor"),
        ({"classifier": "best"}, TypeError, "classifier is a str; it should be an AgeGenderClassifier"),
        ({"persons": ["Ann"]}, ValueError, r"persons has shape \(1,\); .* one name per picture"),
        ({"against": ["gone.jpg"]}, ValueError, "`against` can be read; the first, gone.jpg: does not exist"),
    ],
)
def test_each_bad_option_has_its_own_sentence(options: dict, error, message: str, faces, backbone) -> None:
    own = {"extractor": EmbeddingExtractor(backbone, cache=None), "detector": None}
    own["classifier"] = quick().set_params(epochs=1)
    with pytest.raises(error, match=message):
        inspect_faces(faces.data, faces.target, **own | options)


def test_a_table_to_compare_with_needs_no_labels(drawn_faces: Path, tmp_path: Path) -> None:
    paths = sorted(map(str, drawn_faces.iterdir()))[:3]
    table = pd.DataFrame({"path": [*paths, None]})
    assert other_set(table) == (paths, paths)
    table.to_csv(tmp_path / "test.csv", index=False)
    assert other_set(tmp_path / "test.csv") == (paths, paths)
    polars = pytest.importorskip("polars", reason="needs polars: pip install polars")
    assert other_set(polars.DataFrame({"path": paths})) == (paths, paths)


@pytest.mark.parametrize("against", ["nowhere/", [b"no picture"]])
def test_what_is_wrong_with_the_other_set_is_told_before_a_model_is_trained(against, faces, backbone) -> None:
    CountingClassifier.fits, CountingClassifier.stop_at = 0, None
    options = {"extractor": EmbeddingExtractor(backbone, cache=None), "detector": None, "against": against}
    with pytest.raises((ValueError, FileNotFoundError)):
        inspect_faces(faces, classifier=quick(CountingClassifier), **options)
    assert CountingClassifier.fits == 0


def test_a_set_against_itself_is_told(faces, backbone) -> None:
    found = inspect_faces(
        faces,
        extractor=EmbeddingExtractor(backbone, cache=None),
        classifier=quick().set_params(epochs=1),
        detector=None,
        cv=2,
        near_copy=0.9999,
        against=faces,
    )
    assert found.notes[0] == "Every picture stands in the other set too: is it the same set?"


def test_names_are_whole_paths_so_that_corrections_find_their_pictures(tmp_path: Path) -> None:
    container = open_pictures(_tar(tmp_path, b"x"))
    long = f"{'folder/' * 60}no\xa0break.jpg"
    assert name_of(long, 0) == long
    assert name_of(Path("a.jpg"), 0) == "a.jpg"
    assert name_of("zo\udce9.jpg", 0) == r"zo\udce9.jpg"
    assert name_of("s3://me:secret@bucket/a.jpg", 0) == "s3://bucket/a.jpg"
    assert name_of(container[0], 0).endswith("faces.tar/a.jpg")
    assert name_of(np.zeros((2, 2, 3), np.uint8), 7) == "row 7"


def _tar(folder: Path, content: bytes) -> Path:
    with tarfile.open(folder / "faces.tar", "w") as archive:
        entry = tarfile.TarInfo("a.jpg")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return folder / "faces.tar"


def test_a_frame_of_polars_is_a_table_with_labels(faces) -> None:
    polars = pytest.importorskip("polars", reason="needs polars: pip install polars")
    table = polars.DataFrame(
        {"path": faces.data.tolist(), "age": faces.target[:, 0], "gender": ["f", "m"] * 30}
    )
    found = labelled_faces(table, None, None, None, None, 100)
    assert sorted(found.names) == sorted(faces.data)
    assert found.gender_names == ("male", "female")


def test_a_url_is_inspected_and_compared_like_a_folder(
    faces, backbone, drawn_faces: Path, tmp_path: Path
) -> None:
    pytest.importorskip("fsspec", reason="needs fsspec: pip install 'agegender[remote]'")
    url = f"zip://::{shutil.make_archive(str(tmp_path / 'faces'), 'zip', drawn_faces)}"
    options = {"extractor": EmbeddingExtractor(backbone, cache=None), "detector": None, "cv": 2}
    found = inspect_faces(
        url, against=url, classifier=quick().set_params(epochs=1), near_copy=0.9999, **options
    )
    assert found.counts["pictures"] == len(faces.data)
    assert (found.leaks["kind"] == "copy").sum() == len(faces.data)
