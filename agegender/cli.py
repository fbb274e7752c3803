"""The command ``agegender``: train, predict, embed, cache."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from rich.console import Console
from rich.table import Column, Table

from agegender._validation import check_choice
from agegender.exceptions import AgeGenderError, PictureWarning

if TYPE_CHECKING:
    import pandas as pd

    from agegender.backbones import Backbone
    from agegender.extractor import EmbeddingExtractor, ExtractionReport
    from agegender.pipeline import AgeGenderPipeline

__all__ = ["app", "main"]

app = typer.Typer(
    name="agegender",
    help="Age and gender from photographs of faces. They are estimates about appearance, not facts about people.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
cache_app = typer.Typer(name="cache", help="The embeddings kept on disk.", no_args_is_help=True)
app.add_typer(cache_app)

out_console = Console()
err_console = Console(stderr=True)

BackboneOption = Annotated[
    str, typer.Option(help="A network by name (arcface, facenet, facenet512, openface) or an .onnx file.")
]
ColorOption = Annotated[str, typer.Option(help="Colour order that an .onnx file takes: rgb or bgr.")]
MeanOption = Annotated[float, typer.Option(help="An .onnx file is fed (pixel − mean) · scale.")]
ScaleOption = Annotated[str, typer.Option(help="A number or a fraction such as 1/128.")]
LayerOption = Annotated[
    str,
    typer.Option(
        help="embedding, penultimate, pooled, feature_map, a tensor's name, or auto: the head's own."
    ),
]
CropOption = Annotated[float, typer.Option(help="Fraction trimmed from every side of the pictures.")]
CacheOption = Annotated[str, typer.Option(help="Folder of the cache, 'auto' or 'none'.")]
BatchOption = Annotated[int, typer.Option(help="Pictures that pass through the network at once.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


@app.command()
def train(
    directory: Annotated[
        Path, typer.Argument(help="Folder of pictures named as in UTKFace: age_gender_….jpg")
    ],
    backbone: BackboneOption = "arcface",
    color: ColorOption = "rgb",
    mean: MeanOption = 127.5,
    scale: ScaleOption = "1/128",
    layer: LayerOption = "auto",
    head: Annotated[str, typer.Option(help="dense or conv.")] = "dense",
    units: Annotated[str, typer.Option(help="Hidden units of a dense head: 256 or 256,128.")] = "",
    age_loss: Annotated[str, typer.Option(help="Loss of the age output.")] = "label_distribution",
    learning_rate: Annotated[float, typer.Option(help="Learning rate of the head.")] = 1e-3,
    epochs: Annotated[
        int, typer.Option(help="At most so many epochs; early stopping ends most sooner.")
    ] = 200,
    rounds: Annotated[int, typer.Option(help="Train again so often, on a newly drawn inner split.")] = 1,
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation; 0 leaves it out.")] = 5,
    crop: CropOption = 0.0,
    batch_size: BatchOption = 64,
    cache: CacheOption = "auto",
    seed: Annotated[int, typer.Option(help="Random state of folds and training.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Where the model trained on all pictures is saved.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Cross-validate a predictor on a folder of labelled faces, then train it on all of them and save it.

    Example: `agegender train UTKFace/ --backbone arcface --head dense --units 256 --folds 5 --out model.joblib`
    """
    from agegender.classifier import AgeGenderClassifier
    from agegender.datasets import load_utkface
    from agegender.pipeline import AgeGenderPipeline

    with _cache_folder(cache) as folder:
        faces = load_utkface(directory, verbose=0 if quiet else 1)
        _say(f"{len(faces.data):,} pictures, {len(faces.excluded):,} left out.", quiet)
        for path, reason in faces.excluded.head(5).itertuples(index=False):
            _say(f"  {path}: {reason}", quiet)
        extractor = _extractor(backbone, color, mean, scale, layer, crop, batch_size, folder, quiet)
        classifier = AgeGenderClassifier(
            head,
            age_loss=age_loss,
            learning_rate=learning_rate,
            epochs=epochs,
            rounds=rounds,
            random_state=seed,
        )
        if units:
            classifier.set_params(head__units=_units(units))
        model = AgeGenderPipeline(extractor, classifier)
        _warm(model, faces.data, quiet)
        _import_tensorflow()
        if folds:
            _cross_validate(model, faces, folds, seed, quiet)
        if out is not None:
            _say("Training on all pictures …", quiet)
            model.fit(faces.data, faces.target, groups=faces.groups)
            _write(out, lambda path: _dump(model, path))
            _say(f"Saved {out}.", quiet)


