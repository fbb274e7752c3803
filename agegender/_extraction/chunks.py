"""A chunk of pictures embedded on a worker of a cluster.

A worker receives paths, and looks for the pictures and the network itself. It asks for those that it does not
find. It writes nothing into the cache: rows, and faces that it found, are returned in its answer.
"""

from __future__ import annotations

import platform
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._extraction.framing import FaceFinder
from agegender._extraction.task import Task, Wish
from agegender._machine.pools import reading_threads
from agegender._machine.threads import resolve_threads
from agegender.cache import Recipe
from agegender.exceptions import PictureError

__all__ = ["Answer", "Chunk", "embed_chunk"]


@dataclass(frozen=True)
class Chunk:
    """Pictures that one worker embeds.

    Parameters
    ----------
    indices : list of int
        The numbers of their rows on the driver.
    digests : list of bytes
        The hashes of their contents.
    wishes : list of lists of tuples of two ints
        The requested faces and parts of each picture.
    pictures : list of str, bytes and arrays
        Absolute paths, or contents.
    faces : dict of bytes to ndarray
        Faces found earlier, by the hash of the picture, in the form in which the cache stores them.
    """

    indices: list[int]
    digests: list[bytes]
    wishes: list[list[Wish]]
    pictures: list[str | images.Content]
    faces: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)


@dataclass
class Answer:
    """The result of a worker for one chunk.

    Attributes
    ----------
    rows : list of tuples of (list of tuples of two ints) and ndarray
        Batches: the position in the chunk and the part of each row, and the rows themselves.
    failed : list of tuples of int and PictureError
        Positions of pictures that cannot be embedded; the errors do not contain the pictures' names.
    unreached : list of int
        Positions of paths under which the worker does not find the same content as the driver.
    faces : dict of bytes to ndarray
        Faces found for the first time.
    lacks_network : bool
        If True, nothing was computed, because the file of a network is not on the worker's machine.
    error : Exception or None
        Any other error; the driver raises it.
    """

    rows: list[tuple[list[tuple[int, int]], NDArray[Any]]] = field(default_factory=list)
    failed: list[tuple[int, PictureError]] = field(default_factory=list)
    unreached: list[int] = field(default_factory=list)
    faces: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    lacks_network: bool = False
    error: Exception | None = None


def embed_chunk(task: Task, chunk: Chunk, *networks: NDArray[np.uint8]) -> Answer:
    """Embed a chunk in this process.

    Parameters
    ----------
    task : Task
        As returned by `Task.sent`.
    chunk : Chunk
    *networks : ndarrays of uint8
        The contents of all networks' files, for a machine that lacked one; the machine keeps them.

    Returns
    -------
    Answer
        In all cases: an exception raised here is an error of the cluster itself.
    """
    try:
        if task.lacks_a_network():
            if not networks:
                return Answer(lacks_network=True)
            for source, network in zip(task.sources, networks, strict=True):
                replace(source.backbone, content=network.tobytes()).ensure_file()
        return _embed(task, chunk)
    except Exception as error:
        error.add_note(f"On the worker {platform.node()}:\n{traceback.format_exc()}")
        return Answer(error=error)


class _FacesOnTheWay:
    """A replacement for the cache: the faces that came with a chunk, and the new faces that are returned."""

    def __init__(self, known: dict[bytes, NDArray[np.float32]]) -> None:
        self.known = known
        self.found: dict[bytes, NDArray[np.float32]] = {}

    def load(self, recipe: Recipe, digests: Sequence[bytes], out: NDArray[Any]) -> NDArray[np.bool_]:
        here = np.array([digest in self.known for digest in digests])
        for place in np.flatnonzero(here).tolist():
            out[place] = self.known[digests[place]]
        return here

    def store(self, recipe: Recipe, digests: Sequence[bytes], rows: NDArray[Any]) -> bool:
        self.found.update(zip(digests, rows, strict=True))
        return True


def _embed(task: Task, chunk: Chunk) -> Answer:
    faces = _FacesOnTheWay(chunk.faces)
    if task.framing.finder is not None:
        finder = FaceFinder(task.framing.finder.detector, faces, drafts=task.framing.finder.drafts)
        task = replace(task, framing=replace(task.framing, finder=finder))
    answer = Answer(faces=faces.found)
    shown: list[tuple[int, NDArray[np.uint8]]] = []
    places: list[tuple[int, int]] = []
    with reading_threads(resolve_threads(task.n_jobs)) as pool:
        pictures = pool.map(lambda place: _shown(task, chunk, place), range(len(chunk.indices)))
        for place, pixels in enumerate(pictures):
            if pixels is None:
                answer.unreached.append(place)
            elif isinstance(pixels, PictureError):
                answer.failed.append((place, pixels))
            else:
                for (_, part), square in zip(chunk.wishes[place], pixels, strict=True):
                    places.append((place, part))
                    shown.append((part, square))
    answer.rows = [([places[i] for i in batch], rows) for batch, rows in task.run(shown, {})]
    return answer


def _shown(task: Task, chunk: Chunk, place: int) -> list[NDArray[np.uint8]] | PictureError | None:
    """Return a picture's pixels or its error; None if its path leads to other content on this machine."""
    picture, digest = chunk.pictures[place], chunk.digests[place]
    try:
        content = images.read(picture)
    except PictureError:
        return None
    if isinstance(picture, str) and images.digest(content) != digest:
        return None
    try:
        return task.show(content, digest, chunk.wishes[place])
    except PictureError as error:
        return type(error)(error.picture, error.reason)
