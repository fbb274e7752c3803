"""Whom the default pipeline fails: its errors and intervals by race label, gender and decade, on UTKFace.

    python benchmarks/groups.py UTKFace/ --backbone mobilefacenet_arcface.onnx --mean 0 --scale 1 --report report/

Every picture is predicted by a model of other folds: those of accuracy.py, with copies and near-copies on one side.
Groups differ in age, and errors grow with age; a last table weighs the decades of each group as they are in the
whole set (direct standardisation), which leaves what is not a matter of ages.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from accuracy import add_backbone_options, backbone_of, insert, load

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
from agegender.datasets import load_utkface
from agegender.model_selection import AgeGenderKFold, cross_val_predict_frame
from agegender.reports import EvaluationReport

MARKS = "<!-- group tables -->", "<!-- end of group tables -->"
NAMES = {"race": "race label", "gender": "gender", "age band": "decade"}
FIGURE_NAMES = {"age_mae": "age MAE, years", "age_coverage": "90 % interval", "gender_accuracy": "gender"}


def with_interval(row: pd.Series, figure: str, form: str) -> str:
    """Write a figure with the ends of its 95 % interval."""
    value, low, high = (format(row[f"{figure}{end}"], form) for end in ("", "_low", "_high"))
    return f"{value} ({low} … {high})"


def group_table(report: EvaluationReport) -> str:
    lines = [
        "| | pictures | age MAE, years | bias, years | coverage of the 90 % interval | gender accuracy |",
        "|---|---|---|---|---|---|",
    ]
    overall = pd.Series(
        {f"{name}{end}": report.overall.loc[name, column] for name in report.overall.index
         for end, column in (("", "value"), ("_low", "low"), ("_high", "high"))}
    )  # fmt: skip
    rows = [("**all**", report.counts["pictures"], overall)]
    single = report.by_group[report.by_group["grouping"].isin(NAMES)]
    rows += [(f"{NAMES[row.grouping]} {row.group}", row.n, row) for _, row in single.iterrows()]
    for name, n, row in rows:
        figures = [
            with_interval(row, "age_mae", ".2f"),
            f"{row['age_bias']:+.1f}",
            with_interval(row, "age_coverage", ".1%"),
            with_interval(row, "gender_accuracy", ".1%"),
        ]
        lines.append(f"| {name} | {n:,} | {' | '.join(figures)} |")
    return "\n".join(lines)


def gap_table(report: EvaluationReport) -> str:
    lines = ["| largest gaps | metric | best | worst | significant |", "|---|---|---|---|---|"]
    for gap in report.gaps.itertuples():
        form = ".2f" if gap.figure == "age_mae" else ".1%"
        grouping = " × ".join(NAMES[name] for name in gap.grouping.split(" × "))
        lines.append(
            f"| {grouping} | {FIGURE_NAMES[gap.figure]} | {gap.best}: {gap.best_value:{form}} "
            f"| {gap.worst}: {gap.worst_value:{form}} | {'yes' if gap.clear else 'no'} |"
        )
    return "\n".join(lines)


def equal_ages_table(report: EvaluationReport) -> str:
    """Write errors as they would be if every group had the ages of the whole set; 80 and older counts as one."""
    lines = [
        "| standardised to the same age distribution | age MAE, years | gender accuracy |",
        "|---|---|---|",
    ]
    predictions = report.predictions
    decade = (predictions["true_age"] // 10).clip(upper=8)
    share = decade.value_counts(normalize=True)
    figures = pd.DataFrame(
        {
            "error": (predictions["age"] - predictions["true_age"]).abs(),
            "right": predictions["gender"] == predictions["true_gender"],
        }
    )
    for grouping in ("race", "gender"):
        by_decade = figures.groupby([predictions[f"group: {grouping}"], decade]).mean()
        for group, cells in by_decade.groupby(level=0):
            mean = cells.droplevel(0).mul(share, axis=0).sum()
            lines.append(f"| {NAMES[grouping]} {group} | {mean['error']:.2f} | {mean['right']:.1%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_backbone_options(parser)
    parser.add_argument("--out", type=Path, help="page to put the tables into")
    parser.add_argument("--report", type=Path, help="folder for the whole report")
    args = parser.parse_args()
    bb = backbone_of(args)
    data = load(args.directory, bb)
    races = load_utkface(args.directory).frame["race"].astype(object)
    model = AgeGenderPipeline(EmbeddingExtractor(bb), AgeGenderClassifier(random_state=0))
    table = cross_val_predict_frame(
        model, data.pictures, data.target, groups=data.groups, cv=AgeGenderKFold(5)
    )
    report = EvaluationReport.from_predictions(
        table,
        groups={"race": races},
        pictures=data.pictures,
        gender_names={0: "men", 1: "women"},
        title="The default pipeline on UTKFace",
    )
    text = "\n\n".join(table(report) for table in (group_table, gap_table, equal_ages_table))
    print(text)
    if args.out:
        insert(args.out, text, MARKS)
    if args.report:
        print(report.save(args.report))


if __name__ == "__main__":
    main()
