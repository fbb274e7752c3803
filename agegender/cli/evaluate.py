"""``agegender evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agegender._utils.files import check_writable
from agegender._utils.genders import gender_word
from agegender._utils.urls import is_folder, public
from agegender.cli._models import load
from agegender.cli._options import QuietOption, place, place_name
from agegender.cli._output import end_with_failures, out_console, say, shown

ColumnOption = Annotated[str, typer.Option(help="Of a table: the column's name.")]


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="A model saved by `agegender train`, or a baseline: deepface, insightface. Loading a .joblib file "
            "runs the code in it."
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            parser=place,
            help="A folder named as in UTKFace, or a .csv, .tsv or .parquet table; paths or URLs.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.json and predictions.csv.")],
    by: Annotated[
        list[str] | None, typer.Option(help="Column of groups; repeat the option for more.")
    ] = None,
    path: ColumnOption = "path",
    age: ColumnOption = "age",
    gender: ColumnOption = "gender",
    coverage: Annotated[float, typer.Option(help="Coverage of the age interval.")] = 0.9,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "",
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="Compare with what others trained: deepface or insightface; repeat it for both."),
    ] = None,
    baseline_faces: Annotated[
        str,
        typer.Option(
            help="What finds faces for a baseline: auto, yunet, mtcnn, scrfd; none: pictures are crops."
        ),
    ] = "none",
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Put another report beside this one, such as that of the training set: its report.json or "
            "folder."
        ),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Test a model on held-out labelled pictures; write a report by group and in comparison with baselines.

    Example: `agegender evaluate model.agegender UTKFace/ --baseline deepface --out report/`
    """
    from agegender.reports import evaluation_report
    from agegender.reports._reference import read_reference

    other = None if reference is None else read_reference(reference)
    others = {name: _baseline(name, baseline_faces) for name in baseline or []}
    fitted = _fitted(model, baseline_faces)
    check_writable(out / "report.html")
    faces = _load(data, path, age, gender, quiet)
    groups = {name: faces.frame[name] for name in _groupings(by, faces.frame, data)}
    for one in (fitted, *others.values()):
        _tell(one, quiet)
    report = evaluation_report(
        fitted,
        faces.data,
        faces.target,
        groups=groups,
        baselines=others,
        reference=other,
        gender_names={label: gender_word(label) for label in (0, 1)},
        coverage=coverage,
        title=title or f"{model.name} on {place_name(data)}",
    )
    failures = fitted.report_.failures
    page = report.save(out)
    out_console.print(report)
    say(f"Saved {shown(page)}.", quiet)
    end_with_failures(failures)


def _fitted(model: Path, faces: str) -> Any:
    """Load a model, or make the baseline that is given instead."""
    from agegender.baselines import BASELINES

    if str(model) in BASELINES and not model.is_file():
        return _baseline(str(model), faces)
    if model.is_file() or model.suffix:
        return load(model)
    raise FileNotFoundError(
        f"There is no model {str(model)!r}; `agegender train … --out {model}` makes one, and "
        f"{' and '.join(BASELINES)} are baselines."
    )


def _baseline(name: str, faces: str) -> Any:
    from agegender.baselines import load_baseline

    return load_baseline(name, faces=None if faces == "none" else faces)


def _tell(fitted: Any, quiet: bool) -> None:
    """Set a model to continue after pictures that it cannot use, and to show its progress."""
    getattr(fitted, "extractor_", fitted).set_params(on_error="nan", verbose=0 if quiet else 1)


def _load(data: Path, path: str, age: str, gender: str, quiet: bool) -> Any:
    from agegender.datasets import load_table, load_utkface

    if is_folder(data):
        faces = load_utkface(data, verbose=0 if quiet else 1)
    else:
        faces = load_table(data, path=path, age=age, gender=gender)
    say(f"{len(faces.data):,} pictures, {len(faces.excluded):,} left out.", quiet)
    for name, reason in faces.excluded.head(5).itertuples(index=False):
        say(f"  {shown(name)}: {reason}", quiet)
    return faces


def _groupings(by: list[str] | None, frame: Any, data: Path) -> list[str]:
    if by is None:
        return ["race"] if "race" in frame else []
    for name in by:
        if name not in frame:
            raise ValueError(
                f"--by {name!r}: {public(str(data))!r} has no such column; it has {list(map(str, frame))}."
            )
    return by
