"""Combine the extractors of several pipelines to few passes: one decode per picture if they agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._extraction.resolved import Resolved, Source
from agegender.extractor import EmbeddingExtractor
from agegender.pipeline import AgeGenderPipeline

__all__ = ["Pass", "faces_of", "passes_of"]

_AT_ONCE = 64


@dataclass
class Pass:
    """One extractor, and the columns that each model reads.

    Parameters
    ----------
    extractor : EmbeddingExtractor
    columns : dict of int to list of slice
        The parts of a row that each model reads, in its order.
    """

    extractor: EmbeddingExtractor
    columns: dict[int, list[slice]]

    def rows_of(self, model: int, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows that a model's head reads."""
        parts = self.columns[model]
        if len(self.extractor.backbones_) == 1:
            return rows
        read = [rows[..., part] for part in parts]
        return read[0] if len(read) == 1 else np.concatenate(read, axis=-1)


@dataclass
class _Group:
    first: EmbeddingExtractor
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
        extractor = self.first
        if tuple(self.sources) != extractor._resolved().sources:
            extractor = extractor.with_parameters(
                backbone=tuple(source.backbone for source in self.sources),
                layer=tuple(source.layer for source in self.sources),
                weights=None,
                engine="auto",
            )
            extractor._keep(extractor._resolved())
        ends = np.cumsum([0, *(source.shape[-1] for source in self.sources)]).tolist()
        columns = {
            number: [slice(ends[place], ends[place + 1]) for place in places]
            for number, places in self.read.items()
        }
        return Pass(extractor, columns)


def passes_of(models: Sequence[AgeGenderPipeline]) -> list[Pass]:
    """Return the passes that compute the rows of every model.

    Models share a pass if their extractors give networks the same squares and they read flat layers. Then
    each picture is decoded and its face is detected once for all of them, and a network that several models
    read runs once.
    """
    groups: dict[Any, _Group] = {}
    for number, model in enumerate(models):
        resolved = model.extractor_._resolved()
        group = groups.setdefault(_key(resolved, model.extractor_, number), _Group(model.extractor_))
        group.add(number, resolved.sources)
    return [group.joined() for group in groups.values()]


def _key(resolved: Resolved, extractor: EmbeddingExtractor, number: int) -> Any:
    flat = all(len(source.shape) == 1 and source.layer != "input" for source in resolved.sources)
    if not flat:
        return number
    crops, detector = resolved.crops, resolved.detector
    landmarks = None if crops is None or crops.landmarks is None else crops.landmarks.tobytes()
    return (
        *(resolved.crop, resolved.framing, resolved.finds_faces, resolved.views, resolved.has_view_axis),
        *(
            resolved.dtype,
            crops is None,
            landmarks,
            None if detector is None else (detector.name, detector.sha256),
        ),
        *(extractor.on_error, str(extractor.cache), extractor.device),
    )


def _same(one: Source, other: Source) -> bool:
    return one.backbone == other.backbone and one.tensor == other.tensor


def faces_of(
    passes: Sequence[Pass], pictures: Sequence[Any], max_bytes: float, faces: Any
) -> Iterator[tuple[list[tuple[int, Any]], list[NDArray[Any]]]]:
    """Yield the faces of pictures, and the rows of each pass for them, in blocks."""
    if len(passes) == 1:
        for places, rows in passes[0].extractor.transform_faces_blocks(pictures, max_bytes, faces=faces):
            yield places, [rows]
        return
    for start in range(0, len(pictures), _AT_ONCE):
        block = [pictures[i] for i in range(start, min(start + _AT_ONCE, len(pictures)))]
        found = [one.extractor.transform_faces(block, faces=faces) for one in passes]
        counts = [[len(each) for each in which] for which, _ in found]
        if any(other != counts[0] for other in counts[1:]):
            raise ValueError(
                "The models of this ensemble find faces with different detectors, and not the same number of them; "
                "name one: predict_faces(X, faces='yunet')."
            )
        places = [(start + i, face) for i, each in enumerate(found[0][0]) for face in each]
        if places:
            yield places, [rows for _, rows in found]
