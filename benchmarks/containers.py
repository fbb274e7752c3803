"""Memory and time of pictures that lie in a tar, a Parquet column, a Hugging Face data set or a zip behind a URL.

    python benchmarks/containers.py UTKFace/ --pictures 10000

Each kind runs in a process of its own, with the `compact` network and no cache; memory is the most that the process
held of its own (mapped files do not count), beside what the same files by their paths take.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

KINDS = ("paths", "tar", "parquet", "datasets", "zip://")


def make(folder: Path, paths: list[Path]) -> None:
    """Write the pictures into one file of each kind."""
    with (
        tarfile.open(folder / "faces.tar", "w") as tar,
        zipfile.ZipFile(folder / "faces.zip", "w") as archive,
    ):
        for path in paths:
            entry = tarfile.TarInfo(path.name)
            entry.size = path.stat().st_size
            tar.addfile(entry, io.BytesIO(path.read_bytes()))
            archive.write(path, path.name)
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
    with pq.ParquetWriter(folder / "faces.parquet", schema) as writer:
        for start in range(0, len(paths), 1000):
            rows = [{"bytes": path.read_bytes(), "path": None} for path in paths[start : start + 1000]]
            writer.write_table(pa.table({"image": rows}, schema=schema), row_group_size=1000)


def pictures(kind: str, folder: Path, paths: list[Path]) -> Any:
    """Return the pictures as one of the kinds of X."""
    from agegender.datasets import open_pictures

    if kind == "tar":
        return open_pictures(folder / "faces.tar")
    if kind == "parquet":
        return open_pictures(folder / "faces.parquet")
    if kind == "zip://":
        return [f"zip://{path.name}::{folder / 'faces.zip'}" for path in paths]
    if kind == "datasets":
        import datasets

        loaded = datasets.Dataset.from_parquet(str(folder / "faces.parquet"), cache_dir=str(folder / "hub"))
        return loaded.cast_column("image", datasets.Image())["image"]
    return [str(path) for path in paths]


class Peak(threading.Thread):
    """The most anonymous memory, a hundred times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.start()

    def run(self) -> None:
        while True:
            with open("/proc/self/status") as status:
                held = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
            self.most = max(self.most, held)
            time.sleep(0.01)


def one(kind: str, folder: Path, paths: list[Path]) -> None:
    """Embed one kind, and print what it took."""
    from agegender import EmbeddingExtractor

    X = pictures(kind, folder, paths)
    peak, started, cpu = Peak(), time.perf_counter(), time.process_time()
    rows = EmbeddingExtractor("compact", layer="pooled", cache=None, n_jobs=2).transform(X)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    print(f"{kind} {len(rows)} {float(rows.sum()):.3f} {seconds:.1f} {cpu:.1f} {peak.most / 1024:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--pictures", type=int, default=10_000, dest="n")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    paths = sorted(arguments.pictures.glob("*.jpg"))[: arguments.n]
    if arguments.one:
        one(arguments.one, arguments.folder, paths)
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), paths)
        print("| kind | pictures | seconds | of a processor | peak, MB |\n|---|---|---|---|---|")
        sums = set()
        for kind in KINDS:
            command = [sys.executable, __file__, str(arguments.pictures), "--pictures", str(arguments.n)]
            command += ["--one", kind, "--folder", folder]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            name, n, total, seconds, cpu, peak = said.strip().splitlines()[-1].split()
            sums.add(total)
            print(f"| {name} | {int(n):,} | {seconds} | {cpu} | {peak} |", flush=True)
        print(f"the same rows: {len(sums) == 1}")


if __name__ == "__main__":
    main()
