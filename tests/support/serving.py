"""A real server on a free port of this machine, in a thread; and pictures to send it."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image

from agegender.serve import create_app
from agegender.serve._server import configure


@dataclass(frozen=True)
class Served:
    """A server that runs: its port, and a client."""

    port: int
    client: httpx.Client
    app: Any
    server: uvicorn.Server

    def predict(self, pictures: Sequence[bytes], **parameters: Any) -> httpx.Response:
        return self.post("/v1/predict", pictures, **parameters)

    def post(self, path: str, pictures: Sequence[bytes], **parameters: Any) -> httpx.Response:
        files = [("pictures", (f"picture-{i}.jpg", content)) for i, content in enumerate(pictures)]
        return self.client.post(path, files=files, params=parameters)

    def faces(self, pictures: Sequence[bytes], **parameters: Any) -> list[list[dict[str, Any]]]:
        answer = self.predict(pictures, **parameters)
        assert answer.status_code == 200, answer.text
        return [picture["faces"] for picture in answer.json()["pictures"]]

    def connect(self, *, small_buffer: bool = False) -> socket.socket:
        raw = socket.socket()
        raw.settimeout(20)
        if small_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", self.port))
        return raw

    def count(self, sample: str) -> float:
        """Return one of the metrics."""
        lines = self.client.get("/metrics").text.splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{sample} ")), 0.0)

    def wait_for(self, sample: str, n: float) -> None:
        """Wait until one of the metrics has a value."""
        wait_until(lambda: self.count(sample) == n, f"{sample} is {n:g}")


def wait_until(holds: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    """Wait until something holds; if it does not within so many seconds, the test fails and says what."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{seconds:g} seconds are over, and it does not hold that {what}"
        time.sleep(0.002)  # the service may run in this process, and needs its turn


def is_ended(raw: socket.socket) -> bool:
    """Wait until the other side ends the connection."""
    try:
        while raw.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def received_until(raw: socket.socket, end: bytes) -> bytes:
    """Return what arrives at a socket until it ends so."""
    received = b""
    while not received.endswith(end):
        part = raw.recv(65536)
        assert part, received[-1000:]
        received += part
    return received


@contextmanager
def serve(model: Any, *, port: int = 0, small_buffers: bool = False, **settings: Any) -> Iterator[Served]:
    """Run the service of a model until the block ends; small buffers make a client who does not read felt soon."""
    app = create_app(model, **{"faces": "mtcnn", **settings})
    server = uvicorn.Server(configure(app))
    with socket.create_server(("127.0.0.1", port), backlog=2048) as listening:
        if small_buffers:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        port = listening.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                client.get("/healthz")
                yield Served(port, client, app, server)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive(), "60 seconds are over, and the service has not stopped"


def encode(pixels: np.ndarray, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def blank() -> bytes:
    """Return a picture without a face."""
    return encode(np.full((120, 160, 3), 200, np.uint8))


def beside(first: bytes, second: bytes) -> bytes:
    """Return a picture of two others, the second at half size."""
    left = Image.open(io.BytesIO(first)).convert("RGB")
    right = Image.open(io.BytesIO(second)).convert("RGB").resize((left.width // 2, left.height // 2))
    both = Image.new("RGB", (left.width + right.width, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    return encode(np.asarray(both))


def png_claiming(width: int, height: int) -> bytes:
    """Return a small PNG file whose header claims a large picture."""
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


def as_text(content: bytes) -> str:
    return base64.b64encode(content).decode()
