"""Convert the input of an inspection to one form."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agegender._utils.files import utf8
from agegender._utils.grouping import group_numbers
from agegender._utils.pictures import check_pictures
from agegender._utils.stored import StoredPicture
from agegender._utils.target import check_target
from agegender._utils.urls import is_folder, public

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OWNER", "LabelledFaces", "check_enough", "labelled_faces", "name_of"]

OWNER = "inspect_faces"
FEWEST = 40
"""Minimum number of pictures for cross-validation; a picture and its copies count once."""

FEWEST_OF_A_GENDER = 5

OWN_COLUMNS = ("age", "n")
"""Names of columns beside which tables have one for each gender."""


@dataclass(frozen=True, eq=False)
class LabelledFaces:
    """Pictures with their labels.

    Attributes
    ----------
    pictures : sequence of pictures
    names : ndarray of shape (n_pictures,), dtype object
        Their paths, or text such as "row 7" for a picture without a path.
    ages : ndarray of shape (n_pictures,), float64
    genders : ndarray of shape (n_pictures,), int
        0 or 1, an index into `gender_labels`.
    gender_labels : ndarray of shape (2,)
        The two labels as they were given.
    gender_names : tuple of str
        Their names.
    groups : ndarray of shape (n_pictures,), int
        The groups that the caller passed.
    frame : DataFrame
        Further columns of the data set, one row per picture; possibly without columns.
    excluded : DataFrame
        Pictures that a loader left out: path and reason.
    """

    pictures: Sequence[Any]
    names: NDArray[np.object_]
    ages: NDArray[np.float64]
    genders: NDArray[np.intp]
    gender_labels: NDArray[Any]
    gender_names: tuple[str, str]
    groups: NDArray[np.intp]
    frame: pd.DataFrame
    excluded: pd.DataFrame

    def __len__(self) -> int:
        return len(self.ages)


def labelled_faces(
    X: Any,
    y: Any,
    groups: ArrayLike | None,
    frame: pd.DataFrame | None,
    gender_names: Mapping[Any, str] | None,
    max_age: int,
) -> LabelledFaces:
    """Return pictures with labels from any supported input, or raise an error that says what is missing."""
    import pandas as pd

    excluded = pd.DataFrame({"path": [], "reason": []})
    if y is None:
        bunch = _as_bunch(X)
        X, y, excluded = bunch["data"], bunch["target"], bunch["excluded"]
        groups = bunch["groups"] if groups is None else groups
        frame = bunch["frame"] if frame is None else frame
    _check_kinds(groups, frame, gender_names)
    pictures = check_pictures(X)
    ages, genders = check_target(y, max_age=max_age)
    _check_lengths(len(pictures), y=len(ages), groups=groups, frame=frame)
    labels = _gender_labels(genders)
    codes = np.searchsorted(labels, genders.astype(labels.dtype)).astype(np.intp)
    names = [name_of(picture, row) for row, picture in enumerate(pictures)]
    return LabelledFaces(
        pictures=pictures,
        names=np.array(names, dtype=object),
        ages=ages,
        genders=codes,
        gender_labels=labels,
        gender_names=_gender_names(labels, gender_names),
        groups=np.arange(len(ages)) if groups is None else group_numbers(np.asarray(groups)),
        frame=pd.DataFrame(index=range(len(ages))) if frame is None else frame.reset_index(drop=True),
        excluded=excluded,
    )


def _as_bunch(data: Any) -> Mapping[str, Any]:
    """Return the Bunch of a loader from a Bunch, a folder, a table file or a frame."""
    import pandas as pd

    from agegender.datasets import load_table, load_utkface

    if isinstance(data, Mapping) and {"data", "target"} <= set(data):
        empty = pd.DataFrame({"path": [], "reason": []})
        return {"groups": None, "frame": None, "excluded": empty} | dict(data)
    if isinstance(data, str | os.PathLike):
        return dict(load_utkface(data) if is_folder(data) else load_table(data))
    if hasattr(data, "columns"):
        return dict(load_table(data))
    raise ValueError(
        f"{OWNER}: there are no labels (y is None), and X is a {type(data).__name__}; pass y, ages and genders of "
        "shape (n_samples, 2), or what a loader returns, a folder named as in UTKFace, a table or a frame."
    )


def _check_kinds(groups: Any, frame: Any, gender_names: Any) -> None:
    if groups is not None and np.ndim(groups) != 1:
        raise ValueError(
            f"{OWNER}: groups has shape {np.shape(groups)}; it should be (n_samples,), one label per picture."
        )
    if frame is not None and not hasattr(frame, "reset_index"):
        raise TypeError(f"{OWNER}: frame is a {type(frame).__name__}; pass a DataFrame of pandas.")
    if gender_names is not None and not isinstance(gender_names, Mapping):
        raise TypeError(
            f"{OWNER}: gender_names is a {type(gender_names).__name__}; pass a dict from gender to name, such as "
            '{0: "male", 1: "female"}.'
        )


def _check_lengths(n_pictures: int, y: int, groups: ArrayLike | None, frame: pd.DataFrame | None) -> None:
    lengths = {"y": y}
    lengths |= {} if groups is None else {"groups": len(np.asarray(groups))}
    lengths |= {} if frame is None else {"frame": len(frame)}
    for name, length in lengths.items():
        if length != n_pictures:
            raise ValueError(
                f"{OWNER}: X has {n_pictures} pictures and {name} {length} rows; they should be as many."
            )


def _gender_labels(genders: NDArray[Any]) -> NDArray[Any]:
    labels = np.unique(genders)
    if len(labels) == 1:
        raise ValueError(
            f"{OWNER}: all {len(genders)} pictures have the gender {labels.tolist()[0]!r}; models that read gender "
            "need both. Inspect the set together with pictures of the other gender; agegender.datasets.describe "
            "tells of ages alone."
        )
    if len(labels) != 2:
        raise ValueError(
            f"{OWNER}: y has {len(labels)} genders, {labels.tolist()[:5]}; keep rows of two, or merge labels that "
            "mean the same."
        )
    whole = labels.dtype.kind == "f" and np.equal(np.mod(labels, 1), 0).all()
    return labels.astype(np.int64) if whole else labels


def _gender_names(labels: NDArray[Any], given: Mapping[Any, str] | None) -> tuple[str, str]:
    usual = {0, 1} >= set(labels.tolist()) and labels.dtype.kind != "U"
    known = given or ({0: "male", 1: "female"} if usual else {})
    first, second = (str(known.get(label, label)) for label in labels)
    if len({first, second, *OWN_COLUMNS}) < 2 + len(OWN_COLUMNS):
        raise ValueError(
            f"{OWNER}: the genders are named {first!r} and {second!r}; gender_names should give two different names, "
            f"and not {' or '.join(map(repr, OWN_COLUMNS))}, which columns of the tables have."
        )
    return first, second


def name_of(picture: Any, row: int) -> str:
    """Return a picture's path or URL, complete because corrections find it by its path, or its row in words.

    A file name that is not UTF-8 cannot be in a table; its other bytes are written as escapes.
    """
    if not isinstance(picture, str | os.PathLike | StoredPicture):
        return f"row {row}"
    path = str(picture) if isinstance(picture, StoredPicture) else public(os.fspath(picture))
    return utf8(path)


def check_enough(faces: LabelledFaces, read: NDArray[np.bool_], groups: NDArray[np.intp]) -> None:
    """Raise a ValueError if there are too few pictures for cross-validation.

    Parameters
    ----------
    faces : LabelledFaces
    read : ndarray of shape (n_pictures,), bool
        Which of them can be read.
    groups : ndarray of shape (n_pictures,), int
        Copies, near-copies and the groups that the caller passed.
    """
    n_read, n_groups = int(read.sum()), len(np.unique(groups[read]))
    if n_groups <= n_read / 4 and n_groups < FEWEST:
        raise ValueError(
            f"{OWNER}: the {n_read} pictures are copies of one another, or of the same persons: {n_groups} groups in "
            f"all, and {FEWEST} are needed for models that see neither a picture nor its group."
        )
    if n_groups < FEWEST:
        raise ValueError(
            f"{OWNER}: {n_read} pictures ({n_groups} groups of copies, near-copies and persons) are too few to train "
            f"models that tell whose label is wrong; {FEWEST} groups are the least, some hundreds of pictures are of "
            "use. Look at so few yourself."
        )
    for code, name in enumerate(faces.gender_names):
        n = len(np.unique(groups[read & (faces.genders == code)]))
        if n < FEWEST_OF_A_GENDER:
            raise ValueError(
                f"{OWNER}: only {n} of {n_read} pictures have the gender {name!r}; {FEWEST_OF_A_GENDER} is the least."
            )
