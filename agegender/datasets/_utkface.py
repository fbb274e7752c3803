"""UTKFace: faces whose file names contain age, gender and race."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.utils import Bunch

from agegender import images
from agegender._machine.threads import resolve_threads
from agegender._utils.files import utf8
from agegender._utils.progress import progress_bar
from agegender._utils.stores import READS, find
from agegender._utils.urls import is_url, join, public
from agegender._utils.validation import check_choice
from agegender.datasets._common import (
    age_reason,
    as_bunch,
    check_age_range,
    check_some_left,
    excluded_frame,
    shuffled_order,
    text_array,
)
from agegender.datasets._corrections import Corrections, CorrectionsSource
from agegender.exceptions import PictureError

if TYPE_CHECKING:
    import pandas as pd

RACES = ("white", "black", "asian", "indian", "other")
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
)
FIELDS = "age_gender_race_datetime"

_DESCR = """\
UTKFace: {n} pictures of faces, ages {low} to {high} years, {copies} of them copies of another picture here.

Zhang, Song and Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", CVPR 2017.
https://susanqq.github.io/UTKFace/

Terms: for non-commercial research only; the copyright of each picture stays with its owner.
Age (years), gender (0 male, 1 female) and race were estimated by an algorithm and checked by a person;
equal pictures with different labels occur. `groups` numbers the pictures by content: keep a group
together in every split."""


@dataclass(frozen=True)
class _Label:
    age: float
    gender: int
    race: str
    taken: datetime | None


def load_utkface(
    directory: str | os.PathLike[str],
    *,
    min_age: int = 0,
    max_age: int = 100,
    corrections: CorrectionsSource = None,
    random_state: int | np.random.RandomState | None = 0,
    check: Literal["header", "pixels"] | None = "header",
    verbose: int = 0,
) -> Bunch:
    """Load the paths and labels of a folder of UTKFace pictures.

    Every picture file of the folder and its subfolders is listed either in ``frame`` or in ``excluded``. Files
    with neither a picture's suffix nor a name like UTKFace's are ignored. UTKFace is for non-commercial
    research only; see Notes.

    Parameters
    ----------
    directory : path or URL
        The folder with files named ``age_gender_race_datetime.jpg…``, directly or in subfolders (``part1``, …).
    min_age, max_age : int, default=0 and 100
        The range of ages to keep, in years, both ends included.
    corrections : path, DataFrame or None, default=None
        A table (CSV or TSV) with the columns ``path``, ``action`` ("keep", "relabel", "drop" or "review"),
        ``new_age`` and ``new_gender``, as :meth:`agegender.inspection.FacesInspection.clean` makes it. Nothing is
        changed on disk.
    random_state : int, RandomState instance or None, default=0
        Seed of the order. The same seed gives the same order on every machine, whatever the order of the file
        system. Adding or removing a picture does not move the others.
    check : {"header", "pixels"} or None, default="header"
        How files are checked. "header": the header and whether the file is complete. "pixels": all of it is
        decoded (about twenty times slower). None: only files that do not exist are excluded.
    verbose : int, default=0
        If 1, show a progress bar.

    Returns
    -------
    faces : :class:`~sklearn.utils.Bunch`
        data : ndarray of shape (n_pictures,), dtype object
            Paths, shuffled, because the published file names are sorted by age.
        target : ndarray of shape (n_pictures, 2)
            Age in years, and gender (0 male, 1 female).
        groups : ndarray of shape (n_pictures,), int
            Pictures with equal file content have the same number.
        frame : DataFrame
            One row per picture in the order of ``data``: ``path``, ``age``, ``gender``, ``race`` ("white",
            "black", "asian", "indian" or "other"), ``datetime`` (the time of collection; NaT if it cannot be
            read from the name), ``group``.
        excluded : DataFrame
            ``path`` and ``reason``, which begins with "malformed name:", "age outside range:", "unreadable:" or
            "dropped by a correction:".
        corrected : DataFrame
            Pictures that `corrections` gave another label: ``path``, ``age``, ``gender``, ``given_age``,
            ``given_gender``, ``reason``. Those that it drops are in ``excluded``.
        target_names, gender_names : list of str
            Names of the columns of ``target`` and of its genders.
        DESCR : str
            Description and terms of the data set.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If `directory` is not an existing folder.
    ValueError
        If it contains no pictures, or no picture is left.

    See Also
    --------
    agegender.datasets.load_imdb_wiki : Load IMDB-WIKI.
    agegender.datasets.load_table : Load your own table.
    agegender.datasets.make_faces : Draw faces for demonstrations and tests.

    Notes
    -----
    Terms: UTKFace is available for non-commercial research purposes only, and the copyright of each picture
    stays with its owner. 765 files of the published set are byte-for-byte copies of another file, and in half
    of the groups of copies the ages differ: pass ``groups`` to every split.

    References
    ----------
    Zhang, Song and Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", CVPR 2017,
    https://susanqq.github.io/UTKFace/

    Examples
    --------
    >>> from agegender.datasets import load_utkface
    >>> faces = load_utkface("UTKFace/")  # doctest: +SKIP
    >>> faces.target[:2]  # doctest: +SKIP
    array([[26.,  1.],
           [ 1.,  0.]])
    """
    check_choice("check", check, ("header", "pixels", None), "load_utkface")
    check_age_range(min_age, max_age, "load_utkface")
    root = directory if is_url(directory) else str(_existing_folder(directory))
    names = sorted(filter(_is_picture, find(root)) if is_url(root) else _picture_names(Path(root)))
    if not names:
        raise ValueError(
            f"No pictures in {public(root)!r} or below it: files named {FIELDS}.jpg are expected. "
            "Unpack UTKFace's archive and pass its folder."
        )
    names = [names[i] for i in shuffled_order(names, random_state)]
    labels = [_label(name) for name in names]
    labels, corrected = _corrected(root, names, labels, Corrections(corrections, "load_utkface"))
    labels = [_in_range(label, min_age, max_age) for label in labels]
    digests = _digests(root, names, labels, check, verbose)
    return _bunch(root, names, labels, digests, corrected)


def _existing_folder(directory: str | os.PathLike[str]) -> Path:
    root = Path(directory).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"There is no folder {str(root)!r} (the current folder is {os.getcwd()!r}).")
    if not root.is_dir():
        raise NotADirectoryError(f"{str(root)!r} is a file; unpack it and pass the folder with the pictures.")
    return root


def _picture_names(root: Path) -> Iterator[str]:
    """Yield the picture files below `root`, relative to it, with forward slashes."""
    visited: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        # Links are followed, because subfolders are often links to another disk; a link to a parent must not
        # cause a loop.
        place = os.path.realpath(folder)
        if place in visited:
            subfolders.clear()
            continue
        visited.add(place)
        subfolders.sort()
        within = Path(folder).relative_to(root)
        yield from ((within / file).as_posix() for file in files if _is_picture(file))


def _is_picture(file: str) -> bool:
    file = file.rpartition("/")[2]
    return file.lower().endswith(SUFFIXES) or re.match("[0-9]+_[01]_", file) is not None


def _label(name: str) -> _Label | str:
    """Return the fields of a file's name, or the reason why it has none."""
    if utf8(name) != name:
        return "malformed name: not UTF-8; rename the file"
    fields = name.rpartition("/")[2].split("_", 3)
    if len(fields) < 4:
        return f"malformed name: {len(fields)} of the 4 fields {FIELDS}"
    if not re.fullmatch("[0-9]{1,9}", fields[0]):
        return f"malformed name: age {fields[0]!r} is not a number of years ({FIELDS})"
    if fields[1] not in ("0", "1"):
        return f"malformed name: gender {fields[1]!r} is neither 0 (male) nor 1 (female) ({FIELDS})"
    if fields[2] not in ("0", "1", "2", "3", "4"):
        return f"malformed name: race {fields[2]!r} is not one of 0…4 ({FIELDS})"
    return _Label(int(fields[0]), int(fields[1]), RACES[int(fields[2])], _moment(fields[3]))


