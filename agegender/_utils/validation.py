"""Checks of parameters; each error message contains the value, the rule and the remedy."""

from __future__ import annotations

import importlib
import math
import os
import re
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = [
    "check_bytes",
    "check_choice",
    "did_you_mean",
    "home",
    "optional_import",
]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" if a known name is close to `name`, or an empty string.

    Examples
    --------
    >>> did_you_mean("arcfase", ["arcface", "facenet"])
    " Did you mean 'arcface'?"
    >>> did_you_mean("vgg", ["arcface", "facenet"])
    ''
    """
    import difflib  # only when something is wrong

    folded = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0.6)
    return f" Did you mean {folded[close[0]]!r}?" if close else ""


def check_choice(name: str, value: object, allowed: Iterable[Any], owner: str) -> None:
    """Raise a ValueError unless `value` is one of the values that a parameter allows."""
    choices = list(allowed)
    if any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        return
    listed = ", ".join(repr(choice) for choice in choices)
    hint = did_you_mean(value, [c for c in choices if isinstance(c, str)]) if isinstance(value, str) else ""
    raise ValueError(f"{owner}: {name}={value!r} is not one of {listed}.{hint}")


def check_bytes(name: str, value: object, owner: str) -> float:
    """Return a number of bytes that is given as a number or as text; None means infinity.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> check_bytes("memory_limit", "2GB", "AgeGenderPipeline"), check_bytes("memory_limit", "512 MiB", "…")
    (2000000000.0, 536870912.0)
    """
    if value is None:
        return math.inf
    if isinstance(value, Real) and not isinstance(value, bool) and float(value) >= 0:
        return float(value)
    read = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([kmgt]?)(i?)b", str(value).strip().lower())
    if not isinstance(value, str) or read is None:
        raise ValueError(
            f"{owner}: {name}={value!r} is not a number of bytes, a text such as '2GB' or '512MiB', or None."
        )
    number, prefix, binary = read.groups()
    return float(number) * (1024.0 if binary else 1000.0) ** " kmgt".index(prefix or " ")


def optional_import(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or raise an error that names the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise ModuleNotFoundError(
            f"This needs the package {error.name!r}: pip install 'agegender[{extra}]'.", name=error.name
        ) from error


def home() -> Path:
    """Return the folder for cached embeddings and for networks from model files.

    It is ``AGEGENDER_HOME`` if this is set, and in the user's cache directory otherwise. The folder may not
    exist.
    """
    chosen = os.environ.get("AGEGENDER_HOME")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("agegender", appauthor=False)
