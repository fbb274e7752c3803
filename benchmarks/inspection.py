"""Are wrong labels found, and what does correcting them bring?

    python benchmarks/inspection.py planted UTKFace/ --backbone mobilefacenet_arcface.onnx --mean 0 --scale 1
    python benchmarks/inspection.py corrections UTKFace/ --backbone mobilefacenet_arcface.onnx --mean 0 --scale 1

``planted`` replaces 3 % of the ages by those of other pictures and flips 2 % of the genders, inspects the set, and
counts how many of these lie among the most suspicious, beside the plain residual and beside cleanlab's rankings of
the same out-of-fold predictions. What is wrong in the set by itself counts as a false alarm, so precision is a lower
bound. ``--elsewhere`` trains another model on the other pictures of a folder, which reads the set too; ``--model``
takes FaceRes's own heads, or the model of the package. With that, or with ``--backbone compact``, ``--kept-out``
leaves out the pictures that taught it.

``corrections`` inspects the training side of each fold by itself, drops or relabels what is suspicious there, trains
the default pipeline with and without, and scores both on the untouched test fold; once on the labels as they are,
once with planted errors on the training side. Every fold's result is kept in ``--results``: an interrupted run goes
on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accuracy import networks_of, write
from scipy.stats import binomtest
from sklearn.utils import Bunch

from agegender import AgeGenderClassifier, AgeGenderPipeline, Backbone, EmbeddingExtractor
from agegender.datasets import load_utkface
from agegender.inspection import FacesInspection, inspect_faces
from agegender.metrics import age_mae, gender_accuracy
from agegender.model_selection import (
    AgeGenderKFold,
    connected_groups,
    duplicate_groups,
    similar_face_groups,
)
from agegender.pretrained import kept_out_names

WRONG_AGES, WRONG_GENDERS = 0.03, 0.02
FAR, GROWN = 15, 10


def plant(target: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels with errors, which ages were replaced, and which genders were flipped."""
    rng = np.random.default_rng(seed)
    n, y = len(target), target.copy()
    ages, genders = np.zeros(n, bool), np.zeros(n, bool)
    rows = rng.choice(n, round(WRONG_AGES * n), replace=False)
    y[rows, 0], ages[rows] = target[rng.choice(n, len(rows), replace=False), 0], True
    rows = rng.choice(n, round(WRONG_GENDERS * n), replace=False)
    y[rows, 1], genders[rows] = 1 - y[rows, 1], True
    return y, ages, genders