def _corrected(
    root: str, names: list[str], labels: list[_Label | str], corrections: Corrections
) -> tuple[list[_Label | str], pd.DataFrame]:
    """Return the labels after correction, a reason for each that is dropped, and the frame of what was changed."""
    told = [
        (float(label.age), float(label.gender)) if isinstance(label, _Label) else None for label in labels
    ]
    ages, genders = np.array([pair or (np.nan, np.nan) for pair in told]).T
    paths = text_array(join(root, name) for name in names)
    change = corrections.apply(paths, text_array(names), ages, genders)
    known = np.array([pair is not None for pair in told])
    new: list[_Label | str] = []
    for row, label in enumerate(labels):
        if isinstance(label, _Label) and change.dropped[row]:
            label = str(change.dropped[row])
        elif isinstance(label, _Label) and change.relabelled[row]:
            label = replace(label, age=_whole(change.ages[row]), gender=int(change.genders[row]))
        new.append(label)
    return new, change.corrected(paths, ages, genders, known)


def _whole(age: float) -> float:
    return int(age) if age.is_integer() else age


def _in_range(label: _Label | str, min_age: int, max_age: int) -> _Label | str:
    """Return the label, or why its age is left out."""
    return label if isinstance(label, str) else age_reason(label.age, min_age, max_age) or label


