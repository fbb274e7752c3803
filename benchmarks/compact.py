"""The compact network: its pictures per second beside another network, its embedding, and its kept-out pictures.

    python benchmarks/compact.py mobilefacenet.onnx --mean 0 --scale 1 --photos photos/ \
        --utkface UTKFace/ --detector yunet.onnx

The kept-out pictures are read as they are, and found by a detector in the middle of a black picture twice as large.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from agegender import AgeGenderPipeline, Backbone, EmbeddingExtractor, images, load_pretrained
from agegender.datasets import load_utkface
from agegender.pretrained import kept_out_names
from agegender.runtime import Network, open_network

BATCH, ROUNDS = 64, 9


def speed_ratio(first: Backbone, second: Backbone, n_threads: int) -> tuple[float, list[float]]:
    """Return by what factor the first is faster, the median of rounds run in turn, and both speeds."""
    rng = np.random.default_rng(0)
    networks = [open_network(backbone, "penultimate", n_threads=n_threads) for backbone in (first, second)]
    batches = [
        rng.integers(0, 256, (BATCH, *network.backbone.input_size, 3), np.uint8) for network in networks
    ]
    times = np.array(
        [[_seconds(*pair) for pair in zip(networks, batches, strict=True)] for _ in range(ROUNDS)]
    )
    return float(np.median(times[1:, 1] / times[1:, 0])), (BATCH / np.median(times[1:], axis=0)).tolist()


def _seconds(network: Network, batch: np.ndarray) -> float:
    start = time.process_time()  # of the processor, not of the clock: others may be busy on the machine
    network(batch)
    return time.process_time() - start


def recognition(backbone: Backbone, photos: Path) -> float:
    """Return the area under the ROC curve over pairs of photographs, faces found and aligned."""
    pairs = pd.read_csv(photos / "same_person_pairs.csv")
    names = sorted({*pairs.iloc[:, 0], *pairs.iloc[:, 1]})
    rows = EmbeddingExtractor(backbone, layer="embedding", faces="auto", cache=None).transform(
        [str(photos / name) for name in names]
    )
    units = dict(zip(names, rows / np.linalg.norm(rows, axis=1, keepdims=True), strict=True))
    cosines = [float(units[a] @ units[b]) for a, b in zip(pairs.iloc[:, 0], pairs.iloc[:, 1], strict=True)]
    return float(roc_auc_score(pairs["same_person"] == "yes", cosines))


def kept_out(model: AgeGenderPipeline, directory: Path, detector: str) -> pd.DataFrame:
    """Return the figures of the kept-out pictures, as crops and found in larger pictures, a row each."""
    frame = load_utkface(directory).frame
    frame = frame[frame["path"].map(lambda path: Path(path).name).isin(kept_out_names())]
    crops = [images.load(path) for path in frame["path"]]
    padded = [np.pad(crop, [(side // 2, side // 2) for side in crop.shape[:2]] + [(0, 0)]) for crop in crops]
    return pd.DataFrame(
        {
            "crops as they are": _figures(model.predict_frame(crops), frame),
            f"found by {Path(detector).stem}": _figures(model.predict_frame(padded, faces=detector), frame),
        }
    ).T


def _figures(found: pd.DataFrame, frame: pd.DataFrame) -> dict[str, float]:
    seen = found["age"].notna().to_numpy()
    found, frame = found[seen], frame[seen]
    ages = frame["age"].to_numpy()
    inside = (found["age_low"].to_numpy() <= ages) & (ages <= found["age_high"].to_numpy())
    return {
        "faces": int(seen.sum()),
        "of": len(seen),
        "age MAE": np.abs(found["age"].to_numpy() - ages).mean(),
        "gender %": 100 * (found["gender"].to_numpy() == frame["gender"].to_numpy()).mean(),
        "in the 90 % interval %": 100 * inside.mean(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="an .onnx file")
    parser.add_argument("--mean", type=float, default=127.5)
    parser.add_argument("--scale", type=float, default=1 / 128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--photos", type=Path, help="folder with same_person_pairs.csv")
    parser.add_argument("--utkface", type=Path, help="folder of UTKFace pictures, to score the kept-out ones")
    parser.add_argument("--detector", default="auto", help="what finds faces in the larger pictures")
    options = parser.parse_args()
    compact = Backbone.load("compact")
    other = Backbone.from_onnx(options.other, mean=options.mean, scale=options.scale)
    ratio, (ours, theirs) = speed_ratio(compact, other, options.threads)
    print(
        f"pictures per second of processor time: compact {ours:.0f}, {other.name} {theirs:.0f}; ratio {ratio:.2f}"
    )
    if options.photos:
        for backbone in (compact, other):
            print(f"same person or not, {backbone.name}: AUC {recognition(backbone, options.photos):.4f}")
    if options.utkface:
        model = load_pretrained()
        model.extractor_.set_params(on_error="nan")
        print(kept_out(model, options.utkface, options.detector).round(2).to_string())


if __name__ == "__main__":
    main()
