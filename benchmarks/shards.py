"""What a million pictures cost: processor time of each step from a file to a row of Parquet, and bytes.

    python benchmarks/shards.py pictures/                       # the network inside the package
    python benchmarks/shards.py pictures/ --backbone compact mobilefacenet.onnx:0:1 arcface:arcface_weights.h5

A backbone is a name, a name and its weights file (``name:file``), or an ONNX file with mean and scale
(``file.onnx:mean:scale``). Times are of the processor, all threads together, not of the clock: they say what a
machine of so many cores does, whatever else runs on the one that measures. The whole is `write_shard` on one thread,
without a cache; the steps are measured one by one on the same pictures.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from agegender import EmbeddingExtractor, images
from agegender.backbones import Backbone
from agegender.cache import EmbeddingCache
from agegender.runtime import open_network
from agegender.shards import list_pictures, write_shard

BATCH = 64


def load(text: str) -> Backbone:
    name, *rest = text.split(":")
    if name.endswith(".onnx"):
        mean, scale = (float(number) for number in rest or ("127.5", "0.0078125"))
        return Backbone.from_onnx(name, mean=mean, scale=scale)
    return Backbone.load(name, weights=rest[0] if rest else None)


def cpu(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def measure_files(folder: Path, paths: list[str]) -> list[list[np.ndarray]]:
    """Print what listing, reading, hashing and decoding cost; return the pictures."""
    n = len(paths)
    n_listed = 0

    def listing() -> None:
        nonlocal n_listed
        n_listed = sum(1 for _ in list_pictures(folder)[1])

    listed = cpu(listing)
    contents: list[bytes] = []
    read = cpu(lambda: contents.extend(images.read(path) for path in paths))
    hashed = cpu(lambda: [images.digest(content) for content in contents])
    pixels: list[np.ndarray] = []
    decoded = cpu(lambda: pixels.extend(images.decode(content) for content in contents))
    size = np.mean([len(content) for content in contents])
    print("| step | seconds of one core, a million pictures | |")
    print("|---|---|---|")
    print(f"| list | {1e6 * listed / n_listed:,.0f} | folder of {n_listed:,} files |")
    print(f"| read | {1e6 * read / n:,.0f} | {size:,.0f} bytes a file, in the system's memory |")
    print(f"| hash | {1e6 * hashed / n:,.0f} | BLAKE2b |")
    print(f"| decode | {1e6 * decoded / n:,.0f} | {pixels[0].shape[0]} × {pixels[0].shape[1]} JPEG |\n")
    return pixels


def measure_backbone(backbone: Backbone, paths: list[str], pixels: list[np.ndarray], folder: Path) -> None:
    n = len(paths)
    size = backbone.input_size
    boxed: list[np.ndarray] = []
    scaled = cpu(lambda: boxed.extend(images.letterbox(picture, size) for picture in pixels[:n]))
    network = open_network(backbone, "embedding", n_threads=1, device="cpu")
    batches = [np.stack(boxed[start : start + BATCH]) for start in range(0, n, BATCH)]
    network(batches[0])
    rows: list[np.ndarray] = []
    passed = cpu(lambda: rows.extend(map(network, batches)))
    options = {"layer": "embedding", "n_jobs": 1, "batch_size": BATCH, "device": "cpu", "cache": None}
    extractor = EmbeddingExtractor(backbone, **options)
    reports = []
    whole = cpu(lambda: reports.append(write_shard(paths, folder / backbone.sha256, extractor)))
    cache, recipe = EmbeddingCache(folder / f"cache-{backbone.sha256}"), extractor.recipes()[0]
    digests = [images.digest(images.read(path)) for path in paths]

    def store() -> None:
        for place, part in enumerate(rows):
            cache.store(recipe, digests[place * BATCH : place * BATCH + len(part)], part)

    stored = cpu(store)
    cache.close()
    parquet, kept = reports[0].path.stat().st_size / n, cache.info().n_bytes / n
    million = [1e6 * seconds / n / 3600 for seconds in (scaled, passed, whole)]
    print(
        f"| {backbone.name} | {n / whole:,.0f} | {million[2]:.1f} | {million[1]:.1f} | {million[0]:.2f} "
        f"| {parquet:,.0f} | {kept:,.0f} | {n / stored:,.0f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--backbone", nargs="+", default=["compact"])
    parser.add_argument("--rows", type=int, default=1024, help="pictures measured")
    parser.add_argument(
        "--slow-rows", type=int, default=128, help="pictures measured on networks in Keras form"
    )
    options = parser.parse_args()
    root, names = list_pictures(options.pictures)
    paths = [str(root / name) for name in list(names)[: options.rows]]
    print(f"{platform.processor() or platform.machine()}, ONNX Runtime {onnxruntime.__version__}\n")
    pixels = measure_files(options.pictures, paths)
    print(
        "| network | pictures a CPU-second | CPU-hours a million | of these the network | scaling "
        "| bytes a picture, Parquet | in the cache | rows a second into the cache |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for text in options.backbone:
            backbone = load(text)
            n = len(paths) if backbone.format == "onnx" else options.slow_rows
            measure_backbone(backbone, paths[:n], pixels, Path(folder))


if __name__ == "__main__":
    main()
