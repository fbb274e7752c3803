"""What is known of a network that others publish: its files, their addresses, what it takes, its terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from agegender._networks.location import insightface_folder, mirrored, uniface_folder, weights_folder

__all__ = ["Published"]

_FOLDERS: dict[str, Callable[[], Path]] = {
    "deepface": weights_folder,
    "insightface": insightface_folder,
    "uniface": uniface_folder,
}


@dataclass(frozen=True)
class Published:
    """A network that others publish.

    Attributes
    ----------
    name : str
        Its name here.
    project : {"deepface", "insightface", "uniface"}
        Whose users have it, and so the folder in which it lies.
    files : dict of str to str
        By suffix, the path of the weights file within that folder. A network has its ONNX form, its Keras form
        (".h5"), or both.
    addresses : dict of str to tuple of str
        By suffix, where the file is published, the main address first. An address that ends in ".zip" is an archive
        with the file in it.
    input_size : tuple of int
        Height and width, in pixels.
    mean, scale : float or tuple of three floats
        The network is fed (x − mean)·scale; three numbers stand in its own order of colours.
    n_numbers : int
        The length of its embedding.
    licence : str
        Under what terms code and weights are published, and by whom.
    color : {"rgb", "bgr"}
        The order of colours that it takes.
    spelled : str
        What its own project calls it.
    known : dict of str to (str, int or None)
        By suffix, the sha256 and the size in bytes of the published file, where they are known.
    module, builder : str
        Where deepface builds its Keras form: the module under ``deepface.models`` and the function.
    checked : str
        How it was made sure that it is fed as its own project feeds it.
    no_keras : str
        Why there is no Keras form, where someone would expect one.
    """

    name: str
    project: Literal["deepface", "insightface", "uniface"]
    files: dict[str, str]
    addresses: dict[str, tuple[str, ...]]
    input_size: tuple[int, int]
    mean: float | tuple[float, float, float]
    scale: float | tuple[float, float, float]
    n_numbers: int
    licence: str
    color: Literal["rgb", "bgr"] = "bgr"
    spelled: str = ""
    known: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    module: str = ""
    builder: str = ""
    checked: str = ""
    no_keras: str = ""

    @property
    def folder(self) -> Path:
        """Where its project keeps such files on this machine."""
        return _FOLDERS[self.project]()

    def path(self, suffix: str) -> Path:
        """Return where its weights file lies, or would lie, on this machine."""
        return self.folder / self.files[suffix]

    def here(self) -> Path | None:
        """Return its weights file on this machine, the ONNX form first; None where there is none."""
        return next((path for suffix in self.suffixes if (path := self.path(suffix)).is_file()), None)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The forms that it has, ONNX first."""
        return tuple(sorted(self.files, key=lambda suffix: suffix != ".onnx"))

    def urls(self, suffix: str) -> list[str]:
        """Return the addresses of the weights file with this suffix, the first being the main one."""
        addresses = self.addresses.get(suffix, ())
        archived = any(address.endswith(".zip") for address in addresses)
        asked = addresses[0] if archived else self.files.get(suffix, "")
        return mirrored(addresses, PurePosixPath(asked).name)
