"""``agegender demo``."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agegender._utils.files import check_writable, write_whole
from agegender._utils.genders import gender_word
from agegender.cli._options import QuietOption
from agegender.cli._output import (
    account,
    fold_table,
    import_tensorflow,
    out_console,
    say,
    shown,
    tell,
)

if TYPE_CHECKING:
    import pandas as pd

    from agegender.pipeline import AgeGenderPipeline

FOLDS = 5
SHOWN = 24
CAUTION = (
    "The faces are drawings: these results show that everything works, and say nothing about people. The network in "
    "the package is for non-commercial research only."
)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all output.")] = Path("agegender-demo"),
    n: Annotated[int, typer.Option("--n", min=50, help="Number of faces to draw.")] = 800,
    seed: Annotated[int, typer.Option(help="Random state of drawings, folds and training.")] = 0,
    quiet: QuietOption = False,
) -> None:
    """Draw faces, cross-validate a model on them, save it and show its predictions.

    It needs no pictures, no download and no internet, and takes a minute or two.

    Example: `agegender demo`
    """
    from agegender.datasets import make_faces
    from agegender.model_selection import AgeGenderKFold, cross_val_predict_frame

    started = time.perf_counter()
    for made in ("model.agegender", "contact_sheet.png", "age_errors.png"):
        check_writable(out / made)
    faces = make_faces(n, out / "faces", random_state=seed, verbose=0 if quiet else 1)
    import_tensorflow()
    with tempfile.TemporaryDirectory(prefix="agegender-") as cache:
        model = _make_model(cache, seed)
        _embed(model, faces.data, quiet)
        say(f"Cross-validation with {FOLDS} folds …", quiet)
        folds = AgeGenderKFold(FOLDS, random_state=seed)
        frame = cross_val_predict_frame(model, faces.data, faces.target, groups=faces.groups, cv=folds)
        out_console.print(fold_table([_figures(part) for _, part in frame.groupby("fold")]))
        tell(CAUTION)
        say("Training on all faces, saving and loading the model …", quiet)
        model.fit(faces.data, faces.target, groups=faces.groups)
        _save_and_check(model, faces.data, out / "model.agegender")
    _draw_sheet(faces.data, frame, out / "contact_sheet.png")
    _draw_errors(frame, out / "age_errors.png")
    say(f"Done in {time.perf_counter() - started:.0f} s.", quiet)
    for made, what in (
        ("faces", f"{n:,} drawn faces, named as in UTKFace"),
        ("model.agegender", "the model, for `agegender predict --model`"),
        ("contact_sheet.png", "faces with true and predicted age and gender"),
        ("age_errors.png", "every error against the true age"),
    ):
        tell(f"{shown(out / made)}: {what}")


def _make_model(cache: str, seed: int) -> AgeGenderPipeline:
    from agegender.classifier import AgeGenderClassifier
    from agegender.extractor import EmbeddingExtractor
    from agegender.heads import DenseHead
    from agegender.pipeline import AgeGenderPipeline

    extractor = EmbeddingExtractor("compact", cache=cache)
    return AgeGenderPipeline(extractor, AgeGenderClassifier(DenseHead(units=(64,)), random_state=seed))


def _embed(model: AgeGenderPipeline, pictures: Any, quiet: bool) -> None:
    """Embed every picture once; training then reads the cache."""
    extractor = model.resolve_extractor()
    extractor.transform(pictures)
    say(account(extractor.report_), quiet)


def _figures(frame: pd.DataFrame) -> tuple[float, float, float]:
    from agegender.metrics import age_cumulative_score, age_mae, gender_accuracy

    truth, predicted = frame[["true_age", "true_gender"]].to_numpy(), frame[["age", "gender"]].to_numpy()
    mae, cs5, gender = (
        metric(truth, predicted) for metric in (age_mae, age_cumulative_score, gender_accuracy)
    )
    return mae, cs5, gender


def _save_and_check(model: AgeGenderPipeline, pictures: Any, path: Path) -> None:
    """Save the model, load it, and check that its predictions are the same."""
    import numpy as np

    from agegender.exceptions import ModelFileError
    from agegender.persistence import load_model, save_model

    loaded = load_model(save_model(model, path))
    loaded.extractor_.set_params(cache=None)
    if not np.array_equal(loaded.predict(pictures), model.predict(pictures)):
        raise ModelFileError(f"{path} gives other predictions than the model that was saved in it.")


def _draw_sheet(pictures: Any, frame: pd.DataFrame, path: Path) -> None:
    """Draw a page of faces of all ages."""
    import numpy as np

    from agegender.plots._contact_sheet import contact_sheet

    by_age = frame["true_age"].to_numpy().argsort(kind="stable")
    shown = by_age[np.linspace(0, len(by_age) - 1, SHOWN).astype(int)]
    sheet = contact_sheet(
        pictures[shown],
        frame.iloc[shown],
        title="Drawn faces, not people",
        note="Left: out-of-fold predictions. Right: the age and gender that were drawn.",
        gender_names={label: gender_word(label) for label in (0, 1)},
    )
    write_whole(path, lambda arriving: sheet.save(arriving, "PNG"))


def _draw_errors(frame: pd.DataFrame, path: Path) -> None:
    from matplotlib.figure import Figure

    from agegender.plots import AgeErrorDisplay

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(title="Drawn faces: age errors of out-of-fold predictions")
    AgeErrorDisplay.from_predictions(frame["true_age"], frame["age"], kind="by_age", ax=axes)
    write_whole(path, lambda arriving: figure.savefig(arriving, dpi=150, format="png"))
