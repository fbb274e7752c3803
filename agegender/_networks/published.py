"""The networks that deepface publishes: names, files, addresses, terms."""

from __future__ import annotations

from dataclasses import dataclass

from agegender._networks.location import mirrored

__all__ = ["PUBLISHED", "Published"]

_SOURCES = (
    "https://github.com/serengil/deepface_models/releases/download/v1.0/",
    "https://huggingface.co/serengil/deepface/resolve/main/",
)


@dataclass(frozen=True)
class Published:
    """A network that deepface publishes.

    Attributes
    ----------
    name : str
        Its name here.
    module, builder : str
        Where deepface builds it: the module under ``deepface.models.facial_recognition.tf`` and the function.
    stem : str
        The name of its weights files, without suffix.
    input_size : tuple of int
        Height and width, in pixels.
    mean, scale : float
        The network is fed (x − mean)·scale.
    n_numbers : int
        The length of its embedding.
    licence : str
        Under what terms code and weights are published, and by whom.
    known : dict of str to (str, int)
        By suffix, the sha256 and the size in bytes of the published file, where they are known.
    """

    name: str
    module: str
    builder: str
    stem: str
    input_size: tuple[int, int]
    mean: float
    scale: float
    n_numbers: int
    licence: str
    known: dict[str, tuple[str, int]]

    def urls(self, suffix: str) -> list[str]:
        """Return the addresses of the weights file with this suffix, the first being the main one."""
        return [f"{source}{self.stem}{suffix}" for source in mirrored(_SOURCES)]


_FACENET_LICENCE = (
    "MIT (davidsandberg/facenet), converted by deepface (MIT); trained on face collections that were gathered for "
    "research, whose terms a commercial use should look into"
)
PUBLISHED = {
    published.name: published
    for published in (
        Published(
            name="arcface",
            module="ArcFace",
            builder="load_model",
            stem="arcface_weights",
            input_size=(112, 112),
            mean=127.5,
            scale=1 / 128,
            n_numbers=512,
            licence=(
                "MIT (leondgarse/Keras_insightface), converted by deepface (MIT); InsightFace offers models trained "
                "on its collections for non-commercial research only"
            ),
            known={
                ".h5": ("6336979c0c602cae08d1122a66f4dfb862d059bbcd8ef80306aef2b2249b0c93", 137_026_640),
            },
        ),
        Published(
            name="facenet",
            module="Facenet",
            builder="load_facenet128d_model",
            stem="facenet_weights",
            input_size=(160, 160),
            mean=127.5,
            scale=1 / 127.5,
            n_numbers=128,
            licence=_FACENET_LICENCE,
            known={},
        ),
        Published(
            name="facenet512",
            module="Facenet",
            builder="load_facenet512d_model",
            stem="facenet512_weights",
            input_size=(160, 160),
            mean=127.5,
            scale=1 / 127.5,
            n_numbers=512,
            licence=_FACENET_LICENCE,
            known={
                ".h5": ("3f76b5117a9ca574d536af8199e6720089eb4ad3dc7e93534496d88265de864f", 94_955_648),
            },
        ),
        Published(
            name="openface",
            module="OpenFace",
            builder="load_model",
            stem="openface_weights",
            input_size=(96, 96),
            mean=0.0,
            scale=1 / 255,
            n_numbers=128,
            licence="Apache-2.0 (cmusatyalab/openface), by way of iwantooxxoox/Keras-OpenFace and deepface (MIT)",
            known={},
        ),
    )
}
