"""Make the shipped files of the last checkpoint: network, head, kept-out names, and the figures of the card.

    python tools/ship_compact.py UTKFace/ --work compact_work

Run from the repository's root, after ``tools/train_compact.py``. The kept-out pictures are looked at here, once, and
nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PRETRAINED, RECORD, DOCS = (
    ROOT / "agegender" / "pretrained",
    ROOT / "agegender" / "_networks" / "shipped.py",
    ROOT / "docs",
)


def main() -> None:
    """Export, train the head, score."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_dir", type=Path, help="folder of UTKFace pictures")
    parser.add_argument("--work", type=Path, default=Path("compact_work"), help="what the training wrote")
    options = parser.parse_args()
    student = best_student(options.work / "checkpoint.pt")
    export_network(student)
    shutil.copyfile(options.work / "kept_out.txt", PRETRAINED / "compact_kept_out.txt")
    write_trained_on(options.data_dir)
    write_head(student, options.data_dir)
    write_card(options.data_dir, options.work / "log.csv")


def best_student(checkpoint: Path) -> Any:
    """Return the averaged network of a checkpoint, with its heads."""
    import torch
    from compact.network import Student

    state = torch.load(checkpoint)
    student = Student([(torch.zeros(shape), stride) for shape, stride in state["layers"]])
    student.load_state_dict(state["average"])
    return student.eval()


def export_network(student: Any) -> None:
    """Write the network as ONNX, and its sha256 and size into the package's record of it."""
    from compact.export import as_onnx

    content = as_onnx(student.net).SerializeToString()
    (PRETRAINED / "compact.onnx").write_bytes(content)
    text = RECORD.read_text(encoding="utf-8")
    text = re.sub(r'sha256="[0-9a-f]*"', f'sha256="{hashlib.sha256(content).hexdigest()}"', text)
    RECORD.write_text(re.sub(r"size=[0-9_]+", f"size={len(content):_}", text), encoding="utf-8")
    write_prepared(content)


def write_prepared(content: bytes) -> None:
    """Record the network's layers and its graph for prediction, so that predicting does not import onnx."""
    from agegender._networks.onnx_files import read_graph
    from agegender._networks.prepared import record
    from agegender._networks.rewrite import runnable
    from agegender._networks.shipped import SHIPPED

    shipped = SHIPPED["compact"]
    graph = read_graph(content, shipped.name, input_size=shipped.input_size)
    layers = graph.layers()
    tensor, pooled = layers.find(shipped.layer)
    prepared = runnable(
        graph, tensor, color=shipped.color, mean=shipped.mean, scale=shipped.scale, pooled=pooled
    )
    text = record(content, layers, tensor, prepared)
    shipped.record_path.write_text(text, encoding="utf-8")


def write_head(student: Any, data_dir: Path) -> None:
    """Save the student's own heads as a dense head, calibrated on what only watched the training."""
    from compact.data import split

    from agegender import AgeGenderClassifier, DenseHead, save_model
    from agegender._fitting.onnx_head import to_keras_bytes, to_onnx
    from agegender.calibration import UNCALIBRATED, calibrate
    from agegender.datasets import load_utkface

    faces = load_utkface(data_dir)
    watched = split(faces.target, faces.groups).watched
    rows, target = penultimate(faces.data[watched], seed=0), faces.target[watched]
    head = AgeGenderClassifier(DenseHead(), epochs=1, random_state=0, calibration_fraction=0.0)
    head.fit(rows[: len(watched)], target)  # for its form: its weights are replaced
    model = head.keras_model_
    set_weights(model, student)
    head.set_params(epochs=200, calibration_fraction=0.1)
    head._keras, head._onnx = to_keras_bytes(model), to_onnx(model, rows[:64])
    head.calibration_ = UNCALIBRATED
    views = np.tile(target, (len(rows) // len(watched), 1))
    head.calibration_ = calibrate(*head.predict_proba(rows), views[:, 0], views[:, 1])
    save_model(head, PRETRAINED / "compact.agegender")
    record_head(head.fitted_head())


def record_head(head: Any) -> None:
    """Write the digest of the head into the package's record of it, so that predicting does not check it."""
    from agegender._safe.onnx import head_digest

    digest = head_digest(head.onnx, head.row_shape, *map(len, head.classes))
    text = re.sub(r'head_digest="[0-9a-f]*"', f'head_digest="{digest}"', RECORD.read_text(encoding="utf-8"))
    RECORD.write_text(text, encoding="utf-8")


def set_weights(model: Any, student: Any) -> None:
    """Put the student's heads into the Keras model of a dense head; its rows are standardised by the network."""
    layers = {layer.name: layer for layer in model._flatten_layers() if layer.weights}
    width = student.net.norm.num_features
    layers["standardize"].set_weights([np.zeros(width), np.ones(width)])
    for name in ("age", "gender"):
        linear = student.heads[name]
        weights = linear.weight.detach().numpy().T, linear.bias.detach().numpy()
        layers[name].set_weights(list(weights))


def write_trained_on(data_dir: Path) -> None:
    """Keep which pictures the network learnt from or was watched on: eight bytes of each content's digest."""
    from compact.data import split

    from agegender._extraction.contents import digests_of
    from agegender._utils.seen import short_digests
    from agegender.datasets import load_utkface

    faces = load_utkface(data_dir)
    parts = split(faces.target, faces.groups)
    known = faces.data[np.concatenate([parts.learnt, parts.watched])]
    digests = short_digests(digests_of(known, None))
    (PRETRAINED / "compact_trained_on.bin").write_bytes(digests.astype("<u8").tobytes())


def penultimate(paths: Any, seed: int) -> Any:
    """Return the network's answers to pictures as they are, aligned, and twice spoilt, one below the other."""
    from compact.augment import wild
    from compact.network import SIDE

    from agegender import EmbeddingExtractor, images

    extractor = EmbeddingExtractor("compact", layer="penultimate", cache=None)
    stored = np.stack([images.load(path) for path in paths])
    views = [*framings(paths), *(wild(stored, SIDE, seed + again) for again in range(2))]
    return np.concatenate([extractor.transform(pictures) for pictures in views])


def write_card(data_dir: Path, log: Path) -> None:
    """Score the shipped model on the kept-out pictures; put tables, log and curves into the docs."""
    import pandas as pd
    from compact.card import draw_curves, replace_figures, tables

    from agegender import load_pretrained
    from agegender.datasets import load_utkface
    from agegender.pretrained import kept_out_names

    faces = load_utkface(data_dir)
    kept_out = faces.frame["path"].map(lambda path: Path(path).name).isin(kept_out_names()).to_numpy()
    model = load_pretrained()
    model.extractor_.set_params(cache=None)
    as_they_are, aligned = framings(faces.data[kept_out])
    found = {"crops as they are": model.predict_frame(as_they_are), "aligned": model.predict_frame(aligned)}
    text = tables(faces.frame[kept_out], found)
    print(text)
    replace_figures(DOCS / "compact.md", text)
    shutil.copyfile(log, DOCS / "compact_training.csv")
    draw_curves(pd.read_csv(log), DOCS / "compact_training.png")


def framings(paths: Any) -> tuple[list[str], list[Any]]:
    """Return crops as they are, and as they would be aligned to ArcFace's template."""
    from agegender import images
    from agegender.faces import reframe

    return list(paths), [reframe(images.load(path), (112, 112), "utkface") for path in paths]


if __name__ == "__main__":
    main()
