"""What is done with each picture of one call: decoded, framed, looked at, sized, and passed through the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._extraction.framing import FaceFinder, Framing
from agegender._machine.threads import resolve_threads
from agegender.backbones import Backbone
from agegender.cache import Recipe
from agegender.runtime import open_network
from agegender.views import View, look

__all__ = ["Task"]

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