def kept_out(faces: Bunch, n_per_cell: int) -> Bunch:
    """Return pictures that the network inside the package has not seen, so many a decade and gender at most."""
    known = kept_out_names()
    unseen = np.flatnonzero([Path(path).name in known for path in faces.data])
    age, gender = faces.target[unseen].T
    decade = np.minimum(age // 10, 8)
    rows = pd.Series(unseen).groupby([decade, gender]).head(n_per_cell).sort_values().to_numpy()
    return Bunch(**faces | {name: faces[name][rows] for name in ("data", "target", "groups")})


def age_rankings(found: FacesInspection, reading: np.ndarray, ages: np.ndarray) -> dict[str, np.ndarray]:
    """Return suspicions of age labels by different methods, from the same out-of-fold predictions."""
    from cleanlab.regression.rank import get_label_quality_scores

    return {
        "inspect_faces": found.labels["age_suspicion"].to_numpy(),
        "residual": np.abs(ages - reading),
        "cleanlab, OUTRE": -get_label_quality_scores(ages, reading, method="outre"),
        "cleanlab, residual": -get_label_quality_scores(ages, reading, method="residual"),
    }


def gender_rankings(found: FacesInspection, proba: np.ndarray, genders: np.ndarray) -> dict[str, np.ndarray]:
    from cleanlab.rank import get_label_quality_scores

    both = np.column_stack([1 - proba, proba])
    return {
        "inspect_faces": found.labels["gender_suspicion"].to_numpy(),
        "1 − probability of the label": 1 - both[np.arange(len(genders)), genders],
        "cleanlab, normalised margin": -get_label_quality_scores(genders, both, method="normalized_margin"),
    }


def marked(found: FacesInspection, proba: np.ndarray, genders: np.ndarray) -> dict[str, np.ndarray]:
    """Return which genders each method calls wrong by its own cut."""
    from cleanlab.filter import find_label_issues

    both = np.column_stack([1 - proba, proba])
    return {
        "inspect_faces, more likely wrong than right": (found.labels["gender_suspicion"] >= 0.5).to_numpy(),
        "cleanlab.filter.find_label_issues": find_label_issues(genders, both),
    }


def top(suspicion: np.ndarray, share: float) -> np.ndarray:
    chosen = np.zeros(len(suspicion), bool)
    chosen[np.argsort(-suspicion, kind="stable")[: round(share * len(suspicion))]] = True
    return chosen


def contradicted(found: FacesInspection, published: np.ndarray) -> np.ndarray:
    """Return the pictures with a copy of another gender in the set as published: doubtful, but not planted."""
    near = found.near_copies[found.near_copies["same_photograph"].astype(bool)]
    pairs = near[["row", "other_row"]].to_numpy(dtype=int).tolist()
    mask = np.zeros(len(published), bool)
    for rows in [*found.copies["rows"], *pairs]:
        mask[rows] |= len(np.unique(published[rows])) > 1
    return mask


class OwnHeads:
    """FaceRes with the heads that it was published with, which were trained on IMDB-WIKI and never saw UTKFace."""

    classes_ = (np.arange(101), np.array([0, 1]))

    def __init__(self, network: Backbone) -> None:
        self.ages, self.male = (
            EmbeddingExtractor(network, layer=name) for name in ("age_1_to_100", "p_male")
        )

    def predict_proba(self, X: Any) -> list[np.ndarray]:
        ages = self.ages.fit_transform(X).reshape(len(X), 100)
        male = self.male.fit_transform(X).reshape(len(X), 1)
        return [np.pad(ages, ((0, 0), (1, 0))), np.hstack([male, 1 - male])]


def trained_elsewhere(faces: Bunch, directory: Path, networks: list[Backbone]) -> AgeGenderPipeline:
    """Train the default pipeline on a folder's other pictures: none of the set, no copy and no near-copy of one."""
    others = load_utkface(directory)
    pictures = [*faces.data, *others.data]
    embeddings = EmbeddingExtractor(networks[0], layer="embedding", verbose=1).fit_transform(pictures)
    groups = connected_groups(duplicate_groups(pictures), similar_face_groups(embeddings))
    apart = ~np.isin(groups[len(faces.data) :], groups[: len(faces.data)])
    print(f"another model, trained on {np.count_nonzero(apart):,} of {len(apart):,} pictures", flush=True)
    model = AgeGenderPipeline(EmbeddingExtractor(tuple(networks)), AgeGenderClassifier(random_state=0))
    return model.fit(others.data[apart], others.target[apart], groups=others.groups[apart])


def planted(
    faces: Bunch, extractor: EmbeddingExtractor, model: Any, seeds: list[int], detector: str | None
) -> str:
    """Plant errors, look for them, and return tables of what was found."""
    ages: dict[str, list[Any]] = {}
    genders: dict[str, list[Any]] = {}
    settled: dict[str, list[Any]] = {}
    cuts: dict[str, list[Any]] = {}
    calibration, rates = [], []
    for seed in seeds:
        y, wrong_age, wrong_gender = plant(faces.target, seed)
        found = inspect_faces(
            faces.data,
            y,
            faces.groups,
            extractor=extractor,
            model=model,
            detector=detector,
            random_state=0,
            verbose=1,
        )
        reading, proba = (found.labels[name].to_numpy() for name in ("read_age", "read_female"))
        far = wrong_age & (np.abs(y[:, 0] - faces.target[:, 0]) > FAR)
        grown = wrong_gender & (faces.target[:, 0] >= GROWN)
        for name, suspicion in age_rankings(found, reading, y[:, 0]).items():
            ages.setdefault(name, []).append(
                [(far & top(suspicion, s)).sum() for s in (0.02, 0.03, 0.05)]
                + [wrong_age[top(suspicion, 0.03)].mean(), far.sum()]
            )
        known = contradicted(found, faces.target[:, 1])
        for name, ranking in gender_rankings(found, proba, y[:, 1].astype(int)).items():
            for table, left_out in ((genders, known & False), (settled, known)):
                suspicion, of = np.where(left_out, -np.inf, ranking), grown & ~left_out
                table.setdefault(name, []).append(
                    [(of & top(suspicion, s)).sum() for s in (0.02, 0.03, 0.04)]
                    + [wrong_gender[top(suspicion, 0.02)].mean(), of.sum()]
                )
        for name, chosen in marked(found, proba, y[:, 1].astype(int)).items():
            cuts.setdefault(name, []).append(
                [
                    chosen.sum(),
                    wrong_gender[chosen].sum() / max(chosen.sum(), 1),
                    (grown & chosen).sum() / grown.sum(),
                ]
            )
        labels = found.labels
        calibration += list(zip(labels["age_suspicion"], wrong_age, strict=True))
        rates.append((found.noise.age_rate, found.noise.gender_rate))
        print(
            f"seed {seed}: estimated {rates[-1][0]:.2%} of the ages, {rates[-1][1]:.2%} of the genders",
            flush=True,
        )
    parts = [
        _recalls(ages, f"ages off by more than {FAR} years", (2, 3, 5), "3 %"),
        _recalls(genders, f"flipped genders from {GROWN} years on", (2, 3, 4), "2 %"),
        "Without pictures whose copies have another gender as published:",
        _recalls(settled, f"flipped genders from {GROWN} years on", (2, 3, 4), "2 %"),
        _cuts(cuts),
        _bins(np.array(calibration, dtype=float)),
        f"Estimated share of wrong labels: ages {np.mean([r[0] for r in rates]):.2%} (planted 3 %), "
        f"genders {np.mean([r[1] for r in rates]):.2%} (planted 2 %).",
    ]
    return "\n\n".join(parts)


def _recalls(found: dict[str, list[Any]], what: str, shares: tuple[int, ...], precision: str) -> str:
    heads = " | ".join(f"in the top {share} %" for share in shares)
    lines = [
        f"| {what} | {heads} | precision in the top {precision}, all planted |",
        "|---" * (len(shares) + 2) + "|",
    ]
    for name, rows in found.items():
        table = np.array(rows, dtype=float)
        recalls = table[:, : len(shares)].sum(axis=0) / table[:, -1].sum()
        cells = " | ".join(f"{recall:.1%}" for recall in recalls)
        lines.append(f"| {name} | {cells} | {table[:, -2].mean():.1%} |")
    table = np.array(found["inspect_faces"], dtype=int)
    n, hits = table[:, -1].sum(), table[:, len(shares) - 1].sum()
    between = binomtest(int(hits), int(n)).proportion_ci(method="wilson")
    return "\n".join(
        [
            *lines,
            f"\n({n} of them in all; inspect_faces has {hits} in the top {shares[-1]} %, "
            f"95 % interval {between.low:.0%} to {between.high:.0%})",
        ]
    )


def _cuts(found: dict[str, list[Any]]) -> str:
    lines = [
        "| genders called wrong | pictures | of these planted | of the planted from 10 on |",
        "|---|---|---|---|",
    ]
    for name, rows in found.items():
        count, precision, recall = np.mean(rows, axis=0)
        lines.append(f"| {name} | {count:.0f} | {precision:.1%} | {recall:.1%} |")
    return "\n".join(lines)


def _bins(pairs: np.ndarray) -> str:
    lines = ["| suspicion of the age | pictures | mean suspicion | planted |", "|---|---|---|---|"]
    edges = [0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0001]
    for low, high in pairwise(edges):
        part = pairs[(pairs[:, 0] >= low) & (pairs[:, 0] < high)]
        if len(part):
            lines.append(
                f"| {low:.1f} to {min(high, 1):.1f} | {len(part)} | {part[:, 0].mean():.2f} "
                f"| {part[:, 1].mean():.2f} |"
            )
    return "\n".join(lines)


TREATMENTS: dict[str, dict[str, Any]] = {
    "as they are": {},
    "dropped from 0.5": {"suspicious": "drop", "min_suspicion": 0.5},
    "relabelled from 0.5": {"suspicious": "relabel", "min_suspicion": 0.5},
}


def treated(
    found: FacesInspection, y: np.ndarray, treatment: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on and their labels."""
    keep, labels = np.ones(len(y), bool), y.copy()
    if treatment:
        actions = found.clean(no_face="keep", **treatment).set_index("row").sort_index()
        keep = (actions["action"] != "drop").to_numpy()
        relabel = (actions["action"] == "relabel").to_numpy()
        age = relabel & actions["new_age"].notna().to_numpy()
        gender = relabel & actions["new_gender"].notna().to_numpy()
        labels[age, 0] = actions["new_age"].to_numpy(dtype=float)[age]
        labels[gender, 1] = (actions["new_gender"] == "female").to_numpy(dtype=float)[gender]
    return np.flatnonzero(keep), labels


def corrected_fold(
    faces: Bunch,
    groups: np.ndarray,
    fold: int,
    noisy: bool,
    extractor: EmbeddingExtractor,
    detector: str | None,
) -> list[dict[str, Any]]:
    """Inspect the training side of a fold, train with and without what is suspicious, score the test side."""
    train, test = list(AgeGenderKFold(5).split(faces.data, faces.target, groups))[fold]
    pictures, y = faces.data[train], faces.target[train]
    if noisy:
        y = plant(y, fold)[0]
    found = inspect_faces(
        pictures, y, groups[train], extractor=extractor, model=None, detector=detector, cv=3
    )
    records = []
    for name, treatment in TREATMENTS.items():
        rows, labels = treated(found, y, treatment)
        started = time.perf_counter()
        model = AgeGenderPipeline(extractor, AgeGenderClassifier(random_state=0))
        model.fit(pictures[rows], labels[rows], groups=found.groups[rows])
        predicted, truth = model.predict(faces.data[test]), faces.target[test]
        records.append(
            {
                "labels": "3 % and 2 % planted" if noisy else "as published",
                "treatment": name,
                "fold": fold,
                "changed": int(len(y) - len(rows) + (labels != y).any(axis=1).sum()),
                "age MAE": age_mae(truth, predicted),
                "gender": gender_accuracy(truth, predicted),
                "seconds": time.perf_counter() - started,
            }
        )
        print(records[-1], flush=True)
    return records


def corrections(
    faces: Bunch, extractor: EmbeddingExtractor, results: Path, detector: str | None, folds: list[int]
) -> str:
    """Return a table of what corrections bring, and what share of the error lies in doubtful labels."""
    found = inspect_faces(faces, extractor=extractor, model=None, detector=detector, verbose=1)
    records: list[dict[str, Any]] = []
    for noisy in (False, True):
        for fold in folds:
            path = results / f"corrections_{len(faces.data)}_{fold}_{noisy}.json"
            if not path.is_file():
                write(path, json.dumps(corrected_fold(faces, found.groups, fold, noisy, extractor, detector)))
            records += json.loads(path.read_text())
    table = pd.DataFrame(records)
    lines = [
        "| training labels | what is suspicious | pictures changed | age MAE, years | gain | gender |",
        "|---" * 6 + "|",
    ]
    for (labels, treatment), part in table.groupby(["labels", "treatment"], sort=False):
        base = table[(table["labels"] == labels) & (table["treatment"] == "as they are")]
        gains = base["age MAE"].to_numpy() - part["age MAE"].to_numpy()
        error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.nan
        lines.append(
            f"| {labels} | {treatment} | {part['changed'].mean():.0f} | {part['age MAE'].mean():.3f} | "
            f"{gains.mean():+.3f} ± {error:.3f} | {part['gender'].mean():.2%} |"
        )
    return "\n".join(lines) + "\n\n" + in_doubt(found)


def in_doubt(found: FacesInspection) -> str:
    """Say what share of the out-of-fold error lies in pictures whose labels are in doubt."""
    labels = found.labels
    error = (labels["read_age"] - labels["age"]).abs()
    missed = (labels["read_female"] >= 0.5) != (labels["gender"] == "female")
    disagreeing = np.zeros(len(labels), bool)
    for rows in found.copies.loc[found.copies["disagree"], "rows"]:
        disagreeing[rows] = True
    near = found.near_copies[found.near_copies["disagree"] & found.near_copies["same_photograph"]]
    disagreeing[np.concatenate([near["row"], near["other_row"]]).astype(int)] = True
    lines = ["| pictures | how many | of all years of error | of all missed genders |", "|---|---|---|---|"]
    chosen: dict[str, Callable[[], Any]] = {
        "label more likely wrong than right": lambda: labels["suspicion"] >= 0.5,
        "suspicion from 0.2": lambda: labels["suspicion"] >= 0.2,
        "the 1 % most suspicious": lambda: labels["rank"] <= 0.01 * len(labels),
        "copies that disagree": lambda: disagreeing,
    }
    for name, choose in chosen.items():
        mask = np.asarray(choose(), dtype=bool)
        lines.append(
            f"| {name} | {mask.sum()} ({mask.mean():.1%}) | {error[mask].sum() / error.sum():.1%} | "
            f"{missed[mask].sum() / missed.sum():.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["planted", "corrections"])
    parser.add_argument("directory", type=Path, help="folder of UTKFace's pictures")
    parser.add_argument("--backbone", required=True, help="an .onnx file, or the name of a network")
    parser.add_argument("--faceres", type=Path, help="hse_faceres.onnx, a second network beside the first")
    parser.add_argument("--color", default="rgb", choices=["rgb", "bgr"])
    parser.add_argument("--mean", type=float, default=127.5)
    parser.add_argument("--scale", type=float, default=1 / 128)
    parser.add_argument(
        "--detector", help="what finds faces; by default they are not looked for, labels alone are judged"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of planted errors")
    parser.add_argument(
        "--kept-out",
        type=int,
        metavar="N",
        help="only pictures that compact has not seen, N a decade and gender",
    )
    parser.add_argument(
        "--elsewhere",
        type=Path,
        help="folder of UTKFace; a model trained on its other pictures reads the set too",
    )
    parser.add_argument(
        "--model",
        choices=["auto", "none", "faceres"],
        default="none",
        help="a trained model that reads the pictures too: that of the package, or FaceRes with its own heads",
    )
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--results", type=Path, default=Path("inspection_results"))
    args = parser.parse_args()
    faces = load_utkface(args.directory)
    if args.kept_out:
        faces = kept_out(faces, args.kept_out)
        print(f"{len(faces.data):,} pictures", flush=True)
    networks = networks_of(args)
    extractor = EmbeddingExtractor(tuple(networks.values()))
    if args.what == "planted":
        if args.elsewhere:
            model = trained_elsewhere(faces, args.elsewhere, list(networks.values()))
        else:
            model = OwnHeads(networks["fr"]) if args.model == "faceres" else {"auto": "auto"}.get(args.model)
        print(planted(faces, extractor, model, args.seeds, args.detector))
    else:
        print(corrections(faces, extractor, args.results, args.detector, args.folds))


if __name__ == "__main__":
    main()
