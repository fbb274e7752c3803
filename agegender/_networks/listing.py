"""Every network by name, here or not: where, how large, under which terms, what it takes, how it was checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agegender._networks.opening import Description
from agegender._networks.publication import Published
from agegender._networks.published import PUBLISHED
from agegender._networks.registry import registered_names
from agegender._networks.shipped import SHIPPED, Shipped
from agegender.exceptions import AgeGenderError

__all__ = ["Listed", "list_networks"]

Numbers = float | tuple[float, float, float]


@dataclass(frozen=True)
class Listed:
    """What is told of a network.

    Attributes
    ----------
    name : str
    here : bool
        Whether its file is on this machine.
    path : str
        Where it lies, or would lie.
    size : int or None
        Of the file that is here, or else of the published one, in bytes; None where neither is known.
    licence : str
    input : str
        Height, width, order of colours.
    fed_as : str
        How a pixel x from 0 to 255 is fed.
    embedding : int or None
        How many numbers its embedding has; None where that would need the network to be read.
    worth : str
        What a head on one of its layers was measured to reach; empty where nobody has measured it.
    checked : str
        How it was made sure that it is fed as it should be.
    """

    name: str
    here: bool
    path: str
    size: int | None
    licence: str
    input: str
    fed_as: str
    embedding: int | None
    worth: str
    checked: str


def list_networks(load: Callable[[str], Description]) -> list[Listed]:
    """Return every network that has a name; `load` makes a registered one."""
    return [
        *map(_shipped, SHIPPED.values()),
        *map(_published, PUBLISHED.values()),
        *(_registered(name, where, load) for name, where in registered_names().items()),
    ]


def _published(network: Published) -> Listed:
    here = network.here()
    path = here or network.path(network.suffixes[0])
    known = network.known.get(path.suffix, ("", None))[1]
    return Listed(
        name=network.name,
        here=here is not None,
        path=str(path),
        size=known if here is None else here.stat().st_size,
        licence=network.licence,
        input=_input(network.input_size, network.color),
        fed_as=fed_as(network.mean, network.scale),
        embedding=network.n_numbers,
        worth="",
        checked=network.checked,
    )


def _shipped(network: Shipped) -> Listed:
    return Listed(
        name=network.name,
        here=network.path.is_file(),
        path=str(network.path),
        size=network.size,
        licence=network.licence,
        input=_input(network.input_size, network.color),
        fed_as=fed_as(network.mean, network.scale),
        embedding=network.n_numbers,
        worth=network.worth,
        checked="its real weights, in this package's tests",
    )


def _registered(name: str, where: str, load: Callable[[str], Description]) -> Listed:
    try:
        network = load(name)
    except AgeGenderError as error:
        return Listed(name, False, "", None, "", "", "", None, "", f"named by {where}, which fails: {error}")
    path = network.path or Path()
    return Listed(
        name=name,
        here=network.path is None or path.is_file(),
        path="" if network.path is None else str(path),
        size=network.size,
        licence=network.licence or "",
        input=_input(network.input_size, network.color),
        fed_as=fed_as(network.mean, network.scale),
        embedding=None,
        worth="",
        checked=f"named by {where}",
    )


def _input(size: tuple[int, int], color: str) -> str:
    return f"{size[0]} × {size[1]} {color.upper()}"


def fed_as(mean: Numbers, scale: Numbers) -> str:
    """Say in a formula how a pixel is fed.

    Examples
    --------
    >>> fed_as(127.5, 1 / 128), fed_as(0.0, 1 / 255), fed_as(0.0, 1.0), fed_as((1.0, 2.0, 3.0), 1.0)
    ('(x − 127.5) / 128', 'x / 255', 'x', 'x − (1, 2, 3)')
    """
    shown = mean if isinstance(mean, float | int) else f"({', '.join(f'{number:g}' for number in mean)})"
    shifted = f"x − {shown:g}" if isinstance(shown, float | int) else f"x − {shown}"
    moved = mean if isinstance(mean, tuple) else mean != 0
    if isinstance(scale, tuple):
        factor = f" · ({', '.join(f'{number:g}' for number in scale)})"
    else:
        factor = "" if scale == 1 else f" / {1 / scale:g}"
    if not moved:
        return f"x{factor}"
    return f"({shifted}){factor}" if factor else shifted
