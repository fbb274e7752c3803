"""Every face of every picture cut out and embedded, a block of pictures at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._extraction.framing import Framing
from agegender._extraction.report import ExtractionReport, Failure
from agegender._machine.pools import reading_threads
from agegender._utils.progress import progress_bar
from agegender.exceptions import PictureError
from agegender.faces import Face

__all__ = ["EveryFace"]

# Pictures whose faces are held in memory at once.
_BLOCK = 64


class Embedder(Protocol):
    """What embeds squares: an `EmbeddingExtractor` that takes each as it is."""

    report_: ExtractionReport

    def transform(self, X: Sequence[NDArray[np.uint8]]) -> NDArray[Any]:
        """Return a row a square."""
        ...

    def row_shape(self) -> tuple[int, ...]:
        """Return the shape of a row."""
        ...


class EveryFace:
    """One pass over pictures of many faces each.

    Parameters
    ----------
    pictures : sequence of pictures
    framing : Framing
        With a finder.
    n_threads : int
        Pictures decoded and searched at once.
    skip_failures : bool
        A picture that cannot be read has no faces and is told of in the report; otherwise it is an error.

    Attributes
    ----------
    found : list of lists of Face
        The faces of each picture, filled by the call.
    """

    def __init__(
        self, pictures: Sequence[Any], framing: Framing, n_threads: int, skip_failures: bool
    ) -> None:
        self.pictures = pictures
        self.framing = framing
        self.n_threads = n_threads
        self.skip_failures = skip_failures
        self.found: list[list[Face]] = []

    def __call__(self, embedder: Embedder, verbose: int) -> tuple[NDArray[Any], ExtractionReport]:
        """Return a row a face, and what was done."""
        report = ExtractionReport()
        parts = []
        with (
            reading_threads(self.n_threads) as pool,
            progress_bar(len(self.pictures), "faces", verbose) as bar,
        ):
            for start in range(0, len(self.pictures), _BLOCK):
                block = range(start, min(start + _BLOCK, len(self.pictures)))
                squares = []
                for index, cut in zip(block, pool.map(self._cut, block), strict=True):
                    squares += self._faces(index, cut, report)
                if squares:
                    parts.append(embedder.transform(squares))
                    report = report.followed_by(embedder.report_)
                bar.update(len(block))
        if not parts:
            return np.empty((0, *embedder.row_shape()), np.float32), report
        return np.concatenate(parts), report

    def _cut(self, index: int) -> list[tuple[Face, NDArray[np.uint8]]] | PictureError:
        picture = self.pictures[index]
        try:
            content = images.read(picture)
            pixels = images.decode(content)
        except PictureError as error:
            return PictureError(images.describe(picture), error.reason)
        faces = self.framing.find(pixels, images.digest(content))
        return [(face, self.framing.cut(pixels, face)) for face in faces]

    def _faces(
        self, index: int, cut: list[tuple[Face, NDArray[np.uint8]]] | PictureError, report: ExtractionReport
    ) -> list[NDArray[np.uint8]]:
        """Note what was found in one picture, and return its faces' squares."""
        if isinstance(cut, PictureError):
            if not self.skip_failures:
                raise cut
            report.failures.append(Failure(index, cut.picture, cut.reason))
            cut = []
        self.found.append([face for face, _ in cut])
        return [square for _, square in cut]
