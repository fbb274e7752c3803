"""One row per picture: its labels, the predictions, the suspicion of the labels, and the reason in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender.calibration import age_interval, calibrate
from agegender.inspection._inputs import LabelledFaces
from agegender.inspection._readings import Readings
from agegender.inspection._suspicion import AgeDoubt, GenderDoubt, doubt_ages, doubt_genders
from agegender.inspection._trained import TrainedReading
from agegender.metrics import expected_age

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Neighbours", "Noise", "label_table"]

WORTH_A_WORD = 0.1
"""Suspicion from which a reason is given in words."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The most similar pictures of other groups.

    Attributes
    ----------
    rows : ndarray of shape (n_pictures, n_neighbours), int
        The nearest first.
    known : ndarray of shape (n_pictures, n_neighbours), bool
        Whether the neighbour exists.
    """

    rows: NDArray[np.intp]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Noise:
    """The estimated share of wrong labels, and the adjustments of models' distributions for the estimate.

    Attributes
    ----------
    age_rate, gender_rate : float
        The share of age labels that belong to another picture, and of flipped genders.
    age_temperature, age_width, age_bell, gender_temperature : float
        Distributions were raised to the power 1 / temperature. The width is that of the normal distribution
        that ages were smoothed with, the bell that of a normal distribution around the mean age that makes up
        half of each distribution (standard deviations in years; None: no such part).
    age_share, gender_share : float
        The shares of a trained model's reading in what is said of ages and genders; 0 if there was none. If there
        are few pictures, its genders are a column of the models of the folds, and its share in them is None.
    """

    age_rate: float
    gender_rate: float
    age_temperature: float
    age_width: float
    age_bell: float | None
    gender_temperature: float
    age_share: float
    gender_share: float | None


def label_table(
    faces: LabelledFaces,
    readings: Readings,
    groups: NDArray[np.intp],
    photographs: Sequence[NDArray[np.intp]],
    neighbours: Neighbours,
    coverage: float,
    trained: TrainedReading | None = None,
) -> tuple[pd.DataFrame, Noise]:
    """Estimate a suspicion and a suggestion for each label.

    Parameters
    ----------
    faces : LabelledFaces
    readings : Readings
    groups : ndarray of shape (n_pictures,), int
        Pictures of one group were in the same fold.
    photographs : sequence of ndarray of int
        Rows that show the same photograph.
    neighbours : Neighbours
    coverage : float
        The coverage of the suggested ages' intervals.
    trained : TrainedReading, default=None
        What a trained model says, which has not seen the pictures.

    Returns
    -------
    labels : DataFrame
        One row per picture, in their order; see `FacesInspection`.
    noise : Noise
    """
    import pandas as pd

    read = np.flatnonzero(readings.n_readings > 0)
    place = np.full(len(faces), -1, dtype=np.intp)
    place[read] = np.arange(len(read))
    witnesses = [place[rows][place[rows] >= 0] for rows in photographs]
    witnesses = [rows for rows in witnesses if len(rows) > 1]
    ages, genders = faces.ages[read], faces.genders[read]
    age_said = None if trained is None else trained.age_proba[read]
    gender_said = None if trained is None or readings.told else trained.gender_proba[read]
    of_age = doubt_ages(readings.age_proba[read], ages, witnesses, age_said)
    of_gender = doubt_genders(readings.gender_proba[read], genders, witnesses, gender_said)
    low, high = _intervals(of_age, of_gender, ages, genders, coverage)
    columns = _columns(of_age, of_gender, genders, faces) | {"age_low": low, "age_high": high}
    table = pd.DataFrame(columns, index=read).reindex(range(len(faces)))
    table["rank"] = table["rank"].astype("Int64")
    heading = {
        "row": np.arange(len(faces)),
        "picture": faces.names,
        "age": faces.ages,
        "gender": np.array(faces.gender_names, dtype=object)[faces.genders],
        "group": groups,
        "fold": readings.fold,
        "n_readings": readings.n_readings,
        "read_age": readings.age_proba @ np.arange(readings.age_proba.shape[1]),
        f"read_{faces.gender_names[1]}": readings.gender_proba,
    }
    if trained is not None:
        heading["model_age"] = trained.age_proba @ np.arange(trained.age_proba.shape[1])
        heading[f"model_{faces.gender_names[1]}"] = trained.gender_proba
    labels = pd.DataFrame(heading).join(table)
    labels["neighbours"] = [
        row[there].tolist() for row, there in zip(neighbours.rows, neighbours.known, strict=True)
    ]
    labels["reason"] = _reasons(labels, readings, photographs)
    shape = of_age.shape
    noise = Noise(
        age_rate=of_age.rate,
        gender_rate=of_gender.rate,
        age_temperature=shape.temperature,
        age_width=shape.width,
        age_bell=shape.bell,
        gender_temperature=of_gender.temperature,
        age_share=of_age.share,
        gender_share=None if readings.told else of_gender.share,
    )
    return labels, noise


def _columns(
    of_age: AgeDoubt, of_gender: GenderDoubt, genders: NDArray[np.intp], faces: LabelledFaces
) -> dict[str, Any]:
    either = np.logaddexp(0, of_age.log_odds) + np.logaddexp(0, of_gender.log_odds)
    order = np.argsort(-either, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    second = of_gender.proba >= 0.5
    names = np.array(faces.gender_names, dtype=object)
    return {
        "rank": rank,
        "suspicion": -np.expm1(-either),
        "age_suspicion": of_age.suspicion,
        "gender_suspicion": of_gender.suspicion,
        "age_label_proba": of_age.label_proba,
        "gender_label_proba": np.where(genders == 1, of_gender.proba, 1 - of_gender.proba),
        "suggested_age": expected_age(of_age.proba),
        "suggested_gender": names[second.astype(int)],
        "suggested_gender_proba": np.where(second, of_gender.proba, 1 - of_gender.proba),
    }


def _intervals(
    of_age: AgeDoubt,
    of_gender: GenderDoubt,
    ages: NDArray[np.float64],
    genders: NDArray[np.intp],
    coverage: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the suggested ages' intervals, calibrated on the labels that are not suspicious."""
    trusted = np.flatnonzero(of_age.suspicion < 0.5)
    both = np.column_stack([1 - of_gender.proba, of_gender.proba])[trusted]
    calibration = calibrate(of_age.proba[trusted], both, ages[trusted], genders[trusted])
    return age_interval(of_age.proba, coverage, calibration)


