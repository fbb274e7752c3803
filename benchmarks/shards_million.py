"""The rehearsal of learning from a million pictures' rows, every step timed, the peak of memory beside it.

    python benchmarks/shards_million.py UTKFace/ mobilefacenet.onnx:0:1:conv_6dw7_7_batchnorm --rows 1000000

Rows of real pictures are drawn from: each row lies between two pictures of one gender whose ages are near, so that
what a head can learn is there, and two in a hundred are near-copies. They are written by `write_shard` as a hundred
shards, by two processes, one of which is killed in the middle and started again; nothing else is played.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agegender import AgeGenderClassifier, AgeGenderPipeline, DenseHead, EmbeddingExtractor
from agegender.backbones import Backbone
from agegender.datasets import load_utkface
from agegender.metrics import age_mae, gender_accuracy
from agegender.model_selection import connected_groups, grouped_split, similar_face_groups
from agegender.shards import open_shards, shard_extractor, write_shard

COPIES = 0.02
THRESHOLD = 0.985
EPOCHS = 3
CHECKED = 50_000


class DrawnRows(EmbeddingExtractor):
    """An extractor whose pictures' names are numbers, and whose rows are drawn by them."""

    source: Path

    def transform_blocks(self, X: Sequence[str], max_bytes: float, **_: Any) -> Iterator[Any]:
        from agegender.extractor import ExtractionReport

        self.report_ = ExtractionReport()
        draw = Draw(DrawnRows.source)
        size = int(max_bytes // draw.rows[0].nbytes)
        for start in range(0, len(X), size):
            yield draw(
                np.array(
                    [int(os.path.splitext(os.path.basename(name))[0]) for name in X[start : start + size]]
                )
            )[0]


class Draw:
    """From a picture's number to its row and its labels, the same in every process."""

    def __init__(self, source: Path) -> None:
        kept = np.load(source)
        self.rows, self.ages, self.genders = kept["rows"], kept["ages"], kept["genders"]
        # Neighbours in this order have one gender and near ages.
        order = np.lexsort((self.ages, self.genders))
        self.rows, self.ages, self.genders = self.rows[order], self.ages[order], self.genders[order]
        self.spread = self.rows.std(axis=0)

    def __call__(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows, ages and genders; every fiftieth number is a near-copy of the one before it."""
        copies = numbers % round(1 / COPIES) == 1
        original = numbers - copies
        rng = np.random.Generator(np.random.Philox(7))
        # A fixed hash of the number, so that shards of every n-th picture draw what the whole list does.
        mixed = (original.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)
        first = (mixed % np.uint64(len(self.rows))).astype(np.int64)
        second = np.clip(first + 1 + (mixed >> np.uint64(12)).astype(np.int64) % 40, 0, len(self.rows) - 1)
        second = np.where(self.genders[second] == self.genders[first], second, first)
        share = ((mixed >> np.uint64(22)) % np.uint64(1000)).astype(np.float32)[:, None] / 2000
        rows = (1 - share) * self.rows[first] + share * self.rows[second]
        noise = rng.normal(size=(4096, self.rows.shape[1])).astype(np.float32)
        rows += 0.5 * self.spread * noise[(mixed >> np.uint64(8)).astype(np.int64) % 4096]
        rows[copies] += 0.02 * self.spread * noise[numbers[copies] % 4096]
        ages = np.where(share[:, 0] < 0.5, self.ages[first], self.ages[second])
        return rows.astype(np.float32), ages, self.genders[first]


def processor_seconds() -> float:
    """Return what this process and those that it started and that have ended took of a processor."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Peak(threading.Thread):
    """The most memory this process held of its own, fifty times a second; mapped files do not count."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.start()

    def run(self) -> None:
        while True:
            with open("/proc/self/status") as status:
                fields = dict(line.split(":", 1) for line in status)
            self.most = max(self.most, int(fields["RssAnon"].split()[0]) + int(fields["RssShmem"].split()[0]))
            time.sleep(0.02)

    def take(self) -> float:
        """Return it in GB, and begin anew."""
        most, self.most = self.most, 0
        return most / 2**20


def write(
    numbers: list[int], total: int, listed: str, folder: str, network: Backbone, layer: str, source: str
) -> None:
    """Write some shards, as one machine does."""
    DrawnRows.source = Path(source)
    extractor = DrawnRows(network, layer=layer, cache=None)
    for number in numbers:
        write_shard(listed, folder, extractor, f"{number}/{total}")


def write_all(folder: Path, listed: Path, shards: int, *making: Any) -> None:
    """Two processes write every other shard each; one is killed in the middle and started again."""
    context = multiprocessing.get_context("spawn")
    halves = [list(range(1, shards + 1, 2)), list(range(2, shards + 1, 2))]
    workers = [
        context.Process(target=write, args=(half, shards, str(listed), str(folder), *making))
        for half in halves
    ]
    for worker in workers:
        worker.start()
    while len(list(folder.glob("part-*"))) < shards // 2:
        time.sleep(0.1)
    os.kill(workers[1].pid or 0, signal.SIGKILL)
    workers[1].join()
    left = [name for name in folder.iterdir() if name.name.startswith(".")]
    print(f"killed at {len(list(folder.glob('part-*')))} of {shards} shards; {len(left)} unfinished file")
    workers[1] = context.Process(target=write, args=(halves[1], shards, str(listed), str(folder), *making))
    workers[1].start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise SystemExit(f"a writer ended with {worker.exitcode}")
    for name in left:
        name.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures")
    parser.add_argument("network", help="file.onnx:mean:scale:layer")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--no-groups", action="store_true", help="leave the near-copies out")
    arguments = parser.parse_args()
    file, mean, scale, layer = arguments.network.split(":", 3)
    network = Backbone.from_onnx(file, mean=float(mean), scale=float(scale))
    home = arguments.folder or Path(tempfile.mkdtemp(prefix="million-"))
    home.mkdir(parents=True, exist_ok=True)
    folder, source, listed, table = (
        home / "shards",
        home / "real.npz",
        home / "list.txt",
        home / "table.parquet",
    )
    folder.mkdir(exist_ok=True)
    if not source.is_file():
        faces = load_utkface(arguments.pictures)
        rows = EmbeddingExtractor(network, layer=layer, verbose=1).transform(faces.data)
        np.savez(source, rows=rows, ages=faces.target[:, 0], genders=faces.target[:, 1])

    table_of: list[tuple[str, float, float, float]] = []
    peak = Peak()
    spent = [0.0]

    def step(name: str, started: float) -> float:
        cpu = processor_seconds()
        table_of.append((name, time.perf_counter() - started, cpu - spent[0], peak.take()))
        spent[0] = cpu
        print("{}: {:.0f} s, {:.0f} s of a processor, {:.2f} GB".format(*table_of[-1]), flush=True)
        return time.perf_counter()

    draw = Draw(source)
    numbers = np.arange(arguments.rows)
    names = [f"{number:08d}.jpg" for number in range(arguments.rows)]
    listed.write_text("\n".join(names))
    parts = [draw(numbers[start : start + 20_000])[1:] for start in range(0, arguments.rows, 20_000)]
    ages, genders = (np.concatenate(part) for part in zip(*parts, strict=True))
    pd.DataFrame({"path": names, "age": ages, "gender": genders.astype(int)}).to_parquet(table, index=False)
    del names, parts
    peak.take()
    spent[0] = processor_seconds()

    started = time.perf_counter()
    if len(list(folder.glob("part-*"))) < arguments.shards:
        write_all(folder, listed, arguments.shards, network, layer, str(source))
    started = step(f"write {arguments.shards} shards, two processes, one killed and started again", started)
    rows = open_shards(folder, table)
    print(rows.DESCR.splitlines()[0])
    sample = np.random.default_rng(1).choice(arguments.rows, 2000, replace=False)
    np.testing.assert_array_equal(rows.data[np.sort(sample)], draw(np.sort(sample))[0])
    started = step("open: join labels, write the rows in order", started)
    groups = rows.groups
    if not arguments.no_groups:
        near = similar_face_groups(rows.data, THRESHOLD, method="approximate")
        groups = connected_groups(rows.groups, near)
        started = step("group near-copies (approximate)", started)
        found = near[numbers[numbers % 50 == 1]] == near[numbers[numbers % 50 == 1] - 1]
        print(
            f"near-copies found: {found.mean():.4%}; groups: {len(np.unique(near)):,}, "
            f"the largest {np.bincount(near).max()}"
        )
    spent[0], started = processor_seconds(), time.perf_counter()
    training, test = grouped_split(rows.target, groups, test_size=0.1, random_state=0)
    weights = np.zeros(arguments.rows)
    weights[training] = 1
    head = AgeGenderClassifier(DenseHead(units=(256,)), epochs=EPOCHS, patience=EPOCHS, random_state=0)
    started = step("split", started)
    head.fit(rows.data, rows.target, sample_weight=weights, groups=groups)
    seconds = [record["seconds"] for record in head.history_]
    started = step(f"train {EPOCHS} epochs ({', '.join(f'{s:.0f}' for s in seconds)} s each)", started)
    predicted = head.predict(rows.data)[test]
    print(
        f"MAE {age_mae(rows.target[test], predicted):.2f}, gender {gender_accuracy(rows.target[test], predicted):.3%}"
    )
    started = step("predict all rows, evaluate the held-out tenth", started)
    model = AgeGenderPipeline.from_parts(shard_extractor(rows, network), head)
    step("join with the extractor", started)
    print(model)

    block = np.array(rows.data[:CHECKED])
    for threshold in () if arguments.no_groups else (THRESHOLD, 0.95):
        started = time.perf_counter()
        exact = similar_face_groups(block, threshold)
        seconds_exact = time.perf_counter() - started
        near = similar_face_groups(block, threshold, method="approximate")
        print(
            f"{len(block):,} rows at {threshold}: exact {seconds_exact:.0f} s, "
            f"{np.mean(np.bincount(exact)[exact] > 1):.1%} of pictures linked, "
            f"recall of these {recall(exact, near):.4%}"
        )
    print("\n| step | seconds | of a processor | peak, GB |\n|---|---|---|---|")
    for name, seconds_of, cpu, memory in table_of:
        print(f"| {name} | {seconds_of:.0f} | {cpu:.0f} | {memory:.2f} |")
    if arguments.folder is None:
        shutil.rmtree(home)


def recall(exact: np.ndarray, found: np.ndarray) -> float:
    """Return the share of pictures in a group of the exact answer that the other has in one too."""
    sizes, other = np.bincount(exact)[exact], np.bincount(found)[found]
    return float((other[sizes > 1] > 1).mean())


if __name__ == "__main__":
    main()
