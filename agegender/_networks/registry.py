"""Networks that users name: registered in this process, or by an installed package."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from agegender._machine.fork import after_fork
from agegender.exceptions import WeightsError

__all__ = ["GROUP", "forget", "register", "registered", "registered_names"]

GROUP = "agegender.backbones"
"""The entry point group for the networks of a package: each is a backbone, or a function that makes one."""

_registered: dict[str, Any] = {}
_lock = threading.RLock()


def register(name: str, source: Any) -> None:
    """Register a backbone, or a function that makes one, under a name."""
    with _lock:
        _registered[name] = source


def forget(name: str) -> None:
    """Remove a name, if it is registered in this process."""
    with _lock:
        _registered.pop(name, None)


def registered_names() -> dict[str, str]:
    """Return all registered names, each with its origin; nothing is imported."""
    named = {name: f"the package {_package(point)}" for name, point in _entry_points().items()}
    with _lock:
        return named | dict.fromkeys(_registered, "register_backbone")


def registered(name: str, kind: type) -> Any:
    """Return the backbone of a registered name, or None if the name is not registered.

    Raises
    ------
    WeightsError
        If the registered object is not a backbone and does not make one.
    """
    with _lock:
        source = _registered.get(name)
    where = f"register_backbone({name!r}, …)"
    if source is None:
        point = _entry_points().get(name)
        if point is None:
            return None
        where = f"The entry point {point.value!r} of {_package(point)}"
        source = _load(point, where)
    made = _made(source, where) if callable(source) and not isinstance(source, kind) else source
    if not isinstance(made, kind):
        raise WeightsError(
            f"{where} gives a {type(made).__name__}; it should be a Backbone, or a function that makes one."
        )
    return made


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _package(point: EntryPoint) -> str:
    return str(point.dist.name) if point.dist is not None else point.value


def _load(point: EntryPoint, where: str) -> Any:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise WeightsError(f"{where} cannot be imported: {error}") from error


def _made(make: Callable[[], Any], where: str) -> Any:
    try:
        return make()
    except TypeError as error:
        raise WeightsError(f"{where} stands for a function that cannot be called so: {error}") from error


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


after_fork(_after_fork)
