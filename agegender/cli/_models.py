"""Model files by their suffix: safe files and joblib files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agegender._utils.files import write_whole
from agegender.exceptions import AgeGenderError, ModelFileError

if TYPE_CHECKING:
    from agegender.inference import Predictor

SAFE = ".agegender"
PICKLED = (".joblib", ".pkl")
_EXPORTED = ".onnx"


def check_ending(path: Path) -> None:
    """Raise an error if the suffix of a model file is unknown."""
    if path.suffix not in (SAFE, *PICKLED):
        raise ValueError(
            f"{str(path)!r} ends neither in {SAFE} (safe to open, for sharing) nor in {' or '.join(PICKLED)} "
            "(keeps your own heads, runs code when it is loaded)."
        )


def save(model: Any, path: Path) -> None:
    """Save a model in the format of the file's suffix."""
    from agegender.persistence import save_model

    check_ending(path)
    if path.suffix == SAFE:
        save_model(model, path)
        return
    import joblib

    write_whole(path, lambda arriving: joblib.dump(model, arriving))


def load(path: Path, *, averages: bool = False) -> Any:
    """Load a fitted model in the format that belongs to the file's suffix; an ensemble, too, if `averages` is True.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it does not contain a fitted pipeline, or cannot be read.
    """
    _check_file(path)
    if path.suffix in (SAFE, _EXPORTED):
        from agegender.persistence import load_model

        return _checked(load_model(path), path, averages=averages)
    return _checked(_unpickled(path), path, averages=averages)


def _check_file(path: Path) -> None:
    if path.suffix != _EXPORTED:  # load_model explains what such a file is
        check_ending(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no model {str(path)!r}; `agegender train … --out {path}` makes one."
        )


def _unpickled(path: Path) -> Any:
    import joblib

    try:
        return joblib.load(path)
    except AgeGenderError:
        raise
    except Exception as error:  # the code in a pickle can raise any error
        said = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelFileError(
            f"{path} cannot be loaded by joblib ({type(error).__name__}: {said}). It is damaged, or no file of "
            "joblib.dump, or needs code that is not installed here; agegender.save_model writes files that need none."
        ) from error


def _checked(model: Any, path: Path, *, averages: bool = False) -> Any:
    """Return a model that commands can use, or raise an error that says what the file contains instead.

    An ensemble is accepted if `averages` is True.
    """
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    found = type(model).__name__
    averaged = hasattr(model, "models_") and not averages
    if averaged or not all(hasattr(model, name) for name in ("predict_frame", "predict_faces")):
        remedy = (
            "`agegender predict`, `video`, `serve` and `inspect` take it; here, save one of its models_."
            if averaged
            else "Save its best_estimator_."
            if hasattr(model, "refit")  # a search
            else "`agegender train` or save_model(pipeline, path) writes one."
        )
        raise ModelFileError(
            f"{path} holds an object of class {found}; a fitted AgeGenderPipeline is needed. {remedy}"
        )
    try:
        check_is_fitted(model)
    except NotFittedError:
        raise ModelFileError(f"{path} holds an unfitted {found}; fit it, then save it again.") from None
    return model


def load_predictor(path: Path | None, **options: Any) -> Predictor:
    """Load what predicts, without the code that trains, unless the file is one of joblib.

    Parameters
    ----------
    path : Path or None
        If None, the model in the package.
    **options
        As in :meth:`agegender.inference.Predictor.with_options`.

    Raises
    ------
    FileNotFoundError, ModelFileError
        As in `load`.
    """
    from agegender import inference

    if path is None:
        return inference.load_pretrained(**options)
    _check_file(path)
    if path.suffix in PICKLED:
        model = _checked(_unpickled(path), path, averages=True)
        if not hasattr(model, "to_predictor"):  # a baseline
            raise ModelFileError(
                f"{path} holds an object of class {type(model).__name__}; this command needs a fitted "
                "AgeGenderPipeline or AgeGenderEnsemble. Predict with it in Python."
            )
        found: Predictor = model.to_predictor().with_options(**options)
        return found
    return inference.load(path, keras=True, **options)


def load_or_pretrained(path: Path | None) -> Any:
    """Load a fitted model or, without a path, the model in the package; errors as in `load`."""
    if path is not None:
        return load(path)
    from agegender.pretrained import load_pretrained

    return load_pretrained()
