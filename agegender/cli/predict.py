"""``agegender predict``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from agegender.cli._models import load
from agegender.cli._options import QuietOption, find_pictures
from agegender.cli._output import end_with_failures, gender_word, out_console

if TYPE_CHECKING:
    import pandas as pd


def predict(
    pictures: Annotated[list[Path], typer.Argument(help="Face crops, or folders of them.")],
    model: Annotated[
        Path,
        typer.Option(help="A model saved by `agegender train`. Loading a .joblib file runs the code in it."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Print age and gender of each picture.

    Example: `agegender predict --model model.agegender anna.jpg photos/ --json`
    """
    if not model.is_file():
        raise FileNotFoundError(
            f"There is no model {str(model)!r}; `agegender train … --out {model}` makes one."
        )
    paths = find_pictures(pictures)
    fitted = load(model)
    fitted.extractor_.set_params(on_error="nan", verbose=0 if quiet or len(paths) < 100 else 1)
    frame = fitted.predict_frame(paths)
    frame.insert(0, "picture", paths)
    failures = fitted.report_.failures
    if as_json:
        _print_json(frame, {failure.index: failure.reason for failure in failures})
    else:
        _print_predictions(frame)
    end_with_failures(failures)


def _print_json(frame: pd.DataFrame, reasons: dict[int, str]) -> None:
    records = json.loads(frame.to_json(orient="records"))
    for index, reason in reasons.items():
        records[index]["error"] = reason
    typer.echo(json.dumps(records, indent=2, ensure_ascii=False))


def _print_predictions(frame: pd.DataFrame) -> None:
    table = Table(Column("picture", overflow="fold"), "age", "90 % interval", "gender", "probability")
    for row in frame.to_dict("records"):
        picture, age, low, high, gender, proba = row.values()
        if math.isnan(age):
            table.add_row(picture, "–", "–", "–", "–")
        else:
            table.add_row(picture, f"{age:.1f}", f"{low:.0f}–{high:.0f}", gender_word(gender), f"{proba:.2f}")
    out_console.print(table)
