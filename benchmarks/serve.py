"""Measure `agegender serve` on this machine: load with hostile company, and the camera in a browser.

    python benchmarks/serve.py load                                   # drawn faces, MTCNN, a minute
    python benchmarks/serve.py load --photographs photos/ --faces face_detection_yunet_2026may.onnx
    python benchmarks/serve.py camera --photograph portrait.jpg       # frames a second in Chromium

`load`: 16 clients, each with one photograph on its way at a time, against what `predict_faces` makes of the same
photographs in a process of its own, the two in turns; beside the clients half-open connections, slow uploads, bombs
and cameras that say nothing. The clients take their time from the same cores. Ends with 1 if an answer was a 5xx or
memory grew. `camera` needs playwright and Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CLIENTS = 16
TURNS = 3
MOST_GROWTH_MB = 30

OWN = """
import sys, time
from pathlib import Path
from agegender import load_pretrained
model = load_pretrained("compact")
model.extractor_ = model.extractor_.with_parameters(cache=None)
pictures = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
model.predict_faces(pictures[:4], faces=sys.argv[2])
for line in sys.stdin:
    n_read, started = 0, time.perf_counter()
    while time.perf_counter() - started < float(line):
        model.predict_faces(pictures, faces=sys.argv[2])
        n_read += len(pictures)
    print(n_read / (time.perf_counter() - started), flush=True)
