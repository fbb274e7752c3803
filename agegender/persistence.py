"""Models in files that can be opened whoever they come from: data only, checked before any of it is used.

A file is a zip of ``manifest.json`` (versions, the sha256 and size of every member), ``model.json`` (classes from a
list, parameters, fitted values), and the arrays and networks that it names. Nothing in it is pickled, compressed or
unpacked to a disk.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agegender._files import write_whole
from agegender._network_files import existing_file
from agegender._safe_archive import pack, parse_json, unpack
from agegender._safe_keras import check_hdf5, check_keras_file
from agegender._safe_onnx import check_head_graph, check_network
from agegender._safe_values import Members, decode, encode
from agegender._versions import check_own_version, versions
from agegender.backbones import CARRIED_BYTES, Backbone
from agegender.exceptions import ModelFileError

if TYPE_CHECKING:
    from agegender.classifier import AgeGenderClassifier
    from agegender.extractor import EmbeddingExtractor
    from agegender.pipeline import AgeGenderPipeline

__all__ = ["DescribedHead", "load_model", "save_model"]

FORMAT = "agegender model"
FORMAT_VERSION = 1
MOST_BYTES = 2**32
"""Larger files are refused: no model is."""

_MODEL = "model.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def save_model(model: Any, path: str | os.PathLike[str]) -> Path:
    """Save a model, fitted or not, in a file that is safe to open.

    The network travels along when its file has at most 16 MB; of a larger one, name, size, sha256 and where it lay
    are kept, and a prediction says which file it needs where it does not find it. A folder given as ``cache`` is not
    kept. A head that is a callable of your own is kept as trained, but not its code: see :class:`DescribedHead`.

    Parameters
    ----------
    model : AgeGenderPipeline, AgeGenderClassifier or EmbeddingExtractor
        What to save.
    path : path
        Where to, by custom ending in ``.agegender``. Written under a temporary name and renamed: a file that lies
        there is replaced by a whole one or not at all.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ModelFileError
        If something in the model cannot be kept as data; the message says what, and what to do.

    See Also
    --------
    load_model : Its counterpart.

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
    members = Members()
    entry = _encode(model, members, "model")
    if not isinstance(entry, dict) or entry.get("class") not in _TOP:
        raise ModelFileError(f"save_model takes {', '.join(_TOP)}, not {type(model).__name__}.")
    text = json.dumps(entry, indent=1, allow_nan=False).encode()
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "versions": versions()}
    content = pack(manifest, {_MODEL: text, **members.contents})
    try:
        _read(content)
    except ModelFileError as error:
        raise ModelFileError(f"This model cannot be saved safely: {error}. {_JOBLIB}") from error
    target = Path(path).expanduser().absolute()
    return write_whole(target, lambda arriving: arriving.write_bytes(content))


def load_model(path: str | os.PathLike[str]) -> AgeGenderPipeline | AgeGenderClassifier | EmbeddingExtractor:
    """Load a model that `save_model` saved; it predicts what it predicted then, bit for bit.

    Whatever the file holds, no code of its own is run: everything is checked before it is used. That a model is safe
    to open does not mean that its predictions are right.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    AgeGenderPipeline, AgeGenderClassifier or EmbeddingExtractor

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is damaged, was changed, comes from a later agegender, or holds anything that such a file has not.

    See Also
    --------
    save_model : Its counterpart.
    """
    file = existing_file(path)
    if (size := file.stat().st_size) > MOST_BYTES:
        raise ModelFileError(f"{file} has {size:,} bytes; a model has at most {MOST_BYTES:,}.")
    content = file.read_bytes()
    if not content.startswith(b"PK"):
        raise ModelFileError(
            f"{file} is no file of agegender.save_model. joblib.load reads what joblib.dump wrote, and runs the code "
            "that is in it: load nothing so that you did not make or do not trust."
        )
    try:
        return _read(content)
    except ModelFileError as error:
        raise ModelFileError(f"{file} cannot be loaded: {error}") from error


