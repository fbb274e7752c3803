"""Feed mutated pictures to the gate for as long as you like, and count what must not happen.

    python benchmarks/fuzz_images.py --minutes 30

Child processes decode; the parent notes crashes (by signal), hangs (no answer in time), errors other than
PictureError, and decoding that takes more than 100 MB plus 12 bytes for each pixel that the header claims. An
input is made from its number alone: `--show NUMBER FILE` writes it out again. With `--large`, whole pictures of
16 megapixels are decoded first and their peaks printed. Ends with 1 where something was found. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import random
import resource
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from picture_encodings import HEIGHT, WIDTH, encode, encodings, exif

from agegender import images
from agegender._pixels.decoding import open_image
from agegender.exceptions import PictureError

FIXED_BYTES, BYTES_A_PIXEL = 100_000_000, 12
INTERESTING = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF]


class Outcome(NamedTuple):
    number: int
    kind: str  # "pixels", "refused", or what was found
    detail: str
    seconds: float
    peak: int
    n_bytes: int = 0


class Sums(NamedTuple):
    counts: Counter[str]
    n_bytes: int
    found: list[Outcome]
    slowest: Outcome
    highest: Outcome


@cache
def seeds() -> list[bytes]:
    """Every encoding of a small picture, and the common ones of a middling photograph."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((600, 400))
    middling = [encode(photo, kind) for kind in ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF")]
    middling += [encode(photo, "JPEG", progressive=True, exif=exif(6)), encode(photo.quantize(64), "GIF")]
    middling += [encode(photo, "TIFF", compression=name) for name in ("tiff_deflate", "packbits", "tiff_lzw")]
    return [encoded.content for encoded in encodings().values()] + middling + heic_seeds()


def heic_seeds() -> list[bytes]:
    try:
        from picture_encodings import heic

        return [heic().content]
    except ImportError:
        return []


def mutated(number: int) -> bytes:
    rng = random.Random(number)
    content = bytearray(rng.choice(seeds()))
    for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 10, 40])):
        mutate(content, rng)
    if rng.random() < 0.5:
        claim(content, rng)
    return bytes(mended(content) if rng.random() < 0.8 else content)


def claim(content: bytearray, rng: random.Random) -> None:
    """Write another number wherever the header seems to have a width or a height."""
    value = rng.choice([*INTERESTING, rng.randrange(1, 9_000), rng.randrange(1, 9_000)])
    for side in (WIDTH, HEIGHT, 600, 400):
        for form in ("<H", ">H"):
            place = content[:600].find(struct.pack(form, side))
            if place >= 0 and rng.random() < 0.7:
                content[place : place + 2] = struct.pack(form, value & 0xFFFF)


def mended(content: bytearray) -> bytearray:
    """Make a PNG file's checksums right again, that the damage may reach the decoder."""
    position = 8
    while content.startswith(b"\x89PNG") and position + 12 <= len(content):
        end = position + 8 + int.from_bytes(content[position : position + 4], "big")
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[position + 4 : end]))
        position = end + 4
    return content


def mutate(content: bytearray, rng: random.Random) -> None:
    # Headers decide what is allocated, so every other change hits the first bytes.
    reach = len(content) if rng.random() < 0.5 else min(len(content), 256)
    place = rng.randrange(max(1, reach))
    end = place + rng.choice([1, 2, 4, 16, 64, 512])
    action = rng.choice(["bit", "byte", "number", "number", "cut", "double", "splice", "noise", "end"])
    if action == "bit":
        content[place : place + 1] = bytes(b ^ 1 << rng.randrange(8) for b in content[place : place + 1])
    elif action == "byte":
        content[place : place + 1] = rng.randbytes(1)
    elif action == "number":
        form = rng.choice(["B", ">H", "<H", ">I", "<I"])
        value = rng.choice([*INTERESTING, rng.randrange(20_000)]) & (1 << 8 * struct.calcsize(form)) - 1
        content[place : place + struct.calcsize(form)] = struct.pack(form, value)
    elif action == "cut":
        del content[place:end]
    elif action == "double":
        content[place:place] = content[place:end] * rng.choice([1, 2, 50])
    elif action == "splice":
        content[place:end] = rng.choice(seeds())[place:end]
    elif action == "noise":
        content[place:end] = rng.randbytes(end - place)
    else:
        del content[max(16, place) :]


def resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def reset_peak() -> int:
    """Give freed memory back, start the high-water mark anew and return where it stands."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def claimed(content: bytes) -> int:
    try:
        width, height = open_image(content, images.MAX_PIXELS).size
    except Exception:
        return 0
    return width * height


def judge(number: int, content: bytes) -> Outcome:
    before, started = reset_peak(), time.perf_counter()
    kind, detail = "pixels", ""
    try:
        pixels = images.decode(content)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            kind, detail = "wrong pixels", f"{pixels.dtype} {pixels.shape}"
        del pixels
    except PictureError as error:
        kind, detail = "refused", error.reason
        if isinstance(error.__cause__, MemoryError):
            kind = "out of memory"
    except BaseException as error:
        kind, detail = "other error", repr(error)
    seconds, peak = time.perf_counter() - started, resident("VmHWM") - before
    if peak > FIXED_BYTES + BYTES_A_PIXEL * claimed(content):
        kind, detail = "too much memory", f"{peak / 1e6:.0f} MB for {claimed(content):,} pixels"
    return Outcome(number, kind, detail, seconds, peak, len(content))


def work(connection: Connection) -> None:
    # libtiff and Pillow tell of every damaged TIFF file there.
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    # Should the bound below not hold, the machine is not to suffer for it.
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, resource.RLIM_INFINITY))
    for content in seeds():
        images.decode(content)
    connection.send(None)
    while (number := connection.recv()) is not None:
        connection.send(judge(number, mutated(number)))


class Worker:
    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        if not self.connection.poll(120):
            raise SystemExit("A worker did not start.")
        self.connection.recv()

    def begin(self, number: int) -> None:
        self.number, self.since = number, time.monotonic()
        self.connection.send(number)

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def collect(worker: Worker, ready: bool, limit: float) -> Outcome | None:
    """What came of a worker's input, None while it is at it."""
    spent = time.monotonic() - worker.since
    if ready:
        try:
            outcome: Outcome = worker.connection.recv()
            return outcome
        except EOFError:
            worker.process.join()
            return Outcome(worker.number, "crash", f"exit code {worker.process.exitcode}", spent, 0)
    return Outcome(worker.number, "hang", f"no answer in {limit} s", spent, 0) if spent > limit else None


def fuzz(minutes: float, n_workers: int, first: int, limit: float) -> Sums:
    """Run for some minutes; print what is found at once, and return the sums."""
    counts: Counter[str] = Counter()
    found: list[Outcome] = []
    slowest = highest = Outcome(-1, "", "", 0.0, 0)
    n_bytes = 0
    numbers, until = iter(range(first, sys.maxsize)), time.monotonic() + 60 * minutes
    workers = [Worker() for _ in range(n_workers)]
    for worker in workers:
        worker.begin(next(numbers))
    while workers:
        ready = wait([worker.connection for worker in workers], timeout=1)
        for worker in list(workers):
            outcome = collect(worker, worker.connection in ready, limit)
            if outcome is None:
                continue
            counts[outcome.kind] += 1
            n_bytes += outcome.n_bytes
            slowest = max(slowest, outcome, key=lambda each: each.seconds)
            highest = max(highest, outcome, key=lambda each: each.peak)
            if outcome.kind not in ("pixels", "refused"):
                found.append(outcome)
                print(f"FOUND {outcome.kind}: input {outcome.number}: {outcome.detail}", file=sys.stderr)
            if outcome.kind in ("crash", "hang") or time.monotonic() > until:
                worker.end()
                workers.remove(worker)
                if time.monotonic() <= until:
                    workers.append(worker := Worker())
            if worker in workers:
                worker.begin(next(numbers))
    return Sums(counts, n_bytes, found, slowest, highest)


