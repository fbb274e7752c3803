"""IMDB-WIKI: half a million faces of film actors and of people with a Wikipedia page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from agegender._utils.grouping import group_numbers
from agegender._utils.urls import is_url, join
from agegender._utils.validation import check_choice
from agegender.datasets._common import (
    Reasons,
    age_reason,
    as_bunch,
    check_age_range,
    check_some_left,
    excluded_frame,
    present,
    shuffled_order,
    text_array,
)
from agegender.datasets._corrections import Corrections, CorrectionsSource
from agegender.datasets._mat import Columns, read_struct

if TYPE_CHECKING:
    import pandas as pd

# MATLAB counts days from the first of January of year 0, which is day 1.
DATENUM_1970 = 719_529
# A day beyond ± 10,000 years is not a date; the limit also avoids integer overflow.
FURTHEST_DAY = 3_700_000
REQUIRED = ("dob", "photo_taken", "full_path", "gender")
SCORES = ("face_score", "second_face_score")
BOX = ("face_left", "face_top", "face_right", "face_bottom")

_DESCR = """\
IMDB-WIKI, the {which} part: {n} of {total} pictures, ages {low} to {high} years, {persons} persons.

Rothe, Timofte and Van Gool, "Deep expectation of real and apparent age from a single image without facial
landmarks", IJCV 2018. https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/

