"""A report beside another one, usually that of the training set: both values and their difference."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agegender._utils.figures import share_interval
from agegender.reports._tables import FIGURES, SHARE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ALL", "beside_reference", "no_reference", "read_reference"]

ALL = "all pictures"
AGE_BANDS = "age band"
_ENDS = ("", "_low", "_high", "_n")
_COLUMNS = [
    *("grouping", "group", "figure", "n", "value", "low", "high"),
    *("reference_n", "reference", "reference_low", "reference_high"),
    *("difference", "difference_low", "difference_high", "clear"),
]


class Value(NamedTuple):
    """A metric with its confidence interval, and the number of pictures."""

    n: int
    value: float
    low: float
    high: float


NONE = Value(0, math.nan, math.nan, math.nan)


def no_reference() -> pd.DataFrame:
    """Return the table of a report without a reference."""
    import pandas as pd

    return pd.DataFrame(columns=_COLUMNS)


def read_reference(reference: Any) -> dict[str, Any]:
    """Return a report as `to_dict` returns it.

    Parameters
    ----------
    reference : EvaluationReport, dict, or path of a report.json or of its folder

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a report, or one of another version of the schema.
    """
    if isinstance(reference, str | os.PathLike):
        path = Path(reference).expanduser()
        path = path / "report.json" if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no report {str(path)!r}; `agegender evaluate … --out FOLDER` or report.save(folder) "
                "writes its report.json."
            )
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{str(path)!r} is not a report.json of agegender: {error}.") from error
    else:
        found = reference.to_dict() if hasattr(reference, "to_dict") else reference
    if not isinstance(found, Mapping) or not {"overall", "by_group", "coverage"} <= found.keys():
        raise ValueError(
            f"reference={reference!r} is not a report: it should be an EvaluationReport or the path of a "
            "report.json."
        )
    if found.get("schema_version") != 1:
        raise ValueError(
            f"The reference has schema_version {found.get('schema_version')!r}; this version of agegender reads 1."
        )
    return dict(found)


def beside_reference(report: Mapping[str, Any], reference: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per group and metric: both values, and their difference.

    Parameters
    ----------
    report, reference : dict
        Two reports as `to_dict` returns them, of different pictures.

    Returns
    -------
    DataFrame
        See the attribute `reference` of `agegender.reports.EvaluationReport`.

    Raises
    ------
    ValueError
        If the nominal coverages differ, or if the groups of a grouping have no label in common.
    """
    import pandas as pd

    if not math.isclose(report["coverage"], reference["coverage"]):
        raise ValueError(
            f"The intervals of this report are to cover {report['coverage']:g}, those of the reference "
            f"{reference['coverage']:g}: make both with the same coverage."
        )
    records = [
        _record(ALL, ALL, name, _value(report["overall"][name]), _value(reference["overall"][name]))
        for name in FIGURES
        if name in reference["overall"]
    ]
    for grouping, here, there in _common_groupings(report, reference):
        known = sum(row["n"] for row in here.values()), sum(row["n"] for row in there.values())
        for group in dict.fromkeys([*there, *here]):
            pair = here.get(group), there.get(group)
            shares = [_share(row, n) for row, n in zip(pair, known, strict=True)]
            records.append(_record(grouping, group, SHARE, *shares))
            for name in FIGURES:
                records.append(_record(grouping, group, name, *(_of_group(row, name) for row in pair)))
    return pd.DataFrame(records, columns=_COLUMNS).astype({"clear": bool})


def _common_groupings(
    report: Mapping[str, Any], reference: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield the single groupings of both reports, with the groups of each."""
    ours, theirs = _by_grouping(report), _by_grouping(reference)
    for grouping, here in ours.items():
        if " × " in grouping or not (there := theirs.get(grouping)):
            continue
        # Two sets may have no age band in common, but bands have the same names everywhere.
        if grouping != AGE_BANDS and not here.keys() & there.keys():
            raise ValueError(
                f"The groups of {grouping!r} are {', '.join(here)} in this report, and {', '.join(there)} in the "
                "reference. Give both the same labels; gender_names names the genders."
            )
        yield grouping, here, there


def _by_grouping(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in report["by_group"]:
        found.setdefault(row["grouping"], {})[row["group"]] = row
    return found


def _value(record: Mapping[str, Any]) -> Value:
    return Value(int(record["n"]), *(_number(record[end]) for end in ("value", "low", "high")))


def _of_group(row: Mapping[str, Any] | None, name: str) -> Value:
    if row is None:
        return NONE
    value, low, high, n = (row[f"{name}{end}"] for end in _ENDS)
    return Value(int(n), _number(value), _number(low), _number(high))


def _share(row: Mapping[str, Any] | None, known: int) -> Value:
    n = 0 if row is None else int(row["n"])
    return Value(n, n / known if known else math.nan, *share_interval(n, known))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _record(grouping: str, group: str, name: str, here: Value, there: Value) -> dict[str, Any]:
    difference = here.value - there.value
    # The interval of a difference from the intervals of both: Newcombe (1998), Zou and Donner (2008).
    low = difference - math.hypot(here.value - here.low, there.high - there.value)
    high = difference + math.hypot(here.high - here.value, there.value - there.low)
    values = (grouping, group, name, *here, *there, difference, low, high, bool(low > 0 or high < 0))
    return dict(zip(_COLUMNS, values, strict=True))
