"""What heads, losses, views and fine-tuning are worth: errors on UTKFace in grouped, stratified folds.

    python benchmarks/accuracy.py UTKFace/ --backbone mobilefacenet_arcface.onnx --mean 0 --scale 1

Each configuration is a Python expression over ``bb``, the backbone, and ``fr``, the network of ``--faceres``;
without that, configurations of two networks are left out. Every fold's predictions are kept in ``--results`` as soon
as they are made, and every training after each epoch: an interrupted run goes on where it stopped. Copies and
near-copies of a picture (cosine similarity of their embeddings at least 0.95) stand on one side of each split; early
stopping sees a part of the training side only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from configurations import CONFIGURATIONS, Configuration, build

from agegender import EmbeddingExtractor
from agegender.backbones import Backbone
from agegender.datasets import load_utkface
from agegender.metrics import age_cumulative_score, age_mae, gender_accuracy
from agegender.model_selection import AgeGenderKFold, connected_groups, similar_face_groups

NEAR_COPIES = 0.95
DECADES = [*range(0, 80, 10), 101]
MARKS = "<!-- accuracy tables -->", "<!-- end of accuracy tables -->"


@dataclass(frozen=True)
class Data:
    """Pictures, ages and genders, and what must stay together."""

    pictures: np.ndarray
    target: np.ndarray
    groups: np.ndarray

    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(AgeGenderKFold(5).split(self.pictures, self.target, groups=self.groups))


def load(directory: Path, bb: Backbone) -> Data:
    faces = load_utkface(directory, verbose=1)
    extractor = EmbeddingExtractor(bb, layer="embedding", verbose=1)
    near = similar_face_groups(extractor.transform(faces.data), NEAR_COPIES)
    groups = connected_groups(faces.groups, near)
    sizes = np.bincount(groups)
    print(f"{len(groups):,} pictures; {sizes[sizes > 1].sum():,} have a copy or near-copy.", flush=True)
    return Data(np.asarray(faces.data), np.asarray(faces.target), groups)


def add_backbone_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="folder of UTKFace's pictures")
    parser.add_argument("--backbone", required=True, help="an .onnx file, or the name of a network")
    parser.add_argument("--color", default="rgb", choices=["rgb", "bgr"])
    parser.add_argument("--mean", type=float, default=127.5)
    parser.add_argument("--scale", type=float, default=1 / 128)


def backbone_of(args: argparse.Namespace) -> Backbone:
    if args.backbone.endswith(".onnx"):
        return Backbone.from_onnx(args.backbone, color=args.color, mean=args.mean, scale=args.scale)
    return Backbone.load(args.backbone)


def networks_of(args: argparse.Namespace) -> dict[str, Backbone]:
    """Return the networks by their names in expressions."""
    networks = {"bb": backbone_of(args)}
    if args.faceres:
        mean = (103.939, 116.779, 123.68)
        networks["fr"] = Backbone.from_onnx(args.faceres, color="bgr", mean=mean, scale=1.0)
    return networks


def result_of(
    configuration: Configuration, fold: int, data: Data, networks: dict[str, Backbone], results: Path
) -> Path:
    """Return the file that holds, or will hold, a configuration's predictions on one fold."""
    weights = " ".join(networks[name].sha256 for name in configuration.networks)
    key = f"{configuration.expression} {fold} {weights} {len(data.pictures)}"
    return results / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def measure(
    configuration: Configuration, fold: int, data: Data, networks: dict[str, Backbone], path: Path
) -> None:
    """Train on the other folds, and keep the predictions on this one."""
    train, test = data.folds()[fold]
    checkpoints = path.with_suffix(".checkpoints")
    model = build(configuration, networks, checkpoints)
    started = time.perf_counter()
    model.fit(data.pictures[train], data.target[train], groups=data.groups[train])
    frame = model.predict_frame(data.pictures[test])
    trained = [one.classifier_ for one in getattr(model, "models_", [model])]
    history = [epoch for classifier in trained for epoch in classifier.history_]
    record = {
        "configuration": configuration.expression,
        "fold": fold,
        "rows": test.tolist(),
        "age": frame["age"].round(3).tolist(),
        "gender": frame["gender"].tolist(),
        "parameters": sum(int(classifier.keras_model_.count_params()) for classifier in trained),
        "epochs": len(history),
        "training_seconds": sum(epoch["seconds"] for epoch in history),
        "seconds": time.perf_counter() - started,
    }
    write(path, json.dumps(record))
    shutil.rmtree(checkpoints)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text)
    os.replace(file.name, path)


