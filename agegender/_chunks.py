"""What is done with pictures once it is known which are missing: here, or a chunk at a time on a worker of a cluster.

A worker is given paths and looks for the pictures and the network itself; what it does not find it asks for. It
writes nothing into the cache: rows, and faces found on the way, go back in its answer.
"""

from __future__ import annotations

import platform
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._photographs.framing import FaceFinder, Framing
from agegender._pools import reading_threads
from agegender._threads import resolve_threads
from agegender.backbones import Backbone
from agegender.cache import Recipe
from agegender.exceptions import PictureError
from agegender.runtime import open_network
from agegender.views import View, look

__all__ = ["Answer", "Chunk", "Task", "embed_chunk"]

Run: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[Any]]


@dataclass(frozen=True)
class Task:
    """What one call of ``transform`` does with each picture.

    Parameters
    ----------
    backbone : Backbone
    layer : str
        The tensor's own name.
    views : tuple of View
    framing : Framing
        How each picture becomes a face, and what is trimmed from its sides.
    batch_size : int
        Pictures that pass through the network at once.
    n_jobs : int or None
        Threads, as whoever does the work counts them.
    device : {"auto", "cpu", "cuda"}
        What the network runs on, there.
    """

    backbone: Backbone
    layer: str
    views: tuple[View, ...]
    framing: Framing
    batch_size: int
    n_jobs: int | None
    device: str

    def show(self, content: images.Content, digest: bytes, views: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Decode one picture to what the network takes, once for all the views asked for.

        Raises
        ------
        PictureError
            If it cannot be decoded, or no face is found; it names the content, not the picture.
        """
        pixels = self.framing(images.decode(content), digest)
        # Before the crop: a view that is shifted or turned shows what a crop would have cut off.
        seen = look(pixels, [self.views[view] for view in views])
        trimmed = [images.trim(picture, self.framing.trimmed) for picture in seen]
        return [images.letterbox(picture, self.backbone.input_size) for picture in trimmed]

    def recipes(self, dtype: str) -> list[Recipe]:
        """Return what rows of each view are kept under, in this precision."""
        pixels = self.layer == "input"  # they depend on no network, only on its size
        first = Recipe(
            network="" if pixels else self.backbone.sha256,
            layer=self.layer,
            input_size=self.backbone.input_size,
            color="rgb" if pixels else self.backbone.color,
            mean=0.0 if pixels else self.backbone.mean,
            scale=1.0 if pixels else self.backbone.scale,
            crop=self.framing.crop,
            faces=self.framing.key,
            preprocessing=images.PREPROCESSING_VERSION,
            dtype=dtype,
        )
        return [replace(first, view=str(view)) for view in self.views]

    def open(self) -> Run:
        """Return what gives a batch's rows; pixels are their own."""
        if self.layer == "input":
            return np.asarray
        threads = resolve_threads(self.n_jobs)
        return open_network(self.backbone, self.layer, n_threads=threads, device=self.device)

    def sent(self) -> Task:
        """Return the task as it goes to workers: without the network's file, and without the cache."""
        finder = self.framing.finder
        return replace(
            self,
            backbone=replace(self.backbone, content=None),
            framing=replace(self.framing, finder=finder and FaceFinder(finder.detector)),
        )


@dataclass(frozen=True)
class Chunk:
    """Pictures that one worker embeds.

    Parameters
    ----------
    indices : list of int
        Where they stand in X.
    digests : list of bytes
        The identities of their contents.
    views : list of lists of int
        The views that are wanted of each.
    pictures : list of str, bytes and arrays
        Absolute paths, or contents.
    faces : dict of bytes to ndarray
        Faces found earlier, by the identity of the picture, as the cache keeps them.
    """

    indices: list[int]
    digests: list[bytes]
    views: list[list[int]]
    pictures: list[str | images.Content]
    faces: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)


