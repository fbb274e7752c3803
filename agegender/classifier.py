"""The classifier: age and gender from embeddings."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from agegender._fitting import onnx_head
from agegender._fitting.fitted_head import FittedHead, check_fitted
from agegender._fitting.head_model import average
from agegender._fitting.holdout import BALANCES, is_sorted_by_age, lacks_ages
from agegender._machine.precision import single_precision
from agegender._safe.declaration import SafeState
from agegender._safe.declared import CLASSIFIER
from agegender._utils.callers import refuse_recoded_labels, splitter, warn_once
from agegender._utils.progress import progress_bar
from agegender._utils.row_labels import check_row_order
from agegender._utils.rows import blocks, find_missing, release, row_groups
from agegender._utils.target import check_target, gender_labels
from agegender._utils.validation import check_choice
from agegender._utils.versions import VersionedState
from agegender.calibration import (
    UNCALIBRATED,
    Calibration,
    calibrate,
    check_coverage,
    prediction_frame,
)
from agegender.exceptions import ModelFileError, PictureWarning, TrainingWarning
from agegender.heads import HEADS, Head, make_head
from agegender.losses import AGE_LOSSES
from agegender.metrics import age_mae
from agegender.training import SCHEDULES, Settings, TrainingData, split_samples, train

__all__ = ["AgeGenderClassifier"]

# Numeric parameters: integer or float, minimum and maximum.
RANGES: dict[str, tuple[Any, float, float]] = {
    "age_sigma": (Real, 0.1, 100),
    "expected_age_weight": (Real, 0, np.inf),
    "gender_weight": (Real, 0, np.inf),
    "max_age": (Integral, 1, 1000),
    "epochs": (Integral, 0, np.inf),
    "batch_size": (Integral, 1, np.inf),
    "learning_rate": (Real, 0, np.inf),
    "validation_fraction": (Real, 0, 0.9),
    "calibration_fraction": (Real, 0, 0.5),
    "patience": (Integral, 1, np.inf),
    "averaging": (Real, 0, 0.99999),
    "mixup": (Real, 0, 100),
    "rounds": (Integral, 1, np.inf),
    "ensemble": (Integral, 1, np.inf),
}
CHECKED_ROWS = 16
# With fewer pictures, calibration is worse than the raw distribution.
LEAST_CALIBRATED = 20
_SORTED = (
    "The ages given to fit come in order of age and are no random part of a collection. In a cross-validation "
    "with cv=5, which is an unshuffled KFold for such a target, each fold tests on ages that were never trained on, "
    "and its errors are far too large. Use cv=AgeGenderKFold(5) from agegender.model_selection."
)


class AgeGenderClassifier(VersionedState, BaseEstimator):
    """Predict age and gender from embeddings of a face network with a small Keras head.

    Age is predicted as a distribution over the years 0 … `max_age`, and the predicted age is its mean. Training
    stops when the age error on a validation part of the data has not fallen for `patience` epochs. Then the
    best weights are restored.

    Parameters
    ----------
    head : str or callable, default="dense"
        ``"dense"`` or ``"conv"`` for the two tuned heads, a `DenseHead`, `ConvHead` or `FineTuneHead`, or any
        callable ``(input_shape, n_ages, n_genders) -> keras.Model`` with two softmax outputs, ages first.
    age_loss : {"label_distribution", "categorical_crossentropy", "mean_variance", "ordinal"}, \
            default="label_distribution"
        See `agegender.losses`.
    age_sigma : float, default=2.0
        Width of the label distribution's Gaussian, in years; less close to 0 and `max_age`, so that its mean is
        the label.
    expected_age_weight : float, default=0.0
        Weight of an additional loss: the absolute error of the mean age, in years.
    gender_weight : float, default=1.0
        Weight of the cross-entropy of the gender, relative to the loss of the age.
    max_age : int, default=100
        The highest age, in years.
    epochs : int, default=200
        Maximum number of epochs per round.
    batch_size : int, default=256
        Rows per step.
    learning_rate : float, default=1e-3
        Initial learning rate of Adam.
    schedule : {"cosine", "plateau"} or None, default="plateau"
        Learning rate schedule. "cosine": half a cosine over all `epochs`. "plateau": a third of the rate after
        every `patience` / 2 epochs without a smaller validation error.
    validation_fraction : float, default=0.1
        Fraction of the rows that is used for early stopping, stratified by age and gender. Equal rows and rows
        of one group stay together. If 0, all epochs are trained.
    calibration_fraction : float, default=0.1
        Fraction of the rows in the calibration set, which is used neither for training nor for early stopping,
        and drawn in the same way. The intervals of the age and the probabilities of the gender are calibrated
        on it (see `agegender.calibration`). If 0, or if the set would have fewer than 20 rows, there is no
        calibration and raw probabilities are used.
    patience : int, default=10
        Epochs without a smaller validation error before training stops.
    averaging : float, default=0.0
        Decay of the exponential moving average of the weights over steps, such as 0.999: validation, the best
        weights and the trained head are those of the average. In the first steps of a round it is lower. If 0, the
        weights are not averaged.
    mixup : float, default=0.0
        If above 0, each step is made on mixtures of two rows of neighbouring ages: of each row with the next older
        one in its step, and of their labels, in a proportion drawn from a beta distribution with both parameters
        equal to `mixup`, such as 0.2.
    rounds : int, default=1
        Number of trainings. Each one after the first starts from the current weights, with a new validation part.
    ensemble : int, default=1
        Number of heads that are trained with different seeds and validation parts; their probabilities are
        averaged.
    balance : {"age", "age-drop"} or None, default=None
        Balance the ages of the training part, by weights or by dropping rows of the most frequent ages. The
        validation part keeps its distribution.
    n_views : int, default=None
        Number of views of each picture, the length of X's second axis; a pipeline sets it. If None, one more axis
        than the head's rows have (1 for a dense head, 3 for a convolutional one) is that of views; a callable that
        does not say its `input_rank` is given rows as they are.
    standardize : bool, default=True
        Whether the first layer of the head standardises each feature (each channel of a map) to mean 0 and
        standard deviation 1, as measured on the training part. Rows of uint8 (pixels), and rows for a head with
        ``standardizes = False``, are not standardised.
    checkpoint : path, default=None
        A folder in which the state of the training is written after each epoch. If `fit` is interrupted, the next
        `fit` with the same data, parameters and `random_state` goes on from the last epoch, and gives the same model
        as without the interruption, bit for bit. A training that was finished is not repeated. Each fold of a
        cross-validation and each candidate of a search has a file of its own. It needs a `random_state`.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, dropout, the validation part and the order of rows. The same data, parameters
        and integer seed give the same weights, bit for bit.
    verbose : int, default=0
        If 1, show a progress bar.

    Attributes
    ----------
    classes_ : list of two ndarrays, of shape (max_age + 1,) and (2,)
        The ages in years and the sorted gender labels, in the order of the columns of `predict_proba`.
    history_ : list of dict
        One record per epoch: member, round, epoch (from 1), loss, val_age_mae (years), val_gender_accuracy,
        learning_rate, seconds.
    calibration_ : Calibration
        The result of the calibration, see `agegender.calibration`.
    n_epochs_ : int
        Epochs trained, over all rounds and members.
    n_features_in_ : int
        Width of a row, if rows are vectors.
    feature_names_in_ : ndarray of shape (n_features,)
        The column names of X, if it was a frame with strings as column names.

    See Also
    --------
    AgeGenderPipeline : From pictures to predictions.

    References
    ----------
    B.-B. Gao et al., Deep Label Distribution Learning with Label Ambiguity, IEEE TIP 26(6), 2017.

    H. Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> ages, genders = rng.integers(20, 60, size=200), rng.integers(2, size=200)
    >>> X = np.column_stack([ages / 10, genders, rng.normal(size=200)])
    >>> y = np.column_stack([ages, genders])
    >>> model = AgeGenderClassifier(epochs=20, learning_rate=0.01, random_state=0).fit(X, y)
    >>> model.predict(X[:5]).shape
    (5, 2)
    """

    _safe: ClassVar[SafeState] = CLASSIFIER

    def __init__(
        self,
        head: Any = "dense",
        *,
        age_loss: str = "label_distribution",
        age_sigma: float = 2.0,
        expected_age_weight: float = 0.0,
        gender_weight: float = 1.0,
        max_age: int = 100,
        epochs: int = 200,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        schedule: str | None = "plateau",
        validation_fraction: float = 0.1,
        calibration_fraction: float = 0.1,
        patience: int = 10,
        averaging: float = 0.0,
        mixup: float = 0.0,
        rounds: int = 1,
        ensemble: int = 1,
        balance: str | None = None,
        n_views: int | None = None,
        standardize: bool = True,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.head = head
        self.age_loss = age_loss
        self.age_sigma = age_sigma
        self.expected_age_weight = expected_age_weight
        self.gender_weight = gender_weight
        self.max_age = max_age
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.validation_fraction = validation_fraction
        self.calibration_fraction = calibration_fraction
        self.patience = patience
        self.averaging = averaging
        self.mixup = mixup
        self.rounds = rounds
        self.ensemble = ensemble
        self.balance = balance
        self.n_views = n_views
        self.standardize = standardize
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.verbose = verbose

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; those of the head as ``head__…``, even if the head was given by name.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the parameters of the head.
        """
        params: dict[str, Any] = super().get_params(deep)
        if deep and isinstance(self.head, str) and self.head in HEADS:
            params |= {f"head__{name}": value for name, value in make_head(self.head).get_params().items()}
        return params

    def set_params(self, **params: Any) -> AgeGenderClassifier:
        """Set parameters; setting ``head__…`` replaces a head's name by a new head.

        Parameters
        ----------
        **params
            Names and values.
        """
        head = params.get("head", self.head)
        if isinstance(head, str) and any(name.startswith("head__") for name in params):
            params["head"] = make_head(head)
        return super().set_params(**params)

    def fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> AgeGenderClassifier:
        """Train the head.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, channels)
            Embeddings, in memory or as a memory map. With an additional second axis, several views per picture:
            each step uses a random view.
        y : array-like of shape (n_samples, 2) or DataFrame with columns ``age`` and ``gender``
            Age in years, 0 … `max_age`, and one of two genders; labels can be strings only in a frame.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows.
        groups : array-like of shape (n_samples,), default=None
            Rows of one group (for example a person) stay together in the inner validation split. Equal rows
            always do.

        Returns
        -------
        AgeGenderClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y, `sample_weight` or `groups` is not as described.
        CheckpointError
            If the folder `checkpoint` has the state of another training that was interrupted; the message says what
            differs.
        """
        self._fit_whole(X, y, sample_weight, groups)
        return self

    def _fit_whole(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Train the head; return the rows of the calibration set."""
        # A copy is fitted and its state is then copied back, so that an interrupted fit does not change the
        # estimator.
        fitted = copy.copy(self)
        aside = fitted._fit(X, y, sample_weight, groups)
        self.__dict__ = fitted.__dict__
        return aside

    def _fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, groups: ArrayLike | None
    ) -> NDArray[np.int64]:
        settings = self._settings()
        head = make_head(self.head)
        check_row_order(X, y=y, sample_weight=sample_weight, groups=groups)
        X = self._check_X(X, reset=True)
        has_views = self._has_views(X, head)
        if X.dtype == np.uint8 or not head.standardizes:
            settings = replace(settings, standardize=False)
        self._row_shape = X.shape[2:] if has_views else X.shape[1:]
        data = self._training_data(X, y, sample_weight, groups, n_views=X.shape[1] if has_views else 1)
        self._warn_of(data)
        *seeds, last = check_random_state(self.random_state).randint(2**31 - 1, size=self.ensemble + 1)
        kept, aside = self._set_aside(data, int(last))
        data = replace(data, samples=kept)
        self.history_: list[dict[str, Any]] = []
        with self._recorder() as record, single_precision():
            members = [
                train(head, data, settings, int(seed), partial(record, member), self.checkpoint)
                for member, seed in enumerate(seeds, start=1)
            ]
            self.n_epochs_ = len(self.history_)
            self._keep(average(members), data)
        self.calibration_ = self._calibrate(X, data, aside)
        return aside

    def _keep(self, model: Any, data: TrainingData) -> None:
        """Keep a trained head in both of its forms."""
        sample = data.rows[data.samples[:CHECKED_ROWS] * data.n_views].astype(np.float32)
        self._keras = onnx_head.to_keras_bytes(model)
        self._onnx = onnx_head.to_onnx(model, sample)

    def _warn_of(self, data: TrainingData) -> None:
        """Say what in the rows themselves keeps them from being trained or tested as they should be."""
        if _is_fold_of_neighbours(data.ages[data.samples]):
            warn_once(_SORTED, TrainingWarning)
        asked = {"early stopping": self.validation_fraction, "calibration": self.calibration_fraction}
        off = " and ".join(name for name, fraction in asked.items() if fraction)
        n_rows = len(data.samples)
        if off and n_rows > 1 and len(np.unique(data.groups[data.samples])) == 1:
            verb = "are" if " and " in off else "is"
            warnings.warn(
                f"All {n_rows} rows are one group (equal groups, or equal rows), and a group is never divided: "
                f"nothing can be held out, so {off} {verb} off, and all {self.epochs} epochs are trained. "
                "Pass groups that tell persons apart, or no groups; validation_fraction=0 and "
                "calibration_fraction=0 say that this is meant.",
                TrainingWarning,
                stacklevel=4,
            )

    def _has_views(self, X: NDArray[Any], head: Head) -> bool:
        """Tell whether the axis after the first is that of views: by `n_views`, else by the head's rank."""
        if self.n_views is None:
            return X.ndim - 2 == head.input_rank
        if X.ndim < 3 or X.shape[1] != self.n_views:
            raise ValueError(
                f"AgeGenderClassifier: n_views={self.n_views!r}, but X has the shape {X.shape}; (n_samples, n_views, "
                "...) is expected. n_views=None takes X as the head reads it."
            )
        return True

    def _set_aside(self, data: TrainingData, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the pictures for training and early stopping, and those for calibration."""
        if self.calibration_fraction * len(data.samples) < LEAST_CALIBRATED:
            return data.samples, data.samples[:0]
        return split_samples(data, self.calibration_fraction, np.random.default_rng(seed))

    def _calibrate(self, X: NDArray[Any], data: TrainingData, aside: NDArray[np.int64]) -> Calibration:
        parts = []
        for part in blocks(len(aside), X.shape[1:]):
            parts.append(self._head(UNCALIBRATED).raw_distributions(X[aside[part]]))
            release(X)
        if not parts:
            return UNCALIBRATED
        ages, genders = (np.concatenate(output) for output in zip(*parts, strict=True))
        return calibrate(ages, genders, data.ages[aside], data.genders[aside])

    def _settings(self) -> Settings:
        """Check the parameters and return the training settings."""
        for name, (kind, low, high) in RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
                wanted = "an integer" if kind is Integral else "a number"
                limits = f"from {low:g} to {high:g}" if np.isfinite(high) else f"of at least {low:g}"
                raise ValueError(f"AgeGenderClassifier: {name}={value!r} should be {wanted} {limits}.")
        check_choice("age_loss", self.age_loss, AGE_LOSSES, "AgeGenderClassifier")
        check_choice("schedule", self.schedule, SCHEDULES, "AgeGenderClassifier")
        check_choice("balance", self.balance, [*BALANCES, None], "AgeGenderClassifier")
        if self.checkpoint is not None and self.random_state is None:
            raise ValueError(
                f"AgeGenderClassifier: checkpoint={self.checkpoint!r} needs a random_state, such as random_state=0: "
                "with None, each fit draws other random numbers and cannot continue an earlier one."
            )
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    def _check_X(self, X: Any, *, reset: bool) -> NDArray[Any]:
        kept_types = [np.float32, np.float16, np.uint8, np.float64]
        checked = check_array(
            X, dtype=kept_types, allow_nd=True, ensure_all_finite=False, estimator=self, input_name="X"
        )
        if checked.ndim == 2:
            validate_data(self, X, reset=reset, skip_check_array=True)
        elif reset:
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
        return checked

    def _training_data(
        self, X: NDArray[Any], y: Any, sample_weight: ArrayLike | None, groups: ArrayLike | None, n_views: int
    ) -> TrainingData:
        ages, genders = check_target(y, max_age=self.max_age)
        if len(ages) != len(X):
            raise ValueError(f"X has {len(X)} rows and y has {len(ages)}: inconsistent numbers of samples.")
        weights = _check_weights(sample_weight, len(X))
        samples = _present_rows(X, weights)
        self.classes_ = [np.arange(self.max_age + 1), gender_labels(genders[samples])]
        return TrainingData(
            rows=X.reshape(-1, *self._row_shape),
            n_views=n_views,
            ages=ages.astype(np.float32),
            genders=(genders == self.classes_[1][1]).astype(np.int32),
            weights=(weights / weights[samples].mean()).astype(np.float32),
            groups=row_groups(X, groups),
            samples=samples,
        )

    @contextmanager
    def _recorder(self) -> Iterator[Callable[[int, dict[str, Any]], None]]:
        """Collect the record of every epoch; show it if verbose=1."""
        total = self.ensemble * self.rounds * self.epochs
        with progress_bar(total, "training", self.verbose, unit="epoch") as bar:

            def record(member: int, epoch: dict[str, Any]) -> None:
                self.history_.append({"member": member} | epoch)
                bar.set_postfix_str(f"age MAE {epoch['val_age_mae']:.2f}", refresh=False)
                bar.update()

            yield record

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict age and gender.

        Parameters
        ----------
        X : array-like of the shape given to `fit`, with or without several views of each picture

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Mean age in years and the more probable gender: float64, or objects if labels are strings. Both are
            NaN for a row that contains NaN.
        """
        return self.fitted_head().read_off(self._checked_rows(X))

    def predict_proba(self, X: Any) -> list[NDArray[np.float32]]:
        """Predict the distributions of age and gender; for several views, their mean.

        Parameters
        ----------
        X : array-like of the shape given to `fit`, with or without several views of each picture

        Returns
        -------
        list of two ndarrays of shape (n_samples, max_age + 1) and (n_samples, 2)
            Probabilities of the ages 0, 1, …, and of the genders, as in ``classes_``; NaN for a row that
            contains NaN.

        Raises
        ------
        ValueError
            If called by scikit-learn's ``cross_val_predict``, which numbers the ages that occur before it trains.
        """
        refuse_recoded_labels()
        return self._distributions(X)

    def _distributions(self, X: Any) -> list[NDArray[np.float32]]:
        return self.fitted_head().distributions(self._checked_rows(X))

    def fitted_head(self) -> FittedHead:
        """Return the trained head as one frozen value, which does not change if this estimator is fitted again.

        Returns
        -------
        agegender._fitting.fitted_head.FittedHead
        """
        check_is_fitted(self)
        return FittedHead.of(vars(self))

    def _head(self, calibration: Calibration) -> FittedHead:
        return FittedHead.of(vars(self) | {"calibration_": calibration})

    def _checked_rows(self, X: Any) -> NDArray[Any]:
        """Return X as an array of rows that the head reads."""
        check_is_fitted(self)
        X = self._check_X(X, reset=False)
        self.fitted_head().has_views(X.shape)
        return X

    def predict_frame(
        self,
        X: Any,
        *,
        coverage: float = 0.9,
        max_age_range: float | None = None,
        min_gender_proba: float | None = None,
        distribution: bool = False,
    ) -> Any:
        """Predict age and gender with their uncertainty.

        Parameters
        ----------
        X : array-like of the shape given to `fit`, with or without several views of each picture
        coverage : float, default=0.9
            The fraction of pictures whose true age should lie between age_low and age_high, from 0.01 to 0.99.
            It holds on average for pictures like those passed to `fit`, but not for every age or group.
        max_age_range : float, default=None
            The largest width of the interval, in years, for which an age is given.
        min_gender_proba : float, default=None
            The smallest probability, from 0.5 to 1, for which a gender is given.
        distribution : bool, default=False
            Whether to add the column age_proba: for each row the probabilities of the ages 0, 1, … as an array, the
            first of what :meth:`predict_proba` returns.

        Returns
        -------
        DataFrame
            One row per picture, with the columns age (years), age_low and age_high (the interval, years),
            gender (label) and gender_proba (the probability of that gender). With a limit, age_sure or
            gender_sure says whether the row is within the limit; if not, age or gender is NaN.

        Examples
        --------
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(400, 2))
        >>> y = np.column_stack([np.clip(40 + 10 * X[:, 0], 0, 100), X[:, 1] > 0])
        >>> model = AgeGenderClassifier(epochs=20, learning_rate=0.03, random_state=0).fit(X, y)
        >>> frame = model.predict_frame(X, coverage=0.8, min_gender_proba=0.9)
        >>> frame.gender[~frame.gender_sure].isna().all()
        np.True_
        """
        check_coverage(coverage)
        ages, genders = self._distributions(X)
        frame = prediction_frame(
            ages,
            genders,
            self.classes_[1],
            calibration=self.calibration_,
            coverage=coverage,
            max_age_range=max_age_range,
            min_gender_proba=min_gender_proba,
        )
        if distribution:
            frame["age_proba"] = list(ages)
        return frame.set_axis(X.index) if hasattr(X, "iloc") else frame

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return the negative mean absolute error of the age, in years; higher is better.

        Parameters
        ----------
        X : array-like of the shape given to `fit`
        y : array-like of shape (n_samples, 2) or DataFrame with columns ``age`` and ``gender``
        sample_weight : array-like of shape (n_samples,), default=None
        """
        check_row_order(X, y=y, sample_weight=sample_weight)
        return -age_mae(y, self.predict(X), sample_weight=sample_weight)

    @property
    def keras_model_(self) -> Any:
        """The trained head as a Keras model, from rows (not standardised) to raw probabilities (not calibrated)."""
        check_is_fitted(self)
        if self._keras is None:
            raise ModelFileError(
                "This model was saved by save_model, which cannot save the Keras form of a head with custom layers. "
                "It can still predict; for its Keras form, fit it again, or load a file of joblib.dump."
            )
        return onnx_head.from_keras_bytes(self._keras)

    def _check_safe(self) -> None:
        """Check the content of a safe file."""
        if self.checkpoint is not None:
            raise ModelFileError("it names a folder for checkpoints")
        check_fitted(vars(self))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.input_tags.allow_nan = True
        return tags


def _is_fold_of_neighbours(ages: NDArray[np.floating]) -> bool:
    """Tell whether rows are what an unshuffled KFold leaves of data in order of age."""
    from sklearn.model_selection import KFold

    if not is_sorted_by_age(ages):
        return False
    known = splitter()
    if known is None:  # a loop of the user's own, or a worker process
        return lacks_ages(ages)
    return type(known) is KFold and not known.shuffle


def _check_weights(sample_weight: ArrayLike | None, n_rows: int) -> NDArray[np.float64]:
    if sample_weight is None:
        return np.ones(n_rows)
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight has shape {weights.shape}; it should be ({n_rows},), one number per row of X."
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("sample_weight should be finite and not negative.")
    return weights


def _present_rows(X: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the rows for training: those without NaN and with a weight above zero."""
    missing = find_missing(X)
    if missing.any():
        warnings.warn(
            f"{np.count_nonzero(missing)} of {len(X)} rows of X contain NaN (pictures that could not be read?) and "
            "are not used for training.",
            PictureWarning,
            stacklevel=5,
        )
    rows = np.flatnonzero(~missing & (weights > 0))
    if not len(rows):
        raise ValueError(
            f"None of the {len(X)} rows of X can be used for training: all contain NaN or have a weight of zero."
        )
    return rows
