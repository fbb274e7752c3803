"""One function that inspects a whole data set: pictures, copies, labels, ages, and leaks into another set."""

from __future__ import annotations

import numbers
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state

from agegender.calibration import check_coverage
from agegender.classifier import AgeGenderClassifier
from agegender.extractor import EmbeddingExtractor
from agegender.faces import Detector, load_detector
from agegender.inspection import _distribution
from agegender.inspection._alike import directions, nearest
from agegender.inspection._copies import Copies, find_copies, find_persons
from agegender.inspection._flags import FLAGS, flag_pictures, framing_of
from agegender.inspection._inputs import OWNER, LabelledFaces, check_enough, labelled_faces
from agegender.inspection._inspection import FacesInspection
from agegender.inspection._labels import Neighbours, label_table
from agegender.inspection._leaks import LEAK_COLUMNS, find_leaks
from agegender.inspection._look import Look, kept_on_interrupt, other_set, read_labels
from agegender.inspection._pictures import MeasuredPictures
from agegender.inspection._trained import trained_model
from agegender.model_selection import connected_groups

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["inspect_faces"]

N_NEIGHBOURS = 5
WIDEST_NEIGHBOURS = 4096


def inspect_faces(
    X: Any,
    y: Any = None,
    groups: ArrayLike | None = None,
    frame: pd.DataFrame | None = None,
    *,
    extractor: EmbeddingExtractor | None = None,
    classifier: AgeGenderClassifier | None = None,
    model: Any = "auto",
    cv: Any = None,
    against: Any = None,
    persons: ArrayLike | None = None,
    detector: str | os.PathLike[str] | Detector | None = "auto",
    near_copy: float = 0.9,
    coverage: float = 0.9,
    gender_names: Mapping[Any, str] | None = None,
    title: str = "What is in this data",
    random_state: int | np.random.RandomState | None = 0,
    verbose: int = 0,
) -> FacesInspection:
    """Look for wrong labels, copies, bad pictures, gaps and leaks in a set of labelled faces.

    Each label is judged by models that were trained on other folds, which contain neither the picture nor a
    copy of it. If the extractor has a cache, each picture is measured and embedded once, and each fold is
    trained once: an interrupted call continues where it stopped.

    Parameters
    ----------
    X : sequence of pictures; Bunch of a loader, path or URL of a folder or table, or frame of pandas or polars
        Pictures, together with `y`; or data with labels: the Bunch of a loader, a folder with file names as
        in UTKFace, or a table with the columns path, age and gender.
    y : array-like of shape (n_samples, 2), or DataFrame with the columns age and gender, default=None
        Age in years and one of two genders.
    groups : array-like of shape (n_samples,), default=None
        Pictures that belong together: copies, persons. Copies and near-copies are found and added
        automatically.
    frame : DataFrame, default=None
        Further columns, one row per picture: the column "person" contains the names of the persons, and
        columns of labels (race) are groups whose differences the set may show.
    extractor : EmbeddingExtractor, default=None
        If None, ``EmbeddingExtractor("compact")``, whose network is part of the package. That network was
        trained on UTKFace, so inspect UTKFace with another one. The extractor's cache also stores measurements
        and out-of-fold predictions.
    classifier : AgeGenderClassifier, default=None
        The model that is trained on each fold. If None: one with ``calibration_fraction=0``, because all folds
        together are used for calibration; if there are fewer than 1,000 pictures, its genders are replaced by
        those of a logistic regression.
    model : {"auto", "compact"}, fitted model or None, default="auto"
        A trained model that has not seen these pictures: an `AgeGenderPipeline`, or another estimator whose
        ``predict_proba`` takes pictures. What it says is joined to what the folds' models say, with the weight under
        which the labels are likeliest. "compact" is the model of the package; "auto" is this model if it was trained
        on none of the pictures and the genders are male and female. If None, the folds' models alone judge.
    cv : int, splitter, iterable of (train, test) or None, default=None
        None means ``AgeGenderKFold(5)`` and an integer k means ``AgeGenderKFold(k)``, both with
        `random_state`; if there are fewer than 1,000 pictures and `classifier` is None, the set is divided
        three times. In an iterable, each picture must be in at least one test part; if it is in several,
        it is judged by the mean of their models.
    against : as `X`, default=None
        Another set, such as the test set: a Bunch, a folder, a table with a column path, or pictures. It needs
        no labels.
    persons : array-like of shape (n_samples,), default=None
        The person in each picture; if None, the column "person" of `frame`, if there is one. Pictures of one
        person stay together.
    detector : {"auto", "yunet", "mtcnn"}, path, Detector or None, default="auto"
        The face detector, as in :func:`agegender.faces.load_detector`; if None, faces are not searched for.
    near_copy : float, default=0.9
        The cosine similarity, of embeddings minus their mean, from which two pictures are near-copies: above 0
        and at most 1.
    coverage : float, default=0.9
        The share of suggested ages whose interval is to contain the true age.
    gender_names : dict, default=None
        The names of the genders; by default, 0 is male and 1 is female.
    title : str
        The title of the page.
    random_state : int, RandomState instance or None, default=0
        Seed of the folds and of training. The same number gives the same inspection.
    verbose : int, default=0
        If 1, show progress bars.

    Returns
    -------
    FacesInspection

    Raises
    ------
    ValueError
        If there are no labels, only one gender, too few pictures, or no readable picture; if `model` was trained on
        some of the pictures; or if a parameter is not as described.
    TypeError
        If `extractor`, `classifier`, `frame` or `gender_names` is of another kind.

    Notes
    -----
    A model finds labels that contradict most other labels. It does not find labels that are wrong in the same
    way everywhere, and it doubts rare faces with correct labels. On 18,826 UTKFace pictures with planted
    errors, the suspicions were calibrated to within 0.1, and the 2 and 3 % most suspicious labels contained
    more of the wrong ages than a ranking by residual; so did they on 489 pictures, where the share of wrong
    labels is underestimated: see the page "Accuracy".

    See Also
    --------
    agegender.model_selection.cross_val_predict_frame : Out-of-fold predictions as a table.
    agegender.datasets.describe : Ages and genders alone.

    Examples
    --------
    >>> from agegender import EmbeddingExtractor
    >>> from agegender.inspection import inspect_faces
    >>> from agegender.datasets import load_utkface
    >>> faces = load_utkface("UTKFace/")  # doctest: +SKIP
    >>> found = inspect_faces(faces, extractor=EmbeddingExtractor("arcface"))  # doctest: +SKIP
    >>> found.suspicious(3)[["picture", "age", "suggested_age", "reason"]]  # doctest: +SKIP
    >>> found.clean().to_csv("corrections.csv", index=False)  # doctest: +SKIP
    >>> faces = load_utkface("UTKFace/", corrections="corrections.csv")  # doctest: +SKIP
    """
    check_coverage(coverage)
    _check_near_copy(near_copy)
    _check_kind("extractor", extractor, EmbeddingExtractor)
    _check_kind("classifier", classifier, AgeGenderClassifier)
    chosen = classifier is not None
    classifier = AgeGenderClassifier(calibration_fraction=0) if classifier is None else clone(classifier)
    faces = labelled_faces(X, y, groups, frame, gender_names, classifier.max_age)
    other = None if against is None else other_set(against)
    seed = check_random_state(random_state).randint(2**31 - 1)
    classifier.set_params(random_state=int(seed))
    look = Look(extractor, classifier, None if detector is None else load_detector(detector), verbose, chosen)
    judge, model_note = trained_model(model, faces)
    with kept_on_interrupt(look.cache is not None):
        measured = look.measure(faces.pictures)
        readable = _readable(faces, measured)
        rows, embeddings = look.embed(faces.pictures, readable)
        who = _persons(faces, persons)
        copies = find_copies(
            _with_persons(faces, who), measured.digests, embeddings, measured.thumbnails, near_copy
        )
        check_enough(faces, readable, copies.groups)
        leaks, leak_note = _leaks(look, faces, measured, embeddings, other, near_copy)
        trained = (
            None if judge is None else judge.read(faces, readable, look.extractor, classifier.max_age + 1)
        )
        readings = read_labels(
            look, faces, rows, measured.digests, copies.groups, readable, cv, int(seed), trained
        )
        labels, noise = label_table(
            faces,
            readings,
            copies.groups,
            copies.photographs,
            _neighbours(rows, embeddings, copies),
            coverage,
            trained,
        )
    pictures = _pictures_table(faces, measured)
    unreadable = measured.failures.assign(picture=faces.names[measured.failures["row"].to_numpy()])
    ages = _distribution.age_table(faces.ages, faces.genders, faces.gender_names)
    error = (labels["read_age"] - labels["age"]).abs().to_numpy(dtype=np.float64)
    second = labels[f"read_{faces.gender_names[1]}"].to_numpy(dtype=np.float64) >= 0.5
    right = (second == (faces.genders == 1)).astype(np.float64)
    return FacesInspection(
        title=title,
        coverage=coverage,
        gender_names=faces.gender_names,
        counts=_counts(faces, labels, copies, measured, leaks),
        noise=noise,
        labels=labels,
        pictures=pictures,
        copies=copies.copies,
        near_copies=copies.near_copies,
        persons=find_persons(faces, who),
        leaks=leaks,
        unreadable=unreadable[["row", "picture", "reason"]],
        excluded=faces.excluded,
        framing=framing_of(measured.measures, measured.landmarks),
        ages=ages,
        skew=_distribution.skewness(faces.ages),
        empty_ages=_distribution.empty_ages(ages),
        heaping=_distribution.heaping(faces.ages),
        folds=_distribution.fold_table(faces.ages, faces.genders, readings.fold, faces.gender_names),
        power=_distribution.power_table(
            faces.ages, faces.genders, faces.gender_names, faces.frame, error, right
        ),
        groups=copies.groups,
        notes=[note for note in (copies.note, leak_note, model_note, *look.notes) if note],
        sources=faces.pictures,
    )


