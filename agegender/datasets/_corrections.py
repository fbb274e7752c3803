"""Corrections of labels, as a person edited them: read from a table, applied by every loader."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agegender._utils.urls import public
from agegender._utils.validation import did_you_mean
from agegender.datasets._common import GENDER_WORDS
from agegender.exceptions import CorrectionsWarning

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ACTIONS", "Change", "Corrections", "CorrectionsSource"]

ACTIONS = ("keep", "relabel", "drop", "review")
"""What can be done about a picture: ``review`` waits for a person's word, and changes nothing meanwhile."""

CorrectionsSource: TypeAlias = "str | os.PathLike[str] | pd.DataFrame | None"
NEW_LABELS = ("new_age", "new_gender")
GENDER_CODES = GENDER_WORDS | {"0.0": 0, "1.0": 1}


@dataclass(frozen=True, eq=False)
class Change:
    """Labels after correction.

    Attributes
    ----------
    ages, genders : ndarray of shape (n_pictures,), float64
        NaN where there is no label.
    dropped : ndarray of shape (n_pictures,), dtype object
        The reason of a picture that is to be left out, else "".
    relabelled : ndarray of shape (n_pictures,), dtype object
        The reason of a picture that was given another label, else "".
    """

    ages: NDArray[np.float64]
    genders: NDArray[np.float64]
    dropped: NDArray[np.object_]
    relabelled: NDArray[np.object_]

    def corrected(
        self,
        paths: NDArray[np.object_],
        given_ages: NDArray[np.float64],
        given_genders: NDArray[np.float64],
        kept: NDArray[np.bool_],
    ) -> pd.DataFrame:
        """Return a row for each picture that is kept with another label than was given, sorted by path."""
        import pandas as pd

        rows = np.flatnonzero((self.relabelled != "") & kept)
        columns = {
            "path": paths[rows],
            "age": self.ages[rows],
            "gender": self.genders[rows].astype(np.int64),
            "given_age": given_ages[rows],
            "given_gender": given_genders[rows],
            "reason": self.relabelled[rows],
        }
        return pd.DataFrame(columns).sort_values("path", kind="stable", ignore_index=True)


