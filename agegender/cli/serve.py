"""``agegender serve``."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from agegender.cli._models import load_predictor
from agegender.cli._options import ModelOption, QuietOption
from agegender.cli._output import complain, say, shown


def serve(
    model: ModelOption = None,
    faces: Annotated[
        str,
        typer.Option(
            help="What finds faces unless a request says so: auto, yunet, mtcnn, a YuNet .onnx file."
        ),
    ] = "auto",
    host: Annotated[
        str, typer.Option(help="Address to serve at; any but this machine's own needs keys or --insecure.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to serve at; 0 takes any that is free.")] = 8000,
    workers: Annotated[
        int, typer.Option(help="Processes; each loads the model and takes its share of cores.")
    ] = 1,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File of API keys, one per line; without one of them nobody is answered."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Serve other machines without keys.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Host name that the service is reached by; may be given again.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Serve a page with a camera and an HTTP service, by default only for this machine.

    Nothing of a picture is stored or logged. After Ctrl-C, it finishes running requests and stops.

    Examples: `agegender serve --open` ·
    `agegender serve --model model.agegender --host 0.0.0.0 --api-key-file keys.txt --allow-host faces.example.org` ·
    `curl -F pictures=@holiday.jpg "http://127.0.0.1:8000/v1/predict?coverage=0.8"`
    """
    signal.signal(signal.SIGTERM, _stop)
    try:
        from agegender.serve import _server
    except ImportError as error:
        raise ValueError(str(error)) from error
    settings = _server.Settings(
        load=load_predictor,
        model=model,
        faces=faces,
        host=host,
        port=port,
        workers=workers,
        key_file=api_key_file,
        insecure=insecure,
        hosts=tuple(allow_host or ()),
    )

    def announce(address: str) -> None:
        name = "the model of the package" if model is None else shown(model)
        say(f"Serving {name} at {address} · Ctrl-C stops.", quiet)
        if insecure and api_key_file is None:
            complain("Warning", "--insecure: whoever reaches it may use it.")
        if open_page:
            typer.launch(address)

    _server.run(settings, announce)


def _stop(*_: Any) -> None:
    # The first process of a container ignores a SIGTERM without a handler, also while it still loads.
    raise SystemExit(0)
