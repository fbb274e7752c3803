"""Everything besides the picture that determines the numbers of a row, resolved once and then frozen."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any, ClassVar, Literal, TypeAlias

from agegender._extraction.crops import SeenCrops
from agegender._safe.declaration import SafeState
from agegender._utils.callers import warn_user
from agegender.backbones import Backbone, known_backbones
from agegender.exceptions import FramingWarning, ModelFileError, WeightsError
from agegender.faces import (
    DETECTORS,
    FRAMINGS,
    Detector,
    RecordedDetector,
    Template,
    load_detector,
    open_detector,
)
from agegender.views import View, resolve_views, view_axis

__all__ = ["Asked", "FacesParameter", "Resolved", "Source", "carried_names", "resolve"]

FacesParameter: TypeAlias = str | os.PathLike[str] | Detector | None


@dataclass(frozen=True)
class Asked:
    """The parameters of an extractor that determine its output, as the user set them, with its defaults."""

    backbone: Any = "arcface"
    weights: Any = None
    engine: Literal["auto", "onnx", "keras"] = "auto"
    layer: Any = "auto"
    faces: FacesParameter = None
    framing: str | None = None
    crop: float = 0.0
    views: Any = 1
    dtype: str = "float32"
    draft: float | None = None

    @classmethod
    def of(cls, extractor: Any) -> Asked:
        """Read them from an extractor."""
        return cls(**{field.name: getattr(extractor, field.name) for field in fields(cls)})

    @property
    def networks(self) -> tuple[Any, ...]:
        """The parameters that determine the networks and their layers."""
        return self.backbone, self.weights, self.engine, self.layer


@dataclass(frozen=True)
class Source:
    """One network, and the layer of it that is read.

    Parameters
    ----------
    backbone : Backbone
    layer : str
        The layer as the user named it, for example ``"pooled"``.
    """

    backbone: Backbone
    layer: str

    _safe: ClassVar[SafeState] = SafeState()

    @property
    def tensor(self) -> str:
        """The layer's own name, under which rows are cached."""
        return self.backbone.resolve_layer(self.layer)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the layer's output for one picture."""
        return self.backbone.output_shape(self.layer)

    def _check_safe(self) -> None:
        if not isinstance(self.backbone, Backbone) or not isinstance(self.layer, str):
            raise ModelFileError("its fitted backbone is no network")


