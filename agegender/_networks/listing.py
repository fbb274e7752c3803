"""List every network: name, path, size, licence, input, and how its normalisation was checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agegender._networks.description import Description
from agegender._networks.publication import Published
from agegender._networks.published import PUBLISHED
from agegender._networks.registry import registered_names
from agegender._networks.shipped import SHIPPED, Shipped
from agegender.exceptions import AgeGenderError

__all__ = ["Listed", "list_networks"]

Numbers = float | tuple[float, float, float]


@dataclass(frozen=True)
class Listed:
    """Information about a network.

    Attributes
    ----------
    name : str
    here : bool
        Whether its file is on this machine.
    path : str
        The path of its file, or the path that it would have.
    size : int or None
        Size of the local file, or else of the published one, in bytes; None if neither is known.
    licence : str
    input : str
        Height, width and colour order.
    fed_as : str
        Formula of the normalisation of a pixel x from 0 to 255.
    embedding : int or None
        Length of its embedding; None if the network would have to be read to find it out.
    worth : str
        Measured accuracy of a head on one of its layers; empty if it was not measured.
    checked : str
        How its normalisation was verified.
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
    """Return every network that has a name; `load` creates a registered network."""
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
    """Return the normalisation of a pixel as a formula.

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