@dataclass(frozen=True)
class DescribedHead:
    """What a safe file has in place of a head that was a callable of somebody's own.

    The trained head predicts as before; to train again, set the head again: ``set_params(classifier__head=my_head)``.

    Attributes
    ----------
    description : str
        What the head was called.
    """

    description: str

    @property
    def layer(self) -> str:
        """Raise an error: which layer it read is only known to its code."""
        raise self._gone()

    def __call__(self, input_shape: tuple[int, ...], n_ages: int, n_genders: int) -> Any:
        """Raise an error: the code is not here."""
        raise self._gone()

    def _gone(self) -> ModelFileError:
        return ModelFileError(
            f"This model was trained with the head {self.description}, whose code is not kept in safe files. It "
            "predicts; to train again, set it first: set_params(head=…), in a pipeline classifier__head=…."
        )


@dataclass(frozen=True)
class _Kept:
    """A class that a file may hold.

    ``fitted`` are the attributes kept beside the parameters, ``dropped`` those that are not; ``check`` looks at what
    was loaded.
    """

    module: str
    fitted: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    check: Callable[[Any], None] | None = None


def _check_pipeline(model: Any) -> None:
    from agegender.classifier import AgeGenderClassifier
    from agegender.extractor import EmbeddingExtractor

    parts = {"extractor": EmbeddingExtractor, "classifier": AgeGenderClassifier}
    for name, kind in parts.items():
        if not isinstance(getattr(model, name), kind | None):
            raise ModelFileError(f"its {name} is a {type(getattr(model, name)).__name__}")
        if not isinstance(getattr(model, f"{name}_", kind()), kind):
            raise ModelFileError(f"its fitted {name} is a {type(getattr(model, f'{name}_')).__name__}")


def _check_extractor(extractor: Any) -> None:
    if extractor.cache not in ("auto", None):
        raise ModelFileError("it names a folder for the cache")
    if not isinstance(extractor.backbone, Backbone | str):
        raise ModelFileError("its backbone is neither a name nor a network")
    if "backbone_" in vars(extractor):
        if not isinstance(extractor.backbone_, Backbone):
            raise ModelFileError("its fitted backbone is no network")
        extractor._fitted_with = (extractor.backbone, extractor.weights, extractor.engine)


def _check_classifier(classifier: Any) -> None:
    state = vars(classifier)
    if "classes_" not in state:
        return
    shape, (ages, genders) = state["_row_shape"], state["classes_"]
    if not isinstance(shape, tuple) or not all(type(side) is int and side > 0 for side in shape):
        raise ModelFileError(f"its rows have the shape {str(shape)[:80]}")
    if (
        not 1 < len(ages) <= 1001
        or not np.array_equal(ages, np.arange(len(ages)))
        or np.shape(genders) != (2,)
    ):
        raise ModelFileError("its classes are not the ages 0, 1, … and two genders")
    if state["_onnx"] is None and state["_keras"] is None:
        raise ModelFileError("it has no trained head")
    if state["_onnx"] is not None:
        check_head_graph(state["_onnx"], "its head", shape, len(ages), len(genders))
    if state["_keras"] is not None:
        check_keras_file(state["_keras"], "its head in Keras form")


# The classes that a file may hold, by name: whoever writes a new head or part adds a line.
_CLASSES: dict[str, _Kept] = {
    "AgeGenderPipeline": _Kept("pipeline", fitted=("extractor_", "classifier_"), check=_check_pipeline),
    "EmbeddingExtractor": _Kept(
        "extractor",
        fitted=("backbone_", "_sklearn_output_config"),
        dropped=("report_", "_fitted_with", "_metadata_request"),
        check=_check_extractor,
    ),
    "AgeGenderClassifier": _Kept(
        "classifier",
        fitted=(
            *("classes_", "history_", "n_epochs_", "n_features_in_", "feature_names_in_"),
            *("_row_shape", "_keras", "_onnx"),
        ),
        dropped=("_metadata_request",),
        check=_check_classifier,
    ),
    "DenseHead": _Kept("heads"),
    "ConvHead": _Kept("heads"),
    "DescribedHead": _Kept("persistence"),
}
_TOP = ("AgeGenderPipeline", "AgeGenderClassifier", "EmbeddingExtractor")
# Attributes that are bytes, and how their members' names end.
_BYTES = {"_keras": ".keras", "_onnx": ".onnx"}
_JOBLIB = "joblib.dump keeps it as it is, in a file that runs code when it is loaded."


