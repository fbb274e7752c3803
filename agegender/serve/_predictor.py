"""The model behind the service: from pictures to one answer per picture, in plain values for JSON."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agegender import inference
from agegender._extraction.report import ExtractionReport
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
    model : AgeGenderPipeline or agegender.inference.Predictor
        A fitted pipeline, or what predicts of it. It is not changed; here it has no cache and stores no pictures.
    faces : str, path or Detector, default="auto"
        The detector that is used for "auto" in requests.
    n_jobs : int, default=None
        Number of threads; None means one per core.

    Attributes
    ----------
    model : agegender.inference.Predictor
    detectors : dict of str to Detector
        The detectors that requests may name.
    """

    def __init__(self, model: Any, faces: Any = "auto", n_jobs: int | None = None) -> None:
        fitted = model.to_predictor() if hasattr(model, "to_predictor") else model
        self.model: inference.Predictor = fitted.with_options(
            cache=None, on_error="nan", verbose=0, n_jobs=n_jobs
        )
        auto = self.model.detector() if faces == "auto" else load_detector(faces)
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
        self.model.predict_columns([blank], faces=None)

    def __call__(self, task: Predict | Embed, contents: Sequence[bytes]) -> list[Answer]:
        """Return one answer per picture, in the same order."""
        if isinstance(task, Embed):
            return self._embed(task, contents)
        columns = self._columns(task, contents)
        reasons = _reasons(self.model.report_)
        faces: list[list[dict[str, Any]]] = [[] for _ in contents]
        for values in zip(*columns.values(), strict=True):
            record = dict(zip(columns, values, strict=True))
            index = int(record.pop("picture"))
            if index not in reasons:
                faces[index].append({name: plain(value) for name, value in record.items()})
        for records in faces:
            for record in records:
                record["gender"] = self._label(record["gender"])
        return [Answer(found, reasons.get(index)) for index, found in enumerate(faces)]

    def _columns(self, task: Predict, contents: Sequence[bytes]) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            "coverage": task.coverage,
            "max_age_range": task.max_age_range,
            "min_gender_proba": task.min_gender_proba,
            "distribution": task.distribution,
        }
        if task.faces == "none":
            columns = self.model.predict_columns(list(contents), faces=None, **wanted)
            return {**columns, "picture": range(len(contents))}
        detectors = self._live if task.live else self.detectors
        return self.model.predict_faces(list(contents), faces=detectors[task.faces], **wanted)

    def _label(self, value: Any) -> Any:
        """Return a gender as the model's label, because a missing value turns a column into floats."""
        return next((plain(label) for label in self.model.classes_[1] if label == value), None)

    def _embed(self, task: Embed, contents: Sequence[bytes]) -> list[Answer]:
        extraction = self.model.extraction(task.layer)
        names = ("x", "y", "width", "height", "score", *FACE_COLUMNS)
        found: list[list[dict[str, Any]]] = [[] for _ in contents]
        if task.faces == "none":
            rows = extraction.embed(list(contents), faces=None).rows
            found = [[{}] for _ in contents]
        else:
            blocks = list(extraction.faces_blocks(list(contents), math.inf, faces=self.detectors[task.faces]))
            for index, face in (place for places, _ in blocks for place in places):
                found[index].append({name: plain(getattr(face, name)) for name in names})
            none = np.empty((0, *extraction.resolved.row_shape), extraction.row_dtypes[0])
            rows = np.concatenate([none, *(rows for _, rows in blocks)])
        reasons = _reasons(extraction.report)
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


def _reasons(report: ExtractionReport | None) -> dict[int, str]:
    """Return why pictures could not be used, by their index."""
    return {failure.index: failure.reason for failure in report.failures} if report else {}


def _smaller(detector: Detector) -> Detector:
    """Return a detector that searches a smaller copy, because a face in front of a camera is large."""
    smaller = copy.copy(detector)
    smaller.max_side = min(LIVE_SIDE, detector.max_side)
    smaller.search_again = False  # an empty picture should not take longer than one with a face
    return smaller
