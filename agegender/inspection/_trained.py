"""A trained model that has not seen the pictures; its reading is joined to those of the folds' models."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender.classifier import AgeGenderClassifier
from agegender.extractor import EmbeddingExtractor
from agegender.inference import Predictor
from agegender.inspection._inputs import OWNER, LabelledFaces
from agegender.pretrained import load_pretrained

__all__ = ["TrainedModel", "TrainedReading", "trained_model"]

PACKAGED = "compact"
PACKAGED_GENDERS = ["male", "female"]


@dataclass(frozen=True, eq=False)
class TrainedReading:
    """What a trained model says of the pictures.

    Attributes
    ----------
    age_proba : ndarray of shape (n_pictures, n_ages), float64
        Distributions over the ages 0, 1, …; NaN for a picture that it could not read.
    gender_proba : ndarray of shape (n_pictures,), float64
        Probability of the second gender; NaN likewise.
    """

    age_proba: NDArray[np.float64]
    gender_proba: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model that may read the pictures, and the place of the second gender among its classes."""

    model: Any
    second: int

    def read(
        self, faces: LabelledFaces, readable: NDArray[np.bool_], extractor: EmbeddingExtractor, n_ages: int
    ) -> TrainedReading:
        """Return what the model says of the readable pictures.

        Parameters
        ----------
        faces : LabelledFaces
        readable : ndarray of shape (n_pictures,), bool
        extractor : EmbeddingExtractor
            Its cache is used, and a model of face crops finds faces in photographs as it does.
        n_ages : int
            Length of the distributions.

        Returns
        -------
        TrainedReading
        """
        wanted = np.flatnonzero(readable)
        pictures = [faces.pictures[row] for row in wanted.tolist()]
        running = self._running(extractor)
        of_crops = isinstance(running, Predictor) and not running.resolved_.finds_faces
        where = {"faces": extractor.faces} if of_crops and extractor.faces is not None else {}
        ages, genders = running.predict_proba(pictures, **where)
        age_proba, gender_proba = np.full((len(faces), n_ages), np.nan), np.full(len(faces), np.nan)
        age_proba[wanted] = _as_long_as(ages, n_ages)
        gender_proba[wanted] = genders[:, self.second]
        return TrainedReading(age_proba, gender_proba)

    def _running(self, extractor: EmbeddingExtractor) -> Any:
        """Return the model with the cache and the progress bar of the inspection; NaN where it finds no face."""
        options = {name: getattr(extractor, name) for name in ("cache", "n_jobs", "verbose")}
        options["on_error"] = "nan"
        if hasattr(self.model, "to_predictor"):
            return self.model.to_predictor().with_options(**options)
        own = getattr(self.model, "__dict__", {})
        if "on_error" not in own:
            return self.model
        running = copy.copy(self.model)
        vars(running).update({name: value for name, value in options.items() if name in own})
        return running


def trained_model(model: Any, faces: LabelledFaces) -> tuple[TrainedModel | None, str]:
    """Return the model that a value stands for, if it may judge these pictures.

    Parameters
    ----------
    model : "auto", "compact", fitted model or None
        "auto" is the model of the package if it can be used.
    faces : LabelledFaces

    Returns
    -------
    model : TrainedModel or None
    note : str
        Why "auto" stands for no model, or that the model keeps no record of its training pictures; or empty.

    Raises
    ------
    ValueError
        If the chosen model was trained on some of the pictures, has other genders, or does not read pictures.
    """
    if model is None:
        return None, ""
    packaged = isinstance(model, str)
    chosen = _chosen(model)
    if packaged:
        its, theirs = PACKAGED_GENDERS, [name.lower() for name in faces.gender_names]
    else:
        its, theirs = (np.asarray(of).tolist() for of in (chosen.classes_[1], faces.gender_labels))
    refusal = _refusal(chosen, faces, its, theirs)
    if refusal and packaged and model == "auto":
        return None, f"The model of the package did not read the pictures, because {refusal}."
    if refusal:
        raise ValueError(
            f"{OWNER}: model cannot be used, because {refusal}. Pass another model, or model=None."
        )
    return TrainedModel(chosen, its.index(theirs[1])), _unrecorded(chosen)


def _unrecorded(model: Any) -> str:
    if hasattr(model, "seen_in_training"):
        return ""
    return (
        f"The trained model, of the class {type(model).__name__}, keeps no record of its training pictures. If these "
        "are among them, it repeats their labels."
    )


def _chosen(model: Any) -> Any:
    if isinstance(model, str) and model in ("auto", PACKAGED):
        return load_pretrained(PACKAGED)
    model = getattr(model, "best_estimator_", model)
    if isinstance(model, Predictor):
        raise ValueError(
            f"{OWNER}: model is a Predictor, which does not record the pictures that it was trained on. Pass the "
            "pipeline or the ensemble; agegender.load_model opens its file."
        )
    if not _reads_pictures(model):
        named = isinstance(model, str | os.PathLike)
        said = repr(str(model)) if named else f"of the class {type(model).__name__}"
        raise ValueError(
            f'{OWNER}: model is {said}; it should be "auto", "{PACKAGED}", None, or a fitted model whose '
            "predict_proba takes pictures, such as an AgeGenderPipeline; agegender.load_model opens its file."
        )
    return model


def _reads_pictures(model: Any) -> bool:
    """Tell whether a model gives distributions of ages and genders of pictures."""
    if isinstance(model, AgeGenderClassifier) or not hasattr(model, "predict_proba"):
        return False
    classes = getattr(model, "classes_", ())
    return len(classes) == 2 and all(np.ndim(labels) == 1 for labels in classes)


def _refusal(model: Any, faces: LabelledFaces, its: list[Any], theirs: list[Any]) -> str:
    """Return why a model cannot be used; empty if it can."""
    if set(its) != set(theirs):
        named = " (see gender_names)" if its == PACKAGED_GENDERS else ""
        of_set = f"{theirs[0]!r} and {theirs[1]!r}{named}"
        return f"its genders are {its[0]!r} and {its[1]!r}, and those of the set {of_set}"
    if not hasattr(model, "seen_in_training"):
        return ""
    seen = np.count_nonzero(model.seen_in_training(faces.pictures))
    if not seen:
        return ""
    return f"it was trained on {seen:,} of the {len(faces):,} pictures and would repeat their labels"


def _as_long_as(proba: NDArray[Any], n_ages: int) -> NDArray[np.float64]:
    """Return distributions of `n_ages` ages; what lies beyond counts as the last one."""
    long = np.zeros((len(proba), n_ages))
    known = min(proba.shape[1], n_ages)
    long[:, :known] = proba[:, :known]
    long[:, -1] += proba[:, known:].sum(axis=1)
    long[~np.isfinite(proba).all(axis=1)] = np.nan
    return long
