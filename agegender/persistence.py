"""Model files that are safe to open, even from strangers: they contain only data, which is checked before use.

A file is a zip of ``manifest.json`` (versions, the sha256 and size of every member), ``model.json`` (classes
from a list, parameters, fitted values), and the arrays and networks that it names. Nothing in it is pickled or
compressed, and nothing is unpacked to disk.
"""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agegender._extraction.resolved import Asked, Resolved
from agegender._extraction.upgrade import FITTED_BEFORE, RENAMED, upgraded
from agegender._safe.absent_head import AbsentHead
from agegender._safe.archive import pack
from agegender._safe.declaration import SafeState
from agegender._safe.keras import check_keras_file
from agegender._safe.networks import encode_network
from agegender._safe.reading import FORMAT, FORMAT_VERSION, MODEL, Classes, read_content, read_file
from agegender._safe.values import Members, Values
from agegender._utils.files import write_whole
from agegender._utils.versions import versions
from agegender.backbones import Backbone
from agegender.exceptions import ModelFileError

if TYPE_CHECKING:
    from agegender.classifier import AgeGenderClassifier
    from agegender.ensemble import AgeGenderEnsemble
    from agegender.extractor import EmbeddingExtractor
    from agegender.pipeline import AgeGenderPipeline

__all__ = ["load_model", "save_model"]


def save_model(model: Any, path: str | os.PathLike[str]) -> Path:
    """Save a model, fitted or not, in a file that is safe to open.

    The file contains the network if its file has at most 16 MB. For a larger network it contains name, size,
    sha256 and path, and if the network is not found, the error of the prediction names it. A folder given as
    ``cache`` is not saved. If the head is your own callable, the trained head is saved, but not its code: the
    loaded model predicts, and must get a head by ``set_params(head=…)`` before it can be trained again.

    Parameters
    ----------
    model : AgeGenderPipeline, AgeGenderClassifier, EmbeddingExtractor or AgeGenderEnsemble
        What to save.
    path : path
        The file, usually with the suffix ``.agegender``. It is written under a temporary name and renamed, so
        that an existing file is replaced completely or not at all.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ModelFileError
        If something in the model cannot be saved as data; the message names it and the remedy.

    See Also
    --------
    load_model : The inverse function.

    Examples
    --------
    >>> import tempfile
    >>> from agegender import AgeGenderPipeline, DenseHead
    >>> model = AgeGenderPipeline().set_params(classifier__head=DenseHead(units=(64,)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_model(model, f"{folder}/model.agegender")
    ...     load_model(path).classifier.head
    DenseHead(units=(64,))
    """
    writer = _Writer()
    entry = writer.encode(model.carrying() if hasattr(model, "carrying") else model)
    if not isinstance(entry, dict) or entry.get("class") not in _TOP:
        raise ModelFileError(f"save_model takes {', '.join(_TOP)}, not {type(model).__name__}.")
    text = json.dumps(entry, indent=1, allow_nan=False).encode()
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "versions": versions()}
    content = pack(manifest, {MODEL: text, **writer.members.contents})
    try:
        read_content(content, _READ)
    except ModelFileError as error:
        raise ModelFileError(f"This model cannot be saved safely: {error}. {_JOBLIB}") from error
    target = Path(path).expanduser().absolute()
    return write_whole(target, lambda arriving: arriving.write_bytes(content))


def load_model(
    path: str | os.PathLike[str],
) -> AgeGenderPipeline | AgeGenderClassifier | EmbeddingExtractor | AgeGenderEnsemble:
    """Load a model of `save_model`; its predictions are the same, bit for bit.

    No code of the file is run, whatever it contains: everything is checked before it is used. A model that is
    safe to open may still give wrong predictions.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    AgeGenderPipeline, AgeGenderClassifier, EmbeddingExtractor or AgeGenderEnsemble

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is damaged, was changed, comes from a later agegender, or contains anything that is not allowed.

    See Also
    --------
    save_model : The inverse function.
    """
    return read_file(path, _READ)