@app.command()
def predict(
    pictures: Annotated[list[Path], typer.Argument(help="Face crops, or folders of them.")],
    model: Annotated[
        Path, typer.Option(help="A model saved by `agegender train`. Loading it runs its code.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Print age and gender of each picture.

    Example: `agegender predict --model model.joblib anna.jpg photos/ --json`
    """
    import joblib

    if not model.is_file():
        raise FileNotFoundError(
            f"There is no model {str(model)!r}; `agegender train … --out {model}` makes one."
        )
    paths = _pictures(pictures)
    fitted = joblib.load(model)
    fitted.extractor_.set_params(on_error="nan", verbose=0 if quiet or len(paths) < 100 else 1)
    frame = fitted.predict_frame(paths)
    frame.insert(0, "picture", paths)
    failures = fitted.report_.failures
    if as_json:
        _print_json(frame, {failure.index: failure.reason for failure in failures})
    else:
        _print_predictions(frame)
    _end_with_failures(failures)


@app.command()
def embed(
    directory: Annotated[Path, typer.Argument(help="Folder of pictures; folders inside are searched too.")],
    out: Annotated[Path, typer.Option(help="An .npz file with the arrays embeddings and paths.")],
    backbone: BackboneOption = "arcface",
    color: ColorOption = "rgb",
    mean: MeanOption = 127.5,
    scale: ScaleOption = "1/128",
    layer: LayerOption = "embedding",
    crop: CropOption = 0.0,
    batch_size: BatchOption = 64,
    cache: CacheOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Write the activations of every picture in a folder to one file.

    Example: `agegender embed photos/ --backbone facenet --layer pooled --out embeddings.npz`
    """
    import numpy as np

    paths = _pictures([directory])
    with _cache_folder(cache) as folder:
        extractor = _extractor(backbone, color, mean, scale, layer, crop, batch_size, folder, quiet)
        rows = extractor.set_params(on_error="nan").transform(paths)
    report = extractor.report_
    failed = {failure.index for failure in report.failures}
    kept = [i for i in range(len(paths)) if i not in failed]
    names = np.array([paths[i] for i in kept], dtype=np.str_)
    _write(out, lambda path: _savez(path, embeddings=rows[kept], paths=names))
    _say(f"{_account(report)} Saved {len(kept):,} rows to {out}.", quiet)
    _end_with_failures(report.failures)


@cache_app.command("info")
def cache_info(cache: CacheOption = "auto") -> None:
    """Say where the cache is and what it holds."""
    from agegender.cache import open_cache

    store = open_cache(cache)
    if store is None:
        raise ValueError("--cache none names no cache.")
    info = store.info()
    out_console.print(f"{info.path}: {info.n_rows:,} rows, {info.n_bytes / 1e6:,.1f} MB", soft_wrap=True)
    if not info.recipes:
        return
    table = Table("network", "layer", "crop", "rows", "MB")
    for entry in info.recipes:
        recipe = entry.recipe
        table.add_row(
            recipe.network[:12],
            recipe.layer,
            f"{recipe.crop:g}",
            f"{entry.n_rows:,}",
            f"{entry.n_bytes / 1e6:,.1f}",
        )
    out_console.print(table)


@cache_app.command("clear")
def cache_clear(
    cache: CacheOption = "auto",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete every cached row. Nothing is lost but the time to compute them again."""
    from agegender.cache import open_cache

    store = open_cache(cache)
    if store is None:
        raise ValueError("--cache none names no cache.")
    info = store.info()
    if not yes:
        typer.confirm(
            f"Delete {info.n_rows:,} rows ({info.n_bytes / 1e6:,.1f} MB) of {info.path}?", abort=True
        )
    store.clear()
    out_console.print(f"Deleted {info.n_rows:,} rows.")


def main() -> None:
    """Run the command; an error that a person can mend is one line, not a traceback."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # A picture left out is reported once, by name, at the end.
    warnings.simplefilter("ignore", PictureWarning)
    try:
        app()
    except (AgeGenderError, ValueError, TypeError, OSError) as error:
        err_console.print(f"[red]Error:[/red] {error}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        notes = " ".join(getattr(stop, "__notes__", []))
        err_console.print(f"Stopped. {notes}".rstrip())
        sys.exit(130)


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        err_console.print(text, soft_wrap=True, highlight=False)


def _units(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"--units {text!r} is not a list of whole numbers such as 256 or 256,128."
        ) from error


def _number(text: str, option: str) -> float:
    top, slash, bottom = text.partition("/")
    try:
        return float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{option} {text!r} is not a number or a fraction such as 1/128.") from error


def _backbone(name: str, color: str, mean: float, scale: str) -> str | Backbone:
    if not name.lower().endswith(".onnx"):
        return name
    from agegender.backbones import Backbone

    check_choice("--color", color, ("rgb", "bgr"), "agegender")
    order = cast(Literal["rgb", "bgr"], color)
    return Backbone.from_onnx(name, color=order, mean=mean, scale=_number(scale, "--scale"))


def _extractor(
    backbone: str,
    color: str,
    mean: float,
    scale: str,
    layer: str,
    crop: float,
    batch_size: int,
    cache: str,
    quiet: bool,
) -> EmbeddingExtractor:
    from agegender.extractor import EmbeddingExtractor

    return EmbeddingExtractor(
        _backbone(backbone, color, mean, scale),
        layer=layer,
        crop=crop,
        batch_size=batch_size,
        cache=cache,
        verbose=0 if quiet else 1,
    )


@contextmanager
def _cache_folder(cache: str) -> Iterator[str]:
    """Give a folder that lasts for this command where no cache is wanted."""
    if cache != "none":
        yield cache
        return
    with tempfile.TemporaryDirectory(prefix="agegender-") as folder:
        yield folder


def _warm(model: AgeGenderPipeline, pictures: Any, quiet: bool) -> None:
    """Pass every picture through the network once, so that all folds find them in the cache."""
    extractor = model.resolve_extractor()
    extractor.transform(pictures)
    _say(_account(extractor.report_), quiet)
    model.set_params(extractor__verbose=0)


def _import_tensorflow() -> None:
    """Import it without what its C++ parts print, before they can be told not to, of graphics cards not found."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            import tensorflow

            tensorflow.config.list_physical_devices()
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _account(report: ExtractionReport) -> str:
    return (
        f"Embedded {report.n_images:,} pictures ({report.n_unique:,} different): {report.n_cached:,} from the "
        f"cache, {report.n_computed:,} through the network, {report.seconds:.1f} s."
    )


def _cross_validate(model: AgeGenderPipeline, faces: Any, folds: int, seed: int, quiet: bool) -> None:
    import numpy as np
    from sklearn.base import clone

    from agegender.metrics import age_cumulative_score, age_mae, gender_accuracy
    from agegender.model_selection import AgeGenderKFold

    table = Table("fold", "age MAE", "CS@5", "gender accuracy")
    figures = []
    splits = AgeGenderKFold(folds, random_state=seed).split(faces.data, faces.target, faces.groups)
    for number, (train_rows, test_rows) in enumerate(splits, 1):
        _say(f"Fold {number} of {folds} …", quiet)
        fitted = clone(model).fit(
            faces.data[train_rows], faces.target[train_rows], groups=faces.groups[train_rows]
        )
        truth, predicted = faces.target[test_rows], fitted.predict(faces.data[test_rows])
        figures.append(
            [metric(truth, predicted) for metric in (age_mae, age_cumulative_score, gender_accuracy)]
        )
        table.add_row(str(number), *_figures(figures[-1]))
    table.add_section()
    means, spreads = np.mean(figures, axis=0), np.std(figures, axis=0)
    cells = zip(_figures(means), _figures(spreads), strict=True)
    table.add_row("mean ± sd", *(f"{mean} ± {spread}" for mean, spread in cells))
    out_console.print(table)


def _figures(values: Any) -> list[str]:
    mae, cs5, gender = values
    return [f"{mae:.2f}", f"{100 * cs5:.1f} %", f"{100 * gender:.1f} %"]


def _pictures(given: list[Path]) -> list[str]:
    """Return the files given, and every picture inside the folders given."""
    from agegender.images import SUFFIXES

    paths: list[str] = []
    for path in given:
        if path.is_dir():
            paths += sorted(str(p) for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        else:
            paths.append(str(path))
    if not paths:
        raise ValueError(f"No picture in {', '.join(map(str, given))}.")
    return paths


def _print_json(frame: pd.DataFrame, reasons: dict[int, str]) -> None:
    records = json.loads(frame.to_json(orient="records"))
    for index, reason in reasons.items():
        records[index]["error"] = reason
    typer.echo(json.dumps(records, indent=2, ensure_ascii=False))


def _print_predictions(frame: pd.DataFrame) -> None:
    table = Table(Column("picture", overflow="fold"), "age", "5 %–95 %", "gender", "probability")
    for row in frame.to_dict("records"):
        picture, age, low, high, gender, proba = row.values()
        if math.isnan(age):
            table.add_row(picture, "–", "–", "–", "–")
        else:
            table.add_row(picture, f"{age:.1f}", f"{low:.0f}–{high:.0f}", _gender(gender), f"{proba:.2f}")
    out_console.print(table)


def _gender(label: Any) -> str:
    from agegender.datasets._common import GENDERS

    return GENDERS[int(label)] if label in (0, 1) else str(label)


def _end_with_failures(failures: list[Any]) -> None:
    for failure in failures:
        err_console.print(f"[red]Not read:[/red] {failure.picture}: {failure.reason}", soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def _write(target: Path, write: Callable[[Path], None]) -> None:
    """Write under a temporary name beside the target, then rename: never half a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    try:
        write(unfinished)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def _dump(model: AgeGenderPipeline, path: Path) -> None:
    import joblib

    joblib.dump(model, path)


def _savez(path: Path, **arrays: Any) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.savez(file, **arrays)
