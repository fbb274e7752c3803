"""From a picture to a network's square input: the face is found and aligned, re-framed, or used as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._pixels.alignment import Template, cut_out, oversampling, reframe, template_key
from agegender.cache import Recipe
from agegender.faces import Detector, Face, detect, detector_key

__all__ = ["FRAMING_VERSION", "FaceFinder", "Framing", "KeptRows", "scaled"]

FRAMING_VERSION = 1
"""Part of every key; it must be increased if the same landmarks give a different square."""

# Number of faces stored per picture, because all rows in the cache have the same length. A picture with more
# faces is searched again each time.
_MOST_KEPT = 32
_NUMBERS = 18


class KeptRows(Protocol):
    """The place where detected faces are stored: a cache, or a replacement for it."""

    def load(self, recipe: Recipe, digests: Sequence[bytes], out: NDArray[Any]) -> NDArray[np.bool_]:
        """Fill the rows that are known; return which ones."""
        ...

    def store(self, recipe: Recipe, digests: Sequence[bytes], rows: NDArray[Any]) -> bool:
        """Store rows; return whether they were stored."""
        ...


class FaceFinder:
    """Find the faces of pictures, each picture once if there is a cache.

    Several threads can call it at the same time.

    Parameters
    ----------
    detector : Detector
    cache : EmbeddingCache, default=None
        Where detected faces are stored, in the same file as the embeddings.
    drafts : bool, default=False
        Whether pictures are decoded at a fraction of their size, which moves landmarks slightly.
    """

    def __init__(self, detector: Detector, cache: KeptRows | None = None, *, drafts: bool = False) -> None:
        self.detector = detector
        self.cache = cache
        self.drafts = drafts
        self._largest: dict[bytes, NDArray[np.float32]] | None = None
        self.recipe = Recipe(
            network=detector.sha256,
            layer="faces",
            input_size=(detector.max_side, detector.max_side),
            color="rgb",
            mean=0.0,
            scale=1.0,
            crop=0.0,
            faces=f"{detector_key(detector)}-draft" if drafts else detector_key(detector),
            preprocessing=images.PREPROCESSING_VERSION,
        )

    def __call__(self, pixels: NDArray[np.uint8], digest: bytes, shrink: int = 1) -> list[Face]:
        """Return the faces of a picture, the largest first, in pixels of the picture at full size.

        Parameters
        ----------
        pixels : ndarray of shape (h, w, 3), uint8
            The upright picture.
        digest : bytes
            The hash of its content.
        shrink : int, default=1
            The factor by which `pixels` is smaller than the picture at full size.

        Returns
        -------
        list of Face
            Their numbers are rounded to single precision, both for new faces and for stored ones.
        """
        kept = self.known(digest)
        if kept is not None:
            return kept
        faces = [scaled(face, shrink) for face in detect(pixels, detector=self.detector)]
        found = [face.to_row().astype(np.float32) for face in faces]
        if self._largest is not None and found:
            self._largest[digest] = found[0]
        if self.cache is not None and len(found) <= _MOST_KEPT:
            rows = np.full((1, _MOST_KEPT, _NUMBERS), np.nan, np.float32)
            rows[0, : len(found)] = np.reshape(found, (-1, _NUMBERS))
            self.cache.store(self.recipe, [digest], rows)
        return [Face.from_row(row) for row in found]

    def remembering(self) -> FaceFinder:
        """Return a finder that holds the largest face of each picture in memory, for `largest`."""
        other = FaceFinder(self.detector, self.cache, drafts=self.drafts)
        other._largest = {}
        return other

    def largest(self, digests: Sequence[bytes]) -> dict[bytes, Face]:
        """Return the largest faces that were found in this call or earlier, by the hash of their picture."""
        held = self._largest or {}
        rows = {digest: held[digest] for digest in digests if digest in held}
        kept = self.kept([digest for digest in digests if digest not in rows])
        rows |= {digest: found[0] for digest, found in kept.items() if not np.isnan(found[0, 0])}
        return {digest: Face.from_row(row) for digest, row in rows.items()}

    def known(self, digest: bytes) -> list[Face] | None:
        """Return the faces of a picture if they were found earlier."""
        rows = self.kept([digest]).get(digest)
        return None if rows is None else self.faces_of(rows)

    @staticmethod
    def faces_of(rows: NDArray[np.float32]) -> list[Face]:
        """Return the faces in the value that `kept` returns for a picture."""
        return [Face.from_row(row) for row in rows if not np.isnan(row[0])]

    def kept(self, digests: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Return the faces found earlier, per picture, in the form in which they are stored."""
        if self.cache is None or not digests:
            return {}
        rows = np.empty((len(digests), _MOST_KEPT, _NUMBERS), np.float32)
        known = np.flatnonzero(self.cache.load(self.recipe, digests, rows)).tolist()
        return {digests[place]: rows[place] for place in known}

    def keep(self, found: Mapping[bytes, NDArray[np.float32]]) -> None:
        """Store faces that were found elsewhere, in the form that `kept` returns."""
        if self._largest is not None:
            self._largest |= {digest: rows[0] for digest, rows in found.items() if not np.isnan(rows[0, 0])}
        if self.cache is not None and found:
            self.cache.store(self.recipe, list(found), np.stack(list(found.values())))