# The classes that a file may contain, and their modules; each class declares what is saved, as `_safe`.
_CLASSES = {
    "AgeGenderEnsemble": "ensemble._ensemble",
    "AgeGenderPipeline": "pipeline",
    "EmbeddingExtractor": "extractor",
    "AgeGenderClassifier": "classifier",
    "DenseHead": "heads",
    "ConvHead": "heads",
    "FineTuneHead": "fine_tuning",
    "Augmentation": "fine_tuning",
    "AbsentHead": "_safe.absent_head",
    "Calibration": "calibration",
    "View": "views",
    "Resolved": "_extraction.resolved",
    "Source": "_extraction.resolved",
    "SeenCrops": "_extraction.crops",
    "RecordedDetector": "faces",
}
_TOP = ("AgeGenderPipeline", "AgeGenderClassifier", "EmbeddingExtractor", "AgeGenderEnsemble")
_NOTHING = SafeState()
_JOBLIB = "joblib.dump can save it, in a file that runs code when it is loaded."


class _Writer(Values):
    """Converts objects of allowed classes, and networks, to JSON."""

    def __init__(self) -> None:
        super().__init__(Members())
        self._where = ["model"]

    def encode(self, value: Any) -> Any:
        """Return a value as JSON: an object, a network, or a plain value."""
        if isinstance(value, Backbone):
            return {"network": encode_network(value, self)}
        if isinstance(value, Resolved):
            value = value.for_safe_file()
        if _may_be_kept(value):
            return self._encode_object(value)
        try:
            return super().encode(value)
        except TypeError as error:
            where = ".".join(self._where)
            raise ModelFileError(
                f"{where} is a {error}, which a safe file cannot contain. {_JOBLIB}"
            ) from None

    def _encode_object(self, value: Any) -> Any:
        kept: SafeState = getattr(value, "_safe", _NOTHING)
        parameters = _parameters(value)
        state = {name: found for name, found in vars(value).items() if name not in parameters}
        if strange := sorted(set(state) - {*kept.fitted, *kept.dropped}):
            where = f"{'.'.join(self._where)}.{strange[0]}"
            raise ModelFileError(f"A safe file cannot contain the attribute {where}; run del {where}.")
        parameters = _storable(parameters)
        fitted = {
            name: state[name] for name in kept.fitted if name in state and not _is_outdated(name, value)
        }
        return {
            "class": type(value).__name__,
            "parameters": {name: self._encode_part(name, found) for name, found in parameters.items()},
            "fitted": {
                name: self._encode_member(name, kept.members[name], value)
                if name in kept.members
                else self._encode_part(name, found)
                for name, found in fitted.items()
            },
        }

    def _encode_part(self, name: str, value: Any) -> Any:
        self._where.append(name)
        entry = self.encode(value)
        self._where.pop()
        return entry

    def _encode_member(self, name: str, suffix: str, classifier: Any) -> Any:
        content = getattr(classifier, name)
        if content is None:
            return None
        if name == "_keras":
            try:
                check_keras_file(content, "its head")
            except ModelFileError as error:
                if classifier._onnx is None:
                    raise ModelFileError(f"{error}, and it cannot be converted to ONNX. {_JOBLIB}") from error
                return None  # its ONNX form predicts
        return {"bytes": self.members.put("head", suffix, content)}


def _may_be_kept(value: Any) -> bool:
    home = _CLASSES.get(type(value).__name__)
    return home is not None and type(value).__module__ == f"agegender.{home}"


def _parameters(value: Any) -> dict[str, Any]:
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return dict(value.get_params(deep=False))


def _storable(parameters: dict[str, Any]) -> dict[str, Any]:
    """Replace what cannot be saved: a callable by its description, a cache folder by "auto", a checkpoint by None."""
    changed = dict(parameters)
    head = parameters.get("head")
    if callable(head) and not _may_be_kept(head):
        changed["head"] = AbsentHead(_describe(head))
    if parameters.get("cache") is not None:
        changed["cache"] = "auto"
    if parameters.get("checkpoint") is not None:
        changed["checkpoint"] = None
    return changed


def _is_outdated(name: str, owner: Any) -> bool:
    """Return whether parameters have changed since fit."""
    return name == "resolved_" and owner._asked != Asked.of(owner)


def _describe(head: Any) -> str:
    named = head if hasattr(head, "__qualname__") else type(head)
    return f"{named.__module__}.{named.__qualname__}"


def _find(name: str) -> Any:
    return getattr(importlib.import_module(f"agegender.{_CLASSES[name]}"), name)


_READ = Classes(_find, _CLASSES, _TOP, RENAMED, FITTED_BEFORE, upgraded)
