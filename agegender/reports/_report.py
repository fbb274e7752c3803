"""The report: made from a model or from predictions, stored as tables, written as JSON, HTML or terminal text."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agegender._utils.files import write_whole
from agegender._utils.pictures import check_pictures
from agegender._utils.row_labels import check_row_order
from agegender._version import __version__
from agegender.calibration import (
    UNCALIBRATED,
    Calibration,
    check_coverage,
)
from agegender.exceptions import LeakageWarning
from agegender.metrics import target_column
from agegender.reports import _tables
from agegender.reports._beside import beside, predicted
from agegender.reports._fields import ReportTables
from agegender.reports._inputs import complete_frame, gender_labels, group_labels, years
from agegender.reports._reference import beside_reference, read_reference

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EvaluationReport", "evaluation_report"]

SCHEMA_VERSION = 1


def evaluation_report(
    model: Any,
    X: Any,
    y: Any,
    *,
    groups: Any = None,
    baselines: Mapping[str, Any] | None = None,
    reference: EvaluationReport | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    gender_names: Mapping[Any, str] | None = None,
    coverage: float = 0.9,
    n_worst: int = 24,
    n_resamples: int = 1000,
    random_state: int = 0,
    title: str = "Evaluation of age and gender predictions",
) -> EvaluationReport:
    """Evaluate a model on labelled pictures, by group.

    Parameters
    ----------
    model : AgeGenderPipeline, AgeGenderClassifier, a baseline, or another fitted estimator
        It must not have been trained on these pictures. It has ``predict_proba`` and ``classes_`` or, without a
        distribution, ``predict_frame``.
    X : sequence of pictures, or other input of the model
    y : array-like of shape (n_samples, 2), or DataFrame with the columns age and gender
        True ages in years and genders. Either may be missing (NaN, None); the row is then used for the other.
    groups : DataFrame, Series, dict of arrays or array-like of shape (n_samples,), default=None
        Group labels, for example a column of race labels. Gender, age band and all combinations of two
        groupings are always included. A missing label belongs to no group.
    baselines : dict of str to estimator, default=None
        Predictors that others trained (`agegender.baselines`), by the name that the report gives them: each is
        compared with the model picture by picture. They predict the genders 0 male and 1 female.
    reference : EvaluationReport, dict or path, default=None
        The report of another set, usually of the training set out of fold, or the path of its ``report.json``:
        see :meth:`EvaluationReport.beside`.
    gender_names : dict, default=None
        Names of the genders, such as ``{0: "male", 1: "female"}`` for the labels of the loaders.
    coverage : float, default=0.9
        Coverage of the age interval, from 0.01 to 0.99.
    n_worst : int, default=24
        Number of pictures with the largest age errors to show.
    n_resamples : int, default=1000
        Number of bootstrap resamples for the confidence intervals of mean errors. Shares have Wilson's intervals.
    random_state : int, default=0
        Seed of the bootstrap.
    title : str
        Title of the page.

    Returns
    -------
    EvaluationReport

    Raises
    ------
    ValueError
        If lengths differ, a grouping has more than 50 labels, nothing was predicted, or the reference does not fit.

    See Also
    --------
    agegender.reports.EvaluationReport : An evaluation, overall and by group.
    agegender.baselines : Predictors to compare with.

    Examples
    --------
    >>> import numpy as np
    >>> from agegender import AgeGenderClassifier
    >>> from agegender.reports import evaluation_report
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 2))
    >>> y = np.column_stack([np.clip(40 + 10 * X[:, 0], 0, 100), X[:, 1] > 0])
    >>> model = AgeGenderClassifier(epochs=20, learning_rate=0.03, random_state=0).fit(X[:300], y[:300])
    >>> report = evaluation_report(model, X[300:], y[300:])
    >>> report.overall.index.tolist()
    ['age_mae', 'age_bias', 'age_cs5', 'age_coverage', 'gender_accuracy']
    >>> report.save("report/")  # doctest: +SKIP
    """
    import pandas as pd

    check_coverage(coverage)
    reference = None if reference is None else read_reference(reference)
    check_row_order(X, y=y, **({"groups": groups} if hasattr(groups, "iloc") else {}))
    if hasattr(getattr(model, "best_estimator_", model), "seen_in_training"):
        X = check_pictures(X)
    seen = _seen_in_training(model, X)
    frame, age_proba, calibration = predicted(model, X, coverage)
    ages, genders = target_column(y, "age"), target_column(y, "gender")
    if len(ages) != len(frame):
        raise ValueError(f"X has {len(frame)} pictures and y {len(ages)} rows; the numbers should be equal.")
    truth = pd.DataFrame({"true_age": years(ages), "true_gender": genders})
    report = EvaluationReport.from_predictions(
        frame.assign(**truth),
        groups=groups,
        pictures=X,
        age_proba=age_proba,
        calibration=calibration,
        seen=seen,
        gender_names=gender_names,
        coverage=coverage,
        n_worst=n_worst,
        n_resamples=n_resamples,
        random_state=random_state,
        title=title,
    )
    if reference is not None:
        report = report.beside(reference)
    if not baselines:
        return report
    options = {"n_resamples": n_resamples, "seed": random_state}
    return replace(report, baselines=beside(report.predictions, baselines, X, truth, gender_names, **options))


@dataclass(frozen=True, eq=False)
class EvaluationReport(ReportTables):
    """An evaluation, overall and by group; made by `evaluation_report`.

    Every share and mean has a 95 % confidence interval (``…_low``, ``…_high``), which is NaN if there are too
    few pictures (fewer than ten for a mean).

    Attributes
    ----------
    title : str
    coverage : float
        Nominal coverage of ``age_low`` … ``age_high``.
    counts : dict of str to int
        ``pictures``, ``predicted`` (the others could not be read), and of these ``with_age`` and ``with_gender``:
        those with a true age or gender; ``trained_on``, those that the model was trained on, copies included.
    overall : DataFrame
        value, low, high and n of ``age_mae`` and ``age_bias`` (years; positive: predicted too old), ``age_cs5``
        (share within five years), ``age_coverage`` and ``gender_accuracy``.
    unseen : DataFrame
        The same metrics without the pictures that the model was trained on; empty if there are none.
    by_group : DataFrame
        The same metrics per group, with the columns ``grouping``, ``group`` and ``n`` first.
    gaps : DataFrame
        For each grouping and metric, the best and the worst group with at least 30 pictures; ``clear`` if their
        intervals do not overlap.
    cumulative_score : DataFrame
        CS@k for k = 0 … 20 years.
    genders : DataFrame
        Recall and precision of each gender.
    gender_calibration : DataFrame
        Predicted probability of the second gender, and its observed share, in ten bins.
    age_calibration : DataFrame
        Level, coverage and mean width (years) of intervals; empty if only predictions were given.
    age_positions : DataFrame
        How many true ages are in each tenth of their predicted distribution; empty if only predictions were given.
    worst : DataFrame
        The pictures with the largest age errors, with their row number in the predictions.
    baselines : DataFrame
        One row per baseline and figure: ``value`` is the baseline's and ``model`` the model's, on the ``n`` pictures
        that both predict; ``difference`` is the model's minus the baseline's, with its paired interval; ``clear``
        if that does not contain 0. Empty if there were no baselines.
    reference : DataFrame
        One row per group and figure, for all pictures and for each grouping that the reference has too:
        ``value`` is this report's and ``reference`` the other's, each with ``…n``, ``…low`` and ``…high``;
        ``difference`` is the first minus the second, with an interval that holds for different pictures;
        ``clear`` if that does not contain 0. The figure ``share`` is the group's share of the pictures. Empty if
        there is no reference.
    reference_title : str
        The title of the reference.
    predictions : DataFrame
        The predictions, one row per picture, with the groups as last columns.

    See Also
    --------
    agegender.reports.evaluation_report : Evaluate a model on labelled pictures.
    agegender.model_selection.cross_val_predict_frame : Out-of-fold predictions as a table.

    Examples
    --------
    >>> import pandas as pd
    >>> from agegender.reports import EvaluationReport
    >>> frame = pd.DataFrame(
    ...     {"true_age": [30, 41, 8], "age": [33, 40, 10], "true_gender": [0, 1, 1], "gender": [0, 0, 1]}
    ... )
    >>> report = EvaluationReport.from_predictions(frame)
    >>> float(report.overall.value["age_mae"])
    2.0
    """

    @classmethod
    def from_predictions(
        cls,
        frame: pd.DataFrame,
        *,
        groups: Any = None,
        pictures: Sequence[Any] | None = None,
        age_proba: ArrayLike | None = None,
        calibration: Calibration = UNCALIBRATED,
        seen: ArrayLike | None = None,
        gender_names: Mapping[Any, str] | None = None,
        coverage: float = 0.9,
        n_worst: int = 24,
        n_resamples: int = 1000,
        random_state: int = 0,
        title: str = "Evaluation of age and gender predictions",
    ) -> EvaluationReport:
        """Evaluate predictions, such as those of `cross_val_predict_frame`.

        Parameters
        ----------
        frame : DataFrame
            Columns true_age, true_gender, age, gender; age_low, age_high and gender_proba if they are known.
        groups : DataFrame, Series, dict of arrays or array-like of shape (n_samples,), default=None
            Group labels.
        pictures : sequence of pictures, default=None
            To name and show the worst.
        age_proba : array-like of shape (n_samples, n_ages), default=None
            Predicted distributions, for the coverage of intervals at every level.
        calibration : Calibration, default=UNCALIBRATED
            Calibration of these intervals.
        seen : array-like of shape (n_samples,), bool, default=None
            Which pictures the model was trained on; the metrics are computed without them too.
        gender_names : dict, default=None
            Names of the genders.
        coverage : float, default=0.9
            Nominal coverage of age_low and age_high.
        n_worst, n_resamples, random_state, title
            See `evaluation_report`.

        Returns
        -------
        EvaluationReport
        """
        predictions = complete_frame(frame, gender_names)
        labels = group_labels(groups, predictions)
        rows = _tables.row_figures(predictions)
        options = {"n_resamples": n_resamples, "seed": random_state}
        by_group = _tables.figures_by_group(rows, labels, **options)
        labels_of_gender = gender_labels(predictions)
        distributions = np.empty((len(frame), 1)) * np.nan if age_proba is None else np.asarray(age_proba)
        trained_on = np.zeros(len(frame), dtype=bool) if seen is None else np.asarray(seen, dtype=bool)
        truth = predictions["true_age"].to_numpy()
        furthest = np.argsort(-rows["absolute"].to_numpy(), kind="stable")[:n_worst]
        furthest = furthest[rows["absolute"].notna().to_numpy()[furthest]]
        return cls(
            title=title,
            coverage=coverage,
            counts=_counts(predictions, rows) | {"trained_on": int(trained_on.sum())},
            overall=_tables.overall_figures(rows, **options),
            unseen=_tables.overall_figures(rows[~trained_on], **options).iloc[
                : None if trained_on.any() else 0
            ],
            by_group=by_group,
            gaps=_tables.largest_gaps(by_group),
            cumulative_score=_tables.cumulative_scores(rows),
            genders=_tables.genders(predictions, labels_of_gender),
            gender_calibration=_tables.gender_bins(predictions, labels_of_gender),
            age_calibration=_tables.coverage_by_level(truth, distributions, calibration),
            age_positions=_tables.position_counts(truth, distributions),
            worst=_worst(predictions, rows, furthest, pictures),
            predictions=predictions.join(labels.add_prefix("group: ")),
            worst_pictures=() if pictures is None else _picked(pictures, furthest),
        )

    def beside(
        self, reference: EvaluationReport | Mapping[str, Any] | str | os.PathLike[str]
    ) -> EvaluationReport:
        """Return this report with another one beside it, such as that of the training set.

        Both values of every metric, and how the pictures are distributed over ages, genders and your groups, are
        compared: overall, and for each grouping that both have.

        Parameters
        ----------
        reference : EvaluationReport, dict or path
            A report of other pictures, what its `to_dict` returns, or the path of its ``report.json`` or folder. For
            the training set, make it from out-of-fold predictions
            (:func:`~agegender.model_selection.cross_val_predict_frame`): a model's predictions of its own training
            pictures are too good.

        Returns
        -------
        EvaluationReport

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a report, if its intervals have another nominal coverage, or if a grouping of both has no
            label in common.

        Notes
        -----
        The interval of a difference is computed from both confidence intervals [1]_; it holds if the two sets have no
        picture in common.

        References
        ----------
        .. [1] G. Y. Zou, A. Donner, Construction of confidence limits about effect measures, Statistics in Medicine
           27(10), 2008.

        Examples
        --------
        >>> import pandas as pd
        >>> from agegender.reports import EvaluationReport
        >>> young = pd.DataFrame({"true_age": [8, 9], "age": [9, 9], "true_gender": [0, 1], "gender": [0, 1]})
        >>> old = pd.DataFrame({"true_age": [61, 72], "age": [59, 66], "true_gender": [0, 1], "gender": [0, 0]})
        >>> compared = EvaluationReport.from_predictions(old).beside(EvaluationReport.from_predictions(young))
        >>> compared.reference.set_index(["group", "figure"]).difference["all pictures", "age_mae"]
        np.float64(3.5)
        """
        other = read_reference(reference)
        table = beside_reference(self.to_dict(), other)
        return replace(self, reference=table, reference_title=str(other.get("title", "")))

    def to_dict(self) -> dict[str, Any]:
        """Return everything except the single predictions as numbers, text, lists and dicts.

        Returns
        -------
        dict
            ``schema_version`` (1), ``agegender_version``, ``created``, and the attributes; a table is a list of
            records, and unknown values are None.
        """
        tables = {
            name: _records(getattr(self, name))
            for name in (
                *("by_group", "gaps", "cumulative_score", "genders", "gender_calibration"),
                *("age_calibration", "age_positions", "worst", "baselines", "reference"),
            )
        }
        overall = dict(zip(self.overall.index, _records(self.overall), strict=True))
        unseen = dict(zip(self.unseen.index, _records(self.unseen), strict=True))
        heading = {"schema_version": SCHEMA_VERSION, "agegender_version": __version__}
        return heading | {
            "created": self.created,
            "title": self.title,
            "coverage": self.coverage,
            "counts": self.counts,
            "overall": overall,
            "unseen": unseen,
            "reference_title": self.reference_title,
            **tables,
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)

    def to_html(self) -> str:
        """Return one HTML page that contains its plots and pictures and loads nothing.

        Needs ``pip install 'agegender[reports]'``.
        """
        from agegender.reports._page import render

        return render(self)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``report.html``, ``report.json`` and ``predictions.csv``, each completely or not at all.

        Parameters
        ----------
        folder : path
            It is created if it does not exist; files with these names are replaced.

        Returns
        -------
        Path
            The path of ``report.html``.
        """
        target = Path(folder).expanduser()
        page, data = self.to_html(), self.to_json()
        write_whole(target / "report.json", lambda path: path.write_text(data, encoding="utf-8"))
        write_whole(target / "predictions.csv", lambda path: self.predictions.to_csv(path, index=False))
        return write_whole(target / "report.html", lambda path: path.write_text(page, encoding="utf-8"))

    def __rich__(self) -> Any:
        from agegender.reports._terminal import overview

        return overview(self)


