"""The models of an inspection: the detector, the network, and the heads trained on the other folds."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from agegender._networks.shipped import SHIPPED
from agegender._utils.pictures import check_pictures
from agegender._utils.stores import find
from agegender._utils.urls import is_folder, is_url, join, public, suffix_of
from agegender.cache import EmbeddingCache, open_cache
from agegender.classifier import AgeGenderClassifier
from agegender.extractor import EmbeddingExtractor
from agegender.faces import Detector
from agegender.heads import with_backbone
from agegender.inspection._few import FEW, READINGS, FewFacesModel, rows_with
from agegender.inspection._inputs import OWNER, LabelledFaces, name_of
from agegender.inspection._pictures import MeasuredPictures, measure_pictures
from agegender.inspection._readings import Readings, read_out_of_fold
from agegender.inspection._trained import TrainedReading
from agegender.model_selection import AgeGenderKFold
from agegender.pipeline import AgeGenderPipeline

__all__ = ["DEFAULT_NETWORK", "Look", "kept_on_interrupt", "other_set", "read_labels"]

DEFAULT_NETWORK = "compact"
"""It is part of the package, so that a first inspection downloads nothing."""

OWN_NETWORK = (
    "Read by the network inside the package, which was trained on UTKFace. Labels of UTKFace are doubted less than "
    "by a network that did not see them."
)


@dataclass(frozen=True, eq=False)
class Look:
    """The detector, the network, and the head that is trained."""

    given: EmbeddingExtractor | None
    classifier: AgeGenderClassifier
    detector: Detector | None
    verbose: int
    chosen: bool = True
    """Whether the user chose the classifier, which is then used for sets of any size."""

    def judge(self, n_pictures: int, shape: tuple[int, ...]) -> Any:
        """Return the model that is trained on each fold, on activations of this shape."""
        classifier = clone(self.classifier)
        classifier.head = with_backbone(classifier.head, self.extractor.resolve_backbones())
        return classifier if self.chosen or n_pictures >= FEW else FewFacesModel(classifier, shape)

    @property
    def extractor(self) -> EmbeddingExtractor:
        """The extractor for the head's layer."""
        own = EmbeddingExtractor(DEFAULT_NETWORK) if self.given is None else clone(self.given)
        own = AgeGenderPipeline(own, self.classifier).resolve_extractor()
        return own.set_params(on_error="nan", verbose=self.verbose)

    @property
    def cache(self) -> EmbeddingCache | None:
        own = self.extractor
        return open_cache(own.cache, on_error=own.on_cache_error)

    @property
    def notes(self) -> list[str]:
        """What a reader of the inspection should know about these models."""
        shipped = SHIPPED[DEFAULT_NETWORK].sha256
        own = any(network.sha256 == shipped for network in self.extractor.resolve_backbones())
        return [OWN_NETWORK] * own + ["No face was looked for: detector=None."] * (self.detector is None)

    def measure(self, pictures: Sequence[Any]) -> MeasuredPictures:
        return measure_pictures(
            pictures,
            detector=self.detector,
            cache=self.cache,
            n_jobs=self.extractor.n_jobs,
            verbose=self.verbose,
        )

    def embed(
        self, pictures: Sequence[Any], readable: NDArray[np.bool_]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return the head's input rows and the embeddings; NaN for a picture that has none."""
        wanted = np.flatnonzero(readable)
        some = [pictures[row] for row in wanted.tolist()]
        found = []
        for extractor in (self.extractor, self.extractor.set_params(layer="embedding", views=1)):
            part = extractor.transform(some)
            rows = np.full((len(pictures), *part.shape[1:]), np.nan, dtype=np.float32)
            rows[wanted] = part
            found.append(rows)
        return found[0], found[1]


@contextmanager
def kept_on_interrupt(cached: bool) -> Iterator[None]:
    """If the work is interrupted, add a note on what is already in the cache."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(
            "The pictures measured and embedded and the folds evaluated so far are in the cache; the same call goes "
            "on from there."
            if cached
            else "Nothing was kept, for the extractor has no cache."
        )
        raise


def read_labels(
    look: Look,
    faces: LabelledFaces,
    rows: NDArray[np.floating],
    digests: list[bytes],
    groups: NDArray[np.intp],
    readable: NDArray[np.bool_],
    cv: Any,
    seed: int,
    trained: TrainedReading | None,
) -> Readings:
    """Return out-of-fold predictions; models of few pictures use the genders that a trained model said."""
    known = readable & np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
    classifier = look.judge(int(known.sum()), rows.shape[1:])
    few = isinstance(classifier, FewFacesModel)
    again = few and (cv is None or isinstance(cv, int | np.integer))
    folds = [
        fold
        for number in range(READINGS if again else 1)
        for fold in _folds(faces, groups, known, cv, seed + number)
    ]
    target = np.column_stack([faces.ages, faces.genders])
    if few:
        rows = rows_with(rows, None if trained is None else trained.gender_proba)
    readings = read_out_of_fold(
        classifier, rows, digests, target, groups, folds, cache=look.cache, verbose=look.verbose
    )
    return replace(readings, told=few and trained is not None)


def _folds(
    faces: LabelledFaces, groups: NDArray[np.intp], known: NDArray[np.bool_], cv: Any, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the rows of each fold, only of pictures that were embedded."""
    where = np.flatnonzero(known)
    if cv is None or (isinstance(cv, int | np.integer) and not isinstance(cv, bool)):
        cv = AgeGenderKFold(5 if cv is None else int(cv), random_state=seed)
    if hasattr(cv, "split") and not isinstance(cv, str):
        target = np.column_stack([faces.ages, faces.genders])[where]
        folds = [(where[train], where[test]) for train, test in cv.split(where, target, groups[where])]
    else:
        folds = [(train[known[train]], test[known[test]]) for train, test in _given_folds(cv, len(known))]
    times = (
        np.bincount(np.concatenate([test for _, test in folds]), minlength=len(known)) if folds else known * 0
    )
    if (times[where] == 0).any():
        row = int(where[np.argmax(times[where] == 0)])
        raise ValueError(
            f"{OWNER}: row {row} is in no test part of cv; every row should be in one at least, as in AgeGenderKFold."
        )
    for train, test in folds:
        if np.isin(groups[test], groups[train]).any():
            row = int(test[np.isin(groups[test], groups[train])][0])
            warnings.warn(
                f"{OWNER}: cv puts a copy or near-copy of row {row}, or what belongs to its group, on the other "
                "side; labels are judged by models that saw them. Pass the splitter itself: "
                "AgeGenderKFold(5).",
                UserWarning,
                stacklevel=4,
            )
            break
    return folds


def _given_folds(cv: Any, n: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the folds of an iterable, whose entries should be row numbers of `n` pictures."""
    rule = f"{OWNER}: cv should be a number of folds, a splitter, or pairs (train, test) of row numbers"
    if isinstance(cv, str | bool) or not isinstance(cv, Iterable):
        raise ValueError(f"{rule}; it is {cv!r}.")
    for number, fold in enumerate(cv):
        parts = [np.asarray(part) for part in fold]
        rows = np.concatenate([part.ravel() for part in parts if part.size] or [np.zeros(0, np.intp)])
        if len(parts) != 2 or rows.dtype.kind not in "iu" or ((rows < 0) | (rows >= n)).any():
            raise ValueError(f"{rule} from 0 to {n - 1}; pair {number} of cv has others, or is no pair.")
        yield parts[0].astype(np.intp), parts[1].astype(np.intp)


def other_set(against: Any) -> tuple[Sequence[Any], list[str]]:
    """Return the pictures and the names of a set whose labels are ignored."""
    from agegender.datasets._table import listed_pictures

    if isinstance(against, Mapping) and "data" in against:
        pictures = check_pictures(against["data"])
    elif isinstance(against, str | os.PathLike) and is_folder(against):
        pictures = _pictures_in(against)
    elif isinstance(against, str | os.PathLike) or "path" in getattr(against, "columns", ()):
        pictures = check_pictures(listed_pictures(against))
    else:
        pictures = check_pictures(against)
    return pictures, [name_of(picture, row) for row, picture in enumerate(pictures)]


def _pictures_in(place: str | os.PathLike[str]) -> list[str]:
    """Return the pictures in a folder and below it."""
    from agegender.images import SUFFIXES

    if is_url(place):
        pictures = sorted(join(place, name) for name in find(place) if suffix_of(name) in SUFFIXES)
    else:
        files = Path(place).expanduser().rglob("*")
        pictures = sorted(str(file) for file in files if suffix_of(file) in SUFFIXES and file.is_file())
    if not pictures:
        raise ValueError(f"{OWNER}: there is no picture in {public(os.fspath(place))!r}.")
    return pictures
