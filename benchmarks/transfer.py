"""What a model trained on UTKFace is worth on other people's pictures, which no training has seen.

    python benchmarks/transfer.py UTKFace/ --fairface fairface540/ --webmorph webmorph/ --detector yunet.onnx \
        --networks mobilefacenet.onnx,color=rgb,mean=0,scale=1 \
        --networks hse_faceres.onnx,color=bgr,mean=103.939:116.779:123.68,scale=1

    python benchmarks/transfer.py --model compact --fairface fairface540/ --webmorph webmorph/ --detector yunet.onnx

One model is trained per network, and one on all of them side by side, each with the default head; with
``--configuration``, those of configurations.py instead, where ``bb`` and ``fr`` are the first and the second network.
Or a trained model is scored, the name of a pretrained one or a safe file. Faces in the test pictures are found by the
detector, and framed as in UTKFace's crops. The test sets are for testing alone: nothing is trained, calibrated or
chosen on them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from configurations import CONFIGURATIONS, build

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor, load_model, load_pretrained
from agegender.backbones import Backbone
from agegender.datasets import load_utkface

GROUPS = {"0-2": (0, 3), "3-9": (3, 10), "70+": (70, 200)} | {
    f"{a}-{a + 9}": (a, a + 10) for a in range(10, 70, 10)
}
CHILDREN = ("0-2", "3-9")


def network(text: str) -> Backbone:
    """Read a network from its file and what it takes: file.onnx,color=bgr,mean=0,scale=1."""
    path, *terms = text.split(",")
    given: dict[str, Any] = dict(term.split("=") for term in terms)
    for name in {"mean", "scale"} & given.keys():
        numbers = [float(number) for number in given[name].split(":")]
        given[name] = numbers[0] if len(numbers) == 1 else numbers
    return Backbone.from_onnx(path, **given)


def default(networks: tuple[Backbone, ...], views: str | None) -> AgeGenderPipeline:
    extractor = EmbeddingExtractor(networks, on_error="nan", verbose=1)
    return AgeGenderPipeline(extractor, AgeGenderClassifier(random_state=0), calibration_views=views)


def configured(name: str, networks: list[Backbone], checkpoints: Path) -> Any:
    return build(CONFIGURATIONS[name], dict(zip(("bb", "fr"), networks, strict=False)), checkpoints)


def trained(model: Any, directory: Path, n_pictures: int | None) -> Any:
    faces = load_utkface(directory)
    kept = slice(n_pictures)  # the loader's order is shuffled
    return model.fit(faces.data[kept], faces.target[kept], groups=faces.groups[kept])


def predicted(model: Any, folder: Path, detector: str) -> pd.DataFrame:
    labels = pd.read_csv(folder / "labels.csv").add_prefix("true_")
    frame = model.predict_frame([str(folder / path) for path in labels["true_path"]], faces=detector)
    return pd.concat([frame, labels], axis=1)


def share(right: Any) -> str:
    """Return a fraction in per cent, and the standard error of the fraction of so many pictures."""
    right = np.asarray(right, dtype=float)
    error = np.sqrt(right.mean() * (1 - right.mean()) / len(right))
    return f"{100 * right.mean():.1f} ± {100 * error:.1f} %"


def fairface(model: Any, folder: Path, detector: str) -> dict[str, str]:
    frame = predicted(model, folder, detector)
    found = frame[frame["age"].notna()]
    right = found["gender"] == found["true_gender"]
    adult = ~found["true_age_group"].isin(CHILDREN)
    low, high = np.array([GROUPS[group] for group in found["true_age_group"]]).T
    means = found.groupby("true_age_group")["age"].mean()
    meets = (found["age_low"] < high) & (found["age_high"] >= low)
    return {
        "FairFace: faces found": f"{len(found)} of {len(frame)}",
        "FairFace: gender": share(right),
        "FairFace: gender, from ten years on": share(right[adult]),
        "FairFace: age in the right group": share((low <= found["age"]) & (found["age"] < high)),
        "FairFace: mean age predicted for 0-2 and 70+": f"{means['0-2']:.1f} and {means['70+']:.1f} years",
        "FairFace: 90 % interval meets the group": share(meets),
        "FairFace: mean width of that interval": f"{(found['age_high'] - found['age_low']).mean():.1f} years",
    }


def webmorph(model: Any, folder: Path, detector: str) -> dict[str, str]:
    frame = predicted(model, folder, detector)
    found = frame[frame["age"].notna() & frame["true_age"].notna()]
    error = found["age"] - found["true_age"]
    inside = (found["age_low"] <= found["true_age"]) & (found["true_age"] <= found["age_high"])
    return {
        "webmorph: faces found": f"{int(frame['age'].notna().sum())} of {len(frame)}",
        "webmorph: age MAE": f"{error.abs().mean():.2f} years",
        "webmorph: mean error": f"{error.mean():+.2f} years",
        "webmorph: 90 % interval holds": share(inside),
        "webmorph: mean width of that interval": f"{(found['age_high'] - found['age_low']).mean():.1f} years",
        "webmorph: gender": share(found["gender"] == found["true_gender"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, nargs="?", help="folder of UTKFace's pictures")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--networks", type=network, action="append")
    what.add_argument("--model", action="append", help="a pretrained model's name, or a safe file")
    parser.add_argument("--configuration", action="append", choices=CONFIGURATIONS, metavar="NAME")
    parser.add_argument("--fairface", type=Path)
    parser.add_argument("--webmorph", type=Path)
    parser.add_argument("--detector", default="yunet")
    parser.add_argument("--calibration-views", help="of the calibration set, such as degraded")
    parser.add_argument("--pictures", type=int, help="train on so many pictures only")
    args = parser.parse_args()
    for name, model in models(args):
        started = time.perf_counter()
        figures = {}
        if args.fairface:
            figures |= fairface(model, args.fairface, args.detector)
        if args.webmorph:
            figures |= webmorph(model, args.webmorph, args.detector)
        print(f"\n{name} (scored in {time.perf_counter() - started:.0f} s)")
        for title, figure in figures.items():
            print(f"| {title} | {figure} |", flush=True)


def models(args: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Yield the name of each model and the model itself, trained now or opened."""
    for name in args.model or []:
        yield name, load_model(name) if Path(name).is_file() else load_pretrained(name)
    for name in args.configuration or []:
        with tempfile.TemporaryDirectory() as checkpoints:
            model = configured(name, args.networks, Path(checkpoints))
            yield name, trained(model, args.directory, args.pictures)
    each = [(one,) for one in args.networks or []] if not args.configuration else []
    for networks in [*each, tuple(args.networks)] if len(each) > 1 else each:
        name = " + ".join(one.name for one in networks)
        yield name, trained(default(networks, args.calibration_views), args.directory, args.pictures)


if __name__ == "__main__":
    main()
