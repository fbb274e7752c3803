"""From a shard's footer to the extractor that computed its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from agegender.backbones import Backbone
from agegender.exceptions import WeightsError
from agegender.extractor import EmbeddingExtractor
from agegender.faces import DETECTORS, FRAMINGS
from agegender.views import View

__all__ = ["described_extractor"]


def described_extractor(made_of: dict[str, Any], backbone: Any) -> EmbeddingExtractor:
    """Return an extractor with the recipes of a footer; see :func:`agegender.shards.shard_extractor`."""
    recipes: list[dict[str, Any]] = made_of["recipes"]
    networks = _networks(made_of["backbone"].split(" + "), backbone)
    differ = ""
    for extractor in _candidates(recipes, made_of["row_shape"], networks):
        found = [json.loads(recipe.json) for recipe in extractor.recipes()]
        if found == recipes:
            return extractor
        differ = differ or _difference(recipes, found)
    raise ValueError(
        f"No extractor of this version gives the rows of these shards with {made_of['backbone']}: {differ}. Pass the "
        "network that made them as backbone=, or embed them again."
    )


def _networks(names: list[str], given: Any) -> list[Backbone]:
    named = names if given is None else list(given) if isinstance(given, (tuple, list)) else [given]
    if len(named) != len(names):
        raise ValueError(
            f"The shards were made with {len(names)} networks ({', '.join(names)}); backbone names {len(named)}."
        )
    return [_network(one, given is None) for one in named]


def _network(named: Any, of_footer: bool) -> Backbone:
    if isinstance(named, Backbone):
        return named
    try:
        return Backbone.load(named)
    except (ValueError, WeightsError) as error:
        if not of_footer:
            raise
        raise ValueError(
            f"The shards were made with the network {named!r}, which cannot be loaded by that name ({error}). Pass "
            "it as backbone=Backbone.from_onnx(…)."
        ) from error


def _candidates(
    recipes: list[dict[str, Any]], row_shape: list[int], networks: list[Backbone]
) -> Iterator[EmbeddingExtractor]:
    """Yield possible extractors, because a recipe contains the detector's key and not the parameter."""
    n_views = len(recipes) // len(networks)
    first, layers = recipes[0], tuple(recipe["layer"] for recipe in recipes[::n_views])
    views = tuple(_view(recipe["view"]) for recipe in recipes[:n_views])
    rank = 1 if len(networks) > 1 else len(networks[0].output_shape(layers[0]))
    options: dict[str, Any] = {
        "backbone": tuple(networks) if len(networks) > 1 else networks[0],
        "layer": layers if len(networks) > 1 else layers[0],
        "crop": first["crop"],
        "dtype": "float32" if first["dtype"] == "uint8" else first["dtype"],
        "views": views if len(row_shape) > rank else views[0],
    }
    kinds: list[dict[str, Any]] = [{}]
    key, drafted, draft = (first["faces"] or "").rpartition("draft")
    if drafted:
        options["draft"] = float(draft)
    if key if drafted else first["faces"]:
        kinds = [{"framing": name} for name in FRAMINGS if first["faces"].startswith(name)]
        kinds += [{"faces": name} for name in DETECTORS if name != "auto" and name in first["faces"]]
    for kind in kinds:
        yield EmbeddingExtractor(**options, **kind)


def _view(text: str) -> View:
    """Read a view in the form of a recipe: "mirror,zoom=1.2"."""
    if text == "plain":
        return View()
    changes = (part.partition("=") for part in text.split(","))
    named: dict[str, Any] = {name: float(value) if value else True for name, _, value in changes}
    return View(**named)


def _difference(wanted: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    return "; ".join(
        f"{name} would be {there.get(name)!r}, not {here.get(name)!r}"
        for here, there in zip(wanted, found, strict=True)
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    )