def large_pictures() -> dict[str, bytes]:
    rows, columns = np.mgrid[0:4000, 0:4000].astype(np.uint16)
    pixels = np.stack([rows + columns, rows * 3, columns * 5], axis=2).astype(np.uint8)
    photo, clear = Image.fromarray(pixels), Image.fromarray(np.dstack([pixels, pixels[..., 0]]))
    ink = {"progressive": True, "subsampling": 0}
    return {
        "JPEG": encode(photo, "JPEG"),
        "JPEG, turned": encode(photo, "JPEG", exif=exif(6)),
        "JPEG, progressive": encode(photo, "JPEG", **ink),
        "JPEG, progressive, CMYK": encode(photo.convert("CMYK"), "JPEG", **ink),
        "PNG": encode(photo, "PNG", compress_level=1),
        "PNG, transparent": encode(clear, "PNG", compress_level=1),
        "PNG, transparent, turned": encode(clear, "PNG", compress_level=1, exif=exif(6)[6:]),
        "WebP, lossy": encode(photo, "WEBP", method=0),
        "WebP, transparent": encode(clear, "WEBP", lossless=True, method=0, quality=0),
        "GIF": encode(photo.convert("P"), "GIF"),
        "BMP": encode(photo, "BMP"),
        "TIFF, LZW": encode(photo, "TIFF", compression="tiff_lzw"),
        "AVIF": encode(photo, "AVIF", speed=10),
        "AVIF, transparent": encode(clear, "AVIF", speed=10),
    }


def measure_large(connection: Connection, name: str) -> None:
    images.decode(encodings()["PNG, RGB"].content)
    content = Path(name).read_bytes()
    connection.send(judge(0, content))


def decode_large() -> Iterator[tuple[str, Outcome]]:
    """Decode each large picture in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in large_pictures().items():
            path = Path(folder) / "picture"
            path.write_bytes(content)
            ours, theirs = context.Pipe()
            process = context.Process(target=measure_large, args=(theirs, str(path)))
            process.start()
            outcome = ours.recv()
            process.join()
            yield name, outcome


def show_large() -> bool:
    """Print the peak of each large picture; True where all keep to the bound."""
    kept = True
    for name, outcome in decode_large():
        kept = kept and outcome.kind == "pixels"
        print(
            f"{name:28s}{outcome.kind:16s}{outcome.peak / 16e6:5.1f} bytes a pixel {outcome.seconds:6.2f} s"
        )
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="the first input's number")
    parser.add_argument(
        "--limit", type=float, default=60.0, help="seconds after which an input counts as a hang"
    )
    parser.add_argument("--large", action="store_true", help="decode whole large pictures first")
    parser.add_argument(
        "--show", nargs=2, metavar=("NUMBER", "FILE"), help="write an input to a file, and end"
    )
    options = parser.parse_args()
    if options.show:
        Path(options.show[1]).write_bytes(mutated(int(options.show[0])))
        return 0
    kept = show_large() if options.large else True
    sums = fuzz(options.minutes, options.workers, options.first, options.limit)
    slowest, highest = sums.slowest, sums.highest
    print(
        f"{sums.counts.total():,} inputs from number {options.first}, {sums.n_bytes / 1e6:,.0f} MB: {sums.counts}"
    )
    print(f"slowest {slowest.seconds:.2f} s (input {slowest.number})")
    print(
        f"highest peak {highest.peak / 1e6:.0f} MB (input {highest.number}: {highest.kind} {highest.detail})"
    )
    return 0 if kept and not sums.found else 1


if __name__ == "__main__":
    sys.exit(main())
