"""The model behind the service: from pictures to one answer per picture, in plain values for JSON."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agegender.faces import FACE_COLUMNS, Detector, load_detector
from agegender.serve._parameters import Embed, Predict

__all__ = ["Answer", "Predictor", "plain"]

LIVE_SIDE = 320
"""The longest side, in pixels, of the copy of a live frame that is searched for faces."""


@dataclass(frozen=True)
class Answer:
    """The result of one picture: one record per face, or the reason why it could not be used."""

    faces: list[dict[str, Any]]
    reason: str | None = None


class Predictor:
    """One model, used by one thread at a time.

    Parameters
    ----------
    model : AgeGenderPipeline
        A fitted pipeline. It is copied; the copy has no cache and stores no pictures.
    faces : str, path or Detector, default="auto"
        The detector that is used for "auto" in requests.
    n_jobs : int, default=None
        Number of threads; None means one per core.

    Attributes
    ----------
    model : AgeGenderPipeline
        The copy.
    detectors : dict of str to Detector
        The detectors that requests may name.
    """

    def __init__(self, model: Any, faces: Any = "auto", n_jobs: int | None = None) -> None:
        self.model = copy.copy(model)
        extractor = model.extractor_.with_parameters(cache=None, on_error="nan", verbose=0, n_jobs=n_jobs)
        self.model.extractor_ = extractor
        auto = _own_detector(extractor) if faces == "auto" else load_detector(faces)
        self.detectors = {"auto": auto, auto.name: auto}
        for other in ("auto", "mtcnn"):
            found = load_detector(other)
            self.detectors.setdefault(found.name, found)
        self._live = {name: _smaller(detector) for name, detector in self.detectors.items()}

    @property
    def offered(self) -> tuple[str, ...]:
        """The values that `faces` may have in a request."""
        return (*self.detectors, "none")

    def warm_up(self) -> None:
        """Run an empty prediction, so that the first request does not wait for opening networks."""
        blank = np.zeros((64, 64, 3), np.uint8)
        self.model.predict_faces([blank], faces=self.detectors["auto"])
        self.model.predict_frame([blank], faces=None)

    def __call__(self, task: Predict | Embed, contents: Sequence[bytes]) -> list[Answer]:
        """Return one answer per picture, in the same order."""
        if isinstance(task, Embed):
            return self._embed(task, contents)
        table = self._table(task, contents)
        reasons = {failure.index: failure.reason for failure in self.model.report_.failures}
        faces: list[list[dict[str, Any]]] = [[] for _ in contents]
        for record in table.to_dict("records"):
            index = int(record.pop("picture"))
            if index not in reasons:
                faces[index].append({name: plain(value) for name, value in record.items()})
        for records in faces:
            for record in records:
                record["gender"] = self._label(record["gender"])
        return [Answer(found, reasons.get(index)) for index, found in enumerate(faces)]

    def _table(self, task: Predict, contents: Sequence[bytes]) -> Any:
        wanted = {
            "coverage": task.coverage,
            "max_age_range": task.max_age_range,
            "min_gender_proba": task.min_gender_proba,
            "distribution": task.distribution,
        }
        if task.faces == "none":
            frame = self.model.predict_frame(list(contents), faces=None, **wanted)
            return frame.assign(picture=range(len(contents)))
        detectors = self._live if task.live else self.detectors
        return self.model.predict_faces(list(contents), faces=detectors[task.faces], **wanted)

    def _label(self, value: Any) -> Any:
        """Return a gender as the model's label, because a missing value turns a column into floats."""
        return next((plain(label) for label in self.model.classes_[1] if label == value), None)

    def _embed(self, task: Embed, contents: Sequence[bytes]) -> list[Answer]:
        extractor = self.model.extractor_.with_parameters(layer=task.layer, views=1)
        if task.faces == "none":
            rows = extractor.transform(list(contents), faces=None)
            found: list[list[dict[str, Any]]] = [[{}] for _ in contents]
        else:
            faces, rows = extractor.transform_faces(list(contents), faces=self.detectors[task.faces])
            names = ("x", "y", "width", "height", "score", *FACE_COLUMNS)
            found = [
                [{name: plain(getattr(face, name)) for name in names} for face in some] for some in faces
            ]
        reasons = {failure.index: failure.reason for failure in extractor.report_.failures}
        left = iter(rows.reshape(len(rows), -1))
        for records in found:
            for record in records:
                record["embedding"] = plain(next(left))
        return [
            Answer([] if index in reasons else records, reasons.get(index))
            for index, records in enumerate(found)
        ]


def plain(value: Any) -> Any:
    """Return a value for JSON; NaN becomes null, because JSON has no NaN."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _own_detector(extractor: Any) -> Detector:
    """Return the detector stored in a model or, if it has none, the default for "auto"."""
    try:
        found: Detector = extractor.detector_
    except AttributeError:
        found = load_detector("auto")
    return found


def _smaller(detector: Detector) -> Detector:
    """Return a detector that searches a smaller copy, because a face in front of a camera is large."""
    smaller = copy.copy(detector)
    smaller.max_side = min(LIVE_SIDE, detector.max_side)
    smaller.search_again = False  # an empty picture should not take longer than one with a face
    return smaller
