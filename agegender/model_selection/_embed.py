"""Rows of fine-tuned networks for pictures that each of them was not trained on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from agegender._extraction.contents import digests_of
from agegender._utils.pictures import check_pictures
from agegender._utils.progress import progress_bar
from agegender._utils.row_labels import check_row_order
from agegender._utils.target import check_target
from agegender._utils.versions import versions
from agegender.backbones import Backbone
from agegender.model_selection._predict import check_partition, route, rows_of, splitter_of


class CrossValidatedRows(NamedTuple):
    """The result of `cross_val_embed`.

    Attributes
    ----------
    rows : ndarray of shape (n_samples, n_features)
        A row per picture, from the network that was not trained on it. With several views, there is an additional
        second axis.
    folds : ndarray of shape (n_samples,)
        The number of the network of each row.
    backbones : tuple of Backbone
        The network of each fold.

    See Also
    --------
    cross_val_embed : What makes it.
    """

    rows: NDArray[Any]
    folds: NDArray[np.intp]
    backbones: tuple[Backbone, ...]


def cross_val_embed(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    groups: ArrayLike | None = None,
    cv: Any = None,
    params: Mapping[str, Any] | None = None,
    folder: str | os.PathLike[str] | None = None,
    verbose: int = 0,
) -> CrossValidatedRows:
    """Return out-of-fold rows: each picture is embedded by a network that was fine-tuned without it.

    A network that was fine-tuned on pictures must not embed the same pictures for another training, because its rows
    of them tell their ages better than those of new pictures. This function fine-tunes one network per fold.

    Parameters
    ----------
    estimator : AgeGenderPipeline
        With a FineTuneHead. It is cloned for each fold and not changed.
    X : sequence of pictures
        The data.
    y : array-like of shape (n_samples, 2), or DataFrame with the columns age and gender
        Age in years and gender.
    groups : array-like of shape (n_samples,), default=None
        Pictures that stay together in each split, such as copies or persons.
    cv : int, splitter, iterable of (train, test) or None, default=None
        As in `cross_val_predict_frame`: None is ``AgeGenderKFold(5)``.
    params : dict, default=None
        Further arguments of ``fit``, such as ``sample_weight``; values with one row per picture are split too.
    folder : path, default=None
        Where the fine-tuned networks are stored. A network is trained only if there is none for the same estimator,
        pictures, targets and versions, so that an interrupted call continues with the fold where it stopped. If None,
        they are trained in each call. Rows are cached as the extractor's `cache` says, in both cases.
    verbose : int, default=0
        If 1, show a progress bar over the folds.

    Returns
    -------
    CrossValidatedRows
        The rows in the order of `X`, the fold of each, and the network of each fold.

    Raises
    ------
    TypeError
        If the estimator has no ``to_backbone``.
    ValueError
        If a picture is in no test fold or in several, or the head does not fine-tune.

    See Also
    --------
    agegender.AgeGenderPipeline.to_backbone : The network that a fine-tuning head has trained.
    agegender.model_selection.cross_val_predict_frame : Out-of-fold predictions.

    Notes
    -----
    The networks of all folds begin with the same weights and learn the same task from mostly the same pictures, so
    that a column means nearly the same in each of them, but not exactly. For new pictures, use a network that was
    fine-tuned on all of `X`, and measure the result on pictures that none of them has seen.

    Examples
    --------
    >>> from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor, FineTuneHead
    >>> model = AgeGenderPipeline(
    ...     EmbeddingExtractor("compact"), AgeGenderClassifier(FineTuneHead("input"), epochs=12)
    ... )
    >>> rows, folds, backbones = cross_val_embed(model, paths, target, folder="networks")  # doctest: +SKIP
    """
    if not hasattr(estimator, "to_backbone"):
        raise TypeError(
            f"cross_val_embed takes an AgeGenderPipeline with a FineTuneHead, not {type(estimator).__name__}: a "
            "network per fold is fine-tuned."
        )
    pictures = check_pictures(X)
    check_row_order(X, y=y, groups=groups, **(params or {}))
    ages, _ = check_target(y, max_age=np.iinfo(np.int64).max)
    cv = splitter_of(cv)
    split_params, fit_params = route(estimator, cv, groups, dict(params or {}), "cross_val_embed")
    places = np.arange(len(ages))
    splits = [(places[train], places[test]) for train, test in cv.split(X, y, **split_params)]
    check_partition(np.concatenate([test for _, test in splits]), len(ages), "cross_val_embed")
    networks = _Networks(estimator, pictures, X, y, fit_params, folder)
    folds = np.empty(len(ages), np.intp)
    backbones, parts = [], []
    with progress_bar(len(splits), "fine-tuning", verbose, unit="fold") as bar:
        for fold, (train, test) in enumerate(splits):
            folds[test] = fold
            backbones.append(networks.of(train))
            parts.append(_embed(estimator, backbones[-1], _safe_indexing(X, test)))
            bar.update()
    rows = np.empty((len(ages), *parts[0].shape[1:]), parts[0].dtype)
    for (_, test), part in zip(splits, parts, strict=True):
        rows[test] = part
    return CrossValidatedRows(rows, folds, tuple(backbones))


def _embed(estimator: Any, backbone: Backbone, X: Any) -> NDArray[Any]:
    extractor = estimator.resolve_extractor().set_params(
        backbone=backbone, layer="auto", weights=None, engine="auto"
    )
    found: NDArray[Any] = extractor.embed(X).rows
    return found


class _Networks:
    """The network of each fold: trained, or read where it was stored."""

    def __init__(
        self,
        estimator: Any,
        pictures: Any,
        X: Any,
        y: Any,
        fit_params: dict[str, Any],
        folder: str | os.PathLike[str] | None,
    ) -> None:
        self.estimator = estimator
        self.X, self.y, self.fit_params = X, y, fit_params
        self.folder = None if folder is None else Path(folder).expanduser()
        self._digests = None if folder is None else digests_of(pictures, None)

    def of(self, train: NDArray[np.intp]) -> Backbone:
        if self.folder is None or self._digests is None:
            return self._trained(train)
        file = self.folder / f"{self._key(train)}.onnx"
        if not file.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._trained(train).save(file)
        return Backbone.from_onnx(file)

    def _trained(self, train: NDArray[np.intp]) -> Backbone:
        model = clone(self.estimator)
        model.fit(_safe_indexing(self.X, train), _safe_indexing(self.y, train), **self._params(train))
        backbone: Backbone = model.to_backbone()
        return backbone

    def _params(self, train: NDArray[np.intp]) -> dict[str, Any]:
        return {name: rows_of(value, train, len(self.y)) for name, value in self.fit_params.items()}

    def _key(self, train: NDArray[np.intp]) -> str:
        """Return what decides a network: how it is trained, on which pictures, with which ages, by which versions."""
        assert self._digests is not None
        pictures = [self._digests[place] for place in train]
        target = np.column_stack([np.asarray(part)[train] for part in check_target(self.y, max_age=2**31)])
        decisive = (clone(self.estimator), pictures, target.tolist(), self._params(train), versions())
        return hashlib.sha256(joblib.hash(decisive).encode()).hexdigest()[:32]