def _seen_in_training(model: Any, X: Any) -> NDArray[np.bool_] | None:
    """Return which pictures a model was trained on, with a warning if there are any; None if this is unknown."""
    fitted = getattr(model, "best_estimator_", model)
    if not hasattr(fitted, "seen_in_training"):
        return None
    seen: NDArray[np.bool_] = fitted.seen_in_training(X)
    if seen.any():
        warnings.warn(
            f"{np.count_nonzero(seen):,} of {len(seen):,} pictures are among those that this model was trained on, "
            "or copies of them: the report also contains the metrics without them, and only those are valid.",
            LeakageWarning,
            stacklevel=3,
        )
    return seen


def _counts(predictions: pd.DataFrame, rows: pd.DataFrame) -> dict[str, int]:
    return {
        "pictures": len(predictions),
        "predicted": int(predictions["age"].notna().sum()),
        "with_age": int(rows["error"].notna().sum()),
        "with_gender": int(rows["right"].notna().sum()),
    }


def _picked(pictures: Any, places: NDArray[np.int64]) -> list[Any]:
    return [pictures.iloc[i] if hasattr(pictures, "iloc") else pictures[i] for i in places.tolist()]


def _worst(
    predictions: pd.DataFrame, rows: pd.DataFrame, places: NDArray[np.int64], pictures: Any
) -> pd.DataFrame:
    worst = predictions.iloc[places].assign(error=rows["error"].iloc[places])
    named = [None] * len(places) if pictures is None else _picked(pictures, places)
    names = [_name(picture, row) for picture, row in zip(named, places.tolist(), strict=True)]
    worst.insert(0, "row", places)
    worst.insert(1, "picture", names)
    return worst.reset_index(drop=True)


def _name(picture: Any, row: int) -> str:
    from agegender.images import describe

    return describe(picture) if isinstance(picture, str | os.PathLike) else f"row {row}"


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=10))
    return records
