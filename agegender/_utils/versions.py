"""Versions in saved models, and checks against the installed versions."""

from __future__ import annotations

import warnings
from functools import cache
from importlib import metadata
from typing import Any

from agegender._version import __version__
from agegender.exceptions import ModelFileError, ModelVersionWarning

__all__ = ["VersionedState", "check_own_version", "versions"]

_PACKAGES = ("scikit-learn", "keras", "onnxruntime")
_KEY = "_versions"


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    return ("agegender", __version__), *((name, metadata.version(name)) for name in _PACKAGES)


def versions() -> dict[str, str]:
    """Return the versions that are stored in a model that is saved now.

    Examples
    --------
    >>> sorted(versions())
    ['agegender', 'keras', 'onnxruntime', 'scikit-learn']
    """
    return dict(_versions())


def check_own_version(written: str, kind: str = "model") -> None:
    """Raise an error for a model of a later version of agegender, which may have unknown attributes.

    Raises
    ------
    ModelFileError
        If its release is later than the installed one; for versions 0.x, if its 0.x is later.
    """
    release = _release(written)
    if release > _release(__version__):
        floor = ".".join(map(str, release))
        raise ModelFileError(
            f"This {kind} was saved by agegender {written}, and this is {__version__}, which may not know all "
            f"that is in it: pip install 'agegender>={floor}'."
        )


class VersionedState:
    """Store the versions inside a pickle, and check them when it is loaded.

    A mixin for estimators, to be placed before ``BaseEstimator``.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), _KEY: versions()}  # type: ignore[dict-item]

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = dict(state)
        _check(kept.pop(_KEY, {}), type(self).__name__)
        super().__setstate__(kept)  # type: ignore[misc]


def _check(written: dict[str, str], kind: str) -> None:
    """Raise an error for the state of a later agegender; warn if other versions differ."""
    check_own_version(written.get("agegender", "0"), kind)
    here = versions()
    other = [name for name in here if _release(written.get(name, "0")) != _release(here[name])]
    if not other:
        return
    found = ", ".join(f"{name} {written.get(name, 'unknown')} (here {here[name]})" for name in other)
    install = " ".join(f"'{name}=={written[name]}'" for name in other if name in written)
    same = (
        f"make it with the versions that it was saved with (pip install {install})"
        if install
        else "train it again"
    )
    warnings.warn(
        f"This {kind} was pickled with {found}. Pickles are made for one version: it may fail or predict other "
        f"numbers. Compare its predictions on pictures that you know, or {same}; agegender.save_model writes files "
        "that do not depend on versions.",
        ModelVersionWarning,
        stacklevel=4,
    )


def _release(version: str) -> tuple[int, ...]:
    """Return major and minor version."""
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    return tuple([*numbers, 0, 0][:2])
