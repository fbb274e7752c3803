"""Out-of-fold predictions as one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples

from agegender._utils.pictures import table_index
from agegender._utils.row_labels import check_row_order
from agegender._utils.target import check_target
from agegender.model_selection._splits import AgeGenderKFold

if TYPE_CHECKING:
    import pandas as pd


def cross_val_predict_frame(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    groups: ArrayLike | None = None,
    cv: Any = None,
    params: Mapping[str, Any] | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Return out-of-fold predictions of all pictures as one table.

    scikit-learn's ``cross_val_predict`` works for ``predict`` only; this function returns all columns of
    ``predict_frame``.

    Parameters
    ----------
    estimator : AgeGenderPipeline, AgeGenderClassifier, scikit-learn Pipeline or search that ends in one
        It is cloned for each fold and not changed. If it has no ``predict_frame``, the table has the columns
        age and gender only.
    X : sequence of pictures, or other input of the estimator
        The data.
    y : array-like of shape (n_samples, 2), or DataFrame with the columns age and gender
        Age in years and gender.
    groups : array-like of shape (n_samples,), default=None
        Pictures that stay together in each split, such as copies or persons.
    cv : int, splitter, iterable of (train, test) or None, default=None
        If None, ``AgeGenderKFold(5)``; an integer k means ``AgeGenderKFold(k)``. Every picture must be in
        exactly one test fold.
    params : dict, default=None
        Further arguments of ``fit``, such as ``sample_weight``; values with one row per picture are split too.
        If scikit-learn's metadata routing is enabled, they and `groups` are routed as requested.
    n_jobs : int or None, default=None
        Number of folds that are fitted at the same time, as in scikit-learn.
    verbose : int, default=0
        Verbosity of joblib.

    Returns
    -------
    frame : DataFrame
        One row per picture in the order of `X`: the columns of ``predict_frame``, then ``fold``, ``true_age``
        (years) and ``true_gender``. If X is a Series or frame, under its index.

    Raises
    ------
    ValueError
        If a picture is in no test fold or in several.

    See Also
    --------
    agegender.model_selection.AgeGenderKFold : Stratified folds that keep groups together.
    agegender.reports.EvaluationReport : An evaluation, overall and by group.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyRegressor
    >>> from agegender.model_selection import cross_val_predict_frame
    >>> y = np.array([[20, 0], [30, 1], [20, 0], [30, 1]])
    >>> cross_val_predict_frame(DummyRegressor(), np.zeros((4, 1)), y, cv=2)
        age  gender  fold  true_age  true_gender
    0  25.0     0.5     1      20.0            0
    1  25.0     0.5     1      30.0            1
    2  25.0     0.5     0      20.0            0
    3  25.0     0.5     0      30.0            1
    """
    import pandas as pd

    check_row_order(X, y=y, groups=groups, **(params or {}))
    ages, genders = check_target(y, max_age=np.iinfo(np.int64).max)
    cv = splitter_of(cv)
    split_params, fit_params = route(estimator, cv, groups, dict(params or {}), "cross_val_predict_frame")
    rows = np.arange(len(ages))
    folds = [(rows[train], rows[test]) for train, test in cv.split(X, y, **split_params)]
    check_partition(np.concatenate([test for _, test in folds]), len(ages), "cross_val_predict_frame")
    frames = Parallel(n_jobs=n_jobs, verbose=verbose)(
        delayed(_fit_and_predict)(clone(estimator), X, y, train, test, fold, fit_params)
        for fold, (train, test) in enumerate(folds)
    )
    frame = pd.concat(frames).sort_index()
    # A target array contains floats, but the labels of predict_frame are integers.
    whole = genders.dtype.kind == "f" and np.equal(np.mod(genders, 1), 0).all()
    frame = frame.assign(true_age=ages, true_gender=genders.astype(np.int64) if whole else genders)
    index = table_index(X)
    return frame if index is None else frame.set_axis(index)


def splitter_of(cv: Any) -> BaseCrossValidator:
    # scikit-learn would make an integer an unshuffled KFold.
    if cv is None or (isinstance(cv, int | np.integer) and not isinstance(cv, bool)):
        return AgeGenderKFold(5 if cv is None else int(cv))
    return check_cv(cv)


def route(
    estimator: Any, cv: Any, groups: ArrayLike | None, params: dict[str, Any], owner: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of ``split`` and of ``fit``."""
    if not sklearn.get_config()["enable_metadata_routing"]:
        return {"groups": groups}, params
    router = (
        MetadataRouter(owner=owner)
        .add(estimator=estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit"))
        .add(splitter=cv, method_mapping=MethodMapping().add(caller="fit", callee="split"))
    )
    if groups is not None:
        params["groups"] = groups
    routed = process_routing(router, "fit", **params)
    return dict(routed.splitter.split), dict(routed.estimator.fit)


def check_partition(tested: NDArray[np.intp], n_samples: int, owner: str) -> None:
    times = np.bincount(tested, minlength=n_samples)
    if (times != 1).any():
        row = int(np.argmax(times != 1))
        raise ValueError(
            f"{owner}: row {row} is in {times[row]} test folds; every row should be in exactly one, "
            "as in AgeGenderKFold."
        )


def _fit_and_predict(
    estimator: Any,
    X: Any,
    y: Any,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    fold: int,
    fit_params: dict[str, Any],
) -> pd.DataFrame:
    of_train = {name: rows_of(value, train, _num_samples(y)) for name, value in fit_params.items()}
    estimator.fit(_safe_indexing(X, train), _safe_indexing(y, train), **of_train)
    frame = _predict_frame(estimator, _safe_indexing(X, test))
    frame.index = test
    return frame.assign(fold=fold)


def rows_of(value: Any, rows: NDArray[np.intp], n_samples: int) -> Any:
    """Take the rows of a parameter that has one row per sample; return other parameters unchanged."""
    per_sample = (
        hasattr(value, "__len__") and not isinstance(value, str | bytes | dict) and len(value) == n_samples
    )
    return _safe_indexing(value, rows) if per_sample else value


def _predict_frame(estimator: Any, X: Any) -> pd.DataFrame:
    import pandas as pd

    if hasattr(estimator, "predict_frame"):
        return estimator.predict_frame(X)
    if hasattr(estimator, "best_estimator_"):
        return _predict_frame(estimator.best_estimator_, X)
    if isinstance(estimator, Pipeline) and hasattr(estimator[-1], "predict_frame"):
        return estimator[-1].predict_frame(estimator[:-1].transform(X) if len(estimator) > 1 else X)
    return pd.DataFrame(np.asarray(estimator.predict(X)), columns=["age", "gender"])