Terms: for academic research only; the copyright of each picture stays with its owner.
Ages are computed from dates of birth and years of photographs that were collected automatically, and many are wrong:
use them for training, not for testing. Gender is 0 male, 1 female (the files use the opposite).
`groups` numbers the persons: keep the pictures of a person together in every split."""


def load_imdb_wiki(
    mat_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    *,
    which: Literal["imdb", "wiki"] | None = None,
    min_face_score: float | None = 1.0,
    second_face: bool = False,
    min_age: int = 0,
    max_age: int = 100,
    check_files: bool = False,
    corrections: CorrectionsSource = None,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch:
    """Load the paths and labels of IMDB-WIKI from its ``imdb.mat`` or ``wiki.mat``.

    Every row of the file is listed either in ``frame`` or in ``excluded``. No picture is opened. IMDB-WIKI is for
    academic research only; see Notes.

    Parameters
    ----------
    mat_file : path
        ``imdb.mat`` or ``wiki.mat``, in MATLAB's format 5, as published, or 7.3.
    image_root : path
        The folder to which the paths in the file are relative: the one with the folders ``00`` … ``99``.
    which : {"imdb", "wiki"} or None, default=None
        The struct to read; if None, the one that exists.
    min_face_score : float or None, default=1.0
        The minimum score of the authors' face detector. If None, all pictures are kept, even those without a face.
    second_face : bool, default=False
        Whether to keep pictures with a second face, to which the label may belong.
    min_age, max_age : int, default=0 and 100
        The range of ages to keep, in years, both ends included.
    check_files : bool, default=False
        Whether to check that the pictures exist, and exclude missing ones.
    corrections : path, DataFrame or None, default=None
        A table (CSV or TSV) with the columns ``path``, ``action`` ("keep", "relabel", "drop" or "review"),
        ``new_age`` and ``new_gender``, as :meth:`agegender.inspection.FacesInspection.clean` makes it. Nothing is
        changed on disk.
    random_state : int, RandomState instance or None, default=0
        Seed of the order. The same seed gives the same order on every machine.

    Returns
    -------
    faces : :class:`~sklearn.utils.Bunch`
        data : ndarray of shape (n_pictures,), dtype object
            Paths, shuffled.
        target : ndarray of shape (n_pictures, 2)
            Age in years, and gender (0 male, 1 female).
        groups : ndarray of shape (n_pictures,), int
            A number per person: per ``celeb_id`` in IMDB, and per name in WIKI, which has no ids. A row without
            either is its own group.
        frame : DataFrame
            One row per picture in the order of ``data``: ``path``, ``age``, ``gender``, ``name``, ``celeb_id``
            (IMDB), ``born``, ``photo_taken`` (a year), ``face_score`` and ``second_face_score`` (NaN: none),
            ``face_left``, ``face_top``, ``face_right``, ``face_bottom`` (pixels of the uncropped picture,
            counted from 1), ``group``.
        excluded : DataFrame
            ``path`` and ``reason``, the first of these that applies: "no path:", "unknown gender:", "unknown date
            of birth:", "unknown year of photograph:", "age outside range:", "no face:", "low face score:",
            "second face:", "missing file:"; before all of these, "dropped by a correction:".
        corrected : DataFrame
            Pictures that `corrections` gave another label: ``path``, ``age``, ``gender``, ``given_age``,
            ``given_gender``, ``reason``. Those that it drops are in ``excluded``.
        target_names, gender_names : list of str
            Names of the columns of ``target`` and of its genders.
        DESCR : str
            Description and terms of the data set.

    Raises
    ------
    FileNotFoundError
        If `mat_file` does not exist.
    ValueError
        If it is not such a file, or no picture is left.

    See Also
    --------
    agegender.datasets.load_utkface : Load UTKFace.
    agegender.datasets.load_table : Load your own table.

    Notes
    -----
    The age is the number of completed years on 1 July of the year in which the photograph was taken, in the
    Gregorian calendar, because the day of the photograph is not known.

    Terms: IMDB-WIKI is made available for academic research purposes only, and the copyright of each picture
    stays with its owner. Half a million rows take some 10 seconds from format 5, and a minute or two from 7.3.

    References
    ----------
    Rothe, Timofte and Van Gool, "Deep expectation of real and apparent age from a single image without facial
    landmarks", International Journal of Computer Vision 126 (2018),
    https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/

    Examples
    --------
    >>> from agegender.datasets import load_imdb_wiki
    >>> faces = load_imdb_wiki("imdb_crop/imdb.mat", "imdb_crop", min_age=18)  # doctest: +SKIP
    >>> faces.excluded.reason.str.split(":").str[0].value_counts()  # doctest: +SKIP
    """
    check_choice("which", which, ("imdb", "wiki", None), "load_imdb_wiki")
    check_age_range(min_age, max_age, "load_imdb_wiki")
    columns = _read(Path(mat_file).expanduser(), which)
    root = image_root if is_url(image_root) else str(Path(image_root).expanduser())
    paths = text_array(join(root, path) if path else "" for path in columns["full_path"])
    born, age = _ages(columns["dob"], columns["photo_taken"])
    given = age, 1 - columns["gender"].astype(np.float64)
    change = Corrections(corrections, "load_imdb_wiki").apply(paths, columns["full_path"], *given)
    age, columns = change.ages, columns | {"gender": 1 - change.genders}
    reasons = Reasons(len(paths))
    reasons.add(change.dropped != "", lambda row: str(change.dropped[row]))
    _exclude_labels(reasons, columns, born, age, min_age, max_age)
    _exclude_faces(reasons, columns, min_face_score, second_face)
    if check_files:
        absent = ~present(paths, reasons.none)
        reasons.add(absent, lambda row: "missing file: not in its folder")
    kept = shuffled_order(columns["full_path"], random_state)
    kept = kept[reasons.none[kept]]
    left_out = np.flatnonzero(~reasons.none)
    excluded = excluded_frame(paths[left_out], reasons.texts[left_out])
    check_some_left(len(kept), excluded, mat_file)
    frame = _frame(
        {name: column[kept] for name, column in columns.items()}, paths[kept], born[kept], age[kept]
    )
    corrected = change.corrected(paths, *given, reasons.none)
    return as_bunch(frame, excluded, _description(frame, columns, len(paths)), corrected)


def _read(mat_file: Path, which: str | None) -> Columns:
    name, columns = read_struct(
        mat_file,
        names=("imdb", "wiki") if which is None else (which,),
        text=("full_path", "name", "celeb_names"),
        vectors=("face_location",),
    )
    celebrities = columns.pop("celeb_names", None)
    lacking = [field for field in REQUIRED if field not in columns]
    if lacking:
        raise ValueError(f"{str(mat_file)!r}: the struct {name!r} has no field {lacking[0]!r}.")
    lengths = {field: len(column) for field, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{str(mat_file)!r}: the fields of {name!r} have different lengths: {lengths}.")
    if name == "wiki":
        columns.pop("celeb_id", None)
    if "name" not in columns and celebrities is not None and "celeb_id" in columns:
        columns["name"] = _names_of(columns["celeb_id"], celebrities)
    return columns


def _names_of(ids: NDArray[Any], celebrities: NDArray[np.object_]) -> NDArray[np.object_]:
    """Look up names by MATLAB's indices, which start with 1."""
    known = (ids >= 1) & (ids <= len(celebrities))
    names = np.full(len(ids), "", dtype=object)
    names[known] = celebrities[ids[known].astype(np.int64) - 1]
    return names


