"""Find a network's file and the fields of its backbone from its name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

from agegender._networks.downloads import check_file, locate
from agegender._networks.location import existing_file
from agegender._networks.of_insightface import PREFIX, find_in_packs, normalises_itself
from agegender._networks.publication import Published
from agegender._networks.published import PUBLISHED, canonical_name
from agegender._networks.registry import registered_names
from agegender._networks.shipped import SHIPPED, Shipped
from agegender._utils.digests import sha256_of
from agegender._utils.validation import did_you_mean
from agegender.exceptions import WeightsError

__all__ = ["find_by_name", "find_in_file", "known_names", "published_name"]

Engine: TypeAlias = Literal["auto", "onnx", "keras"]
Weights: TypeAlias = str | os.PathLike[str] | None

_HDF5 = (".h5", ".hdf5")


def known_names() -> tuple[str, ...]:
    """Return every name: of published networks, of networks in the package, and of registered networks."""
    return tuple(dict.fromkeys([*PUBLISHED, *SHIPPED, *registered_names()]))


def published_name(given: str) -> str | None:
    """Return this library's name of a published or shipped network, also for other spellings, or None.

    Raises
    ------
    ValueError
        If the network cannot be used in this library.
    """
    name = canonical_name(given)
    return name if name in PUBLISHED or name in SHIPPED else None


def find_by_name(given: str, weights: Weights, engine: Engine) -> dict[str, Any] | None:
    """Return the fields of a published or shipped network's backbone by its name; None for other names.

    Raises
    ------
    WeightsNotFoundError, WeightsError
        If its file was not found and could not be downloaded, or has the wrong content.
    ValueError
        If the network cannot be used in this library, or not in this form.
    """
    name = published_name(given)
    if name is None:
        return None
    if name in SHIPPED:
        return _shipped(SHIPPED[name], weights, engine)
    return _published(PUBLISHED[name], weights, engine)


def find_in_file(name: str, weights: Weights, engine: Engine) -> tuple[Path, dict[str, Any]]:
    """Return the ONNX file of a path or of a name in InsightFace's folder, and its normalisation.

    Raises
    ------
    WeightsNotFoundError
        If there is no such pack or file.
    ValueError
        If the name is neither, or if weights or another engine are given together with it.
    """
    in_packs = name.startswith(PREFIX)
    if not in_packs and not name.lower().endswith(".onnx"):
        raise ValueError(
            f"There is no backbone {name!r}; there are {', '.join(known_names())}, and any .onnx file."
            f"{did_you_mean(name, known_names())}"
        )
    if weights is not None:
        raise ValueError(
            f"{name} is a file with its weights in it; weights={weights!r} goes with a known name only."
        )
    if engine == "keras":
        raise ValueError(f"{name} is an ONNX file, which has no Keras form; use engine='auto' or 'onnx'.")
    if not in_packs:
        return existing_file(name), {}
    path = find_in_packs(name)
    mean, scale = (0.0, 1.0) if normalises_itself(path) else (127.5, 1 / 127.5)
    return path, {"name": name, "color": "rgb", "mean": mean, "scale": scale}


def _shipped(shipped: Shipped, weights: object, engine: Engine) -> dict[str, Any]:
    if weights is not None:
        raise ValueError(
            f"{shipped.name} comes with its weights, and weights={weights!r} cannot replace them; "
            "Backbone.from_onnx reads other files."
        )
    if engine == "keras":
        raise ValueError(f"{shipped.name} has no Keras form; use engine='auto' or 'onnx'.")
    path = shipped.checked_path()
    return _common(shipped) | {
        "path": path,
        "sha256": shipped.sha256,
        "size": shipped.size,
        "suffix": path.suffix,
    }


def _published(published: Published, weights: Weights, engine: Engine) -> dict[str, Any]:
    path = locate(published, engine) if weights is None else _given(published, weights, engine)
    check_file(path, published.urls(path.suffix))
    return _common(published) | {
        "path": path,
        "sha256": sha256_of(path),
        "size": path.stat().st_size,
        "suffix": path.suffix,
    }


def _common(network: Shipped | Published) -> dict[str, Any]:
    fields = ("name", "color", "mean", "scale", "input_size", "licence")
    return {name: getattr(network, name) for name in fields}


def _given(published: Published, weights: str | os.PathLike[str], engine: Engine) -> Path:
    path = existing_file(weights)
    suffixes = {"onnx": (".onnx",), "keras": _HDF5}.get(engine, (".onnx", *_HDF5))
    if path.suffix not in suffixes:
        raise WeightsError(
            f"{path} does not end in {' or '.join(suffixes)}, by which engine={engine!r} tells its kind; rename it."
        )
    if path.suffix in _HDF5 and ".h5" not in published.files:
        raise ValueError(f"{published.name} has no Keras form ({published.no_keras}); {path} cannot be read.")
    return path