def _moment(text: str) -> datetime | None:
    """Read ``yyyymmddHHMMSSmmm``; some of the published names have a digit more or less."""
    digits = re.match("[0-9]{14,18}", text)
    if not digits:
        return None
    try:
        second = datetime.strptime(digits[0][:14], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    thousandths = digits[0][14:]
    return second.replace(microsecond=int(thousandths) * 1000) if len(thousandths) == 3 else second


def _digests(
    root: str, names: list[str], labels: list[_Label | str], check: str | None, verbose: int
) -> list[bytes | str]:
    """Return the digest of each labelled file, or the reason why it is excluded."""
    paths = (
        None if isinstance(label, str) else join(root, name)
        for name, label in zip(names, labels, strict=True)
    )
    digests = []
    # Reading, hashing and decoding release Python's global lock.
    with (
        ThreadPoolExecutor(READS if is_url(root) else 4 + resolve_threads()) as pool,
        progress_bar(len(names), "reading", verbose) as bar,
    ):
        for digest in pool.map(partial(_digest, check=check), paths):
            digests.append(digest)
            bar.update()
    return digests


def _digest(path: str | None, check: str | None) -> bytes | str:
    if path is None:
        return ""
    try:
        content = images.read(path)
        if check is not None:
            images.check(content, full=check == "pixels")
    except PictureError as error:
        return f"unreadable: {error.reason}"
    return images.digest(content)


def _bunch(
    root: str,
    names: list[str],
    labels: list[_Label | str],
    digests: list[bytes | str],
    corrected: pd.DataFrame,
) -> Bunch:
    import pandas as pd

    kept, left_out = [], []
    for name, label, digest in zip(names, labels, digests, strict=True):
        path = join(root, name)
        if isinstance(label, str):
            left_out.append((utf8(path), label))
        elif isinstance(digest, str):
            left_out.append((path, digest))
        else:
            kept.append((path, label.age, label.gender, label.race, label.taken, digest))
    excluded = excluded_frame([path for path, _ in left_out], [reason for _, reason in left_out])
    check_some_left(
        len(kept), excluded, public(root), " Pictures with other names are listed in a table: load_table."
    )
    frame = pd.DataFrame(kept, columns=["path", "age", "gender", "race", "datetime", "group"])
    frame["datetime"] = pd.to_datetime(frame["datetime"]).astype("datetime64[ms]")
    frame["group"] = pd.factorize(frame["group"])[0]
    copies = len(frame) - frame["group"].nunique()
    low, high = frame["age"].min(), frame["age"].max()
    corrected = corrected[corrected["path"].isin(frame["path"])].reset_index(drop=True)
    return as_bunch(
        frame, excluded, _DESCR.format(n=len(frame), low=low, high=high, copies=copies), corrected
    )
