"""How long the first prediction of a fresh process takes, beyond importing scikit-learn's base.

    python benchmarks/first_prediction.py PHOTOGRAPH FACE_CROP [YUNET.onnx]

The three ways are timed in turns, each in processes of its own, with the model that comes with the package and no
cache: seconds on the clock, and of processor time, which other work on the machine does not lengthen as much.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

SCRIPT = """
import time
import sklearn.base
started, spent = time.perf_counter(), time.process_time()
from agegender import load_pretrained
model = load_pretrained()
model.extractor_.cache = None
model.predict_frame([{picture!r}], faces={faces!r})
print(time.perf_counter() - started, time.process_time() - spent)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photograph")
    parser.add_argument("crop")
    parser.add_argument("yunet", nargs="?")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    ways = {"face crop": (options.crop, None), "mtcnn": (options.photograph, "mtcnn")}
    if options.yunet:
        ways["yunet"] = (options.photograph, options.yunet)
    seconds: dict[str, list[list[float]]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, (picture, faces) in ways.items():
            script = SCRIPT.format(picture=picture, faces=faces)
            done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
            seconds[name].append([float(number) for number in done.stdout.split()])
    for name, times in seconds.items():
        clock, processor = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name}: median {clock:.2f} s on the clock, {processor:.2f} s of processor time")


if __name__ == "__main__":
    main()