class Corrections:
    """What is to be done about which picture, found by its path.

    Parameters
    ----------
    source : path, DataFrame or None
        A file of values separated by commas, semicolons or tabs, or a frame, with the columns ``path`` and
        ``action``, and where an action is "relabel" ``new_age`` or ``new_gender`` or both. None corrects nothing.
    owner : str
        The loader, for its messages.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing or an entry cannot be read.
    """

    def __init__(self, source: CorrectionsSource, owner: str) -> None:
        self._owner = owner
        self._name = "the corrections" if not isinstance(source, str | os.PathLike) else repr(str(source))
        table = self._read(source)
        self._check(table)
        acted = table[table["action"].isin(("relabel", "drop"))]
        acted = acted.assign(plain=[_plain(path) for path in acted["path"]])
        # A picture that stands in the data twice may be corrected twice, in the same way.
        self._table = acted.drop_duplicates(["plain", "action", *NEW_LABELS], ignore_index=True)
        self._check_repeats()
        self._rows = {path: row for row, path in enumerate(self._table["plain"])}
        # Paths that begin at the current folder and whole ones are the same.
        self._whole = {os.path.abspath(path): row for path, row in self._rows.items()}

    def apply(
        self,
        paths: NDArray[np.object_],
        names: NDArray[np.object_],
        ages: NDArray[np.float64],
        genders: NDArray[np.float64],
    ) -> Change:
        """Apply the corrections to labels.

        Parameters
        ----------
        paths, names : ndarray of shape (n_pictures,), dtype object
            Each picture's whole path, and its path as the data set has it; a correction may use either.
        ages, genders : ndarray of shape (n_pictures,)
            NaN where there is no label.

        Returns
        -------
        Change

        Raises
        ------
        ValueError
            If all corrections are for pictures that are not here.

        Warns
        -----
        CorrectionsWarning
            If some are.
        """
        ages, genders = ages.astype(np.float64), genders.astype(np.float64)
        dropped, relabelled = (np.full(len(paths), "", dtype=object) for _ in range(2))
        change = Change(ages, genders, dropped, relabelled)
        if not len(self._table):
            return change
        found = np.array([self._find(path, name) for path, name in zip(paths, names, strict=True)])
        self._check_found(found)
        for place in np.flatnonzero(found >= 0).tolist():
            row = self._table.iloc[found[place]]
            reason = row["reason"] or "no reason given"
            if row["action"] == "drop":
                dropped[place] = f"dropped by a correction: {reason}"
                continue
            relabelled[place] = reason
            ages[place] = ages[place] if np.isnan(row["new_age"]) else row["new_age"]
            genders[place] = genders[place] if np.isnan(row["new_gender"]) else row["new_gender"]
        return change

    def _find(self, path: str, name: str) -> int:
        # Dictionaries are asked three times at most for each picture: corrections may be many.
        if not path:
            return -1
        plain = _plain(path)
        by_name = self._rows.get(_plain(name), -1)
        return self._rows.get(plain, by_name if by_name >= 0 else self._whole.get(os.path.abspath(plain), -1))

    def _read(self, source: CorrectionsSource) -> pd.DataFrame:
        import pandas as pd

        if source is None:
            return pd.DataFrame({name: [] for name in ("path", "action", *NEW_LABELS, "reason")})
        if isinstance(source, pd.DataFrame):
            table = source.reset_index(drop=True)
        elif isinstance(source, str | os.PathLike):
            table = self._read_file(Path(source).expanduser())
        else:
            raise TypeError(
                f"{self._owner}: corrections is a {type(source).__name__}; pass the path of a table, or a frame such "
                "as that of FacesInspection.clean."
            )
        for name in ("path", "action"):
            if name not in table:
                names = list(map(str, table.columns))
                raise ValueError(
                    f"{self._owner}: {self._name} has no column {name!r} among {names}.{did_you_mean(name, names)} "
                    "FacesInspection.clean makes a table that has all of them."
                )
        table = table.assign(**{name: np.nan for name in NEW_LABELS if name not in table})
        reasons = table["reason"].fillna("").astype(str) if "reason" in table else ""
        return table.assign(reason=reasons, action=table["action"].fillna("keep"))

    def _read_file(self, file: Path) -> pd.DataFrame:
        import pandas as pd

        if not file.is_file():
            raise FileNotFoundError(
                f"{self._owner}: there are no corrections {str(file)!r} (looked for from {os.getcwd()!r})."
            )
        try:
            # Spreadsheets of many countries separate by semicolons.
            separator = max(",;\t", key=lambda mark: len(pd.read_csv(file, sep=mark, nrows=0).columns))
            return pd.read_csv(
                file, sep=separator, dtype={"path": str}, keep_default_na=False, na_values=[""]
            )
        except ValueError as error:
            raise ValueError(
                f"{self._owner}: {self._name} cannot be read as a table ({str(error).strip()}); save it as CSV in "
                'UTF-8, in a spreadsheet "CSV UTF-8".'
            ) from error

    def _check(self, table: pd.DataFrame) -> None:
        import pandas as pd

        table["action"] = [str(action).strip().casefold() for action in table["action"]]
        for row, action in enumerate(table["action"]):
            if action not in ACTIONS:
                raise ValueError(
                    f"{self._owner}: {self._at(table, row)}: the action {action!r} is not one of "
                    f"{', '.join(map(repr, ACTIONS))}.{did_you_mean(action, ACTIONS)}"
                )
        table["path"] = [os.fspath(path) if isinstance(path, os.PathLike) else path for path in table["path"]]
        table["new_age"] = self._numbers(table, "new_age", "a number of years from 0 on", _age)
        table["new_gender"] = self._numbers(
            table, "new_gender", "male, female, 0 (male) or 1 (female)", _gender
        )
        acted = table["action"].isin(("relabel", "drop"))
        nameless = table.index[acted & table["path"].map(lambda path: not isinstance(path, str))]
        if len(nameless):
            raise ValueError(
                f"{self._owner}: {self._name}, row {nameless[0]}: there is an action but no path."
            )
        empty = (table["action"] == "relabel") & pd.isna(table[list(NEW_LABELS)]).all(axis=1)
        if empty.any():
            raise ValueError(
                f"{self._owner}: {self._at(table, int(np.argmax(empty.to_numpy())))}: the action is 'relabel', but "
                "new_age and new_gender are both empty; fill one in, or make it 'drop' or 'keep'."
            )

    def _at(self, table: pd.DataFrame, row: int) -> str:
        return f"{self._name}, row {row} ({str(table['path'].iloc[row])!r})"

    def _numbers(self, table: pd.DataFrame, name: str, rule: str, read: Any) -> NDArray[np.float64]:
        found = np.full(len(table), np.nan)
        for row in np.flatnonzero(table[name].notna() & (table["action"] == "relabel")).tolist():
            entry = table[name].iloc[row]
            number = read(entry)
            if number is None:
                raise ValueError(
                    f"{self._owner}: {self._at(table, row)}: {name}={str(entry)!r} is not {rule}."
                )
            found[row] = number
        return found

    def _check_repeats(self) -> None:
        twice = self._table["path"][self._table["plain"].duplicated()]
        if len(twice):
            raise ValueError(
                f"{self._owner}: {self._name} has several different corrections of {twice.iloc[0]!r}; leave one of "
                "them."
            )

    def _check_found(self, found: NDArray[np.intp]) -> None:
        missing = np.setdiff1d(np.arange(len(self._table)), found)
        if not len(missing):
            return
        first = self._table["path"].iloc[missing[0]]
        if len(missing) == len(self._table):
            raise ValueError(
                f"{self._owner}: none of the {len(missing)} pictures that {self._name} corrects is here, the first "
                f"{first!r}; the paths should be whole, or begin at the data set's folder."
            )
        warnings.warn(
            f"{self._owner}: {len(missing)} of the {len(self._table)} pictures that {self._name} corrects are not "
            f"here, the first {first!r}; these corrections have no effect.",
            CorrectionsWarning,
            stacklevel=4,
        )


def _plain(path: str) -> str:
    """Return a path in one form, whichever system it was written on, and a URL as reports show it."""
    return os.path.normpath(public(path).replace("\\", "/"))


def _age(entry: Any) -> float | None:
    try:
        age = float(str(entry).replace(",", "."))
    except (TypeError, ValueError):
        return None
    return age if 0 <= age < np.inf else None


def _gender(entry: Any) -> int | None:
    return GENDER_CODES.get(str(entry).strip().casefold())
