"""``agegender predict``."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from agegender._utils.files import write_whole
from agegender.cli._models import load_or_pretrained
from agegender.cli._options import FacesOption, ModelOption, QuietOption, find_pictures
from agegender.cli._output import end_with_failures, err_console, gender_word, out_console

if TYPE_CHECKING:
    import pandas as pd


def predict(
    pictures: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.")],
    model: ModelOption = None,
    faces: FacesOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file as well.")] = None,
    annotate: Annotated[
        Path | None, typer.Option(help="Folder for copies of the pictures with boxes and labels drawn in.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Print age and gender of every face of every photograph.

    The range holds the true age in 90 of 100 cases. The exit code is 1 where a picture cannot be read or shows no
    face, which is told by name.

    Examples: `agegender predict holiday.jpg --annotate seen/` ·
    `agegender predict --model model.agegender photos/ --csv people.csv` ·
    `agegender predict --model model.agegender --faces none crops/ --json`
    """
    paths = find_pictures(pictures)
    fitted = load_or_pretrained(model)
    fitted.extractor_.set_params(on_error="nan", verbose=0 if quiet or len(paths) < 100 else 1)
    if faces == "none":
        frame = fitted.predict_frame(paths, faces=None).assign(picture=range(len(paths)))
        failures = {failure.index: failure.reason for failure in fitted.report_.failures}
    else:
        frame = fitted.predict_faces(paths, faces=faces)
        failures = {failure.index: failure.reason for failure in fitted.report_.failures}
        faceless = sorted(set(range(len(paths))) - set(frame["picture"]) - set(failures))
        failures |= dict.fromkeys(faceless, "no face found; a face crop can be read with --faces none")
    known = frame[frame["age"].notna()]
    if csv is not None:
        named = known.assign(picture=[paths[index] for index in known["picture"]])
        write_whole(csv, lambda arriving: named.to_csv(arriving, index=False))
    if annotate is not None:
        _annotate(paths, known, annotate, quiet)
    if as_json:
        _print_json(known, paths, failures)
    else:
        _print_table(known, paths, failures)
    end_with_failures([_Failed(paths[index], reason) for index, reason in sorted(failures.items())])


class _Failed:
    """A picture that gave nothing, and why."""

    def __init__(self, picture: str, reason: str) -> None:
        self.picture = picture
        self.reason = reason


def _rows(frame: pd.DataFrame, paths: list[str], failures: dict[int, str]) -> list[dict[str, Any]]:
    """Return a record a face, and one a picture that has none, in the order of the pictures."""
    records = [*json.loads(frame.to_json(orient="records"))]
    records += [{"picture": index, "error": reason} for index, reason in failures.items()]
    records.sort(key=lambda record: record["picture"])
    return [record | {"picture": paths[record["picture"]]} for record in records]


def _print_json(frame: pd.DataFrame, paths: list[str], failures: dict[int, str]) -> None:
    typer.echo(json.dumps(_rows(frame, paths, failures), indent=2, ensure_ascii=False))


def _print_table(frame: pd.DataFrame, paths: list[str], failures: dict[int, str]) -> None:
    boxed = "x" in frame
    table = Table(Column("picture", overflow="fold"))
    for title in (*(["face at"] if boxed else []), "age", "90 % interval", "gender", "probability"):
        table.add_column(title, no_wrap=True)
    for row in _rows(frame, paths, failures):
        if "error" in row:
            table.add_row(row["picture"], *(["–"] if boxed else []), "–", "–", "–", "–")
            continue
        where = [f"{row['x']:.0f},{row['y']:.0f} {row['width']:.0f}×{row['height']:.0f}"] if boxed else []
        table.add_row(
            row["picture"],
            *where,
            f"{row['age']:.1f}",
            f"{row['age_low']:.0f}–{row['age_high']:.0f}",
            gender_word(row["gender"]),
            f"{row['gender_proba']:.2f}",
        )
    out_console.print(table)


def _annotate(paths: list[str], frame: pd.DataFrame, folder: Path, quiet: bool) -> None:
    """Write a copy of every picture that has faces, boxes and labels drawn in."""
    from PIL import Image

    from agegender import images
    from agegender._utils.progress import progress_bar
    from agegender.cli._drawing import COLORS, Marked, annotate

    indices = sorted(set(frame["picture"].tolist()))
    with progress_bar(len(indices), "annotate", 0 if quiet else 1) as bar:
        for index, name in zip(indices, _names([paths[index] for index in indices]), strict=True):
            pixels = images.load(paths[index])
            whole = (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0]))
            marked = [
                Marked(
                    (row["x"], row["y"], row["width"], row["height"]) if "x" in row else whole,
                    f"{row['age']:.0f} ({row['age_low']:.0f}-{row['age_high']:.0f}) {gender_word(row['gender'])}",
                    COLORS[number % len(COLORS)],
                )
                for number, row in enumerate(frame[frame["picture"] == index].to_dict("records"))
            ]
            drawn = Image.fromarray(annotate(pixels, marked))
            write_whole(folder / name, functools.partial(drawn.save, format="JPEG", quality=90))
            bar.update()
    if not quiet:
        err_console.print(f"{len(indices)} annotated pictures in {folder}.", soft_wrap=True, highlight=False)


def _names(paths: list[str]) -> list[str]:
    """Return a file name a picture, numbered where two have the same."""
    names: dict[str, None] = {}
    for path in paths:
        stem, number = Path(path).stem, 1
        while (name := f"{stem}{'' if number == 1 else f'-{number}'}.jpg") in names:
            number += 1
        names[name] = None
    return list(names)