def _encode(value: Any, members: Members, where: str) -> Any:
    """Return a value as JSON: an object of a class on the list, a network, or something plain."""
    if isinstance(value, Backbone):
        return {"network": _encode_network(value, members)}
    kept = _CLASSES.get(type(value).__name__)
    if kept is None or type(value).__module__ != f"agegender.{kept.module}":
        try:
            return encode(value, members)
        except TypeError as error:
            raise ModelFileError(f"{where} is a {error}, which a safe file cannot hold. {_JOBLIB}") from None
    parameters = _parameters(value)
    state = {name: found for name, found in vars(value).items() if name not in parameters}
    if strange := sorted(set(state) - {*kept.fitted, *kept.dropped}):
        raise ModelFileError(
            f"{where} has an attribute {strange[0]!r}, which a safe file has no place for; del it."
        )
    return {
        "class": type(value).__name__,
        "parameters": {
            name: _encode(found, members, f"{where}.{name}")
            for name, found in _storable(value, parameters).items()
        },
        "fitted": {
            name: _encode_fitted(name, found, value, members, where)
            for name, found in state.items()
            if name in kept.fitted and not _is_outdated(name, value)
        },
    }


def _parameters(value: Any) -> dict[str, Any]:
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return dict(value.get_params(deep=False))


