"""Complete models written by export_onnx, which are told from networks by their files' metadata."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["EXPORTED", "described", "described_file", "what_it_is"]

EXPORTED = "agegender_export"
"""The metadata entry with the description of an exported model, as JSON."""


def described(model: Any) -> dict[str, Any] | None:
    """Return the description of an exported model; None for any other ONNX model."""
    for entry in model.metadata_props:
        if entry.key == EXPORTED:
            try:
                return dict(json.loads(entry.value))
            except (TypeError, ValueError):
                return {}
    return None


def described_file(content: bytes) -> dict[str, Any] | None:
    """Return the description in a file's content, if it is an exported model."""
    if EXPORTED.encode() not in content:
        return None
    import onnx

    try:
        return described(onnx.load_model_from_string(content))
    except Exception:  # protobuf's own errors have no class that is worth importing
        return None


def what_it_is(description: dict[str, Any]) -> str:
    """Return a sentence about an exported model, without its subject."""
    names = [str(part.get("name"))[:80] for part in description.get("networks", []) if isinstance(part, dict)]
    of = f" (its network is {' and '.join(names)})" if names else ""
    return (
        f"is a whole model that export_onnx wrote{of}, from pictures to ages and genders: it runs in ONNX Runtime as "
        "it stands, with the input 'pictures'"
    )
