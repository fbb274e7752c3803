"""Rows of files from the cache, beside reading and hashing the same files.

    python benchmarks/warm.py pictures/ --backbone mobilefacenet.onnx --mean 0 --scale 1

The first call fills the cache, and is not timed. Then, in turns: every file read and hashed by the extractor's own
threads, nothing else; ``transform``, which also looks all rows up and checks them; and ``transform`` with
``trust_mtime=True``, which reads nothing that has not changed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from accuracy import add_backbone_options, backbone_of

from agegender import EmbeddingExtractor, images
from agegender._machine.pools import reading_threads
from agegender._machine.threads import resolve_threads


def read_and_hash(paths: list[str]) -> None:
    with reading_threads(resolve_threads()) as pool:
        for _ in pool.map(lambda path: images.digest(images.read(path)), paths, chunksize=64):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_backbone_options(parser)
    parser.add_argument("--layer", default="penultimate")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    paths = sorted(str(path) for path in Path(args.directory).rglob("*.jpg"))
    extractor = EmbeddingExtractor(backbone_of(args), layer=args.layer, on_error="nan", verbose=1)
    rows = extractor.transform(paths)
    extractor.set_params(verbose=0)
    trusting = EmbeddingExtractor(backbone_of(args), layer=args.layer, on_error="nan", trust_mtime=True)
    trusting.transform(paths)
    ways = {
        "reading and hashing": lambda: read_and_hash(paths),
        "transform": lambda: extractor.transform(paths),
        "transform, trust_mtime": lambda: trusting.transform(paths),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.turns):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    print(f"{rows.shape[0]:,} × {rows.shape[1]}, median of {args.turns} turns\n\n| | seconds |\n|---|---|")
    for name, times in seconds.items():
        print(f"| {name} | {statistics.median(times):.2f} |")
    beyond = statistics.median(
        whole - bare for whole, bare in zip(seconds["transform"], seconds["reading and hashing"], strict=True)
    )
    print(f"\ntransform beyond reading and hashing: {beyond:.2f} s")


if __name__ == "__main__":
    main()
