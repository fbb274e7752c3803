"""The steps for each picture of one call: decode, frame, make views, resize, and run the networks."""

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
"""The number of a face in its picture, and the number of a part."""


@dataclass(frozen=True)
class Part:
    """The unit of caching: one network's activations of one view.

    Parameters
    ----------
    source, view : int
        Their numbers in the task.
    columns : slice
        Their columns in a row.
    """

    source: int
    view: int
    columns: slice


@dataclass(frozen=True)
class Task:
    """The steps of one call of ``transform`` for each picture.

    Parameters
    ----------
    sources : tuple of Source
        The networks and their layers.
    views : tuple of View
    framing : Framing
        How a face is made from each picture, and what is trimmed from its sides.
    batch_size : int
        Number of pictures per batch of a network.
    n_jobs : int or None
        Number of threads, resolved by the process that does the work.
    device : {"auto", "cpu", "cuda"}
        The device on which the networks run in that process.
    """

    sources: tuple[Source, ...]
    views: tuple[View, ...]
    framing: Framing
    batch_size: int
    n_jobs: int | None
    device: str

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The parts for every view and every network, one network after the other."""
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
        """The name of the networks together."""
        return " + ".join(source.backbone.name for source in self.sources)

    def show(self, content: images.Content, digest: bytes, wishes: Sequence[Wish]) -> list[NDArray[np.uint8]]:
        """Decode one picture to the inputs of the networks, once for all wishes.

        Parameters
        ----------
        content : bytes or ndarray
        digest : bytes
            The hash of the content.
        wishes : sequence of tuple of two int
            Faces and parts.

        Returns
        -------
        list of ndarray of shape (h, w, 3), uint8
            One picture per wish, in the size of its network.

        Raises
        ------
        PictureError
            If it cannot be decoded, or no face is found. The message refers to the content, not to the picture
            by its name.
        """
        picture = OpenedPicture(self.framing, content, digest)
        picture.check_faces()
        return self.show_opened(picture, wishes)

    def show_opened(self, picture: OpenedPicture, wishes: Sequence[Wish]) -> list[NDArray[np.uint8]]:
        """Return the network inputs from an opened picture; each face is decoded as large as it requires."""
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
        """Return the network inputs from a decoded picture whose faces are known."""
        seen: dict[tuple[Any, ...], NDArray[np.uint8]] = {}
        shown = []
        for face, number in wishes:
            part = self.parts[number]
            size = self.sources[part.source].backbone.input_size
            # A picture that is used as it is gives the same square for every network.
            square_of = None if self.framing.takes_as_is else size
            if (face, square_of, part.view) not in seen:
                square = self.framing.square(pixels, None if faces is None else faces[face], size)
                wanted = sorted({self.parts[other].view for one, other in wishes if one == face})
                # Views are made before the crop, because a shifted or rotated view shows what a crop would
                # have removed.
                for view, picture in zip(wanted, look(square, [self.views[v] for v in wanted]), strict=True):
                    seen[face, square_of, view] = images.trim(picture, self.framing.trimmed)
            shown.append(images.letterbox(seen[face, square_of, part.view], size))
        return shown

    def recipes(self, dtype: str) -> list[Recipe]:
        """Return the recipe under which rows of each part are stored, in this precision."""
        return [self._recipe(part, dtype) for part in self.parts]

    def _recipe(self, part: Part, dtype: str) -> Recipe:
        source = self.sources[part.source]
        backbone, pixels = source.backbone, source.layer == "input"
        return Recipe(  # pixels do not depend on the network, only on its input size
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
        """Return the function that computes a batch's rows; for pixels, it returns them unchanged."""
        wanted = self.sources[source]
        if wanted.layer == "input":
            return np.asarray
        threads = resolve_threads(self.n_jobs)
        return open_network(wanted.backbone, wanted.layer, n_threads=threads, device=self.device)

    def run(
        self, shown: Sequence[tuple[int, NDArray[np.uint8]]], opened: dict[int, Run]
    ) -> Iterator[tuple[list[int], NDArray[Any]]]:
        """Pass pictures through the networks of their parts, one batch at a time.

        Parameters
        ----------
        shown : sequence of tuple of int and ndarray
            The number of each picture's part, and its pixels.
        opened : dict
            The networks that this call has opened, by the number of their source; newly opened ones are
            added.

        Yields
        ------
        places : list of int
            The indices in `shown` of the pictures of a batch.
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
        """Return the task as it is sent to workers: without the networks' files and without the cache."""
        finder = self.framing.finder
        bare = tuple(
            replace(source, backbone=replace(source.backbone, content=None)) for source in self.sources
        )
        framing = replace(self.framing, finder=finder and FaceFinder(finder.detector, drafts=finder.drafts))
        return replace(self, sources=bare, framing=framing)
