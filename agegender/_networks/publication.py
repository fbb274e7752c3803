"""Information about a network that others publish: its files, their addresses, its input, its licence."""

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
        Its name in this library.
    project : {"deepface", "insightface", "uniface"}
        The project whose users have it; this determines the folder of its file.
    files : dict of str to str
        By suffix, the path of the weights file within that folder. A network has its ONNX form, its Keras form
        (".h5"), or both.
    addresses : dict of str to tuple of str
        By suffix, the addresses of the file, the main address first. An address that ends in ".zip" is an
        archive that contains the file.
    input_size : tuple of int
        Height and width, in pixels.
    mean, scale : float or tuple of three floats
        The input of the network is (x − mean)·scale; three numbers are in the network's colour order.
    n_numbers : int
        The length of its embedding.
    licence : str
        The licences of code and weights, and who published them.
    color : {"rgb", "bgr"}
        The colour order of its input.
    spelled : str
        Its name in its own project.
    known : dict of str to (str, int or None)
        By suffix, the sha256 and the size in bytes of the published file, if they are known.
    module, builder : str
        The module under ``deepface.models`` and the function with which deepface builds its Keras form.
    checked : str
        How it was verified that its input is prepared as in its own project.
    no_keras : str
        Why there is no Keras form, if users may expect one.
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
        """The folder in which its project stores such files on this machine."""
        return _FOLDERS[self.project]()

    def path(self, suffix: str) -> Path:
        """Return the path that its weights file has, or would have, on this machine."""
        return self.folder / self.files[suffix]

    def here(self) -> Path | None:
        """Return its weights file on this machine, preferably in ONNX form, or None if there is none."""
        return next((path for suffix in self.suffixes if (path := self.path(suffix)).is_file()), None)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Its available forms, ONNX first."""
        return tuple(sorted(self.files, key=lambda suffix: suffix != ".onnx"))

    def urls(self, suffix: str) -> list[str]:
        """Return the addresses of the weights file with this suffix, the main address first."""
        addresses = self.addresses.get(suffix, ())
        archived = any(address.endswith(".zip") for address in addresses)
        asked = addresses[0] if archived else self.files.get(suffix, "")
        return mirrored(addresses, PurePosixPath(asked).name)
