"""The implementation of ``agegender serve``: the model's file, the socket, the workers."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from agegender._machine.cores import count_cores
from agegender.images import pixel_cap
from agegender.serve._app import create_app
from agegender.serve._connections import Connection, LiveConnection, raise_file_limit
from agegender.serve._limits import Limits
from agegender.serve._metrics import FOLDER
from agegender.serve._security import is_loopback, read_keys

__all__ = ["Settings", "build", "check", "configure", "run"]

_STOP_SECONDS = 30
# A worker that does not respond for this time is restarted; on a busy machine, imports take half a minute.
_START_SECONDS = 180
_BACKLOG = 2048


@dataclass(frozen=True)
class Settings:
    """The options of the command as plain values, which can be sent to a worker process."""

    load: Callable[[Path | None], Any]
    model: Path | None = None
    faces: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    key_file: Path | None = None
    insecure: bool = False
    hosts: tuple[str, ...] = ()


def check(settings: Settings) -> None:
    """Raise an error if the settings do not work, or would give everybody access by mistake."""
    if settings.workers < 1:
        raise ValueError(f"--workers {settings.workers} should be at least 1.")
    if not 0 <= settings.port <= 65535:
        raise ValueError(f"--port {settings.port} should be from 0 to 65535; 0 takes any that is free.")
    if settings.key_file is not None:
        read_keys(settings.key_file)
    elif not is_loopback(settings.host) and not settings.insecure:
        raise ValueError(
            f"--host {settings.host} is reached from other machines: give --api-key-file FILE (one key per line), "
            "or --insecure where everybody may use the service."
        )


def build(settings: Settings) -> Any:
    """Create the application in the process that runs it."""
    raise_file_limit()
    limits = Limits()
    if os.environ.get("AGEGENDER_MAX_PIXELS"):
        limits = replace(limits, max_pixels=pixel_cap())
    model = settings.load(settings.model)
    if settings.model is None:
        content = (resources.files("agegender.pretrained") / "compact.agegender").read_bytes()
        name, trained_on = "compact", "UTKFace, but for the pictures that kept_out_names('compact') lists"
    else:
        content, name, trained_on = settings.model.read_bytes(), settings.model.name, None
    return create_app(
        model,
        faces=settings.faces,
        name=name,
        sha256=hashlib.sha256(content).hexdigest(),
        trained_on=trained_on,
        limits=limits,
        keys=() if settings.key_file is None else read_keys(settings.key_file),
        hosts=settings.hosts,
        n_jobs=None if settings.workers == 1 else max(1, count_cores() // settings.workers),
    )


def configure(app: Any, **more: Any) -> uvicorn.Config:
    """Return uvicorn's settings for an application: limited connections, and no logging of requests."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings quote characters of the body
    return uvicorn.Config(
        app,
        http=Connection,
        ws=LiveConnection,
        ws_max_size=Limits().max_frame,
        ws_per_message_deflate=False,
        loop="asyncio",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_STOP_SECONDS,
        timeout_worker_healthcheck=_START_SECONDS,
        **more,
    )


def run(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; running requests are finished.

    Parameters
    ----------
    settings : Settings
    announce : callable
        Called with the page's address after the port is open.

    Raises
    ------
    ValueError, FileNotFoundError
        As `check`, and if there is no such model.
    OSError
        If the port cannot be opened.
    """
    check(settings)
    if settings.model is not None and not settings.model.is_file():
        settings.load(settings.model)  # says what is missing
    config = configure(functools.partial(build, settings), factory=True, workers=settings.workers)
    with ExitStack() as stack:
        listening = stack.enter_context(_listen(settings.host, settings.port))
        announce(_address(settings.host, listening.getsockname()[1]))
        if settings.workers == 1:
            uvicorn.Server(config).run(sockets=[listening])
            return
        os.environ[FOLDER] = stack.enter_context(tempfile.TemporaryDirectory(prefix="agegender-serve-"))
        Multiprocess(config, sockets=[listening]).run()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(
            f"{host} port {port} cannot be served ({error.strerror or error}); try --port 0."
        ) from error


def _address(host: str, port: int) -> str:
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
