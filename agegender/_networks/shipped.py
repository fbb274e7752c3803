"""The networks inside the package: their properties and the paths of their files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agegender._utils.digests import sha256_of
from agegender.exceptions import WeightsError, WeightsNotFoundError

__all__ = ["SHIPPED", "Shipped"]


@dataclass(frozen=True)
class Shipped:
    """A network whose file is part of the package.

    Attributes
    ----------
    name : str
        Its name.
    sha256, size : str, int
        The digest of its file, and the file's size in bytes.
    color : {"rgb", "bgr"}
        The colour order of its input.
    mean, scale : float
        The input of the network is (x − mean)·scale.
    input_size : tuple of int
        Height and width, in pixels.
    licence : str
        The licence of its weights.
    n_numbers : int
        The length of its embedding.
    worth : str
        Measured accuracy of a head on one of its layers.
    head_digest : str
        The digest of the head in the package; see :func:`agegender._safe.onnx.head_digest`.
    layer : str
        The layer that the head in the package reads.
    """

    name: str
    sha256: str
    size: int
    color: Literal["rgb", "bgr"]
    mean: float
    scale: float
    input_size: tuple[int, int]
    licence: str
    n_numbers: int
    worth: str
    head_digest: str
    layer: str = "penultimate"

    @property
    def path(self) -> Path:
        """The path of its file in this installation."""
        return Path(str(resources.files("agegender").joinpath("pretrained", f"{self.name}.onnx")))

    @property
    def record_path(self) -> Path:
        """The path of the record of its layers and of its graph; see :mod:`agegender._networks.prepared`."""
        return self.path.with_name(f"{self.name}_prepared.json")

    def trained_on(self) -> NDArray[np.uint64]:
        """Return eight bytes of the digest of each training picture of the network, sorted."""
        content = (
            resources.files("agegender").joinpath("pretrained", f"{self.name}_trained_on.bin").read_bytes()
        )
        return np.frombuffer(content, "<u8").astype(np.uint64)

    def checked_path(self) -> Path:
        """Return the path of its file after checking that it is the shipped file.

        Raises
        ------
        WeightsNotFoundError, WeightsError
            If the file is missing from the installation, or another file is in its place.
        """
        if not self.path.is_file():
            raise WeightsNotFoundError(
                f"{self.path}, a part of agegender, is missing; install agegender again."
            )
        if (found := sha256_of(self.path)) != self.sha256:
            raise WeightsError(
                f"{self.path} is not the file that came with agegender (sha256 {found[:12]}…, not "
                f"{self.sha256[:12]}…); install agegender again."
            )
        return self.path


SHIPPED = {
    shipped.name: shipped
    for shipped in (
        Shipped(
            name="compact",
            sha256="4119b2cfeea203b33470379b568df10e9120bedabd7cc08acd6d3a0d8d06487d",
            size=6_723_247,
            color="rgb",
            mean=127.5,
            scale=1 / 64,
            input_size=(112, 112),
            licence=(
                "for non-commercial research only: trained on UTKFace, whose terms these are, from HSE's FaceRes "
                "(MIT), under a teacher of InsightFace's, whose terms these are too "
                "(agegender/pretrained/LICENSE-compact.txt)"
            ),
            n_numbers=128,
            worth="penultimate, one dense layer: 4.36 years, gender 95.2 % (1,826 kept-out pictures of UTKFace)",
            head_digest="12e4a970bd761a8426ca3bc8a52ede53acbfe9d08e5bd47c1a1dd31ce48f5854",
        ),
    )
}
