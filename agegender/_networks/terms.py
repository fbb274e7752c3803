"""Metadata in this library's ONNX files about their networks: input, licence and training pictures."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender.exceptions import WeightsError

__all__ = [
    "ENDS_BEFORE_DENSE",
    "TRAINING",
    "digests_as_text",
    "digests_of_text",
    "state_terms",
    "stated_terms",
]

ENDS_BEFORE_DENSE = "ends_before_dense"
"""Whether a network ends before the dense layers of its head: its output is its penultimate layer too."""

TRAINING = ("fine_tuned_from", "fine_tuned_at", ENDS_BEFORE_DENSE, "trained_on")
"""What is still stated about training when a network is converted to other numbers, such as integers."""

_TERMS = "agegender"


def state_terms(model: Any, terms: dict[str, Any]) -> None:
    """Write the normalisation and the licence of a network into its ONNX file."""
    entry = model.metadata_props.add()
    entry.key, entry.value = _TERMS, json.dumps(terms)


def stated_terms(model: Any, source: str) -> dict[str, Any]:
    """Return what :func:`state_terms` wrote; empty if it wrote nothing.

    Raises
    ------
    WeightsError
        If the metadata are of another kind.
    """
    for entry in model.metadata_props:
        if entry.key == _TERMS:
            try:
                return dict(json.loads(entry.value))
            except (TypeError, ValueError):
                raise WeightsError(
                    f"{source} has metadata under {_TERMS!r} that agegender did not write: {entry.value[:80]!r}. "
                    "Write the network again with Backbone.quantize and Backbone.save, or remove the entry."
                ) from None
    return {}


def digests_as_text(digests: NDArray[np.uint64]) -> str:
    """Return the short digests of pictures as text for the metadata.

    Examples
    --------
    >>> digests_as_text(np.array([1], np.uint64))
    'AQAAAAAAAAA='
    """
    return base64.b64encode(digests.astype("<u8").tobytes()).decode()


def digests_of_text(text: str) -> NDArray[np.uint64]:
    """Return the digests that were passed to `digests_as_text`.

    Examples
    --------
    >>> digests_of_text("AQAAAAAAAAA=")
    array([1], dtype=uint64)
    """
    return np.frombuffer(base64.b64decode(text), "<u8").astype(np.uint64)
