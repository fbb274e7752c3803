"""What decides a training: its data, settings, initial weights, random numbers and versions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._fitting.adam import learning_rate_factors
from agegender._fitting.settings import Settings, TrainingData
from agegender._utils.rows import blocks, take
from agegender._utils.versions import versions

__all__ = ["Identity", "differences", "identity_of", "key_of"]

Identity = dict[str, dict[str, Any]]


def identity_of(model: Any, head: Any, data: TrainingData, settings: Settings, seed: int) -> Identity:
    """Return what decides a training, as JSON. Two trainings with equal identities give the same weights.

    Parameters
    ----------
    model : keras.Model
        The head as it was built, not yet trained.
    head : callable
        What built it.
    data : TrainingData
    settings : Settings
    seed : int
    """
    return {
        "data": _of_data(data),
        "settings": asdict(settings) | {"seed": seed},
        "head": {"layers": _of_layers(model), "initial weights": _of_weights(model)},
        "versions": versions() | {name: metadata.version(name) for name in ("tensorflow", "numpy")},
        "shown": {"head": re.sub(r" at 0x[0-9a-f]+", "", repr(head))},
    }


def key_of(identity: Identity) -> str:
    """Return a key of a training, which is the same in every process."""
    decisive = {name: part for name, part in identity.items() if name != "shown"}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:24]


def differences(here: Identity, there: Identity) -> Iterator[str]:
    """Yield what differs between two trainings, in words.

    Parameters
    ----------
    here, there : dict
        What decides this training, and the one in the checkpoint.
    """
    for name, value in here["settings"].items():
        other = there["settings"].get(name)
        if other != value and name != "seed":
            yield f"{name}={value!r} here, {other!r} there"
    yield from _data_differences(here["data"], there["data"])
    yield from _head_differences(here, there)
    for name, version in here["versions"].items():
        if there["versions"].get(name) != version:
            yield f"{name} {version} here, {there['versions'].get(name)} there"


def _head_differences(here: Identity, there: Identity) -> Iterator[str]:
    if here["head"]["layers"] != there["head"]["layers"]:
        head, other = here["shown"]["head"], there["shown"]["head"]
        yield f"other layers of the head {head}" if head == other else f"head={head} here, {other} there"
    elif here["settings"]["seed"] != there["settings"]["seed"]:
        yield "another random_state, or another member of an ensemble"
    elif here["head"]["initial weights"] != there["head"]["initial weights"]:
        yield "other initial weights of the head, because of other rows, another network or other random numbers"


def _data_differences(here: dict[str, Any], there: dict[str, Any]) -> Iterator[str]:
    for name in ("pictures", "views", "shape of a row"):
        if here[name] != there[name]:
            yield f"{here[name]} {name} here, {there[name]} there"
            return
    changed = [name for name in here if here[name] != there[name]]
    if changed:
        yield f"other {', '.join(changed)}"


def _of_data(data: TrainingData) -> dict[str, Any]:
    rows = (data.samples[:, None] * data.n_views + np.arange(data.n_views)).ravel()
    return {
        "pictures": len(data.samples),
        "views": data.n_views,
        "shape of a row": list(data.rows.shape[1:]),
        "rows": _of_rows(data.rows, rows),
        "ages": _of_arrays(data.ages[data.samples]),
        "genders": _of_arrays(data.genders[data.samples]),
        "sample weights": _of_arrays(data.weights[data.samples]),
        "groups": _of_arrays(data.groups[data.samples]),
    }


def _of_rows(X: NDArray[Any], rows: NDArray[np.int64]) -> str:
    digest = hashlib.blake2b(str(X.dtype).encode(), digest_size=16)
    for part in blocks(len(rows), X.shape[1:]):
        digest.update(np.ascontiguousarray(take(X, rows[part])).data)
    return digest.hexdigest()


def _of_arrays(*arrays: NDArray[Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _of_weights(model: Any) -> str:
    return _of_arrays(*(np.asarray(variable) for variable in model.variables))


def _of_layers(model: Any) -> str:
    """Return a digest of a model's configuration, without the numbers that Keras appends to names of layers."""
    try:
        config = _renamed(json.loads(model.to_json()), {})
    except Exception:  # a layer of the user's own that has no configuration
        config = None
    rates = learning_rate_factors(model)
    return hashlib.sha256(json.dumps([config, rates], sort_keys=True).encode()).hexdigest()[:32]


def _renamed(entry: Any, names: dict[str, int]) -> Any:
    """Replace the names of layers by numbers, in the order in which they occur."""
    if isinstance(entry, list):
        return [_renamed(item, names) for item in entry]
    if not isinstance(entry, dict):
        return entry
    renamed = {}
    for key, value in entry.items():
        if key == "name" and isinstance(value, str):
            renamed[key] = names.setdefault(value, len(names))
        elif key in ("keras_history", "input_layers", "output_layers"):
            renamed[key] = _renamed_strings(value, names)
        else:
            renamed[key] = _renamed(value, names)
    return renamed


def _renamed_strings(entry: Any, names: dict[str, int]) -> Any:
    if isinstance(entry, list):
        return [_renamed_strings(item, names) for item in entry]
    return names.setdefault(entry, len(names)) if isinstance(entry, str) else entry
