"""What this folder needs to know of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

__all__ = ["Description"]


class Description(Protocol):
    """The part of `agegender.backbones.Backbone` that this folder needs."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        ...

    @property
    def path(self) -> Path | None:
        """Where its file was found."""
        ...

    @property
    def sha256(self) -> str:
        """The identity of its file."""
        ...

    @property
    def size(self) -> int:
        """Size of its file, in bytes."""
        ...

    @property
    def suffix(self) -> str:
        """The kind of its file."""
        ...

    @property
    def format(self) -> Literal["onnx", "keras"]:
        """The engine that runs it."""
        ...

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of its input, in pixels."""
        ...

    @property
    def color(self) -> Literal["rgb", "bgr"]:
        """The colour order of its input."""
        ...

    @property
    def mean(self) -> float | tuple[float, float, float]:
        """The number that is subtracted from each pixel."""
        ...

    @property
    def scale(self) -> float | tuple[float, float, float]:
        """The factor by which each pixel is multiplied afterwards."""
        ...

    @property
    def licence(self) -> str | None:
        """The licence of its weights."""
        ...

    @property
    def structure(self) -> tuple[Any, ...]:
        """Everything that determines its layers."""
        ...

    def read_bytes(self) -> bytes:
        """Return the content of its file."""
        ...

    def ensure_file(self) -> Path:
        """Return a file with its content."""
        ...
