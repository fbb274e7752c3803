"""``agegender inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agegender._utils.urls import is_folder
from agegender._utils.validation import did_you_mean
from agegender.cli._options import (
    BatchOption,
    CacheOption,
    ColorOption,
    CropOption,
    LayerOption,
    MeanOption,
    QuietOption,
    ScaleOption,
    cache_folder,
    make_extractor,
    place,
    place_name,
)
from agegender.cli._output import import_tensorflow, out_console, say, shown

NetworkOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A network by name or an .onnx file, as for `agegender train`; repeat it for several side by side.",
        show_default="compact, inside the package",
    ),
]
ColumnOption = Annotated[str, typer.Option(help="Of a table: the column's name.")]


def inspect(
    data: Annotated[
        Path,
        typer.Argument(
            parser=place,
            help="A folder named as in UTKFace, or a .csv, .tsv or .parquet table: a path or URL.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for inspection.html, inspection.json, labels.csv, pictures.csv and corrections.csv."
        ),
    ],
    against: Annotated[
        Path | None,
        typer.Option(
            parser=place,
            help="Another set, a folder or a table with a column path: its pictures that stand here too are listed.",
        ),
    ] = None,
    corrections: Annotated[
        Path | None, typer.Option(help="Corrections of an earlier inspection, applied before this one.")
    ] = None,
    path: ColumnOption = "path",
    age: ColumnOption = "age",
    gender: ColumnOption = "gender",
    person: Annotated[
        str | None, typer.Option(help="Of a table: the column that names the person shown.")
    ] = None,
    detector: Annotated[
        str, typer.Option(help="What finds faces: auto, yunet, mtcnn, a YuNet .onnx file, or none.")
    ] = "auto",
    backbone: NetworkOption = None,
    color: ColorOption = None,
    mean: MeanOption = None,
    scale: ScaleOption = None,
    layer: LayerOption = None,
    crop: CropOption = 0.0,
    batch_size: BatchOption = 64,
    model: Annotated[
        str,
        typer.Option(
            help="A trained model that has not seen these pictures and reads them too: a model file, compact, none, "
            "or auto: compact, unless it was trained on some of them."
        ),
    ] = "auto",
    folds: Annotated[int, typer.Option(min=2, help="Folds; each is read by a model of the others.")] = 5,
    near_copy: Annotated[
        float, typer.Option(help="Cosine similarity from which two pictures are near-copies.")
    ] = 0.9,
    n_shown: Annotated[
        int, typer.Option("--shown", min=0, help="How many of the most suspicious pictures the page shows.")
    ] = 120,
    cache: CacheOption = "auto",
    seed: Annotated[int, typer.Option(help="Random state of folds and training.")] = 0,
    quiet: QuietOption = False,
) -> None:
    """Look for wrong labels, copies, bad pictures, gaps and leaks in labelled faces.

    Without --backbone, the network inside the package reads the pictures. It was trained on UTKFace: for that set,
    pass another one.

    If it is stopped with Ctrl-C and started again, it continues from there.

    Example: `agegender inspect UTKFace/ --out report/ --against test/`
    """
    from agegender._utils.files import check_writable
    from agegender._utils.validation import optional_import
    from agegender.inspection import inspect_faces
    from agegender.inspection._look import DEFAULT_NETWORK

    optional_import("jinja2", "inspection")
    check_writable(out / "inspection.html")
    trained = _trained(model)
    faces = _load(data, path, age, gender, person, corrections, quiet)
    with cache_folder(cache) as folder:
        networks = backbone or [DEFAULT_NETWORK]
        extractor = make_extractor(networks, color, mean, scale, layer, crop, batch_size, folder, quiet)
        import_tensorflow()
        found = inspect_faces(
            faces,
            extractor=extractor,
            model=trained,
            cv=folds,
            against=against,
            detector=None if detector == "none" else detector,
            near_copy=near_copy,
            title=f"What is in {place_name(data)}",
            random_state=seed,
            verbose=0 if quiet else 1,
        )
        edited = (out / "corrections.csv").exists()
        page = found.save(out, n_shown=n_shown)
    out_console.print(found)
    decide = (
        "corrections-new.csv (corrections.csv was there and is unchanged)" if edited else "corrections.csv"
    )
    say(f"Saved {shown(page)}. Edit {decide} beside it, and pass it to the loader: corrections=…", quiet)


def _persons(frame: Any, column: str) -> Any:
    """Return the column of persons, to whose name the loader adds "_given" if the name is one of its own."""
    own = ("path", "age", "age_low", "age_high", "gender", "group")
    name = f"{column}_given" if column in own else column
    if name not in frame:
        names = list(map(str, frame.columns))
        raise ValueError(
            f"--person: there is no column {column!r} among {names}.{did_you_mean(column, names)}"
        )
    return frame[name]


def _trained(model: str) -> Any:
    """Return the trained model that the option names."""
    from agegender.cli import _models

    if model == "none":
        return None
    return model if model in ("auto", "compact") else _models.load(Path(model), averages=True)


def _load(
    data: Path | str,
    path: str,
    age: str,
    gender: str,
    person: str | None,
    corrections: Path | None,
    quiet: bool,
) -> Any:
    from agegender.datasets import load_table, load_utkface

    if is_folder(data):
        faces = load_utkface(data, corrections=corrections, verbose=0 if quiet else 1)
    else:
        faces = load_table(data, path=path, age=age, gender=gender, corrections=corrections, check_files=True)
        if person is not None:
            faces.frame["person"] = _persons(faces.frame, person)
    say(
        f"{len(faces.data):,} pictures, {len(faces.excluded):,} left out, {len(faces.corrected):,} corrected.",
        quiet,
    )
    return faces
