"""``agegender train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agegender._utils.files import check_writable
from agegender.cli._models import check_ending, save
from agegender.cli._options import (
    BackboneOption,
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
    parse_units,
    place,
)
from agegender.cli._output import account, fold_table, import_tensorflow, out_console, say, shown
from agegender.cli._shards import networks_named, train_on_shards

if TYPE_CHECKING:
    from agegender.pipeline import AgeGenderPipeline


def train(
    directory: Annotated[
        Path | None,
        typer.Argument(
            parser=place, help="Folder of pictures named as in UTKFace: age_gender_….jpg; none with --shards."
        ),
    ] = None,
    backbone: BackboneOption = None,
    color: ColorOption = None,
    mean: MeanOption = None,
    scale: ScaleOption = None,
    layer: LayerOption = None,
    head: Annotated[str, typer.Option(help="dense or conv.")] = "dense",
    units: Annotated[str, typer.Option(help="Hidden units of a dense head: 256 or 256,128.")] = "",
    age_loss: Annotated[str, typer.Option(help="Loss of the age output.")] = "label_distribution",
    learning_rate: Annotated[float, typer.Option(help="Learning rate of the head.")] = 1e-3,
    epochs: Annotated[
        int, typer.Option(help="Maximum number of epochs; early stopping usually ends training sooner.")
    ] = 200,
    rounds: Annotated[int, typer.Option(help="Number of trainings, each with a new inner split.")] = 1,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the state of each training after every epoch; the same command goes on from there."
        ),
    ] = None,
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation; 0: no cross-validation.")] = 5,
    calibration_views: Annotated[
        str | None,
        typer.Option(
            help="Calibrate the intervals on other views of the pictures: degraded, for pictures unlike those of the "
            "training, or names such as grey.",
            show_default="the pictures as they are",
        ),
    ] = None,
    crop: CropOption = 0.0,
    batch_size: BatchOption = 64,
    cache: CacheOption = "auto",
    seed: Annotated[int, typer.Option(help="Random state of folds and training.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="File for the model trained on all pictures: .agegender or .joblib."),
    ] = None,
    shards: Annotated[
        Path | None,
        typer.Option(
            parser=place, help="Folder of `agegender embed --shard`, to train on instead of pictures."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            parser=place, help="With --shards: .csv, .tsv or .parquet with the columns path, age and gender."
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="With --labels: column of what belongs together, such as a person.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Cross-validate a model on a folder of labelled faces, then train it on all of them and save it.

    Example: `agegender train UTKFace/ --backbone arcface --head dense --units 256 --folds 5 --out model.agegender`

    Example: `agegender train UTKFace/ --backbone arcface --backbone facenet --out model.agegender`

    Example: `agegender train --shards embeddings/ --labels table.csv --units 256 --out model.agegender`
    """
    from agegender.classifier import AgeGenderClassifier
    from agegender.datasets import load_utkface
    from agegender.pipeline import AgeGenderPipeline
    from agegender.views import resolve_calibration_views

    if out is not None:
        check_ending(out)
        check_writable(out)
    _check_sources(directory, shards, labels)
    classifier = AgeGenderClassifier(
        head,
        age_loss=age_loss,
        learning_rate=learning_rate,
        epochs=epochs,
        rounds=rounds,
        checkpoint=checkpoint,
        random_state=seed,
    )
    if units:
        classifier.set_params(head__units=parse_units(units))
    resolve_calibration_views(calibration_views)
    if shards is not None and labels is not None:
        if calibration_views is not None:
            raise ValueError(
                "--calibration-views needs the pictures, and --shards has rows only. Leave it out."
            )
        networks = networks_named(backbone, {"color": color, "mean": mean, "scale": scale}, layer)
        train_on_shards(
            shards,
            labels,
            classifier.set_params(verbose=0 if quiet else 1),
            backbone=networks,
            group=group,
            folds=folds,
            seed=seed,
            out=out,
            quiet=quiet,
        )
        return
    assert directory is not None
    with cache_folder(cache) as folder:
        faces = load_utkface(directory, verbose=0 if quiet else 1)
        say(f"{len(faces.data):,} pictures, {len(faces.excluded):,} left out.", quiet)
        for path, reason in faces.excluded.head(5).itertuples(index=False):
            say(f"  {shown(path)}: {reason}", quiet)
        extractor = make_extractor(backbone, color, mean, scale, layer, crop, batch_size, folder, quiet)
        model = AgeGenderPipeline(extractor, classifier, calibration_views=calibration_views)
        _warm(model, faces.data, quiet)
        import_tensorflow()
        if folds:
            _cross_validate(model, faces, folds, seed, quiet)
        if out is not None:
            say("Training on all pictures …", quiet)
            model.fit(faces.data, faces.target, groups=faces.groups)
            save(model, out)
            say(f"Saved {shown(out)}.", quiet)


def _check_sources(directory: object, shards: object, labels: object) -> None:
    """Raise an error unless there is exactly one source of training data."""
    if (shards is None) != (labels is None):
        raise ValueError("--shards and --labels go together: rows, and a table of their ages and genders.")
    if (directory is None) == (shards is None):
        raise ValueError("agegender train takes a folder of pictures, or --shards and --labels.")


def _warm(model: AgeGenderPipeline, pictures: Any, quiet: bool) -> None:
    """Embed every picture once, so that all folds can read the cache."""
    extractor = model.resolve_extractor()
    extractor.transform(pictures)
    say(account(extractor.report_), quiet)
    model.set_params(extractor__verbose=0)


def _cross_validate(model: AgeGenderPipeline, faces: Any, folds: int, seed: int, quiet: bool) -> None:
    from sklearn.base import clone

    from agegender.metrics import age_cumulative_score, age_mae, gender_accuracy
    from agegender.model_selection import AgeGenderKFold

    figures = []
    splits = AgeGenderKFold(folds, random_state=seed).split(faces.data, faces.target, faces.groups)
    for number, (train_rows, test_rows) in enumerate(splits, 1):
        say(f"Fold {number} of {folds} …", quiet)
        fitted = clone(model).fit(
            faces.data[train_rows], faces.target[train_rows], groups=faces.groups[train_rows]
        )
        truth, predicted = faces.target[test_rows], fitted.predict(faces.data[test_rows])
        figures.append(
            [metric(truth, predicted) for metric in (age_mae, age_cumulative_score, gender_accuracy)]
        )
    out_console.print(fold_table(figures))