@dataclass(frozen=True, eq=False)
class Resolved:
    """The result of fit: rows, cache keys, shards and safe files depend on it, and on nothing else.

    Parameters
    ----------
    sources : tuple of Source
        The networks whose rows are concatenated, in this order.
    views : tuple of View
    has_view_axis : bool
        Whether rows have an additional axis for the views.
    crop : float
    framing : str or None
        The framing of face crops that are transformed to ArcFace's framing.
    finds_faces : bool
        Whether the face is found in each picture.
    detector : Detector, RecordedDetector or None
        Finds faces, or is used for "auto" in a call; None if the detector is not chosen yet.
    dtype : {"float32", "float16"}
    crops : SeenCrops or None
        How the face crops that a head was trained on are framed.
    draft : float or None
        The minimum number of pixels per side of a face, as a multiple of the network's input, if JPEG files
        are decoded at a fraction of their size; None if they are decoded at full size.
    """

    sources: tuple[Source, ...]
    views: tuple[View, ...]
    has_view_axis: bool
    crop: float
    framing: str | None
    finds_faces: bool
    detector: Detector | RecordedDetector | None
    dtype: str
    crops: SeenCrops | None = None
    draft: float | None = None

    _safe: ClassVar[SafeState] = SafeState()

    @property
    def backbones(self) -> tuple[Backbone, ...]:
        """The networks."""
        return tuple(source.backbone for source in self.sources)

    @property
    def features_shape(self) -> tuple[int, ...]:
        """The shape of one view of a picture: flat layers concatenated, or the map of a single network."""
        shapes = [source.shape for source in self.sources]
        return shapes[0] if len(shapes) == 1 else (sum(math.prod(shape) for shape in shapes),)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a picture's row, with the axis of views."""
        return (*((len(self.views),) if self.has_view_axis else ()), *self.features_shape)

    @property
    def gives_pixels(self) -> bool:
        """Whether rows are pictures, not activations."""
        return self.sources[0].layer == "input"

    @property
    def kept_dtype(self) -> str:
        """The type in which the cache stores rows."""
        return "uint8" if self.gives_pixels else self.dtype

    def detector_for(self, faces: FacesParameter, asked: FacesParameter) -> Detector:
        """Return the detector of a call: the fitted one for "auto" and for the value used at fit."""
        if self.detector is not None and (faces == "auto" or (faces is not None and faces == asked)):
            return open_detector(self.detector)
        return load_detector("auto" if faces is None else faces)

    def template(self) -> Template:
        """Return the landmark positions for detected faces: those in the crops that a head was trained on."""
        if self.framing is not None or self.crops is None:
            return "arcface"
        if self.crops.landmarks is None:
            warn_user(
                "The framing of the faces that this model was trained on is unknown: hardly any were detected, or "
                "their positions differ. Faces are aligned as for face recognition, and ages may be wrong; train "
                'with faces="auto", or framing="utkface" on crops framed like that.',
                FramingWarning,
            )
            return "arcface"
        return self.crops.landmarks

    def feature_names(self) -> list[str]:
        """Return one name per column, made of network, layer and number."""
        prefixes = [f"{source.backbone.name}_{source.layer}" for source in self.sources]
        if len(set(prefixes)) < len(prefixes):
            prefixes = [
                f"{source.backbone.name}-{source.backbone.sha256[:8]}-{place}_{source.layer}"
                for place, source in enumerate(self.sources, start=1)
            ]
        return [
            f"{prefix}_{i}"
            for prefix, source in zip(prefixes, self.sources, strict=True)
            for i in range(math.prod(source.shape))
        ]

    def with_crops(self, crops: SeenCrops) -> Resolved:
        """Return a copy with the framing of the training crops."""
        return replace(self, crops=crops)

    def reading(self, layer: str) -> Resolved:
        """Return a copy that reads another layer of each network, without views.

        Raises
        ------
        ValueError
            If a network has no such layer, or the layers of several networks cannot be concatenated.
        """
        sources = tuple(replace(source, layer=layer) for source in self.sources)
        for source in sources:
            source.backbone.resolve_layer(layer)
        if len(sources) > 1:
            _check_side_by_side(sources)
        return replace(self, sources=sources, views=resolve_views(1), has_view_axis=False)

    def carried(self) -> Resolved:
        """Return a copy that contains the files of small networks, for use on another machine."""
        return replace(
            self,
            sources=tuple(
                replace(source, backbone=source.backbone.with_content()) for source in self.sources
            ),
        )

    def for_safe_file(self) -> Resolved:
        """Return a copy with a record in place of the detector, which is not plain data."""
        if self.detector is None or isinstance(self.detector, RecordedDetector):
            return self
        named = self.detector.name in DETECTORS
        return replace(self, detector=RecordedDetector.of(self.detector) if named else None)

    def _check_safe(self) -> None:
        kinds = {"sources": Source, "views": View}
        for name, kind in kinds.items():
            found = getattr(self, name)
            if not isinstance(found, tuple) or not found or not all(isinstance(one, kind) for one in found):
                raise ModelFileError(f"its fitted {name} are not what they should be")
        if not isinstance(self.detector, RecordedDetector | None) or not isinstance(
            self.crops, SeenCrops | None
        ):
            raise ModelFileError("what it finds faces with is not what it should be")
        if self.draft is not None and not (isinstance(self.draft, float) and 1 <= self.draft < math.inf):
            raise ModelFileError(f"its draft is {str(self.draft)[:80]!r}")
        if self.framing not in (None, *FRAMINGS) or self.dtype not in ("float32", "float16"):
            raise ModelFileError(
                f"its framing is {str(self.framing)[:80]!r}, its dtype {str(self.dtype)[:80]!r}"
            )


def resolve(
    asked: Asked,
    earlier: Resolved | None = None,
    earlier_asked: Asked | None = None,
    *,
    decide_auto: bool = False,
) -> Resolved:
    """Resolve an extractor's parameters.

    Parameters
    ----------
    asked : Asked
    earlier : Resolved, default=None
        The result of fit; it is reused for all parameters that have not changed since.
    earlier_asked : Asked, default=None
        The parameters at fit.
    decide_auto : bool, default=False
        Whether to choose the detector for "auto" even if no faces are to be found.

    Raises
    ------
    ValueError
        If parameters are not compatible with each other.
    WeightsNotFoundError, WeightsError
        If the file of a network or of the detector is missing or not valid.
    """
    known = earlier if earlier_asked is not None else None
    if known is not None and earlier_asked is not None and earlier_asked.networks == asked.networks:
        sources = known.sources
    else:
        sources = _sources(asked)
    same_faces = known is not None and earlier_asked is not None and earlier_asked.faces == asked.faces
    detector = known.detector if known is not None and same_faces else _detector(asked.faces, decide_auto)
    return Resolved(
        sources=sources,
        views=resolve_views(asked.views),
        has_view_axis=bool(view_axis(asked.views)),
        crop=float(asked.crop),
        framing=asked.framing,
        finds_faces=asked.faces is not None,
        detector=detector,
        dtype=asked.dtype,
        draft=float(asked.draft) if isinstance(asked.draft, Real) else asked.draft,
        crops=None if known is None else known.crops,
    )


