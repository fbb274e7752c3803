"""The figures of the model card: kept-out pictures by age, gender and race label; curves of the training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

BANDS = (0, 3, 10, 20, 30, 40, 50, 60, 70, 101)
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def tables(frame: pd.DataFrame, found: dict[str, pd.DataFrame]) -> str:
    """Return the figures as Markdown: of all, and by group, for each framing in `found`.

    `frame` has the columns age, gender and race of UTKFace; each table in `found` the model's answers, row by row.
    """
    lower = np.array(BANDS[:-1])[np.digitize(frame["age"], BANDS[1:-1])]
    upper = np.array(BANDS[1:])[np.digitize(frame["age"], BANDS[1:-1])] - 1
    groups = [("all", np.full(len(frame), "all"))]
    groups += [("Age", np.array([f"{a} to {b}" for a, b in zip(lower, upper, strict=True)]))]
    groups += [("Gender label", np.where(frame["gender"] == 0, "male", "female"))]
    groups += [("Race label", frame["race"].to_numpy().astype(str))]
    parts = []
    for title, labels in groups:
        order = sorted(
            set(labels), key=lambda label: (int(label.split()[0]) if label[0].isdigit() else 0, label)
        )
        names = [
            f" {what}, {framing} |" for framing in found for what in ("age MAE", "within 5 years", "gender")
        ]
        heading = f"| {'' if title == 'all' else title} | pictures |{''.join(names)}"
        lines = [heading, "|---" * (2 + len(names)) + "|"]
        lines += [_line(label, labels == label, frame, found) for label in order]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _line(label: str, rows: NDArray[np.bool_], frame: pd.DataFrame, found: dict[str, pd.DataFrame]) -> str:
    cells = []
    for answers in found.values():
        errors = np.abs(answers["age"].to_numpy()[rows] - frame["age"].to_numpy()[rows])
        right = (answers["gender"].to_numpy()[rows] == frame["gender"].to_numpy()[rows]).mean()
        cells += [f"{errors.mean():.2f}", f"{(errors <= 5).mean():.1%}", f"{right:.1%}"]
    return f"| {label} | {rows.sum()} | " + " | ".join(cells) + " |"


def replace_figures(card: Path, text: str) -> None:
    """Put figures into the card, between its two marks."""
    before, rest = card.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    card.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def draw_curves(log: pd.DataFrame, path: Path) -> None:
    """Draw age error and gender accuracy of the watched pictures over the epochs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3), layout="constrained")
    for framing, style in (("utkface", "-"), ("arcface", "--")):
        label = "crops as they are" if framing == "utkface" else "aligned as for ArcFace"
        axes[0].plot(log["epoch"], log[f"{framing}_mae"], style, label=label)
        axes[1].plot(log["epoch"], 100 * log[f"{framing}_gender"], style, label=label)
    axes[2].plot(log["epoch"], log["embedding"], label="embedding")
    axes[2].plot(log["epoch"], log["penultimate"], label="penultimate layer")
    for axis, title in zip(
        axes,
        ("watched: age MAE, years", "watched: gender, % right", "learnt: 1 − cosine to the teacher"),
        strict=True,
    ):
        axis.set(title=title, xlabel="epoch")
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
