"""Embed ever more pictures, and print how much memory that takes beside the output and beside the bare network.

    python benchmarks/extraction_memory.py                      # 1,000, 10,000 and 100,000 pictures
    python benchmarks/extraction_memory.py --rows 1000 10000    # a first look

Every measurement is a process of its own, with the network that is inside the package and a cache. The pictures are
a few drawn faces, each file with a comment of its own, so that no two have the same content. "Bare" opens the network
and passes the same batches through it without anything else; "map" is `transform(…, out=memmap)`. Cold computes every
picture, warm finds every one in the cache.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from agegender import EmbeddingExtractor
from agegender.datasets import make_faces
from agegender.runtime import open_network

BATCH, LAYER, FACES, FOLDERS = 64, "pooled", 8, 1000


def write_pictures(folder: Path, n: int) -> None:
    """Write n small JPEG files that differ in their comment segment at least."""
    faces = [encoded(path) for path in make_faces(FACES, folder / "drawn", random_state=0).data]
    for number in range(n):
        face, comment = faces[number % FACES], f"{number:012d}".encode()
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        path = picture(folder, number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(face[:2] + segment + face[2:])


def encoded(path: str) -> bytes:
    file = io.BytesIO()
    Image.open(path).resize((64, 64)).save(file, "JPEG")
    return file.getvalue()


def picture(folder: Path, number: int) -> Path:
    return folder / f"{number // FOLDERS:05d}" / f"{number:09d}.jpg"


def resident_mb() -> float:
    """Return the memory of this process' own now, in MB: pages of files that are merely mapped do not count."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024 / 1e6


def peak_while(work) -> float:
    """Return the most memory that this process has while it works, in MB (Linux), seen every hundredth second."""
    seen, done = [resident_mb()], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            seen.append(resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return max(seen)


def bare(folder: Path, n: int) -> None:
    extractor = EmbeddingExtractor("compact", layer=LAYER).fit()
    size = extractor.backbone_.input_size
    pixels = np.stack([np.asarray(Image.open(picture(folder, i % 1000)).resize(size)) for i in range(BATCH)])

    def work() -> None:
        network = open_network(extractor.backbone_, LAYER)
        for _ in range(20):
            network(pixels)

    print(peak_while(work))


def measure(folder: Path, n: int, cache: Path, kind: str) -> None:
    """Embed n pictures in this process and print the peak and the output's size in MB, and the seconds."""
    extractor = EmbeddingExtractor("compact", layer=LAYER, cache=cache, batch_size=BATCH)
    paths = [str(picture(folder, number)) for number in range(n)]
    shape = (n, *extractor.row_shape())
    out = np.memmap(cache / "rows", np.float32, "w+", shape=shape) if kind == "map" else None
    started = time.perf_counter()
    peak = peak_while(lambda: extractor.transform(paths, out=out))
    seconds = time.perf_counter() - started
    output = 0.0 if kind == "map" else np.prod(shape) * 4 / 1e6
    print(
        peak,
        output,
        seconds,
        extractor.report_.n_computed,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )


def in_process(*arguments: object) -> list[float]:
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(number) for number in ran.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, folder, n, cache = options.child
        if kind == "bare":
            bare(Path(folder), int(n))
        else:
            measure(Path(folder), int(n), Path(cache), kind)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder, max(options.rows))
        (session,) = in_process("bare", folder, 1000, folder)
        print(f"bare network: {session:.0f} MB")
        print(
            "| pictures | run | peak, MB | output, MB | in addition to output and bare network, MB | seconds |"
        )
        print("|---|---|---|---|---|---|", flush=True)
        for n in options.rows:
            cache = folder / f"cache{n}"
            cache.mkdir()
            for run, kind in [("cold", "array"), ("warm", "array"), ("warm, memory map", "map")]:
                peak, output, seconds, *_ = in_process(kind, folder, n, cache)
                beside = peak - output - session
                print(
                    f"| {n:,} | {run} | {peak:.0f} | {output:.0f} | {beside:.0f} | {seconds:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
