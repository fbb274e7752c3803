"""``agegender predict``."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from agegender._utils.files import check_writable, write_whole
from agegender._utils.genders import gender_word
from agegender._utils.urls import is_url, name_of, public
from agegender.cli._models import load_predictor
from agegender.cli._options import FacesOption, ModelOption, QuietOption, find_pictures, place
from agegender.cli._output import end_with_failures, out_console, say, shown

if TYPE_CHECKING:
    from agegender.inference import Predictor

Columns: TypeAlias = dict[str, list[Any]]

# The digits after the point in JSON.
_DECIMALS = 10
# The smallest number of characters of a picture's path, however narrow the screen is.
_LEAST_NAME = 14


def predict(
    pictures: Annotated[
        list[Path], typer.Argument(parser=place, help="Photographs, or folders of them: paths or URLs.")
    ],
    model: ModelOption = None,
    faces: FacesOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    min_face_size: Annotated[
        float | None,
        typer.Option(help="The smallest face to find, in pixels of the picture; small numbers take longer."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write the table to this file.")] = None,
    annotate: Annotated[
        Path | None, typer.Option(help="Folder for copies of the pictures with boxes and labels.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Predict age and gender of every face in photographs.

    The interval contains the true age in 90 of 100 cases. If a picture cannot be read or contains no face, it
    is named and the exit code is 1.

    Examples: `agegender predict holiday.jpg --annotate seen/` ·
    `agegender predict --model model.agegender photos/ --csv people.csv` ·
    `agegender predict --model model.agegender --faces none crops/ --json`
    """
    if min_face_size is not None and faces == "none":
        raise ValueError(
            f"--min-face-size {min_face_size:g} is for photographs, but --faces none takes pictures as face crops. "
            "Leave one of them out."
        )
    paths = find_pictures(pictures)
    for made in [*([csv] if csv else []), *([annotate / "picture.jpg"] if annotate else [])]:
        check_writable(made)
    verbose = 0 if quiet or len(paths) < 100 else 1
    predictor = load_predictor(model, on_error="nan", verbose=verbose)
    wanted: Any = faces
    if min_face_size is not None:
        from agegender.faces import load_detector

        own = predictor.detector() if faces == "auto" else faces
        wanted = load_detector(own, min_face_size=min_face_size)
    columns, failures = _predicted(predictor, paths, wanted)
    known = [record for record in _records(columns) if record["age"] == record["age"]]  # NaN is not
    sources, paths = paths, [public(path) for path in paths]
    if csv is not None:
        write_whole(csv, functools.partial(_write_csv, list(columns), known, paths))
    if annotate is not None:
        _annotate(sources, known, annotate, quiet)
    if as_json:
        _print_json(known, paths, failures)
    else:
        _print_table("x" in columns, known, paths, failures)
    end_with_failures([_Failed(paths[index], reason) for index, reason in sorted(failures.items())])


def _predicted(predictor: Predictor, paths: list[str], faces: Any) -> tuple[Columns, dict[int, str]]:
    """Return the predictions of all faces, and the reasons why some pictures have none."""
    if isinstance(faces, str) and faces == "none":
        crops = predictor.predict_columns(paths, faces=None)
        columns = {name: column.tolist() for name, column in crops.items()} | {
            "picture": list(range(len(paths)))
        }
    else:
        columns = {
            name: column.tolist() for name, column in predictor.predict_faces(paths, faces=faces).items()
        }
    report = predictor.report_
    failures = {failure.index: failure.reason for failure in report.failures} if report else {}
    faceless = sorted(set(range(len(paths))) - set(columns["picture"]) - set(failures))
    return columns, failures | dict.fromkeys(
        faceless, "no face found; a face crop can be read with --faces none"
    )


def _records(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


class _Failed:
    """A picture without a prediction, and the reason."""

    def __init__(self, picture: str, reason: str) -> None:
        self.picture = picture
        self.reason = reason


def _write_csv(names: list[str], known: list[dict[str, Any]], paths: list[str], arriving: Path) -> None:
    import csv

    with arriving.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator=os.linesep)
        writer.writeheader()
        writer.writerows(record | {"picture": paths[record["picture"]]} for record in known)


def _rows(known: list[dict[str, Any]], paths: list[str], failures: dict[int, str]) -> list[dict[str, Any]]:
    """Return one record per face, and one per picture without faces, in the order of the pictures."""
    records = [{name: _rounded(value) for name, value in record.items()} for record in known]
    records += [{"picture": index, "error": reason} for index, reason in failures.items()]
    records.sort(key=lambda record: record["picture"])
    return [record | {"picture": paths[record["picture"]]} for record in records]


def _rounded(value: Any) -> Any:
    return round(value, _DECIMALS) if isinstance(value, float) else value


def _print_json(known: list[dict[str, Any]], paths: list[str], failures: dict[int, str]) -> None:
    typer.echo(json.dumps(_rows(known, paths, failures), indent=2, ensure_ascii=False))


def _print_table(
    boxed: bool, known: list[dict[str, Any]], paths: list[str], failures: dict[int, str]
) -> None:
    from rich import box
    from rich.table import Column, Table

    measured = ["quality"] if boxed else []
    titles = [*(["face at"] if boxed else []), "age", "90 % interval", "gender", "probability", *measured]
    rows = [(row["picture"], _cells(row, boxed)) for row in _rows(known, paths, failures)]
    widths = [max(map(len, column)) for column in zip(titles, *(cells for _, cells in rows), strict=True)]
    room = max(_LEAST_NAME, out_console.width - sum(widths) - 2 * (len(widths) + 1))
    name = Column("picture", no_wrap=True, overflow="ignore")
    table = Table(name, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for title in titles:
        table.add_column(title, no_wrap=True)
    for picture, cells in rows:
        table.add_row(shown(picture, room), *cells)
    out_console.print(table)


def _cells(row: dict[str, Any], boxed: bool) -> list[str]:
    """Return the values of a row of the table after the picture's name."""
    if "error" in row:
        return ["–"] * (6 if boxed else 4)
    where = [f"{row['x']:.0f},{row['y']:.0f} {row['width']:.0f}×{row['height']:.0f}"] if boxed else []
    return [
        *where,
        f"{row['age']:.1f}",
        f"{row['age_low']:.0f}–{row['age_high']:.0f}",
        gender_word(row["gender"]),
        f"{row['gender_proba']:.2f}",
        *([f"{row['quality']:.2f} {row['doubts']}".strip()] if boxed else []),
    ]


def _annotate(paths: list[str], known: list[dict[str, Any]], folder: Path, quiet: bool) -> None:
    """Write a copy, with boxes and labels, of every picture that contains faces."""
    from PIL import Image

    from agegender import images
    from agegender._utils.progress import progress_bar
    from agegender.cli._drawing import COLORS, Marked, annotate

    indices = sorted({record["picture"] for record in known})
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
                for number, row in enumerate(record for record in known if record["picture"] == index)
            ]
            drawn = Image.fromarray(annotate(pixels, marked))
            write_whole(folder / name, functools.partial(drawn.save, format="JPEG", quality=90))
            bar.update()
    if not quiet:
        say(f"{len(indices)} annotated pictures in {shown(folder)}.")


def _names(paths: list[str]) -> list[str]:
    """Return one file name per picture, with a number if two have the same name."""
    names: dict[str, None] = {}
    for path in paths:
        stem, number = Path(name_of(path) if is_url(path) else path).stem, 1
        while (name := f"{stem}{'' if number == 1 else f'-{number}'}.jpg") in names:
            number += 1
        names[name] = None
    return list(names)
