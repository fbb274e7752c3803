"""deepface's networks in Keras form, built with deepface's own functions and the weights of a given file."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any

from agegender._networks.keras import (
    check_keras,
    check_weights_are_from,
    check_weights_are_numbers,
    name_layers_by_order,
    quiet_keras,
)
from agegender._networks.publication import Published
from agegender.exceptions import WeightsError

__all__ = ["build_keras"]

# A function of deepface is replaced temporarily so that it loads our file, by one thread at a time.
_BUILDING = threading.Lock()


def build_keras(published: Published, path: Path) -> Any:
    """Build a network with deepface's functions and the weights of a given file.

    Raises
    ------
    WeightsError
        If the file does not fill every layer: another network's weights, or a damaged file.
    RuntimeError
        If deepface cannot build Keras 3 models in this process.
    """
    check_keras()
    from deepface.commons import weight_utils

    given = []

    def give(file_name: str, source_url: Any, compress_type: Any = None) -> str:
        given.append(file_name)
        return str(path)

    with _BUILDING, quiet_keras():
        module = importlib.import_module(f"deepface.models.{published.module}")
        _check_keras_3(module)
        original = weight_utils.download_weights_if_necessary
        weight_utils.download_weights_if_necessary = give
        try:
            model = getattr(module, published.builder)()
        except (ValueError, OSError, KeyError) as error:
            raise _not_its_weights(published, path, error) from error
        finally:
            weight_utils.download_weights_if_necessary = original
    if not given:
        raise RuntimeError(
            f"deepface built {published.name} without asking for its weights; nothing was loaded."
        )
    check_weights_are_numbers(model, str(path))
    check_weights_are_from(model, path)
    model = _with_layers_of_its_own(model)
    name_layers_by_order(model)
    return model


def _with_layers_of_its_own(model: Any) -> Any:
    """Return a model whose layers are called once; deepface's GhostFaceNet uses another model's layers."""
    import keras

    if all(len(layer._inbound_nodes) <= 1 for layer in model.layers):
        return model
    with quiet_keras():
        alone = keras.models.clone_model(model)
    alone.set_weights(model.get_weights())
    return alone


def _check_keras_3(module: Any) -> None:
    import keras

    if not issubclass(module.Model, keras.Model):
        raise RuntimeError(
            "deepface was imported with TF_USE_LEGACY_KERAS=1 in this process (its main module, deepface.DeepFace, "
            "sets it), so its networks are not Keras 3 models. Use the .onnx form of the weights, or load the "
            "backbone in a process that does not import deepface.DeepFace."
        )


def _not_its_weights(published: Published, path: Path, error: BaseException) -> WeightsError:
    reason = str(error.__cause__ or error).strip().splitlines()[0][:300]
    known = published.known.get(path.suffix)
    size = f" and {known[1]:,} bytes" if known and known[1] else ""
    right = f" The right file has sha256 {known[0]}{size}." if known else ""
    return WeightsError(
        f"{path} ({path.stat().st_size:,} bytes) does not contain the weights of {published.name}, or only a part of "
        f"them ({reason}). Delete it and fetch {published.files[path.suffix]} from "
        f"{' or '.join(published.urls(path.suffix))}.{right}"
    )