def figures(path: Path, data: Data) -> dict[str, Any]:
    """Return the errors on one fold."""
    record = json.loads(path.read_text())
    rows = np.array(record["rows"])
    truth = data.target[rows]
    predicted = np.column_stack([record["age"], record["gender"]])
    decade = np.digitize(truth[:, 0], DECADES) - 1
    errors = pd.Series(np.abs(predicted[:, 0] - truth[:, 0])).groupby(decade).mean()
    right = predicted[:, 1] == truth[:, 1]
    return {
        "age MAE": age_mae(truth, predicted),
        "CS@5": age_cumulative_score(truth, predicted),
        "gender": gender_accuracy(truth, predicted),
        "parameters": record["parameters"],
        "seconds": record["training_seconds"],
        "men": right[truth[:, 1] == 0].mean(),
        "women": right[truth[:, 1] == 1].mean(),
        **{f"decade {i}": error for i, error in errors.items()},
    }


def tables(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the Markdown tables of the configurations that were measured."""
    decades = [f"{low}–{low + 9}" for low in DECADES[:-2]]
    first = [
        "| configuration | age MAE, years | CS@5 | gender | parameters | training, s | folds |",
        "|---|---|---|---|---|---|---|",
    ]
    second = [
        f"| MAE by decade, years | {' | '.join(decades)} | {DECADES[-2]}+ | men right | women right |",
        "|---" * (len(decades) + 4) + "|",
    ]
    for name, folds in found.items():
        frame = pd.DataFrame(folds)
        mean, spread = frame.mean(), frame.std(ddof=0)
        deviation = f" ± {spread['age MAE']:.2f}" if len(folds) > 1 else ""
        first.append(
            f"| {name} | {mean['age MAE']:.2f}{deviation} | {mean['CS@5']:.1%} | {mean['gender']:.1%} "
            f"| {mean['parameters']:,.0f} | {mean['seconds']:,.0f} | {len(folds)} |"
        )
        by_decade = " | ".join(f"{mean[f'decade {i}']:.1f}" for i in range(len(DECADES) - 1))
        second.append(f"| {name} | {by_decade} | {mean['men']:.1%} | {mean['women']:.1%} |")
    expressions = [f"- **{name}**: `{CONFIGURATIONS[name].expression}`" for name in found]
    return "\n\n".join("\n".join(part) for part in (first, second, expressions))


def insert(page: Path, text: str, marks: tuple[str, str] = MARKS) -> None:
    """Put tables between their marks in a page, or at its end."""
    start, end = marks
    old = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, _, rest = old.partition(start)
    after = rest.partition(end)[2]
    write(page, f"{before}{start}\n\n{text}\n\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_backbone_options(parser)
    parser.add_argument("--faceres", type=Path, help="hse_faceres.onnx, for configurations of two networks")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=CONFIGURATIONS, help="these, of all")
    parser.add_argument(
        "--folds", type=int, nargs="+", help="these folds, instead of each configuration's own"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("accuracy_results"), help="folder of predictions"
    )
    parser.add_argument("--no-training", action="store_true", help="tables of what has been measured")
    parser.add_argument("--out", type=Path, help="page to put the tables into")
    args = parser.parse_args()
    networks = networks_of(args)
    data = load(args.directory, networks["bb"])
    found: dict[str, list[dict[str, Any]]] = {}
    for name in args.only or CONFIGURATIONS:
        configuration = CONFIGURATIONS[name]
        if not set(configuration.networks) <= set(networks):
            print(f"{name}: left out, because it needs --faceres.", flush=True)
            continue
        for fold in args.folds or configuration.folds:
            path = result_of(configuration, fold, data, networks, args.results)
            if not path.is_file():
                if args.no_training:
                    continue
                measure(configuration, fold, data, networks, path)
            result = figures(path, data)
            found.setdefault(name, []).append(result)
            print(
                f"{name}, fold {fold}: {result['age MAE']:.3f} years, CS@5 {result['CS@5']:.1%}, "
                f"gender {result['gender']:.1%}, {result['seconds']:.0f} s",
                flush=True,
            )
    text = tables(found)
    print(text)
    if args.out:
        insert(args.out, text)


if __name__ == "__main__":
    main()