def _reasons(labels: pd.DataFrame, readings: Readings, photographs: Sequence[NDArray[np.intp]]) -> list[str]:
    """Return the reason for each suspicion in words."""
    witnesses = {
        row: [other for other in rows.tolist() if other != row]
        for rows in photographs
        for row in rows.tolist()
    }
    ages, genders = labels["age"].tolist(), labels["gender"].tolist()
    reasons = []
    for record in labels.to_dict("records"):
        row, parts = record["row"], []
        if record["age_suspicion"] >= WORTH_A_WORD:
            parts.append(_of_age(record, readings.single[:, row], bool(witnesses.get(row))))
        if record["gender_suspicion"] >= WORTH_A_WORD:
            parts.append(
                f"labelled {record['gender']}, read as {record['suggested_gender']} "
                f"({100 * record['suggested_gender_proba']:.0f} %)"
            )
        others = witnesses.get(row, [])
        if {(ages[other], genders[other]) for other in others} - {(ages[row], genders[row])}:
            said = ", ".join(f"{ages[other]:g} {genders[other]}" for other in others[:4])
            parts.append(f"the same photograph is labelled {said} elsewhere")
        if parts and record["neighbours"]:
            parts.append(_of_neighbours(record, ages, genders))
        reasons.append("; ".join(part for part in parts if part))
    return reasons


def _of_age(record: dict[Any, Any], single: NDArray[np.float64], witnesses: bool) -> str:
    years = _years(record["age_low"], record["age_high"])
    if witnesses:
        return f"labelled {record['age']:g}, while models that saw no copy of it, and its copies, say {years}"
    text = f"labelled {record['age']:g}, read as {years}"
    told = single[np.isfinite(single)]
    if len(told) < 2:
        return f"{text} by a model that saw neither it nor its copies"
    agree = int(((told >= record["age_low"]) & (told <= record["age_high"])).sum())
    return f"{text} by {'all' if agree == len(told) else f'{agree} of'} {len(told)} models"


def _of_neighbours(record: dict[Any, Any], ages: list[float], genders: list[Any]) -> str:
    """Describe the labels of the nearest faces of other people."""
    near = record["neighbours"]
    if record["age_suspicion"] >= record["gender_suspicion"]:
        low, high = record["age_low"], record["age_high"]
        inside = sum(low <= ages[other] <= high for other in near)
        return f"{inside} of its {len(near)} nearest faces are labelled {_years(low, high)}"
    same = sum(genders[other] == record["suggested_gender"] for other in near)
    return f"{same} of its {len(near)} nearest faces are labelled {record['suggested_gender']}"


def _years(low: float, high: float) -> str:
    return f"{max(low, 0):.0f}–{high:.0f}"
