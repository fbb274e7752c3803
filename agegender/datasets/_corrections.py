"""Corrections of labels, as a person edited them: read from a table, applied by every loader."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agegender._utils.validation import did_you_mean
from agegender.exceptions import CorrectionsWarning

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ACTIONS", "Change", "Corrections", "CorrectionsSource"]

ACTIONS = ("keep", "relabel", "drop", "review")
"""What can be done about a picture: ``review`` waits for a person's word, and changes nothing meanwhile."""

CorrectionsSource: TypeAlias = "str | os.PathLike[str] | pd.DataFrame | None"
NEW_LABELS = ("new_age", "new_gender")
GENDER_CODES = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "male": 0, "female": 1, "m": 0, "f": 1}


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
        A ``.csv`` or ``.tsv`` file, or a frame, with the columns ``path`` and ``action``, and where an action is
        "relabel" ``new_age`` or ``new_gender`` or both. None corrects nothing.
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
        self._table = table[table["action"].isin(("relabel", "drop"))].reset_index(drop=True)
        self._rows = {_plain(path): row for row, path in enumerate(self._table["path"])}
        self._check_repeats(table)

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
        # The dictionary is asked twice at most for each picture: corrections may be many.
        return self._rows.get(_plain(path), self._rows.get(_plain(name), -1)) if path else -1

    def _read(self, source: CorrectionsSource) -> pd.DataFrame:
        import pandas as pd

        if source is None:
            return pd.DataFrame({name: [] for name in ("path", "action", *NEW_LABELS, "reason")})
        if isinstance(source, pd.DataFrame):
            table = source.reset_index(drop=True)
        else:
            file = Path(source).expanduser()
            if not file.is_file():
                raise FileNotFoundError(
                    f"{self._owner}: there are no corrections {str(file)!r} (looked for from {os.getcwd()!r})."
                )
            separator = "\t" if ".tsv" in [suffix.lower() for suffix in file.suffixes] else ","
            table = pd.read_csv(
                file, sep=separator, dtype={"path": str}, keep_default_na=False, na_values=[""]
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

    def _check(self, table: pd.DataFrame) -> None:
        import pandas as pd

        table["action"] = [str(action).strip().casefold() for action in table["action"]]
        for row, action in enumerate(table["action"]):
            if action not in ACTIONS:
                raise ValueError(
                    f"{self._owner}: {self._name}, row {row}: the action {action!r} is not one of "
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
                f"{self._owner}: {self._name}, row {int(np.argmax(empty.to_numpy()))}: the action is 'relabel', but "
                "new_age and new_gender are both empty; fill one in, or make it 'drop' or 'keep'."
            )

    def _numbers(self, table: pd.DataFrame, name: str, rule: str, read: Any) -> NDArray[np.float64]:
        found = np.full(len(table), np.nan)
        for row in np.flatnonzero(table[name].notna() & (table["action"] == "relabel")).tolist():
            number = read(table[name].iloc[row])
            if number is None:
                raise ValueError(
                    f"{self._owner}: {self._name}, row {row}: {name}={table[name].iloc[row]!r} is not {rule}."
                )
            found[row] = number
        return found

    def _check_repeats(self, table: pd.DataFrame) -> None:
        if len(self._rows) < len(self._table):
            plain = self._table["path"].map(_plain)
            twice = self._table["path"][plain.duplicated()].iloc[0]
            raise ValueError(
                f"{self._owner}: {self._name} has several corrections of {twice!r}; leave one of them."
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
    """Return a path in one form, whichever system it was written on."""
    return os.path.normpath(path.replace("\\", "/"))


def _age(entry: Any) -> float | None:
    try:
        age = float(entry)
    except (TypeError, ValueError):
        return None
    return age if 0 <= age < np.inf else None


def _gender(entry: Any) -> int | None:
    return GENDER_CODES.get(str(entry).strip().casefold())
