"""``agegender quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agegender._utils.files import check_writable
from agegender.cli._networks import network_of
from agegender.cli._options import (
    ColorOption,
    MeanOption,
    QuietOption,
    ScaleOption,
    find_pictures,
    place,
)
from agegender.cli._output import say, shown


def quantize(
    backbone: Annotated[str, typer.Argument(help="A network by name, or an .onnx file.")],
    pictures: Annotated[
        list[Path],
        typer.Argument(parser=place, help="Face crops, or folders of them, like those of your application."),
    ],
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    color: ColorOption = None,
    mean: MeanOption = None,
    scale: ScaleOption = None,
    n_pictures: Annotated[
        int, typer.Option(help="Number of pictures for measuring ranges, spread over those given.")
    ] = 128,
    max_error: Annotated[
        float, typer.Option(help="Allowed rounding error of the embedding, as a share of its variance.")
    ] = 0.03,
    quiet: QuietOption = False,
) -> None:
    """Write a network in 8-bit integers, which is two to four times as fast.

    Example: `agegender quantize arcface UTKFace/ --out arcface-int8.onnx`
    """
    from agegender.backbones import Backbone

    if out.suffix != ".onnx":
        raise ValueError(f"--out {out} should end in .onnx.")
    if n_pictures < 1:
        raise ValueError(f"--n-pictures {n_pictures} should be at least 1.")
    check_writable(out)
    paths = find_pictures(pictures)
    sample = paths[:: max(1, len(paths) // n_pictures)][:n_pictures]
    network = network_of(backbone, {"color": color, "mean": mean, "scale": scale})
    network = Backbone.load(network) if isinstance(network, str) else network
    made = network.quantize(sample, max_error=max_error, verbose=0 if quiet else 1)
    made.save(out)
    say(
        f"{made.name}: {made.size / 1e6:.1f} MB instead of {network.size / 1e6:.1f}, saved to {shown(out)}.",
        quiet,
    )