def _storable(owner: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """Put what can be kept in place of what cannot: a callable's description, and no folder of this machine."""
    changed = dict(parameters)
    head = parameters.get("head")
    if callable(head) and not _is_listed(head):
        changed["head"] = DescribedHead(_describe(head))
    if parameters.get("cache") is not None:
        changed["cache"] = "auto"
    return changed


def _is_listed(value: Any) -> bool:
    kept = _CLASSES.get(type(value).__name__)
    return kept is not None and type(value).__module__ == f"agegender.{kept.module}"


def _is_outdated(name: str, owner: Any) -> bool:
    """Tell whether a network was found for parameters that have been changed since."""
    return name == "backbone_" and owner._fitted_with != (owner.backbone, owner.weights, owner.engine)


def _describe(head: Any) -> str:
    named = head if hasattr(head, "__qualname__") else type(head)
    return f"{named.__module__}.{named.__qualname__}"


def _encode_fitted(name: str, value: Any, owner: Any, members: Members, where: str) -> Any:
    if name not in _BYTES or value is None:
        return _encode(value, members, f"{where}.{name}")
    if name == "_keras":
        try:
            check_keras_file(value, f"{where}'s head")
        except ModelFileError as error:
            if owner._onnx is None:
                raise ModelFileError(f"{error}, and ONNX has no form of it. {_JOBLIB}") from error
            return None  # its ONNX form predicts
    return {"bytes": members.put("head", _BYTES[name], value)}


def _encode_network(backbone: Backbone, members: Members) -> Any:
    carried = backbone.size <= CARRIED_BYTES
    path = backbone.path if backbone.content is None else backbone.file() if not carried else None
    entry = {
        field.name: encode(getattr(backbone, field.name), members)
        for field in fields(Backbone)
        if field.name not in ("path", "content")
    }
    content = backbone.with_content().content if carried else None
    member = None if content is None else members.put("network", backbone.suffix, content)
    return {**entry, "path": None if carried or path is None else str(path), "content": member}


def _read(content: bytes) -> Any:
    """Return the model in a file's content, every part of it checked."""
    manifest, contents = unpack(content)
    if manifest.get("format") != FORMAT or _MODEL not in contents:
        raise ModelFileError("it holds no agegender model")
    written = manifest.get("versions")
    if not isinstance(written, dict) or not isinstance(written.get("agegender"), str):
        raise ModelFileError("it does not say which version it was saved by")
    if manifest.get("format_version") != FORMAT_VERSION:
        check_own_version(written["agegender"])
        raise ModelFileError(
            f"it has the format {str(manifest.get('format_version'))[:20]}, not {FORMAT_VERSION}"
        )
    entry = parse_json(contents.pop(_MODEL), _MODEL)
    reader = _Reader(Members(contents))
    try:
        model = reader.object(entry, _TOP)
    except ModelFileError:
        check_own_version(written["agegender"])  # then this is why
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ModelFileError(f"{_MODEL} is not as it should be ({type(error).__name__}: {error})") from error
    if unused := sorted(set(contents) - reader.members.taken):
        raise ModelFileError(f"nothing in it uses {unused[0]!r}")
    return model


class _Reader:
    """Makes objects of what `_encode` returned."""

    def __init__(self, members: Members) -> None:
        self.members = members
        self._networks: dict[str, Backbone] = {}

    def value(self, entry: Any) -> Any:
        if isinstance(entry, dict) and "class" in entry:
            return self.object(entry, _CLASSES)
        if isinstance(entry, dict) and set(entry) == {"network"}:
            return self.network(entry["network"])
        return decode(entry, self.members)

    def object(self, entry: Any, allowed: Collection[str]) -> Any:
        name = entry.get("class") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name not in allowed:
            raise ModelFileError(f"it holds {str(name)[:80]!r} where {', '.join(allowed)} may be")
        kept = _CLASSES[name]
        kind = getattr(importlib.import_module(f"agegender.{kept.module}"), name)
        parameters = {key: self.value(found) for key, found in entry["parameters"].items()}
        fitted = {key: self.fitted(key, found) for key, found in entry["fitted"].items()}
        if strange := sorted(set(fitted) - set(kept.fitted)):
            raise ModelFileError(f"{name} has no attribute {strange[0][:80]!r}")
        made = kind(**parameters)
        vars(made).update(fitted)
        if kept.check is not None:
            kept.check(made)
        return made

    def fitted(self, name: str, entry: Any) -> Any:
        if name in _BYTES and entry is not None:
            return self.members.take(entry["bytes"], (_BYTES[name],))
        return self.value(entry)

    def network(self, entry: dict[str, Any]) -> Backbone:
        key = json.dumps(entry, sort_keys=True)
        if key not in self._networks:
            self._networks[key] = self._new_network(entry)
        return self._networks[key]

    def _new_network(self, entry: dict[str, Any]) -> Backbone:
        plain = {name: found for name, found in entry.items() if name not in ("path", "content")}
        values = {name: decode(found, self.members) for name, found in plain.items()}
        member, path = entry["content"], entry["path"]
        content = None if member is None else self.members.take(member, (values["suffix"],))
        backbone = Backbone(**values, path=None if path is None else Path(path), content=content)
        _check_network_record(backbone)
        return backbone


def _check_network_record(backbone: Backbone) -> None:
    """Check what a network says of itself, and the network where it came along."""
    from agegender._deepface import PUBLISHED

    hdf5 = backbone.suffix in (".h5", ".hdf5")
    if backbone.suffix not in (".onnx", ".keras") and not (hdf5 and backbone.name in PUBLISHED):
        raise ModelFileError(
            f"it needs a network {backbone.name[:80]!r} of the kind {backbone.suffix[:80]!r}"
        )
    if not _SHA256.fullmatch(backbone.sha256) or type(backbone.size) is not int:
        raise ModelFileError("its network has no proper sha256 and size")
    numbers = [*_several(backbone.mean), *_several(backbone.scale)]
    if backbone.color not in ("rgb", "bgr") or not all(
        type(n) in (int, float) and np.isfinite(n) for n in numbers
    ):
        raise ModelFileError("its network's colours are prepared in no way that there is")
    height, width = backbone.input_size
    if not (0 < int(height) <= 4096 and 0 < int(width) <= 4096):
        raise ModelFileError(f"its network takes pictures of {height}×{width} pixels")
    if backbone.content is None:
        return
    if (
        hashlib.sha256(backbone.content).hexdigest() != backbone.sha256
        or len(backbone.content) != backbone.size
    ):
        raise ModelFileError("its network is not the one that it says")
    check = {".onnx": check_network, ".keras": check_keras_file}.get(backbone.suffix, check_hdf5)
    check(backbone.content, f"its network {backbone.name[:80]!r}")


def _several(numbers: Any) -> tuple[Any, ...]:
    return numbers if isinstance(numbers, tuple) else (numbers,)