@dataclass(frozen=True)
class Framing:
    """How a picture becomes the square that a network takes, before `crop` is trimmed.

    Parameters
    ----------
    crop : float
        The fraction that will be trimmed from every side. If it is negative and a face is aligned or
        re-framed, the square already shows that much more of the picture, and nothing is trimmed afterwards.
    finder : FaceFinder, default=None
        Finds the face; None if each picture is a face crop.
    template : Template, default="arcface"
        The positions to which the landmarks of a detected face are moved.
    source : str, default=None
        The framing of face crops that are transformed to ArcFace's framing.
    draft : float, default=None
        The minimum number of pixels per side of a face, as a multiple of the network's input, if JPEG files
        are decoded at a fraction of their size; None if they are decoded at full size.
    """

    crop: float
    finder: FaceFinder | None = None
    template: Template = "arcface"
    source: str | None = None
    draft: float | None = None

    @property
    def key(self) -> str | None:
        """Everything besides picture and crop that determines the square; None if pictures are used as is."""
        parts = [] if self.draft is None else [f"draft{self.draft:g}"]
        if self.finder is not None:
            key = f"{detector_key(self.finder.detector)}-{template_key(self.template)}-{FRAMING_VERSION}"
            parts.insert(0, key)
        elif self.source is not None:
            parts.insert(0, f"{self.source}-arcface-{FRAMING_VERSION}")
        return "-".join(parts) or None

    @property
    def takes_as_is(self) -> bool:
        """Whether the whole picture is used as the face."""
        return self.finder is None and self.source is None

    @property
    def trimmed(self) -> float:
        """The crop that remains to be made from the square."""
        return self.crop if self.takes_as_is else max(self.crop, 0.0)

    def square(
        self, pixels: NDArray[np.uint8], face: Face | None, input_size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Return the square of one face, so large that trimming the crop leaves the network's input.

        Parameters
        ----------
        pixels : ndarray of shape (h, w, 3), uint8
        face : Face or None
            One of the faces of the picture.
        input_size : tuple of int
            Height and width of the network's input, in pixels.
        """
        if face is not None:
            return cut_out(pixels, face.landmarks, self.size(input_size), self.template, self._margin)
        if self.source is not None:
            return reframe(pixels, self.size(input_size), self.source, margin=self._margin)
        return pixels

    @property
    def _margin(self) -> float:
        return max(-self.crop, 0.0)

    def oversampling(self, face: Face, input_size: tuple[int, int]) -> float:
        """Return how many pixels of the picture correspond to one pixel of the square, along a side."""
        return oversampling(face.landmarks, self.size(input_size), self.template, self._margin)

    def size(self, input_size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width of the square, before the crop."""
        left = 1 - 2 * max(self.crop, 0.0)
        return round(input_size[0] / left), round(input_size[1] / left)


def scaled(face: Face, factor: float) -> Face:
    """Return a face in a picture that is scaled by a factor; pixel centres stay pixel centres."""
    if factor == 1:
        return face
    return replace(
        face,
        x=face.x * factor,
        y=face.y * factor,
        width=face.width * factor,
        height=face.height * factor,
        landmarks=(np.asarray(face.landmarks) + 0.5) * factor - 0.5,
    )