@dataclass
class Answer:
    """What a worker has to say of a chunk.

    Attributes
    ----------
    places : list of tuples of two ints
        The position in the chunk and the view of each row.
    rows : ndarray of shape (len(places), ...) or None
    failed : list of tuples of int and PictureError
        Positions of pictures that cannot be embedded; the errors do not know the pictures' names.
    unreached : list of int
        Positions of paths under which the worker does not find what the driver saw there.
    faces : dict of bytes to ndarray
        Faces found for the first time.
    lacks_network : bool
        Nothing was done: the network's file is not on the worker's machine.
    error : Exception or None
        What else went wrong; it is the driver's to raise.
    """

    places: list[tuple[int, int]] = field(default_factory=list)
    rows: NDArray[Any] | None = None
    failed: list[tuple[int, PictureError]] = field(default_factory=list)
    unreached: list[int] = field(default_factory=list)
    faces: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    lacks_network: bool = False
    error: Exception | None = None


def embed_chunk(task: Task, chunk: Chunk, network: NDArray[np.uint8] | None = None) -> Answer:
    """Embed a chunk in this process.

    Parameters
    ----------
    task : Task
        As `Task.sent` gives it.
    chunk : Chunk
    network : ndarray of uint8, default=None
        The content of the network's file, for a machine that lacked it; kept there from then on.

    Returns
    -------
    Answer
        Always: an exception out of here is the cluster's own.
    """
    try:
        if task.layer != "input" and not task.backbone.is_here():
            if network is None:
                return Answer(lacks_network=True)
            replace(task.backbone, content=network.tobytes()).file()
        return _embed(task, chunk)
    except Exception as error:
        error.add_note(f"On the worker {platform.node()}:\n{traceback.format_exc()}")
        return Answer(error=error)


class _FacesOnTheWay:
    """In the place of a cache: faces that came with a chunk, and those that are to go back."""

    def __init__(self, known: dict[bytes, NDArray[np.float32]]) -> None:
        self.known = known
        self.found: dict[bytes, NDArray[np.float32]] = {}

    def load(self, recipe: Recipe, contents: Sequence[bytes], out: NDArray[Any]) -> NDArray[np.bool_]:
        here = np.array([content in self.known for content in contents])
        for place in np.flatnonzero(here).tolist():
            out[place] = self.known[contents[place]]
        return here

    def store(self, recipe: Recipe, contents: Sequence[bytes], rows: NDArray[Any]) -> bool:
        self.found.update(zip(contents, rows, strict=True))
        return True


def _embed(task: Task, chunk: Chunk) -> Answer:
    faces = _FacesOnTheWay(chunk.faces)
    if task.framing.finder is not None:
        finder = FaceFinder(task.framing.finder.detector, faces)
        task = replace(task, framing=replace(task.framing, finder=finder))
    answer = Answer(faces=faces.found)
    shown: list[NDArray[np.uint8]] = []
    with reading_threads(resolve_threads(task.n_jobs)) as pool:
        pictures = pool.map(lambda place: _shown(task, chunk, place), range(len(chunk.indices)))
        for place, pixels in enumerate(pictures):
            if pixels is None:
                answer.unreached.append(place)
            elif isinstance(pixels, PictureError):
                answer.failed.append((place, pixels))
            else:
                answer.places += [(place, view) for view in chunk.views[place]]
                shown += pixels
    if shown:
        run, size = task.open(), task.batch_size
        answer.rows = np.concatenate(
            [run(np.stack(shown[start : start + size])) for start in range(0, len(shown), size)]
        )
    return answer


def _shown(task: Task, chunk: Chunk, place: int) -> list[NDArray[np.uint8]] | PictureError | None:
    """Return a picture's pixels or what is wrong with it; None where its path leads to something else here."""
    picture, digest = chunk.pictures[place], chunk.digests[place]
    try:
        content = images.read(picture)
    except PictureError:
        return None
    if isinstance(picture, str) and images.digest(content) != digest:
        return None
    try:
        return task.show(content, digest, chunk.views[place])
    except PictureError as error:
        return type(error)(error.picture, error.reason)