def _check_near_copy(near_copy: Any) -> None:
    number = isinstance(near_copy, numbers.Real) and not isinstance(near_copy, bool)
    if not number or not 0 < near_copy <= 1:
        raise ValueError(
            f"{OWNER}: near_copy={near_copy!r} should be a cosine similarity above 0 and at most 1, such as 0.9."
        )


def _check_kind(name: str, value: Any, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{OWNER}: {name} is a {type(value).__name__}; it should be an {kind.__name__}.")


def _readable(faces: LabelledFaces, measured: MeasuredPictures) -> NDArray[np.bool_]:
    readable = np.array([bool(digest) for digest in measured.digests])
    if not readable.any():
        first = measured.failures.iloc[0]
        raise ValueError(
            f"{OWNER}: none of the {len(faces)} pictures can be read; the first, {faces.names[first['row']]}: "
            f"{first['reason']}."
        )
    return readable


def _persons(faces: LabelledFaces, persons: ArrayLike | None) -> NDArray[Any] | None:
    if persons is None:
        return faces.frame["person"].to_numpy(dtype=object) if "person" in faces.frame else None
    who = np.asarray(persons, dtype=object)
    if who.shape != (len(faces),):
        raise ValueError(
            f"{OWNER}: persons has shape {who.shape}; it should be ({len(faces)},), one name per picture."
        )
    return who


def _with_persons(faces: LabelledFaces, who: NDArray[Any] | None) -> LabelledFaces:
    """Return the faces with groups that keep the pictures of one person together."""
    return faces if who is None else replace(faces, groups=connected_groups(faces.groups, who))


def _neighbours(rows: NDArray[np.floating], embeddings: NDArray[np.floating], copies: Copies) -> Neighbours:
    wide = rows[0].size > WIDEST_NEIGHBOURS
    ways = directions(embeddings if wide else rows)
    others, similarity = nearest(ways, copies.groups, N_NEIGHBOURS)
    there = np.isfinite(similarity) & (np.abs(ways).sum(axis=1) > 0)[:, np.newaxis]
    return Neighbours(others, there & (np.abs(ways[others]).sum(axis=2) > 0))


def _leaks(
    look: Look,
    faces: LabelledFaces,
    measured: MeasuredPictures,
    embeddings: NDArray[np.floating],
    other: tuple[Sequence[Any], list[str]] | None,
    near_copy: float,
) -> tuple[pd.DataFrame, str]:
    import pandas as pd

    if other is None:
        return pd.DataFrame(columns=LEAK_COLUMNS), ""
    pictures, names = other
    there = look.measure(pictures)
    readable = np.array([bool(digest) for digest in there.digests])
    if not readable.any():
        raise ValueError(
            f"{OWNER}: none of the {len(pictures)} pictures of `against` can be read; the first, {names[0]}: "
            f"{there.failures['reason'].iloc[0]}."
        )
    others = look.embed(pictures, readable)[1]
    leaks, note = find_leaks(measured, there, embeddings, others, list(faces.names), names, near_copy)
    copied = leaks.loc[leaks["kind"] == "copy", "row"].nunique()
    if copied == sum(map(bool, measured.digests)):
        note = f"Every picture stands in the other set too: is it the same set? {note}"
    if not readable.all():
        note = f"{(~readable).sum()} of the other set's {len(pictures)} pictures cannot be read. {note}"
    return leaks, note.strip()


def _pictures_table(faces: LabelledFaces, measured: MeasuredPictures) -> pd.DataFrame:
    import pandas as pd

    flags = flag_pictures(measured.measures)
    up = flags.to_numpy()
    texts = [", ".join(name for name, on in zip(FLAGS, row, strict=True) if on) for row in up]
    readable = [bool(digest) for digest in measured.digests]
    heading = {"row": range(len(faces)), "picture": faces.names, "readable": readable, "flagged": texts}
    return pd.DataFrame(heading).join(flags).join(measured.measures)


def _counts(
    faces: LabelledFaces,
    labels: pd.DataFrame,
    copies: Copies,
    measured: MeasuredPictures,
    leaks: pd.DataFrame,
) -> dict[str, int]:
    return {
        "pictures": len(faces),
        "excluded": len(faces.excluded),
        "unreadable": len(measured.failures),
        "read": int((labels["n_readings"] > 0).sum()),
        "suspicious": int((labels["suspicion"] >= 0.5).sum()),
        "copies": int((copies.copies["n"] - 1).sum()),
        "copy_groups": len(copies.copies),
        "disagreeing_copies": int(copies.copies["disagree"].sum()),
        "near_copies": len(copies.near_copies),
        "leaks": len(leaks),
    }
