"""The rows of several models from few passes: one decode per picture if their extractions agree."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._extraction.every_face import Place
from agegender._extraction.extraction import Embedded, Extraction, Own
from agegender._extraction.report import ExtractionReport
from agegender._extraction.resolved import FacesParameter, Source
from agegender._utils.pictures import check_pictures
from agegender._utils.stored import part_of

__all__ = ["Pass", "SharedExtraction", "passes_of"]

_AT_ONCE = 64


@dataclass(frozen=True)
class Pass:
    """One extraction, and the columns that each model reads.

    Parameters
    ----------
    extraction : Extraction
    columns : dict of int to list of slice
        The parts of a row that each model reads, in its order.
    """

    extraction: Extraction
    columns: dict[int, list[slice]]

    def rows_of(self, model: int, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows that a model's head reads."""
        read = [rows[..., part] for part in self.columns[model]]
        return read[0] if len(read) == 1 else np.concatenate(read, axis=-1)


class SharedExtraction:
    """The way from pictures to the rows of several models.

    A row is a list here: one array per model, in the order of the models.

    Parameters
    ----------
    members : sequence of Extraction
        Those of the models.

    Attributes
    ----------
    passes : list of Pass
    report : ExtractionReport or None
        That of the last call, all passes together; None before the first call.
    """

    def __init__(self, members: Sequence[Extraction]) -> None:
        self.members = tuple(members)
        self.passes = passes_of(self.members)
        self.report: ExtractionReport | None = None

    def with_running(self, **options: Any) -> SharedExtraction:
        """Return one that runs otherwise and gives the same numbers; options are fields of `Running`."""
        return SharedExtraction([member.with_running(**options) for member in self.members])

    def check_pictures_are_crops(self, X: Any) -> None:
        """Warn if pictures differ from the face crops of the training, as the first model's extraction does."""
        self.members[0].check_pictures_are_crops(X)

    def embed_blocks(
        self,
        X: Any,
        max_bytes: float,
        *,
        faces: FacesParameter | Own = "own",
        with_faces: bool = False,
    ) -> Iterator[Embedded[list[NDArray[Any]]]]:
        """Yield rows, digests and faces in blocks; see `EmbeddingExtractor.embed_blocks`.

        If models find faces with different detectors, the faces are those of the first detector.
        """
        pictures = check_pictures(X)
        size = min(one.extraction.rows_within(max_bytes, len(pictures)) for one in self.passes)
        self.report = ExtractionReport()
        for start in range(0, len(pictures), size):
            block = part_of(pictures, start, start + size)
            found = [one.extraction.embed(block, faces=faces, with_faces=with_faces) for one in self.passes]
            self.report = self.report.followed_by(self._reports())
            seen = next((each.faces for each in found if each.faces is not None), None)
            yield Embedded(self._by_model([each.rows for each in found]), found[0].digests, seen)

    def faces_blocks(
        self, X: Any, max_bytes: float, *, faces: FacesParameter | Own = "own"
    ) -> Iterator[tuple[list[Place], list[NDArray[Any]]]]:
        """Yield places and rows of all faces; see `EmbeddingExtractor.transform_faces_blocks`.

        Raises
        ------
        ValueError
            If the models find faces with different detectors and do not find the same number of them.
        """
        pictures = check_pictures(X)
        if len(self.passes) == 1:
            extraction = self.passes[0].extraction
            for places, rows in extraction.faces_blocks(pictures, max_bytes, faces=faces):
                yield places, self._by_model([rows])
            self.report = extraction.report
            return
        self.report = ExtractionReport()
        for start in range(0, len(pictures), _AT_ONCE):
            block = part_of(pictures, start, start + _AT_ONCE)
            found = [_every_face(one.extraction, block, faces) for one in self.passes]
            self.report = self.report.followed_by(self._reports(), start)
            counts = [[index for index, _ in places] for places, _ in found]
            if any(other != counts[0] for other in counts[1:]):
                raise ValueError(
                    "The models of this ensemble find faces with different detectors, and not the same number of "
                    "them; name one: predict_faces(X, faces='yunet')."
                )
            if places := [(start + index, face) for index, face in found[0][0]]:
                yield places, self._by_model([rows for _, rows in found])

    def _by_model(self, rows: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the rows of each model, of the rows of each pass."""
        read = {
            model: one.rows_of(model, block)
            for one, block in zip(self.passes, rows, strict=True)
            for model in one.columns
        }
        return [read[model] for model in range(len(self.members))]

    def _reports(self) -> ExtractionReport:
        """Return the reports of all passes over the same pictures as one."""
        reports = [one.extraction.report or ExtractionReport() for one in self.passes]
        return functools.reduce(ExtractionReport.beside, reports)


def _every_face(
    extraction: Extraction, pictures: Any, faces: FacesParameter | Own
) -> tuple[list[Place], NDArray[Any]]:
    blocks = list(extraction.faces_blocks(pictures, math.inf, faces=faces))
    none = np.empty((0, *extraction.resolved.row_shape), extraction.row_dtypes[0])
    places = itertools.chain.from_iterable(places for places, _ in blocks)
    return list(places), np.concatenate([none, *(rows for _, rows in blocks)])


def passes_of(members: Sequence[Extraction]) -> list[Pass]:
    """Return the passes that compute the rows of every model.

    Models share a pass if their extractions give networks the same squares and they read flat layers. Then
    each picture is decoded and its face is detected once for all of them, and a network that several models
    read runs once.
    """
    groups: dict[Any, _Group] = {}
    for number, member in enumerate(members):
        groups.setdefault(_key(member, number), _Group(member)).add(number, member.resolved.sources)
    return [group.joined() for group in groups.values()]


@dataclass
class _Group:
    first: Extraction
    sources: list[Source] = field(default_factory=list)
    read: dict[int, list[int]] = field(default_factory=dict)

    def add(self, number: int, sources: Sequence[Source]) -> None:
        places = []
        for source in sources:
            same = (i for i, other in enumerate(self.sources) if _same(other, source))
            place = next(same, len(self.sources))
            if place == len(self.sources):
                self.sources.append(source)
            places.append(place)
        self.read[number] = places

    def joined(self) -> Pass:
        resolved = replace(self.first.resolved, sources=tuple(self.sources))
        ends = np.cumsum([0, *(source.shape[-1] for source in self.sources)]).tolist()
        columns = {
            number: [slice(ends[start], ends[stop]) for start, stop in _runs(places)]
            for number, places in self.read.items()
        }
        return Pass(Extraction(resolved, self.first.running, self.first.faces), columns)


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Return first and end of each run of consecutive places, whose columns need not be copied."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and runs[-1][1] == place:
            runs[-1] = runs[-1][0], place + 1
        else:
            runs.append((place, place + 1))
    return runs


def _key(member: Extraction, number: int) -> Any:
    """Return what members of one pass have in common; its own number, if a member reads maps or pixels."""
    resolved, running = member.resolved, member.running
    if not all(len(source.shape) == 1 and source.layer != "input" for source in resolved.sources):
        return number
    crops, detector = resolved.crops, resolved.detector
    landmarks = None if crops is None or crops.landmarks is None else crops.landmarks.tobytes()
    return (
        *(resolved.crop, resolved.framing, resolved.finds_faces, resolved.views, resolved.has_view_axis),
        *(resolved.dtype, resolved.draft, crops is None, landmarks),
        None if detector is None else (detector.name, detector.sha256),
        *(running.on_error, str(running.cache), running.device),
    )


def _same(one: Source, other: Source) -> bool:
    return one.backbone == other.backbone and one.tensor == other.tensor
