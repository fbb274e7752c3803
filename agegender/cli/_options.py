"""Options that several commands share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agegender._utils.stores import find
from agegender._utils.urls import is_url, join, name_of, public, suffix_of
from agegender.cli._networks import networks_of

if TYPE_CHECKING:
    from agegender.extractor import EmbeddingExtractor

BackboneOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A network by name (arcface, vggface, insightface/buffalo_l, compact; see `agegender networks`) or an "
        ".onnx file. Repeat the option for several networks side by side. Options of one network stand behind "
        "commas: facenet,layer=pooled or file.onnx,color=bgr,mean=0,scale=1.",
        show_default="arcface",
    ),
]
ColorOption = Annotated[
    str | None,
    typer.Option(
        help="Colour order of an .onnx file's input: rgb or bgr; by default from its metadata, or rgb."
    ),
]
MeanOption = Annotated[
    str | None,
    typer.Option(
        help="The input of an .onnx file is (pixel − mean) · scale; by default from its metadata, or 127.5 and "
        "1/128. A number, or three for the network's colours: 103.9:116.8:123.7."
    ),
]
ScaleOption = Annotated[
    str | None, typer.Option(help="A number or a fraction such as 1/128, or three for the network's colours.")
]
_LAYER = (
    "embedding, penultimate, pooled, feature_map, a tensor's name, or auto: the layer of the head. It is for all "
    "networks without a layer= of their own."
)
LayerOption = Annotated[str | None, typer.Option(help=_LAYER, show_default="auto")]
EmbeddingLayerOption = Annotated[str | None, typer.Option(help=_LAYER, show_default="embedding")]
CropOption = Annotated[float, typer.Option(help="Fraction trimmed from every side of the pictures.")]
CacheOption = Annotated[str, typer.Option(help="Folder of the cache, 'auto' or 'none'.")]
BatchOption = Annotated[int, typer.Option(help="Pictures per batch of the network.")]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        help="A model saved by `agegender train`; without it, the pretrained model of the package. "
        "Loading a .joblib file runs the code in it."
    ),
]
FacesOption = Annotated[
    str,
    typer.Option(
        help="Face detector: auto, yunet, mtcnn, scrfd or an .onnx file of one; or none: each picture is a face crop."
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def parse_units(text: str) -> tuple[int, ...]:
    """Read a list of integers such as 256,128."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"--units {text!r} is not a list of integers such as 256 or 256,128.") from error


def make_extractor(
    backbone: Sequence[str] | None,
    color: str | None,
    mean: str | None,
    scale: str | None,
    layer: str | None,
    crop: float,
    batch_size: int,
    cache: str,
    quiet: bool,
    default_layer: str = "auto",
) -> EmbeddingExtractor:
    """Make an extractor from the options."""
    from agegender.extractor import EmbeddingExtractor

    flags = {"color": color, "mean": mean, "scale": scale}
    networks, layers = networks_of(backbone or ["arcface"], flags, layer, default_layer)
    return EmbeddingExtractor(
        networks,
        layer=layers,
        crop=crop,
        batch_size=batch_size,
        cache=cache,
        verbose=0 if quiet else 1,
    )


@contextmanager
def cache_folder(cache: str) -> Iterator[str]:
    """Yield a temporary folder for this command if no cache is wanted."""
    if cache != "none":
        yield cache
        return
    with tempfile.TemporaryDirectory(prefix="agegender-") as folder:
        try:
            yield folder
        except KeyboardInterrupt as stop:
            # The notes speak of what the cache keeps, and this one is deleted.
            stop.__notes__ = ["Nothing was kept: --cache none."]
            raise


def place(text: str) -> Path | str:
    """Return a path, or a URL as text, because `Path` would shorten its slashes."""
    return text if is_url(text) else Path(text)


def place_name(given: Path | str) -> str:
    """Return the last part of a location, also of the current folder."""
    if isinstance(given, Path):
        return Path(os.path.abspath(given)).name
    return name_of(given) or public(given).rpartition("/")[2]


def find_pictures(given: Sequence[Path | str]) -> list[str]:
    """Return the files and URLs given, and every picture inside the folders given.

    A URL without a picture's suffix is the URL of a folder, unless it has a query.
    """
    from agegender.images import SUFFIXES

    paths: list[str] = []
    for path in given:
        if isinstance(path, str):
            if suffix_of(path) in SUFFIXES or "?" in path:
                paths.append(path)
            else:
                paths += [join(path, name) for name in find(path) if suffix_of(name) in SUFFIXES]
        elif path.is_dir():
            paths += sorted(str(p) for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        else:
            paths.append(str(path))
    if not paths:
        raise ValueError(f"No picture in {', '.join(public(str(path)) for path in given)}.")
    return paths
