"""The models of an inspection: the detector, the network, and the heads trained on the other folds."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from agegender._networks.shipped import SHIPPED
from agegender._utils.pictures import check_pictures
from agegender.cache import EmbeddingCache, open_cache
from agegender.classifier import AgeGenderClassifier
from agegender.extractor import EmbeddingExtractor
from agegender.faces import Detector
from agegender.heads import with_backbone
from agegender.inspection._few import FEW, READINGS, FewFacesModel, rows_with
from agegender.inspection._inputs import OWNER, LabelledFaces
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
    return read_out_of_fold(
        classifier, rows, digests, target, groups, folds, cache=look.cache, verbose=look.verbose
    )


def _folds(
    faces: LabelledFaces, groups: NDArray[np.intp], known: NDArray[np.bool_], cv: Any, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the rows of each fold, only of pictures that were embedded."""
    where = np.flatnonzero(known)
    if cv is None or (isinstance(cv, int | np.integer) and not isinstance(cv, bool)):
        cv = AgeGenderKFold(5 if cv is None else int(cv), random_state=seed)
    if hasattr(cv, "split"):
        target = np.column_stack([faces.ages, faces.genders])[where]
        folds = [(where[train], where[test]) for train, test in cv.split(where, target, groups[where])]
    else:
        folds = [tuple(np.asarray(part)[known[np.asarray(part)]] for part in fold) for fold in cv]
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


def other_set(against: Any) -> tuple[Sequence[Any], list[str]]:
    """Return the pictures and the names of a set whose labels are ignored."""
    import pandas as pd

    from agegender.datasets import load_table
    from agegender.images import SUFFIXES, describe

    if isinstance(against, Mapping) and "data" in against:
        pictures = check_pictures(against["data"])
    elif isinstance(against, str | os.PathLike) and Path(against).expanduser().is_dir():
        folder = Path(against).expanduser()
        pictures = sorted(str(p) for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not pictures:
            raise ValueError(f"{OWNER}: there is no picture in {str(folder)!r}.")
    elif isinstance(against, str | os.PathLike | pd.DataFrame):
        pictures = check_pictures(load_table(against)["data"])
    else:
        pictures = check_pictures(against)
    named = (str, os.PathLike)
    return pictures, [describe(p) if isinstance(p, named) else f"row {row}" for row, p in enumerate(pictures)]