"""


@dataclass
class Load:
    """What the clients saw, and how the server's memory went."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return statistics.median(a / b for a, b in zip(self.rates, self.own, strict=True))

    @property
    def n_failed(self) -> int:
        return sum(n for status, n in self.statuses.items() if status >= 500)

    @property
    def growth(self) -> float:
        """Megabytes from the first third to the end."""
        return max(self.megabytes[-5:]) - max(self.megabytes[: len(self.megabytes) // 3])

    def quantile(self, share: float) -> float:
        return 1000 * sorted(self.seconds)[int(share * (len(self.seconds) - 1))]


@contextlib.contextmanager
def server(faces: str) -> Iterator[tuple[int, int]]:
    """Run the command; give its process and its port."""
    command = [
        sys.executable,
        "-c",
        "from agegender.cli import main; main()",
        "serve",
        "--port",
        "0",
        "--faces",
        faces,
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r":(\d+) ·", line)
        if not found:
            raise SystemExit(line + process.stderr.read())
        yield process.pid, int(found[1])
    finally:
        process.terminate()
        process.wait(60)


def resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1000  # type: ignore[index]


def as_request(content: bytes) -> bytes:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="a.jpg"\r\n\r\n'
        + content
        + b"\r\n--x--\r\n"
    )
    return (
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )


async def client(port: int, requests: list[bytes], first: int, until: float, load: Load) -> int:
    """Send one photograph after the other; return how many were answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    n_answered = 0
    while time.perf_counter() < until:
        started = time.perf_counter()
        writer.write(requests[(first + n_answered) % len(requests)])
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # type: ignore[index]
        load.statuses[int(head.split()[1])] += 1
        load.seconds.append(time.perf_counter() - started)
        n_answered += 1
    writer.close()
    return n_answered


async def nuisance(port: int, kind: bytes, until: float) -> None:
    """Open connections that are of no use to anybody, again and again."""
    while time.perf_counter() < until:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(kind)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(writer.drain(), 2)
            await asyncio.sleep(2)
            writer.transport.abort()


HOSTILE = (
    [b"POST /v1/predict HTTP/1.1\r\nHost: loc"] * 40  # half a head
    + [as_request(b"x" * 1000)[:-500]] * 20  # an upload that stops
    + [as_request(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\2\0\0\0")] * 5  # 65,536 × 65,536 pixels
    + [
        b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ]
    * 3  # a camera that says nothing
)


async def clients(port: int, requests: list[bytes], seconds: float, load: Load, pid: int) -> None:
    until = time.perf_counter() + seconds
    troubles = [asyncio.create_task(nuisance(port, kind, until)) for kind in HOSTILE]
    work = [asyncio.create_task(client(port, requests, 3 * i, until, load)) for i in range(CLIENTS)]
    started = time.perf_counter()
    while time.perf_counter() < until:
        await asyncio.sleep(0.5)
        load.megabytes.append(resident(pid))
    n_answered = sum(await asyncio.gather(*work))
    load.rates.append(n_answered / (time.perf_counter() - started))
    await asyncio.gather(*troubles)


def measure(seconds: float, photographs: Path | None = None, faces: str = "mtcnn") -> Load:
    """Load a server for so many seconds in all, in turns with the library."""
    load = Load()
    with tempfile.TemporaryDirectory() as folder:
        if photographs is None:
            from agegender.datasets import make_faces

            make_faces(24, folder, size=600)
        else:
            folder = str(photographs)
        pictures = [path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.suffix != ".csv"]
        kept = Path(tempfile.mkdtemp())
        for number, content in enumerate(pictures):
            (kept / f"{number:03d}").write_bytes(content)
        requests = [as_request(content) for content in pictures]
        own = subprocess.Popen(
            [sys.executable, "-c", OWN, str(kept), faces],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert own.stdin is not None
        assert own.stdout is not None
        try:
            with server(faces) as (pid, port):
                asyncio.run(clients(port, requests, 3, Load(), pid))  # warm
                for _ in range(TURNS):
                    own.stdin.write(f"{seconds / TURNS / 2}\n")
                    own.stdin.flush()
                    load.own.append(float(own.stdout.readline()))
                    asyncio.run(clients(port, requests, seconds / TURNS, load, pid))
        finally:
            own.kill()
            own.wait()
    return load


def tell(load: Load) -> str:
    answers = ", ".join(f"{n:,} × {status}" for status, n in sorted(load.statuses.items()))
    rate, own = statistics.median(load.rates), statistics.median(load.own)
    return (
        f"{rate:.1f} photographs/s beside {own:.1f} by predict_faces ({load.ratio:.2f} ×); answers {answers}; "
        f"median {load.quantile(0.5):.0f} ms, 99 % within {load.quantile(0.99):.0f} ms; resident memory "
        f"{load.megabytes[0]:.0f} MB at first, {load.megabytes[-1]:.0f} MB at the end"
    )


def film(photograph: Path, out: Path) -> None:
    """Write 30 frames of 640 × 480 in which a photograph sways a little."""
    import numpy as np
    from PIL import Image, ImageOps

    picture = ImageOps.fit(Image.open(photograph).convert("RGB"), (680, 510))
    with out.open("wb") as file:
        for step in range(30):
            left, top = 20 + round(15 * np.sin(step / 4.77)), 15 + round(10 * np.cos(step / 4.77))
            frame = io.BytesIO()
            picture.crop((left, top, left + 640, top + 480)).save(frame, "JPEG", quality=90)
            file.write(frame.getvalue())


def camera(photograph: Path, faces: str, seconds: float) -> None:
    """Show Chromium's camera a film; print frames a second as the page tells them."""
    import shutil

    from playwright.sync_api import sync_playwright

    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with tempfile.TemporaryDirectory() as folder, server(faces) as (_, port), sync_playwright() as playwright:
        film(photograph, Path(folder) / "film.mjpeg")
        flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        flags += [f"--use-file-for-fake-video-capture={folder}/film.mjpeg"]
        executable = os.environ.get("AGEGENDER_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=executable, args=flags)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}")
        page.click("#tab-camera")
        page.click("#camera-start")
        page.wait_for_selector("#live-faces .face")
        told = []
        for _ in range(round(seconds / 2)):
            page.wait_for_timeout(2000)
            told.append(
                {
                    name: float(page.get_attribute("#rate", f"data-{name}"))
                    for name in ("fps", "behind", "worst")
                }
            )
        browser.close()
    told = told[1:]
    print(
        f"{faces}: {statistics.median(each['fps'] for each in told):.1f} frames/s, newest answer "
        f"{statistics.median(each['behind'] for each in told):.0f} ms behind its frame on average, at worst "
        f"{max(each['worst'] for each in told):.0f} ms"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["load", "camera"])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--faces", default="mtcnn")
    parser.add_argument("--photographs", type=Path, help="a folder; drawn faces without it")
    parser.add_argument("--photograph", type=Path, help="what the camera sees")
    options = parser.parse_args()
    if options.what == "camera":
        if options.photograph is None:
            parser.error("camera needs --photograph FILE")
        camera(options.photograph, options.faces, options.seconds)
        return 0
    load = measure(options.seconds, options.photographs, options.faces)
    print(tell(load))
    print(json.dumps({"ratios": [round(a / b, 3) for a, b in zip(load.rates, load.own, strict=True)]}))
    return 1 if load.n_failed or load.growth > MOST_GROWTH_MB else 0


if __name__ == "__main__":
    sys.exit(main())
