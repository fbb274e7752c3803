"""Objects that all addresses of one application share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agegender.serve._batching import Batcher
from agegender.serve._limits import Admission, Limits
from agegender.serve._metrics import Metrics
from agegender.serve._predictor import Predictor
from agegender.serve._security import Keys

__all__ = ["Service"]


@dataclass(frozen=True)
class Service:
    """Objects that the addresses of one application share."""

    predictor: Predictor
    batcher: Batcher
    admission: Admission
    metrics: Metrics
    limits: Limits
    keys: Keys
    about: dict[str, Any]
