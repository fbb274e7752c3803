"""A real server on a free port of this machine, in a thread; and pictures to send it."""

from __future__ import annotations

import base64
import io
import socket
import threading
from collections.abc import Iterator, Sequence
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

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def count(self, sample: str) -> float:
        """Return one of the metrics."""
        lines = self.client.get("/metrics").text.splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{sample} ")), 0.0)


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
            thread.join()


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
