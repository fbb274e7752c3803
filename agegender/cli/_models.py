"""Model files by their ending: safe ones, and joblib's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agegender._utils.files import write_whole

SAFE = ".agegender"
PICKLED = (".joblib", ".pkl")


def check_ending(path: Path) -> None:
    """Raise an error unless a file's name says how the model is kept in it."""
    if path.suffix not in (SAFE, *PICKLED):
        raise ValueError(
            f"{str(path)!r} ends neither in {SAFE} (safe to open, for sharing) nor in {' or '.join(PICKLED)} "
            "(keeps heads of one's own, runs code when it is opened)."
        )


def save(model: Any, path: Path) -> None:
    """Save a model in the form that the file's ending names."""
    from agegender.persistence import save_model

    check_ending(path)
    if path.suffix == SAFE:
        save_model(model, path)
        return
    import joblib

    write_whole(path, lambda arriving: joblib.dump(model, arriving))


def load(path: Path) -> Any:
    """Load a model in the form that the file's ending names."""
    from agegender.persistence import load_model

    check_ending(path)
    if path.suffix == SAFE:
        return load_model(path)
    import joblib

    return joblib.load(path)


def load_or_pretrained(path: Path | None) -> Any:
    """Load a model, or without a path the one that comes with the package.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    if path is not None:
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no model {str(path)!r}; `agegender train … --out {path}` makes one."
            )
        return load(path)
    from agegender.pretrained import load_pretrained

    return load_pretrained()
