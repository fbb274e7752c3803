"""What integers and rewriting do to a network: speed beside the float graph as it is, and accuracy on UTKFace.

    python benchmarks/quantization.py speed arcface=weights/ facenet=weights/ mobilefacenet_arcface.onnx
    python benchmarks/quantization.py accuracy UTKFace/ --backbone mobilefacenet_arcface.onnx --mean 0 --scale 1

*speed* times, in turns in one process, on ready arrays: the graph as it is under ONNX Runtime's defaults in one batch
of 64, our float32 (rewritten, PReLU as depthwise convolutions, few pictures at once) and our integers;
``NAME=FOLDER`` takes deepface's weights, converted to ONNX by tf2onnx. *accuracy* embeds every picture both ways and
trains the default head on both in the folds of accuracy.py.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from accuracy import Data, add_backbone_options, backbone_of, load
from extraction import FILES, converted

from agegender import AgeGenderClassifier, EmbeddingExtractor
from agegender.backbones import Backbone
from agegender.datasets import make_faces
from agegender.images import letterbox
from agegender.images import load as load_picture
from agegender.metrics import age_mae, gender_accuracy
from agegender.runtime import open_network

N_SAMPLE, BATCH = 128, 64


def float_network(given: str, folder: Path) -> Backbone:
    """Return the network that an argument names, in ONNX form."""
    name, _, weights = given.partition("=")
    if not weights:
        return Backbone.from_onnx(given, mean=0.0, scale=1.0)
    known = Backbone.load(name, weights=Path(weights) / FILES[name])
    return Backbone.from_onnx(
        converted(name, known.file(), folder),
        color=known.color,
        mean=known.mean,
        scale=known.scale,
        name=name,
    )


def as_it_is(backbone: Backbone) -> tuple[object, str, list[int]]:
    """Return the graph's own session under the defaults, its input, and the order of its axes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(backbone.read_bytes())
    picture = session.get_inputs()[0]
    return session, picture.name, [0, 3, 1, 2] if picture.shape[1] == 3 else [0, 1, 2, 3]


def speed(networks: list[str], turns: int) -> None:
    print("| network | as it is, pictures/s | our float32 | our integers | operations in integers | error |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sample = make_faces(N_SAMPLE, folder / "faces").data
        for given in networks:
            backbone = float_network(given, folder)
            integers = backbone.quantize(sample)
            pixels = np.stack([letterbox(load_picture(path), backbone.input_size) for path in sample[:BATCH]])
            seconds = race(backbone, integers, pixels, turns)
            print(row(backbone.name, seconds, integers), flush=True)


def race(backbone: Backbone, integers: Backbone, pixels: np.ndarray, turns: int) -> dict[str, list[float]]:
    """Return the seconds that each way takes for a batch, turn by turn."""
    session, name, axes = as_it_is(backbone)
    ready = pixels.astype(np.float32).transpose(axes).copy()
    floats, ints = open_network(backbone, "embedding"), open_network(integers, "embedding")
    ways = {
        "as it is": lambda: session.run(None, {name: ready}),
        "float": lambda: floats(pixels),
        "integers": lambda: ints(pixels),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(turns + 1):
        for way, run in ways.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[way].append(time.perf_counter() - started)
    return seconds


def row(name: str, seconds: dict[str, list[float]], integers: Backbone) -> str:
    from agegender._networks.onnx_files import stated_terms
    from agegender._networks.opening import read_network

    def against(way: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[other], seconds[way], strict=True))

    rate = {way: BATCH / statistics.median(times) for way, times in seconds.items()}
    terms = stated_terms(read_network(integers).model, integers.name)
    return (
        f"| {name} | {rate['as it is']:.0f} | {rate['float']:.0f}, {against('float', 'as it is'):.2f} × as it is "
        f"| {rate['integers']:.0f}, **{against('integers', 'float'):.2f} × float32** "
        f"| {terms['operations_in_integers']} | {terms['error']:.3f} |"
    )


def accuracy(directory: Path, backbone: Backbone, max_error: float) -> None:
    data = load(directory, backbone)
    sample = np.random.default_rng(0).choice(data.pictures, N_SAMPLE, replace=False)
    networks = {
        "float32": backbone,
        "integers": backbone.quantize(sample, max_error=max_error, verbose=1),
    }
    print("| network | age MAE, years | gender |\n|---|---|---|")
    for name, network in networks.items():
        rows = EmbeddingExtractor(network, layer="penultimate", verbose=1).transform(data.pictures)
        errors, right = zip(*folds(data, rows), strict=True)
        print(
            f"| {name} | {np.mean(errors):.3f} ({' '.join(f'{e:.2f}' for e in errors)}) | {np.mean(right):.2%} |",
            flush=True,
        )


def folds(data: Data, rows: np.ndarray) -> list[tuple[float, float]]:
    found = []
    for train, test in data.folds():
        model = AgeGenderClassifier(random_state=0)
        model.fit(rows[train], data.target[train], groups=data.groups[train])
        predicted = model.predict(rows[test])
        found.append((age_mae(data.target[test], predicted), gender_accuracy(data.target[test], predicted)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    timed = commands.add_parser("speed")
    timed.add_argument("networks", nargs="+", help=".onnx files that normalise by themselves, or NAME=FOLDER")
    timed.add_argument("--turns", type=int, default=7)
    scored = commands.add_parser("accuracy")
    add_backbone_options(scored)
    scored.add_argument("--max-error", type=float, default=0.03)
    args = parser.parse_args()
    if args.command == "speed":
        speed(args.networks, args.turns)
    else:
        accuracy(args.directory, backbone_of(args), args.max_error)


if __name__ == "__main__":
    main()
