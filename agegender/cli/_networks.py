"""The networks of a command: ``--backbone``, once per network, each with its own options behind a comma."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from agegender._utils.validation import check_choice, did_you_mean

if TYPE_CHECKING:
    from agegender.backbones import Backbone

__all__ = ["Network", "network_of", "networks_of"]

Network: TypeAlias = "str | Backbone"
Terms: TypeAlias = dict[str, str]

_INPUT = ("color", "mean", "scale")
_KEYS = (*_INPUT, "layer")


def networks_of(
    named: Sequence[str], flags: Mapping[str, str | None], layer: str | None, default_layer: str = "auto"
) -> tuple[Network | tuple[Network, ...], str | tuple[str, ...]]:
    """Return the parameters `backbone` and `layer` of an extractor.

    Parameters
    ----------
    named : sequence of str
        What --backbone was given: ``facenet``, ``facenet,layer=pooled`` or ``file.onnx,color=bgr,mean=0,scale=1``.
    flags : dict of str to str or None
        --color, --mean and --scale, by their names without dashes; they are for a single network.
    layer : str or None
        --layer: of all networks without a layer of their own.
    default_layer : str, default="auto"
        The layer if there is neither.

    Raises
    ------
    ValueError
        If a text cannot be read, or if an option is given twice, or for none of the networks.
    """
    read = [_split(text) for text in named]
    if len(read) > 1:
        _check_no_flags(flags, len(read))
        flags = {}
    own = [terms.get("layer") for _, terms in read]
    if layer is not None and None not in own:
        raise ValueError(
            f"--layer {layer} is for networks without a layer= of their own, and every --backbone has one. Leave "
            "one of the two out."
        )
    networks = tuple(_made(name, _joined(name, terms, flags)) for name, terms in read)
    layers = tuple(one or layer or default_layer for one in own)
    if len(networks) == 1:
        return networks[0], layers[0]
    return networks, layers[0] if len(set(layers)) == 1 else layers


def network_of(text: str, flags: Mapping[str, str | None]) -> Network:
    """Return a single network without a layer: its name, or the backbone of an .onnx file."""
    name, terms = _split(text)
    if "layer" in terms:
        raise ValueError(f"{text!r}: this command takes the whole network, not a layer. Leave layer= out.")
    return _made(name, _joined(name, terms, flags))


def _split(text: str) -> tuple[str, Terms]:
    """Read ``file.onnx,color=bgr,scale=1/128`` as a name and its options."""
    parts = text.split(",")
    terms: Terms = {}
    while len(parts) > 1 and not Path(",".join(parts)).is_file() and "=" in parts[-1]:
        key, _, value = parts.pop().partition("=")
        if key not in _KEYS:
            raise ValueError(
                f"--backbone {text!r}: {key!r} is not one of {', '.join(_KEYS)}.{did_you_mean(key, _KEYS)}"
            )
        if key in terms or not value:
            raise ValueError(f"--backbone {text!r}: {key}= should stand there once, with a value.")
        terms[key] = value
    name = ",".join(parts)
    if len(parts) > 1 and not Path(name).is_file():
        raise ValueError(
            f"--backbone {text!r} is not a file. Repeat the option for several networks, "
            f"{' '.join(f'--backbone {part}' for part in parts)}, and write options of one network as "
            "file.onnx,color=bgr,mean=0,scale=1."
        )
    return name, terms


def _check_no_flags(flags: Mapping[str, str | None], n_networks: int) -> None:
    for key, value in flags.items():
        if value is not None:
            raise ValueError(
                f"--{key} {value} does not say which of the {n_networks} networks it is for. Write it behind the "
                f"network's file: --backbone file.onnx,{key}={value}"
            )


def _joined(name: str, terms: Terms, flags: Mapping[str, str | None]) -> Terms:
    """Return a network's options, from behind its name and from flags."""
    joined = {key: terms[key] for key in _INPUT if key in terms}
    for key, value in flags.items():
        if value is None:
            continue
        if key in joined:
            raise ValueError(f"--{key} {value} and {key}={joined[key]} of {name!r}: give one of the two.")
        joined[key] = value
    return joined


def _made(name: str, terms: Terms) -> Network:
    if not name.lower().endswith(".onnx"):
        if terms:
            them = "it" if len(terms) == 1 else "them"
            raise ValueError(
                f"{' and '.join(f'--{key}' for key in _INPUT if key in terms)} say what an .onnx file takes; the "
                f"network {name!r} has its own colours and normalisation. Leave {them} out."
            )
        return name
    from agegender.backbones import Backbone

    color = terms.get("color")
    if color is not None:
        check_choice("--color", color, ("rgb", "bgr"), "agegender")
    numbers: dict[str, Any] = {
        key: _numbers(terms[key], f"--{key}") for key in ("mean", "scale") if key in terms
    }
    return Backbone.from_onnx(name, color=cast(Literal["rgb", "bgr"] | None, color), **numbers)


def _numbers(text: str, option: str) -> float | tuple[float, ...]:
    """Read a number, or one per colour: 127.5, 1/128, 103.9:116.8:123.7."""
    numbers = tuple(_number(part, option, text) for part in text.split(":"))
    if len(numbers) not in (1, 3):
        raise ValueError(
            f"{option} {text!r} has {len(numbers)} numbers; it should have one, or one per colour."
        )
    return numbers[0] if len(numbers) == 1 else numbers


def _number(text: str, option: str, whole: str) -> float:
    top, slash, bottom = text.partition("/")
    try:
        return float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"{option} {whole!r} is not a number, a fraction such as 1/128, or one number per colour such as "
            "103.9:116.8:123.7."
        ) from error
