"""``agegender download``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from agegender.cli._options import QuietOption
from agegender.cli._output import say, tell


def download(
    networks: Annotated[
        list[str], typer.Argument(help="Names as `agegender networks` lists them, or yunet; several as well.")
    ],
    engine: Annotated[
        Literal["auto", "onnx", "keras"],
        typer.Option(help="Which form of a network's weights: auto takes the .onnx form where there is one."),
    ] = "auto",
    quiet: QuietOption = False,
) -> None:
    """Download weights in advance, verify them, and print their paths; existing files are only verified.

    This is for containers and for machines that will have no connection. DEEPFACE_HOME moves the folder.

    Example: `agegender download arcface yunet`
    """
    from agegender._detectors.yunet import PUBLISHED as YUNET
    from agegender._detectors.yunet import locate_yunet
    from agegender._networks.naming import published_name
    from agegender._utils.digests import sha256_of
    from agegender._utils.validation import check_choice
    from agegender.backbones import Backbone, known_backbones
    from agegender.faces import load_detector

    for name in networks:
        if published_name(name) is None:
            check_choice("NETWORK", name, (*known_backbones(), YUNET.name), "download")
    for name in networks:
        say(f"{name} …", quiet)
        if name == YUNET.name:
            path = locate_yunet()
            load_detector(path)
        else:
            path = Backbone.load(name, engine=engine).ensure_file()
        tell(f"{path}: {path.stat().st_size:,} bytes, sha256 {sha256_of(path)}")