def _sources(asked: Asked) -> tuple[Source, ...]:
    several = isinstance(asked.backbone, (tuple, list))
    named = tuple(asked.backbone) if several else (asked.backbone,)
    if not named:
        raise ValueError("backbone=() names no network; give one, or several: ('arcface', 'facenet').")
    if several and (asked.weights is not None or asked.engine != "auto"):
        raise ValueError(
            "weights= and engine= need one network given by name; in a tuple, pass "
            "Backbone.load(name, weights=…, engine=…) instead of the name."
        )
    networks = [_backbone(one, asked) for one in named]
    layers = _layers(asked.layer, networks)
    sources = tuple(Source(network, layer) for network, layer in zip(networks, layers, strict=True))
    if len(sources) > 1:
        _check_side_by_side(sources)
    return sources


def _backbone(named: Any, asked: Asked) -> Backbone:
    if not isinstance(named, Backbone):
        return Backbone.load(named, weights=asked.weights, engine=asked.engine)
    if asked.weights is not None or asked.engine != "auto":
        raise ValueError(
            f"weights={asked.weights!r} and engine={asked.engine!r} need a network given by name; {named!r} has "
            "its file already. Remove them, or pass them to Backbone.load."
        )
    return named


def _layers(layer: Any, networks: Sequence[Backbone]) -> list[str]:
    if isinstance(layer, (tuple, list)):
        if len(layer) != len(networks):
            raise ValueError(
                f"layer={layer!r} names {len(layer)} layers for {len(networks)} networks; pass one per network, in "
                "their order, or one word for all."
            )
        asked = list(layer)
    else:
        asked = [layer] * len(networks)
    if "auto" not in asked:
        return asked
    from agegender.heads import DenseHead, head_layer  # imports scikit-learn

    return [
        head_layer(DenseHead(), network) if name == "auto" else name
        for name, network in zip(asked, networks, strict=True)
    ]


def _check_side_by_side(sources: Sequence[Source]) -> None:
    for source in sources:
        if source.layer == "input" or len(source.shape) != 1:
            what = "pictures" if source.layer == "input" else f"maps of shape {source.shape}"
            raise ValueError(
                f"layer={source.layer!r} of {source.backbone.name} gives {what}, which cannot be concatenated with "
                "another network's. Several networks need flat layers ('penultimate', 'pooled', 'embedding') and "
                "a dense head; a convolutional or fine-tuning head needs one network."
            )


def _detector(faces: FacesParameter, decide_auto: bool) -> Detector | None:
    if faces is not None:
        return load_detector(faces)
    if not decide_auto:
        return None
    try:
        return load_detector("auto")
    except WeightsError:
        return None


def carried_names(named: Any, fitted: Any, networks: Sequence[Backbone]) -> Any:
    """Replace names of networks by the networks, so that a model finds them on any machine.

    Parameters
    ----------
    named : str, path, Backbone, or tuple or list of them
        A parameter.
    fitted : as `named`
        The value of the parameter when the networks were resolved.
    networks : sequence of Backbone

    Returns
    -------
    as `named`
        Known names are kept, because they are valid on every machine. A parameter that was changed since the
        networks were resolved is kept as well.
    """
    if not isinstance(named, (tuple, list)):
        return networks[0] if len(networks) == 1 and _names_file_of(named, fitted) else named
    if not isinstance(fitted, (tuple, list)) or not len(named) == len(fitted) == len(networks):
        return named
    return type(named)(
        network if _names_file_of(one, earlier) else one
        for one, earlier, network in zip(named, fitted, networks, strict=True)
    )


def _names_file_of(named: Any, fitted: Any) -> bool:
    return bool(named == fitted) and (
        isinstance(named, Backbone) or os.fspath(named) not in known_backbones()
    )