def _ages(dob: NDArray[Any], photo_taken: NDArray[Any]) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """Return dates of birth, and completed years on 1 July of the year of the photograph."""
    days, taken = dob.astype(np.float64), photo_taken.astype(np.float64)
    known = np.abs(days) <= FURTHEST_DAY
    born = np.full(len(days), np.datetime64("NaT"), dtype="datetime64[D]")
    born[known] = (np.floor(days[known]).astype(np.int64) - DATENUM_1970).astype("datetime64[D]")
    birth_years = born.astype("datetime64[Y]")
    first_of_july = birth_years.astype("datetime64[M]") + 6
    age = taken - (birth_years.astype(np.int64) + 1970) - (born > first_of_july)
    return born, np.where(known, age, np.nan)


def _exclude_labels(
    reasons: Reasons,
    columns: Columns,
    born: NDArray[np.datetime64],
    age: NDArray[np.float64],
    min_age: int,
    max_age: int,
) -> None:
    gender, taken = columns["gender"].astype(np.float64), columns["photo_taken"].astype(np.float64)
    reasons.add(columns["full_path"] == "", lambda row: "no path: the file names no picture")
    reasons.add(
        (gender != 0) & (gender != 1), lambda row: f"unknown gender: {gender[row]:g} is neither 0 nor 1"
    )
    reasons.add(np.isnat(born), lambda row: f"unknown date of birth: day {columns['dob'][row]} is not a date")
    reasons.add(~(taken > 0), lambda row: f"unknown year of photograph: {taken[row]:g} is not a year")
    reasons.add(
        ~((age >= min_age) & (age <= max_age)), lambda row: str(age_reason(age[row], min_age, max_age))
    )


def _exclude_faces(
    reasons: Reasons, columns: Columns, min_face_score: float | None, second_face: bool
) -> None:
    first, second = (columns.get(name, np.zeros(0)).astype(np.float64) for name in SCORES)
    if min_face_score is not None and first.size:
        reasons.add(~np.isfinite(first), lambda row: f"no face: the face detector's score is {first[row]:g}")
        reasons.add(
            first < min_face_score,
            lambda row: f"low face score: {first[row]:.3g} is below {min_face_score:g}",
        )
    if not second_face and second.size:
        reasons.add(~np.isnan(second), lambda row: f"second face: found with score {second[row]:.3g}")


def _frame(
    columns: Columns, paths: NDArray[np.object_], born: NDArray[np.datetime64], age: NDArray[np.float64]
) -> pd.DataFrame:
    import pandas as pd

    names = columns.get("name", np.full(len(paths), "", dtype=object))
    data: dict[str, Any] = {
        "path": paths,
        "age": age if (age % 1).any() else age.astype(np.int64),
        "gender": 1 - columns["gender"].astype(np.int64),
        "name": names,
    }
    persons = names.copy()
    persons[names == ""] = None
    if "celeb_id" in columns:
        ids = columns["celeb_id"].astype(np.float64)
        persons = np.where(ids >= 1, ids, np.nan)
        data["celeb_id"] = columns["celeb_id"]
    data |= {"born": born.astype("datetime64[s]"), "photo_taken": columns["photo_taken"].astype(np.int64)}
    data |= {name: columns[name].astype(np.float64) for name in SCORES if name in columns}
    if "face_location" in columns:
        data |= dict(zip(BOX, columns["face_location"].T, strict=True))
    return pd.DataFrame(data).assign(group=group_numbers(persons))


def _description(frame: pd.DataFrame, columns: Columns, total: int) -> str:
    return _DESCR.format(
        which="IMDB" if "celeb_id" in columns else "WIKI",
        n=len(frame),
        total=total,
        low=frame["age"].min(),
        high=frame["age"].max(),
        persons=frame["group"].nunique(),
    )
