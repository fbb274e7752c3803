"""Faces listed in your own table."""

from __future__ import annotations

import io
import numbers
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from agegender._utils.grouping import group_numbers
from agegender._utils.stored import StoredPicture
from agegender._utils.stores import open_place
from agegender._utils.urls import is_url, join, name_of, parent, public
from agegender._utils.validation import did_you_mean, optional_import
from agegender.datasets._common import (
    GENDER_WORDS,
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
from agegender.datasets._corrections import Change, Corrections, CorrectionsSource
from agegender.datasets._stored_tables import stored_table

if TYPE_CHECKING:
    import pandas as pd

Years: TypeAlias = float | tuple[float, float]

OWNER = "load_table"
_PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zip": "zip", ".zst": "zstd"}
SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
NUMBER = r"[0-9]+(?:\.[0-9]+)?"
# "25-32", "25–32", "25 to 32", "(25, 32)", "[25; 32]"
BAND = re.compile(rf"[\[(]?\s*({NUMBER})\s*(?:-|–|—|to|,|;|…|\.\.+)\s*({NUMBER})\s*[\])]?")

_DESCR = """\
{n} of the {total} pictures of {name}, ages {low:g} to {high:g} years, in {groups} groups.

Gender is 0 male, 1 female. `groups` numbers the pictures that must stay together in every split."""


def load_table(
    table: str | os.PathLike[str] | Any,
    *,
    path: str = "path",
    age: str = "age",
    gender: str = "gender",
    group: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    ages: Mapping[Any, Years] | None = None,
    genders: Mapping[Any, int] | None = None,
    min_age: float = 0,
    max_age: float = 100,
    check_files: bool = False,
    corrections: CorrectionsSource = None,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch:
    """Load paths and labels from a CSV or Parquet file, or from a frame.

    Every row is listed either in ``frame`` or in ``excluded``. No picture is opened.

    Parameters
    ----------
    table : path, URL, DataFrame, or Hugging Face data set
        A ``.csv`` (comma), ``.tsv`` (tab) or ``.parquet`` file, CSV and TSV compressed or not; or a frame of
        pandas or polars. Parquet needs pyarrow (``pip install 'agegender[parquet]'``). If the pictures are stored
        beside their labels, ``data`` contains their places, and each picture is read when it is needed: a Hugging
        Face data set with a column of pictures (``path="image"``), a Parquet file with a column of bytes, a ``.tar``
        file of WebDataset or a list of such files (the labels are the fields of each picture's ``.json``, and its
        ``.cls``, ``.txt``, ``.age`` and ``.gender``).
    path, age, gender : str
        Names of the columns. An age is a number of years, or a range such as "25-32" or "(25, 32)", of which
        the midpoint is used.
    group : str or None, default=None
        Column of groups, such as persons or films. A row with a missing value is its own group. If None, equal
        paths are grouped.
    image_root : path, URL or None, default=None
        The folder to which paths are relative. If None, the folder of the file; for a frame, the current folder. If
        an empty text, paths are left as they are.
    ages : dict or None, default=None
        The meaning of entries of the age column, in years: a number, or a pair (low, high): ``{"60+": (60, 75),
        "child": 8}``. It takes precedence over the entry itself.
    genders : dict or None, default=None
        The meaning of entries of the gender column: 0 male, 1 female. If None, 0, 1 and the usual English words
        are understood, in upper and lower case.
    min_age, max_age : float, default=0 and 100
        The range of ages to keep, in years, both ends included; for a range, its midpoint counts.
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
            Group numbers.
        frame : DataFrame
            One row per picture in the order of ``data``: ``path``, ``age``, ``age_low`` and ``age_high`` (the
            ends of the range, or the age itself), ``gender``, ``group``, then the other columns of the table.
            If a column's name is already used, "_given" is appended.
        excluded : DataFrame
            ``path`` and ``reason``, which begins with "no path:", "unknown age:", "unknown gender:", "age
            outside range:", "missing file:" or "dropped by a correction:".
        corrected : DataFrame
            Pictures that `corrections` gave another label: ``path``, ``age``, ``gender``, ``given_age``,
            ``given_gender``, ``reason``. Those that it drops are in ``excluded``.
        target_names, gender_names : list of str
            Names of the columns of ``target`` and of its genders.
        DESCR : str
            Description of the data set.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If a column is missing, genders are coded as unexplained numbers, or no picture is left.

    See Also
    --------
    agegender.datasets.load_utkface : Load UTKFace.
    agegender.datasets.load_imdb_wiki : Load IMDB-WIKI.

    Examples
    --------
    >>> import pandas as pd
    >>> from agegender.datasets import load_table
    >>> table = pd.DataFrame({"file": ["a.jpg", "b.jpg"], "years": ["25-32", "4"], "sex": ["F", "M"]})
    >>> faces = load_table(table, path="file", age="years", gender="sex")
    >>> faces.frame.sort_values("path", ignore_index=True)[["path", "age", "age_low", "age_high", "gender"]]
        path   age  age_low  age_high  gender
    0  a.jpg  28.5     25.0      32.0       1
    1  b.jpg   4.0      4.0       4.0       0
    """
    check_age_range(min_age, max_age, OWNER)
    source, folder, name = _source(table, path)
    for column in (path, age, gender, *(() if group is None else (group,))):
        _check_column(column, source)
    root = folder if image_root is None else _folder(image_root)
    rows = _rows(source, root, {"path": path, "age": age, "gender": gender, "group": group}, ages, genders)
    paths, given = text_array(map(str, rows["path"])), (rows["age"].to_numpy(), rows["gender"].to_numpy())
    names = text_array(map(str, source[path]))
    change = Corrections(corrections, OWNER).apply(paths, names, *given)
    rows = _relabelled(rows, change)
    reasons = Reasons(len(rows))
    reasons.add(change.dropped != "", lambda row: str(change.dropped[row]))
    _exclude(reasons, rows, source[age], source[gender], min_age, max_age)
    if check_files:
        is_file = rows["path"].map(lambda path: isinstance(path, str)).to_numpy()
        there = present(paths, reasons.none & is_file)
        reasons.add(~there, lambda row: "missing file: not in its folder")
    kept = shuffled_order(names, random_state)
    kept = kept[reasons.none[kept]]
    left_out = np.flatnonzero(~reasons.none)
    excluded = excluded_frame(map(str, rows["path"].iloc[left_out]), reasons.texts[left_out])
    check_some_left(len(kept), excluded, name)
    frame = rows.iloc[kept].reset_index(drop=True)
    frame = frame.assign(gender=frame["gender"].astype(np.int64), group=group_numbers(frame["group"]))
    corrected = change.corrected(paths, *given, reasons.none)
    return as_bunch(frame, excluded, _description(frame, name, len(rows)), corrected)


def listed_pictures(table: Any, path: str = "path") -> list[Any]:
    """Return the pictures in a table's column of paths, whatever their labels; the table is one for `load_table`."""
    source, root, _ = _source(table, path)
    _check_column(path, source)
    pictures = [_path(root, value) for value in source[path]]
    return [picture for picture in pictures if picture != ""]


def _source(table: Any, path: str) -> tuple[pd.DataFrame, str, str]:
    """Return the table as a pandas frame, the folder of its paths, and a name for messages."""
    import pandas as pd

    stored = stored_table(table, path)
    if stored is not None:
        return stored[0], "", stored[1]
    if isinstance(table, pd.DataFrame):
        return table.reset_index(drop=True), "", "the frame"
    if hasattr(table, "columns"):
        return pd.DataFrame({name: table[name].to_list() for name in table.columns}), "", "the frame"
    if not isinstance(table, str | os.PathLike):
        raise TypeError(
            f"{OWNER}: table is a {type(table).__name__}; pass a frame, or the path of a CSV or Parquet file."
        )
    if is_url(table):
        with open_place(table) as remote:
            content = io.BytesIO(remote.read())
        return _read(content, name_of(table), path), parent(table), public(table)
    file = Path(table).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {str(file)!r} (the current folder is {os.getcwd()!r}).")
    return _read(file, file.name, path), str(file.parent), str(file)


def _read(file: Path | io.BytesIO, name: str, path: str) -> pd.DataFrame:
    import pandas as pd

    kinds = [suffix.lower() for suffix in Path(name).suffixes]
    if kinds and kinds[-1] in (".parquet", ".pq"):
        optional_import("pyarrow", "parquet")
        return pd.read_parquet(file)
    separators = [SEPARATORS[kind] for kind in kinds if kind in SEPARATORS]
    if not separators:
        raise ValueError(
            f"{OWNER}: {name!r} ends in none of .csv, .tsv, .parquet; read it yourself and pass the frame."
        )
    # "NA" and "None" can be names of people, and "0012" can be the name of a file.
    packed: Any = _PACKED.get(kinds[-1]) if isinstance(file, io.BytesIO) else "infer"
    return pd.read_csv(
        file, sep=separators[-1], dtype={path: str}, keep_default_na=False, na_values=[""], compression=packed
    )


def _check_column(column: str, source: pd.DataFrame) -> None:
    names = list(source.columns)
    if column not in names:
        raise ValueError(
            f"{OWNER}: there is no column {column!r} among {names}.{did_you_mean(column, map(str, names))} "
            "The parameters path, age, gender and group name the columns; a file with another separator can be "
            "read with pandas and passed as a frame."
        )


def _rows(
    source: pd.DataFrame,
    root: str,
    columns: Mapping[str, str | None],
    ages: Mapping[Any, Years] | None,
    genders: Mapping[Any, int] | None,
) -> pd.DataFrame:
    """Return path, age and gender of every row, NaN if an entry cannot be read, then the other columns."""
    import pandas as pd

    paths = text_array(_path(root, value) for value in source[columns["path"]])
    low, high = _bands(source[columns["age"]], ages or {})
    sexes = _sexes(source[columns["gender"]], genders)
    own = {"path": paths, "age": (low + high) / 2, "age_low": low, "age_high": high, "gender": sexes}
    own["group"] = paths if columns["group"] is None else source[columns["group"]].to_numpy()
    others = source.drop(columns=[name for name in columns.values() if name is not None])
    return pd.DataFrame(own).join(others.rename(columns={name: f"{name}_given" for name in own}))


def _relabelled(rows: pd.DataFrame, change: Change) -> pd.DataFrame:
    """Return the rows with corrected labels; a corrected age is no band any more."""
    moved = change.ages != rows["age"].to_numpy()
    moved &= change.relabelled != ""
    ends = {name: rows[name].where(~moved, change.ages) for name in ("age_low", "age_high")}
    return rows.assign(age=change.ages, gender=change.genders, **ends)


def _path(root: str, value: Any) -> Any:
    if isinstance(value, StoredPicture):
        return value
    if isinstance(value, str | os.PathLike) and os.fspath(value):
        return join(root, os.fspath(value))
    return ""


def _folder(image_root: str | os.PathLike[str]) -> str:
    return image_root if image_root == "" or is_url(image_root) else str(Path(image_root).expanduser())


def _bands(column: pd.Series, ages: Mapping[Any, Years]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the low and the high end of each entry; they are equal for a single age."""
    import pandas as pd

    codes, entries = pd.factorize(column)
    # The last range belongs to missing entries, whose code is -1.
    bands = np.array([*(_band(entry, ages) for entry in entries), (np.nan, np.nan)], dtype=np.float64)
    return bands[codes, 0], bands[codes, 1]


def _band(entry: Any, ages: Mapping[Any, Years]) -> tuple[float, float]:
    given = _look_up(entry, ages)
    if given is not None:
        low, high = given if isinstance(given, tuple | list) else (given, given)
        return float(low), float(high)
    try:
        return float(entry), float(entry)
    except (TypeError, ValueError):
        pass
    ends = BAND.fullmatch(str(entry).strip())
    if ends is None or float(ends[1]) > float(ends[2]):
        return np.nan, np.nan
    return float(ends[1]), float(ends[2])


def _look_up(entry: Any, mapping: Mapping[Any, Any]) -> Any:
    """Find an entry by its value, or by its text."""
    return mapping.get(entry, mapping.get(_shown(entry)))


def _shown(entry: Any) -> str:
    whole = (
        isinstance(entry, numbers.Real)
        and float(entry).is_integer()
        and not isinstance(entry, bool | np.bool_)
    )
    return str(int(entry)) if whole else str(entry).strip()


def _sexes(column: pd.Series, genders: Mapping[Any, int] | None) -> NDArray[np.float64]:
    """Return 0 male, 1 female, or NaN for each entry."""
    import pandas as pd

    codes, entries = pd.factorize(column)
    if genders is None:
        _check_codes(column.name, entries)
        known = [GENDER_WORDS.get(_shown(entry).casefold()) for entry in entries]
    else:
        _check_genders(genders)
        known = [_look_up(entry, genders) for entry in entries]
    return np.array([*(np.nan if k is None else k for k in known), np.nan], dtype=np.float64)[codes]


def _check_codes(name: Any, entries: Any) -> None:
    """Refuse other numbers than 0 and 1, because a 1 would silently be read as female."""
    codes = sorted({_shown(entry) for entry in entries if re.fullmatch("-?[0-9]+", _shown(entry))})
    if not set(codes) <= {"0", "1"}:
        raise ValueError(
            f"{OWNER}: the column {name!r} has the numbers {', '.join(codes)}; explain them with "
            "0 for male and 1 for female, for example: genders={1: 0, 2: 1}."
        )


def _check_genders(genders: Mapping[Any, int]) -> None:
    wrong = [value for value in genders.values() if value not in (0, 1)]
    if wrong:
        raise ValueError(f"{OWNER}: genders maps to {wrong[0]!r}; it should map to 0 (male) or 1 (female).")


def _exclude(
    reasons: Reasons, rows: pd.DataFrame, ages: pd.Series, genders: pd.Series, min_age: float, max_age: float
) -> None:
    age = rows["age"].to_numpy()
    reasons.add((rows["path"] == "").to_numpy(), lambda row: "no path: the entry is empty")
    reasons.add(
        np.isnan(age),
        lambda row: (
            f"unknown age: {ages.iloc[row]!r} is neither a number of years nor a range; `ages` can explain it"
        ),
    )
    reasons.add(
        rows["gender"].isna().to_numpy(),
        lambda row: f"unknown gender: {genders.iloc[row]!r}; `genders` can explain it",
    )
    reasons.add(
        ~((age >= min_age) & (age <= max_age)), lambda row: str(age_reason(age[row], min_age, max_age))
    )


def _description(frame: pd.DataFrame, name: str, total: int) -> str:
    low, high = frame["age"].min(), frame["age"].max()
    return _DESCR.format(
        n=len(frame), total=total, name=name, low=low, high=high, groups=frame["group"].nunique()
    )
