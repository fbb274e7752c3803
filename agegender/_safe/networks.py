"""Frozen networks in safe model files, and their checks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from agegender._safe.keras import check_hdf5, check_keras_file
from agegender._safe.onnx import check_network
from agegender._safe.values import Values
from agegender.backbones import CARRIED_BYTES, Backbone
from agegender.exceptions import ModelFileError

__all__ = ["decode_network", "encode_network"]

LARGEST_SIDE = 4096
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHECKS: dict[str, Callable[[bytes, str], Any]] = {
    ".onnx": check_network,
    ".keras": check_keras_file,
    ".h5": check_hdf5,
    ".hdf5": check_hdf5,
}


def encode_network(backbone: Backbone, values: Values) -> dict[str, Any]:
    """Return the description of a network, with its file if it is small, or its path otherwise."""
    carried = backbone.size <= CARRIED_BYTES
    entry = {
        field.name: values.encode(getattr(backbone, field.name))
        for field in fields(Backbone)
        if field.name not in ("path", "content")
    }
    if carried:
        member = values.members.put("network", backbone.suffix, backbone.read_bytes())
        return {**entry, "path": None, "content": member}
    path = backbone.path if backbone.content is None else backbone.ensure_file()
    return {**entry, "path": None if path is None else str(path), "content": None}


def decode_network(entry: Any, values: Values) -> Backbone:
    """Return the network that was passed to `encode_network`.

    Raises
    ------
    ModelFileError
        If the entry is not a network's, or the network differs from its description.
    """
    plain = {name: values.decode(found) for name, found in entry.items() if name not in ("path", "content")}
    path, member = entry["path"], entry["content"]
    backbone = Backbone(
        **plain,
        path=None if path is None else Path(path),
        content=None if member is None else values.members.take(member, (plain["suffix"],)),
    )
    _check_record(backbone)
    if backbone.content is not None:
        if (
            hashlib.sha256(backbone.content).hexdigest() != backbone.sha256
            or len(backbone.content) != backbone.size
        ):
            raise ModelFileError("its network is not the one that it says")
        _CHECKS[backbone.suffix](backbone.content, f"its network {backbone.name[:80]!r}")
    return backbone


def _has_keras_form(name: str) -> bool:
    from agegender._networks.published import PUBLISHED

    return name in PUBLISHED and ".h5" in PUBLISHED[name].files


def _check_record(backbone: Backbone) -> None:
    name, suffix = str(backbone.name)[:80], str(backbone.suffix)[:80]
    if suffix not in _CHECKS or (suffix in (".h5", ".hdf5") and not _has_keras_form(backbone.name)):
        raise ModelFileError(f"it needs a network {name!r} of the kind {suffix!r}")
    if not _SHA256.fullmatch(backbone.sha256) or type(backbone.size) is not int:
        raise ModelFileError("its network has no proper sha256 and size")
    numbers = [*np.ravel(backbone.mean), *np.ravel(backbone.scale)]
    if backbone.color not in ("rgb", "bgr") or len(numbers) > 6 or not np.isfinite(numbers).all():
        raise ModelFileError("its network's pictures are prepared in no way that there is")
    height, width = backbone.input_size
    if not all(type(side) is int and 0 < side <= LARGEST_SIDE for side in (height, width)):
        raise ModelFileError(f"its network takes pictures of {height}×{width} pixels")
