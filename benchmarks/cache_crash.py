"""Kill three writers of one cache at a random moment, many times, and count what is lost or wrong.

    python benchmarks/cache_crash.py --rounds 50

Every writer says which batch is stored after the call has returned. A batch that was said and is missing, or any
row that is not the right one, is a failure (exit status 1); a batch not yet said may or may not be there.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agegender.cache import EmbeddingCache, Recipe

RECIPE = Recipe(
    network="crash", layer="fc1", input_size=(112, 112), color="rgb", mean=127.5, scale=1 / 128, crop=0.0, faces=None,
    preprocessing=1,
)  # fmt: skip
WRITERS, BATCH, WIDTH = 3, 64, 512


class Losses(NamedTuple):
    n_stored: int  # batches
    n_rows: int
    n_missing: int
    n_wrong: int
    n_broken: int
    n_aside: int

    def found(self) -> bool:
        return bool(self.n_missing or self.n_wrong or self.n_broken or self.n_aside)


def name(i: int) -> bytes:
    return i.to_bytes(16, "big")


def rows_of(numbers: list[int]) -> np.ndarray:
    mixed = np.asarray(numbers)[:, None] * 2_654_435_761 + np.arange(WIDTH) * 40_503
    return (mixed & 0xFFFFFF).astype(np.float32)


def batch(start: int) -> list[int]:
    """Overlap with the neighbour by half a batch, so that writers meet on the same rows."""
    return list(range(start * BATCH // 2, start * BATCH // 2 + BATCH))


def write(directory: str, first: int) -> None:
    cache = EmbeddingCache(directory, on_error="raise")
    for start in range(first, 10**9, WRITERS):
        numbers = batch(start)
        cache.store(RECIPE, [name(i) for i in numbers], rows_of(numbers))
        print(start, flush=True)


def kill_writers(directory: str, first: int, rng: random.Random) -> list[int]:
    """Start the writers, kill them after a random time, and return the batches that they said were stored."""
    command = [sys.executable, __file__, "--write", directory]
    writers = [
        subprocess.Popen([*command, str(first + k)], stdout=subprocess.PIPE, text=True)
        for k in range(WRITERS)
    ]
    said = [writer.stdout.readline() for writer in writers]
    time.sleep(rng.uniform(0, 0.5))
    for writer in writers:
        writer.kill()
    text = "".join(line + writer.communicate()[0] for line, writer in zip(said, writers, strict=True))
    if any(writer.returncode != -9 for writer in writers):
        raise SystemExit("A writer ended by itself.")
    return [int(line) for line in text.split()]


def check(directory: str, promised: set[int], reach: int) -> tuple[int, int, int]:
    """Return how many rows are there, how many of those said are missing, and how many are wrong."""
    cache = EmbeddingCache(directory, on_error="raise")
    n_there = n_missing = n_wrong = 0
    for start in range(0, reach, 5000):
        numbers = list(range(start, min(start + 5000, reach)))
        out = np.zeros((len(numbers), WIDTH), np.float32)
        found = cache.load(RECIPE, [name(i) for i in numbers], out)
        n_there += int(found.sum())
        n_missing += sum(i in promised and not there for i, there in zip(numbers, found, strict=True))
        n_wrong += int((out != rows_of(numbers)).any(axis=1)[found].sum())
    cache.close()
    return n_there, n_missing, n_wrong


def is_whole(directory: str) -> bool:
    db = sqlite3.connect(Path(directory) / "embeddings.sqlite")
    answer = db.execute("PRAGMA integrity_check").fetchall()
    orphans = db.execute("SELECT count(*) FROM rows WHERE id NOT IN (SELECT row FROM keys)").fetchone()
    db.close()
    return answer == [("ok",)] and orphans == (0,)


def crash(rounds: int, seed: int) -> Losses:
    """Kill the writers again and again; each round goes on in the file that the last one left."""
    rng = random.Random(seed)
    promised: set[int] = set()
    n_said = n_there = n_missing = n_wrong = n_broken = first = 0
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(rounds):
            said = kill_writers(directory, first, rng)
            n_said += len(said)
            promised.update(i for start in said for i in batch(start))
            first = max(said) + 1 + WRITERS
            n_there, missing, wrong = check(directory, promised, (first + 2) * BATCH)
            n_missing, n_wrong = n_missing + missing, n_wrong + wrong
            n_broken += not is_whole(directory)
        n_aside = len(list(Path(directory).glob("*.damaged-*")))
    return Losses(n_said, n_there, n_missing, n_wrong, n_broken, n_aside)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", nargs=2, metavar=("DIRECTORY", "FIRST"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments.write[0], int(arguments.write[1]))
    lost = crash(arguments.rounds, arguments.seed)
    print(
        f"{arguments.rounds} rounds of SIGKILL under {WRITERS} concurrent writers, batches of {BATCH} x {WIDTH}"
    )
    print(f"batches stored before a kill: {lost.n_stored:,}; rows in the file at the end: {lost.n_rows:,}")
    print(
        f"stored rows missing: {lost.n_missing}; wrong rows: {lost.n_wrong}; "
        f"files failing integrity_check: {lost.n_broken}"
    )
    print(f"files set aside as damaged: {lost.n_aside}")
    return int(lost.found())


if __name__ == "__main__":
    sys.exit(main())
