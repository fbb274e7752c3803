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
    export_network(options.work / "checkpoint.pt")
    shutil.copyfile(options.work / "kept_out.txt", PRETRAINED / "compact_kept_out.txt")
    write_trained_on(options.data_dir)
    train_head(options.data_dir)
    write_card(options.data_dir, options.work / "log.csv")


def export_network(checkpoint: Path) -> None:
    """Write the averaged network as ONNX, and its sha256 and size into the package's record of it."""
    import torch
    from compact.export import as_onnx
    from compact.network import Student

    student = Student()
    student.load_state_dict(torch.load(checkpoint)["average"])
    content = as_onnx(student.net.eval()).SerializeToString()
    (PRETRAINED / "compact.onnx").write_bytes(content)
    text = RECORD.read_text(encoding="utf-8")
    text = re.sub(r'sha256="[0-9a-f]*"', f'sha256="{hashlib.sha256(content).hexdigest()}"', text)
    RECORD.write_text(re.sub(r"size=[0-9_]+", f"size={len(content):_}", text), encoding="utf-8")


def train_head(data_dir: Path) -> None:
    """Train the dense head on what the network learnt from, and calibrate it on what only watched; save it."""
    from compact.data import split

    from agegender import AgeGenderClassifier, DenseHead, save_model
    from agegender.calibration import UNCALIBRATED, calibrate
    from agegender.datasets import load_utkface

    faces = load_utkface(data_dir)
    parts = split(faces.target, faces.groups)
    features = penultimate(faces.data[parts.learnt])
    target, groups = faces.target[parts.learnt], faces.groups[parts.learnt]
    head = AgeGenderClassifier(DenseHead(), epochs=60, random_state=0, calibration_fraction=0.0)
    head.fit(features, np.tile(target, (2, 1)), groups=np.tile(groups, 2))
    head.set_params(calibration_fraction=0.1).calibration_ = UNCALIBRATED
    ages, genders = head.predict_proba(penultimate(faces.data[parts.watched]))
    watched = np.tile(faces.target[parts.watched], (2, 1))
    head.calibration_ = calibrate(ages, genders, watched[:, 0], watched[:, 1])
    save_model(head, PRETRAINED / "compact.agegender")


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


def penultimate(paths: Any) -> Any:
    """Return the network's answers to pictures in both framings, one below the other."""
    from agegender import EmbeddingExtractor

    extractor = EmbeddingExtractor("compact", layer="penultimate", cache=None)
    return np.concatenate([extractor.transform(pictures) for pictures in framings(paths)])


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
