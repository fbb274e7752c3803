"""Options that several commands share, and what is made of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from agegender._utils.validation import check_choice

if TYPE_CHECKING:
    from agegender.backbones import Backbone
    from agegender.extractor import EmbeddingExtractor

BackboneOption = Annotated[
    str,
    typer.Option(
        help="A network by name (arcface, vggface, insightface/buffalo_l, compact; see `agegender networks`) "
        "or an .onnx file."
    ),
]
ColorOption = Annotated[
    str | None,
    typer.Option(
        help="Colour order that an .onnx file takes: rgb, or bgr; by default what it says, else rgb."
    ),
]
MeanOption = Annotated[
    float | None,
    typer.Option(
        help="An .onnx file is fed (pixel − mean) · scale; by default what it says, else 127.5 and 1/128."
    ),
]
ScaleOption = Annotated[str | None, typer.Option(help="A number or a fraction such as 1/128.")]
LayerOption = Annotated[
    str,
    typer.Option(
        help="embedding, penultimate, pooled, feature_map, a tensor's name, or auto: the head's own."
    ),
]
CropOption = Annotated[float, typer.Option(help="Fraction trimmed from every side of the pictures.")]
CacheOption = Annotated[str, typer.Option(help="Folder of the cache, 'auto' or 'none'.")]
BatchOption = Annotated[int, typer.Option(help="Pictures that pass through the network at once.")]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        help="A model saved by `agegender train`; without it, the one that comes with the package. "
        "Loading a .joblib file runs the code in it."
    ),
]
FacesOption = Annotated[
    str,
    typer.Option(
        help="What finds faces: auto, yunet, mtcnn, scrfd or its .onnx file; or none: each picture is a face crop."
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def parse_units(text: str) -> tuple[int, ...]:
    """Read a list of whole numbers such as 256,128."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"--units {text!r} is not a list of whole numbers such as 256 or 256,128."
        ) from error


def _number(text: str, option: str) -> float:
    top, slash, bottom = text.partition("/")
    try:
        return float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{option} {text!r} is not a number or a fraction such as 1/128.") from error


def backbone_of(name: str, color: str | None, mean: float | None, scale: str | None) -> str | Backbone:
    """Return a network's name, or the backbone that an .onnx file holds."""
    if not name.lower().endswith(".onnx"):
        given = {"--color": color, "--mean": mean, "--scale": scale}
        if ignored := [option for option, value in given.items() if value is not None]:
            raise ValueError(
                f"{' and '.join(ignored)} say what an .onnx file takes; the network {name!r} has its own colours and "
                f"normalisation. Leave {'it' if len(ignored) == 1 else 'them'} out."
            )
        return name
    from agegender.backbones import Backbone

    if color is not None:
        check_choice("--color", color, ("rgb", "bgr"), "agegender")
    order = cast(Literal["rgb", "bgr"] | None, color)
    factor = None if scale is None else _number(scale, "--scale")
    return Backbone.from_onnx(name, color=order, mean=mean, scale=factor)


def make_extractor(
    backbone: str,
    color: str | None,
    mean: float | None,
    scale: str | None,
    layer: str,
    crop: float,
    batch_size: int,
    cache: str,
    quiet: bool,
) -> EmbeddingExtractor:
    """Make an extractor of the options that describe one."""
    from agegender.extractor import EmbeddingExtractor

    return EmbeddingExtractor(
        backbone_of(backbone, color, mean, scale),
        layer=layer,
        crop=crop,
        batch_size=batch_size,
        cache=cache,
        verbose=0 if quiet else 1,
    )


@contextmanager
def cache_folder(cache: str) -> Iterator[str]:
    """Give a folder that lasts for this command where no cache is wanted."""
    if cache != "none":
        yield cache
        return
    with tempfile.TemporaryDirectory(prefix="agegender-") as folder:
        yield folder


def find_pictures(given: list[Path]) -> list[str]:
    """Return the files given, and every picture inside the folders given."""
    from agegender.images import SUFFIXES

    paths: list[str] = []
    for path in given:
        if path.is_dir():
            paths += sorted(str(p) for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        else:
            paths.append(str(path))
    if not paths:
        raise ValueError(f"No picture in {', '.join(map(str, given))}.")
    return paths
