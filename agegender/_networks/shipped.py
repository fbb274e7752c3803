"""The networks inside the package: what is known of each, and where its file lies."""

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
        Of its file, the size in bytes.
    color : {"rgb", "bgr"}
        The order of colours that it takes.
    mean, scale : float
        The network is fed (x − mean)·scale.
    input_size : tuple of int
        Height and width, in pixels.
    licence : str
        The terms of its weights.
    n_numbers : int
        The length of its embedding.
    worth : str
        What a head on one of its layers was measured to reach.
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

    @property
    def path(self) -> Path:
        """Where its file lies in this installation."""
        return Path(str(resources.files("agegender").joinpath("pretrained", f"{self.name}.onnx")))

    def trained_on(self) -> NDArray[np.uint64]:
        """Return eight bytes of the digest of each picture that the network was trained on, sorted."""
        content = (
            resources.files("agegender").joinpath("pretrained", f"{self.name}_trained_on.bin").read_bytes()
        )
        return np.frombuffer(content, "<u8").astype(np.uint64)

    def checked_path(self) -> Path:
        """Return where its file lies, once it is known to be the one that was shipped.

        Raises
        ------
        WeightsNotFoundError, WeightsError
            If the installation lacks it, or has another file in its place.
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
            sha256="79defcdf4398b0e33d150bbbeb12ccc1e94082aa148a44cddef3f6bc6aa2af83",
            size=3_125_011,
            color="rgb",
            mean=127.5,
            scale=1 / 64,
            input_size=(80, 80),
            licence=(
                "for non-commercial research only: trained on UTKFace, whose terms these are, under a teacher of "
                "InsightFace's, whose terms these are too (agegender/pretrained/LICENSE-compact.txt)"
            ),
            n_numbers=128,
            worth="penultimate, one dense layer: 5.35 years, gender 93.3 % (1,826 kept-out pictures of UTKFace)",
        ),
    )
}
