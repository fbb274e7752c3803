"""What is done with each picture of one call: decoded, framed, looked at, sized, and passed through the networks."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._extraction.framing import FaceFinder, Framing
from agegender._extraction.opened import OpenedPicture
from agegender._extraction.resolved import Source
from agegender._machine.threads import resolve_threads
from agegender.cache import Recipe
from agegender.faces import Face
from agegender.runtime import open_network
from agegender.views import View, look

__all__ = ["Part", "Run", "Task", "Wish"]

Run: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[Any]]
Wish: TypeAlias = tuple[int, int]
"""The number of a face in its picture, and that of a part."""


@dataclass(frozen=True)
class Part:
    """What is cached by itself: one network's activations of one view.

    Parameters
    ----------
    source, view : int
        Their numbers in the task.
    columns : slice
        Where they stand in a row.
    """

    source: int
    view: int
    columns: slice


@dataclass(frozen=True)
class Task:
    """What one call of ``transform`` does with each picture.

    Parameters
    ----------
    sources : tuple of Source
        The networks and their layers.
    views : tuple of View
    framing : Framing
        How each picture becomes a face, and what is trimmed from its sides.
    batch_size : int
        Pictures that pass through a network at once.
    n_jobs : int or None
        Threads, as whoever does the work counts them.
    device : {"auto", "cpu", "cuda"}
        What the networks run on, there.
    """

    sources: tuple[Source, ...]
    views: tuple[View, ...]
    framing: Framing
    batch_size: int
    n_jobs: int | None
    device: str

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Every view through every network, one network after the other."""
        if len(self.sources) == 1:
            columns = [slice(None)]
        else:
            ends = list(itertools.accumulate(math.prod(source.shape) for source in self.sources))
            columns = [slice(start, end) for start, end in itertools.pairwise([0, *ends])]
        return tuple(
            Part(source, view, columns[source])
            for source in range(len(self.sources))
            for view in range(len(self.views))
        )

    @property
    def name(self) -> str:
        """What the networks are called together."""
        return " + ".join(source.backbone.name for source in self.sources)

    def show(self, content: images.Content, digest: bytes, wishes: Sequence[Wish]) -> list[NDArray[np.uint8]]:
        """Decode one picture to what the networks take, once for all the wishes.

        Parameters
        ----------
        content : bytes or ndarray
        digest : bytes
            The identity of the content.
        wishes : sequence of tuple of two int
            Faces and parts.

        Returns
        -------
        list of ndarray of shape (h, w, 3), uint8
            A picture per wish, of its network's size.

        Raises
        ------
        PictureError
            If it cannot be decoded, or no face is found; it names the content, not the picture.
        """
        picture = OpenedPicture(self.framing, content, digest)
        picture.check_faces()
        return self.show_opened(picture, wishes)

    def show_opened(self, picture: OpenedPicture, wishes: Sequence[Wish]) -> list[NDArray[np.uint8]]:
        """Return what the networks take of an opened picture, each face decoded as large as it needs."""
        places: dict[int, list[int]] = defaultdict(list)
        for place, (face, number) in enumerate(wishes):
            size = self.sources[self.parts[number].source].backbone.input_size
            places[picture.shrink(face, size)].append(place)
        shown: dict[int, NDArray[np.uint8]] = {}
        for shrink, chosen in places.items():
            pixels, faces = picture.pixels(shrink), picture.faces_at(shrink)
            shown |= zip(chosen, self.cut(pixels, faces, [wishes[place] for place in chosen]), strict=True)
        return [shown[place] for place in range(len(wishes))]

    def cut(
        self, pixels: NDArray[np.uint8], faces: Sequence[Face] | None, wishes: Sequence[Wish]
    ) -> list[NDArray[np.uint8]]:
        """Return what the networks take of a decoded picture, whose faces are known."""
        seen: dict[tuple[Any, ...], NDArray[np.uint8]] = {}
        shown = []
        for face, number in wishes:
            part = self.parts[number]
            size = self.sources[part.source].backbone.input_size
            # A picture that is taken as it is looks the same to every network.
            square_of = None if self.framing.takes_as_is else size
            if (face, square_of, part.view) not in seen:
                square = self.framing.square(pixels, None if faces is None else faces[face], size)
                wanted = sorted({self.parts[other].view for one, other in wishes if one == face})
                # Before the crop: a view that is shifted or turned shows what a crop would have cut off.
                for view, picture in zip(wanted, look(square, [self.views[v] for v in wanted]), strict=True):
                    seen[face, square_of, view] = images.trim(picture, self.framing.trimmed)
            shown.append(images.letterbox(seen[face, square_of, part.view], size))
        return shown

    def recipes(self, dtype: str) -> list[Recipe]:
        """Return what rows of each part are kept under, in this precision."""
        return [self._recipe(part, dtype) for part in self.parts]

    def _recipe(self, part: Part, dtype: str) -> Recipe:
        source = self.sources[part.source]
        backbone, pixels = source.backbone, source.layer == "input"
        return Recipe(  # pixels depend on no network, only on its size
            network="" if pixels else backbone.sha256,
            layer=source.tensor,
            input_size=backbone.input_size,
            color="rgb" if pixels else backbone.color,
            mean=0.0 if pixels else backbone.mean,
            scale=1.0 if pixels else backbone.scale,
            crop=self.framing.crop,
            faces=self.framing.key,
            view=str(self.views[part.view]),
            preprocessing=images.PREPROCESSING_VERSION,
            dtype=dtype,
        )

    def open(self, source: int) -> Run:
        """Return what gives a batch's rows; pixels are their own."""
        wanted = self.sources[source]
        if wanted.layer == "input":
            return np.asarray
        threads = resolve_threads(self.n_jobs)
        return open_network(wanted.backbone, wanted.layer, n_threads=threads, device=self.device)

    def run(
        self, shown: Sequence[tuple[int, NDArray[np.uint8]]], opened: dict[int, Run]
    ) -> Iterator[tuple[list[int], NDArray[Any]]]:
        """Pass pictures through their parts' networks, a batch at a time.

        Parameters
        ----------
        shown : sequence of tuple of int and ndarray
            The number of each picture's part, and its pixels.
        opened : dict
            The networks that this call has opened, by the number of their source; others are added.

        Yields
        ------
        places : list of int
            Where the pictures of a batch stand in `shown`.
        rows : ndarray of shape (len(places), ...)
        """
        for source in range(len(self.sources)):
            places = [i for i, (part, _) in enumerate(shown) if self.parts[part].source == source]
            if places and source not in opened:
                opened[source] = self.open(source)
            for start in range(0, len(places), self.batch_size):
                batch = places[start : start + self.batch_size]
                yield batch, opened[source](np.stack([shown[i][1] for i in batch]))

    def lacks_a_network(self) -> bool:
        """Tell whether the file of a network is not on this machine."""
        return any(source.layer != "input" and not source.backbone.is_here() for source in self.sources)

    def sent(self) -> Task:
        """Return the task as it goes to workers: without the networks' files, and without the cache."""
        finder = self.framing.finder
        bare = tuple(
            replace(source, backbone=replace(source.backbone, content=None)) for source in self.sources
        )
        framing = replace(self.framing, finder=finder and FaceFinder(finder.detector, drafts=finder.drafts))
        return replace(self, sources=bare, framing=framing)
