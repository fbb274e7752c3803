"""Declaration of the attributes that a safe model file contains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["SafeState"]


@dataclass(frozen=True)
class SafeState:
    """The attributes of a class besides its parameters, declared in the class as ``_safe``.

    Parameters
    ----------
    fitted : tuple of str
        Attributes that are stored in a file.
    dropped : tuple of str
        Attributes that are not stored: they are computed again, or describe only the last call.
    members : mapping of str to str
        Attributes of `fitted` that are bytes, and the suffixes of their members' names.
    """

    fitted: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    members: Mapping[str, str] = field(default_factory=dict)
