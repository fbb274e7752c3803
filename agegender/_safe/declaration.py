"""Declaration of the attributes that a safe model file contains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["SafeState"]


@dataclass(frozen=True)
class SafeState:
    """The attributes of a class beside its parameters, stated in the class as ``_safe``.

    Parameters
    ----------
    fitted : tuple of str
        Those that a file keeps.
    dropped : tuple of str
        Those that a file leaves out: they are made again, or tell of the last call only.
    members : mapping of str to str
        Those of `fitted` that are bytes, and how their members' names end.
    """

    fitted: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    members: Mapping[str, str] = field(default_factory=dict)
