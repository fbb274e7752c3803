"""Heads: small Keras models that read a layer of a face network.

A head is any callable ``(input_shape, n_ages, n_genders) -> keras.Model`` with two softmax outputs, the ages first.
`DenseHead` and `ConvHead` are such callables with parameters that a grid search reaches. `Head` is their base class:
it has what a pipeline and a classifier ask of a head, with defaults.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from sklearn.base import BaseEstimator

from agegender._utils.validation import did_you_mean

__all__ = [
    "HEADS",
    "ConvHead",
    "DenseHead",
    "Head",
    "head_layer",
    "make_head",
    "with_backbone",
    "with_widths",
]

WIDEST_DENSE_INPUT = 4096


class Head(BaseEstimator):
    """Base class of heads: what is asked of them, and the defaults.

    A callable of your own need not be a `Head`; it may set the same attributes.

    Attributes
    ----------
    layer : str
        The backbone's layer to read; ``"auto"`` is what `auto_layer` returns.
    input_rank : int or None
        Number of axes of one row: 1 for a vector, 3 for a map. If None, rows may have any shape, and an axis of X is
        that of views only if the classifier's `n_views` says so.
    standardizes : bool
        Whether features are standardised before they come to the head.
    needs_backbone : bool
        Whether a pipeline sets `backbone` at fit, on a copy, if that is None.
    backbone : Backbone, str or None
        The network.

    See Also
    --------
    DenseHead : Dense layers.
    ConvHead : Convolutions on a feature map.

    Examples
    --------
    >>> class Plain(Head):
    ...     layer = "pooled"
    >>> Plain().standardizes, Plain().input_rank
    (True, None)
    """

    layer: Any = "auto"
    input_rank: Any = None
    standardizes: bool = True
    needs_backbone: bool = False
    backbone: Any = None

    def __call__(self, input_shape: tuple[int, ...], n_ages: int, n_genders: int) -> Any:
        """Build the Keras model for rows of `input_shape`; a head overrides this."""
        raise TypeError(f"{type(self).__name__} builds no model: define its __call__.")

    def auto_layer(self, backbone: Any) -> str:
        """Return the layer that ``layer="auto"`` stands for: what a dense head reads.

        Parameters
        ----------
        backbone : agegender.backbones.Backbone
            The network.
        """
        try:
            width = math.prod(backbone.output_shape("penultimate"))
        except ValueError:  # no dense layer
            return "embedding"
        return "pooled" if width > WIDEST_DENSE_INPUT else "penultimate"


class _CallableHead(Head):
    """A callable of a user's own, as a head: what it does not say is the default."""

    def __init__(self, function: Any) -> None:
        self.function = function
        for name in ("layer", "input_rank", "standardizes", "needs_backbone", "backbone", "auto_layer"):
            if hasattr(function, name):
                setattr(self, name, getattr(function, name))

    def __call__(self, input_shape: tuple[int, ...], n_ages: int, n_genders: int) -> Any:
        return self.function(input_shape, n_ages, n_genders)


class DenseHead(Head):
    """Dense layers on one vector per picture, then a softmax layer for the ages and one for the genders.

    Parameters
    ----------
    units : tuple of int, default=()
        Widths of the hidden layers. If empty, the head is one softmax layer per output.
    dropout : float, default=0.0
        Fraction of activations dropped before every dense layer, including the first.
    batch_norm : bool, default=False
        Whether hidden layers are batch-normalised before their activation.
    activation : str, default="relu"
        A Keras activation for the hidden layers.
    weight_decay : float, default=0.0
        L2 penalty on the kernels.
    layer : str, default="auto"
        The layer of the backbone that it reads. ``"auto"`` is ``"penultimate"`` if that is at most 4,096
        numbers wide, and ``"pooled"`` otherwise. For a network without a dense layer it is ``"embedding"``.
    network_dropout : float, default=0.0
        With several networks side by side: the probability, per picture and network, that all features of the network
        are dropped in a training step, so that the head does not rely on one of them. It has no effect with one
        network.
    network_widths : tuple of int, default=None
        The number of features of each network, for `network_dropout`. A pipeline sets it; without a pipeline, pass it
        here. If None, all features are of one network.

    See Also
    --------
    agegender.ConvHead : Convolutions on a feature map.
    agegender.FineTuneHead : The network's last blocks, trained further.

    Examples
    --------
    >>> DenseHead(units=(256,), dropout=0.2)
    DenseHead(dropout=0.2, units=(256,))
    """

    input_rank = 1

    def __init__(
        self,
        units: tuple[int, ...] = (),
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
        activation: str = "relu",
        weight_decay: float = 0.0,
        layer: str = "auto",
        network_dropout: float = 0.0,
        network_widths: tuple[int, ...] | None = None,
    ) -> None:
        self.units = units
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.activation = activation
        self.weight_decay = weight_decay
        self.layer = layer
        self.network_dropout = network_dropout
        self.network_widths = network_widths

    def __call__(self, input_shape: tuple[int, ...], n_ages: int, n_genders: int) -> Any:
        """Build the Keras model for rows of `input_shape`."""
        import keras

        _check_rank(self, input_shape)
        inputs = keras.Input(input_shape)
        return _finish(self, inputs, self._drop_networks(inputs), n_ages, n_genders)

    def _drop_networks(self, values: Any) -> Any:
        """Drop all features of a network at a time."""
        import keras

        n_features, widths = values.shape[1], self.network_widths
        if widths is not None and sum(widths) != n_features:
            raise ValueError(
                f"DenseHead: network_widths={widths} are {sum(widths)} features in all, and X has {n_features}. "
                "Leave them out in a pipeline, which sets them."
            )
        if not self.network_dropout or widths is None or len(widths) < 2:
            return values
        ends = list(accumulate(widths))
        return keras.layers.Concatenate()(
            [
                keras.layers.Dropout(self.network_dropout, noise_shape=(None, 1))(
                    values[:, end - width : end]
                )
                for width, end in zip(widths, ends, strict=True)
            ]
        )


class ConvHead(Head):
    """Convolutions on a feature map, then flattened into dense layers and the two softmax layers.

    Without arguments it is Conv2D → Flatten → softmax. ``ConvHead(filters=(), depthwise="global", units=(256,))``
    learns one weight per position and channel, as face networks do in their last convolution.

    Parameters
    ----------
    filters : tuple of int, default=(64,)
        Channels of each convolution.
    kernel_size : int, default=3
        Side of their kernels, in positions of the map.
    strides : int, default=1
        Step of their kernels, in positions of the map.
    depthwise : int, "global" or None, default=None
        A depthwise convolution on the map before all others: the side of its kernel, or ``"global"`` for one as
        large as the map, which gives one number per channel.
    pointwise : tuple of int, default=()
        Channels of 1×1 convolutions, after the depthwise one.
    spatial_dropout : float, default=0.0
        Fraction of the map's channels dropped before the first layer.
    units : tuple of int, default=()
        Widths of the hidden dense layers after flattening.
    dropout : float, default=0.0
        Fraction of activations dropped before every dense layer.
    batch_norm : bool, default=False
        Whether every hidden layer is batch-normalised before its activation.
    activation : str, default="relu"
        A Keras activation for every hidden layer except the depthwise one, which has none.
    weight_decay : float, default=0.0
        L2 penalty on the kernels.
    layer : str, default="feature_map"
        The layer of the backbone that it reads; it must have height, width and channels.

    See Also
    --------
    agegender.DenseHead : Dense layers on one vector per picture.
    agegender.FineTuneHead : The network's last blocks, trained further.

    Examples
    --------
    >>> ConvHead(filters=(), depthwise="global", units=(256,))
    ConvHead(depthwise='global', filters=(), units=(256,))
    """

    input_rank = 3

    def __init__(
        self,
        filters: tuple[int, ...] = (64,),
        *,
        kernel_size: int = 3,
        strides: int = 1,
        depthwise: int | str | None = None,
        pointwise: tuple[int, ...] = (),
        spatial_dropout: float = 0.0,
        units: tuple[int, ...] = (),
        dropout: float = 0.0,
        batch_norm: bool = False,
        activation: str = "relu",
        weight_decay: float = 0.0,
        layer: str = "feature_map",
    ) -> None:
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.depthwise = depthwise
        self.pointwise = pointwise
        self.spatial_dropout = spatial_dropout
        self.units = units
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.activation = activation
        self.weight_decay = weight_decay
        self.layer = layer

    def __call__(self, input_shape: tuple[int, ...], n_ages: int, n_genders: int) -> Any:
        """Build the Keras model for rows of `input_shape`."""
        import keras

        _check_rank(self, input_shape)
        inputs = keras.Input(input_shape)
        maps = keras.layers.SpatialDropout2D(self.spatial_dropout)(inputs) if self.spatial_dropout else inputs
        if self.depthwise is not None:
            maps = self._depthwise(maps)
        for channels in _widths("pointwise", self.pointwise):
            maps = self._convolve(maps, channels, 1, 1)
        for channels in _widths("filters", self.filters):
            maps = self._convolve(maps, channels, self.kernel_size, self.strides)
        return _finish(self, inputs, keras.layers.Flatten()(maps), n_ages, n_genders)

    def _depthwise(self, maps: Any) -> Any:
        import keras

        size = tuple(maps.shape[1:3]) if self.depthwise == "global" else self.depthwise
        if isinstance(size, str):
            hint = did_you_mean(size, ["global"])
            raise ValueError(
                f"ConvHead: depthwise={size!r} is neither 'global', a kernel size nor None.{hint}"
            )
        self._check_fits(maps, size, "depthwise")
        return keras.layers.DepthwiseConv2D(size, depthwise_regularizer=_penalty(self))(maps)

    def _convolve(self, maps: Any, channels: int, size: int, strides: int) -> Any:
        import keras

        self._check_fits(maps, size, "kernel_size")
        layer = keras.layers.Conv2D(channels, size, strides=strides, kernel_regularizer=_penalty(self))
        return _activate(self, layer(maps))

    def _check_fits(self, maps: Any, size: Any, parameter: str) -> None:
        height, width = size if isinstance(size, tuple) else (size, size)
        if height > maps.shape[1] or width > maps.shape[2]:
            raise ValueError(
                f"ConvHead: {parameter}={size} does not fit a map of {maps.shape[1]}×{maps.shape[2]} positions; "
                "choose a smaller kernel, or an earlier layer with a larger map."
            )

    def auto_layer(self, backbone: Any) -> str:
        """Return the layer for ``layer="auto"``."""
        return "feature_map"


HEADS: dict[str, Callable[[], Any]] = {
    "dense": lambda: DenseHead(units=(256,), dropout=0.3, batch_norm=True),
    "conv": lambda: ConvHead(
        filters=(), depthwise="global", spatial_dropout=0.2, units=(512,), dropout=0.5, batch_norm=True
    ),
}
"""The tuned heads by name: each value makes one (benchmarks/accuracy.py compares them with others)."""


def make_head(head: Any) -> Head:
    """Return the head that a name stands for, a new one each time; any other callable as a `Head`.

    Parameters
    ----------
    head : str or callable
        ``"dense"``, ``"conv"``, or a callable ``(input_shape, n_ages, n_genders) -> keras.Model``.

    Raises
    ------
    ValueError
        If the name is unknown, or `head` is neither a name nor callable.

    See Also
    --------
    agegender.heads.head_layer : The layer that a head reads.

    Examples
    --------
    >>> make_head("dense").units
    (256,)
    """
    if isinstance(head, str):
        if head not in HEADS:
            known = ", ".join(map(repr, HEADS))
            raise ValueError(f"head={head!r} is not one of {known}.{did_you_mean(head, HEADS)}")
        made: Head = HEADS[head]()
        return made
    if isinstance(head, Head):
        return head
    if isinstance(head, type):
        raise ValueError(f"head={head.__name__} is a class; pass an instance, {head.__name__}().")
    if not callable(head):
        raise ValueError(
            f"head={head!r} is neither a name ({', '.join(map(repr, HEADS))}) nor a callable "
            "(input_shape, n_ages, n_genders) -> keras.Model."
        )
    return _CallableHead(head)


def head_layer(head: Any, backbone: Any) -> str:
    """Return the layer of `backbone` that a head reads.

    A callable that names no layer reads what a dense head would.

    Parameters
    ----------
    head : str or callable
        As for `make_head`.
    backbone : agegender.backbones.Backbone
        The network whose layer is read.

    See Also
    --------
    agegender.heads.make_head : Make a head from a name or a callable.
    """
    read = make_head(head)
    return str(read.auto_layer(backbone) if read.layer == "auto" else read.layer)


def with_backbone(head: Any, backbones: Sequence[Any]) -> Any:
    """Return a copy of a head that has the network, if it needs one and has none; any other head as it is.

    Parameters
    ----------
    head : str or callable
        As for `make_head`.
    backbones : sequence of agegender.backbones.Backbone
        The networks whose layers the head reads.

    Raises
    ------
    ValueError
        If a head needs one network and there are several, or has another network already: the rows are not its
        activations, whatever their shape.

    See Also
    --------
    agegender.heads.make_head : Make a head from a name or a callable.
    """
    asked = make_head(head)
    if not asked.needs_backbone:
        return head
    if len(backbones) > 1:
        raise ValueError(
            f"{type(head).__name__} trains one network further, and the extractor has {len(backbones)}. Train it on "
            "each network by itself; model.to_backbone() returns the fine-tuned network, and a dense head takes "
            "several networks."
        )
    if (own := asked.backbone) is not None:
        _check_same(asked, type(backbones[0]).load(own) if isinstance(own, str) else own, backbones[0])
        return head
    head = copy.copy(head)
    head.backbone = backbones[0]
    return head


def with_widths(head: Any, widths: Sequence[int]) -> Any:
    """Return a copy of a dense head that knows how wide each network is, if it drops whole networks; or the head.

    Parameters
    ----------
    head : str or callable
        As for `make_head`.
    widths : sequence of int
        The number of features of each network.

    See Also
    --------
    agegender.heads.with_backbone : The network for a head that needs one.

    Examples
    --------
    >>> with_widths(DenseHead(network_dropout=0.2), [128, 1024]).network_widths
    (128, 1024)
    """
    if not getattr(head, "network_dropout", 0.0) or head.network_widths is not None:
        return head
    head = copy.copy(head)
    head.network_widths = tuple(widths)
    return head


def _check_same(head: Head, own: Any, backbone: Any) -> None:
    """Refuse rows of another network than a head goes on from; pixels are the same for every network."""
    if own != backbone and head.layer != "input":
        raise ValueError(
            f"{type(head).__name__} has the network {own!r}, and the extractor has {backbone!r}: the head would go "
            "on from activations of another network, or of other colours or normalisation. Leave the head's backbone "
            "out, and the pipeline hands over its own."
        )


def _finish(head: DenseHead | ConvHead, inputs: Any, values: Any, n_ages: int, n_genders: int) -> Any:
    """Add the dense layers and the two softmax outputs that all heads of this module end with."""
    import keras

    for width in _widths("units", head.units):
        values = _drop(head, values)
        values = _activate(head, keras.layers.Dense(width, kernel_regularizer=_penalty(head))(values))
    values = _drop(head, values)
    outputs = [
        keras.layers.Dense(size, activation="softmax", kernel_regularizer=_penalty(head), name=name)(values)
        for name, size in (("age", n_ages), ("gender", n_genders))
    ]
    return keras.Model(inputs, outputs)


def _activate(head: DenseHead | ConvHead, values: Any) -> Any:
    import keras

    if head.batch_norm:
        values = keras.layers.BatchNormalization(momentum=0.9)(values)
    return keras.layers.Activation(head.activation)(values)


def _drop(head: DenseHead | ConvHead, values: Any) -> Any:
    import keras

    return keras.layers.Dropout(head.dropout)(values) if head.dropout else values


def _penalty(head: DenseHead | ConvHead) -> Any:
    import keras

    return keras.regularizers.L2(head.weight_decay) if head.weight_decay else None


def _widths(name: str, widths: Any) -> tuple[int, ...]:
    """Accept one width for a tuple of one: units=256 is what people write first."""
    if isinstance(widths, int):
        return (widths,)
    if isinstance(widths, str) or not all(int(width) == width and width > 0 for width in widths):
        raise ValueError(f"{name}={widths!r} should be a tuple of positive whole numbers, such as (256,).")
    return tuple(int(width) for width in widths)


def _check_rank(head: DenseHead | ConvHead, input_shape: tuple[int, ...]) -> None:
    if len(input_shape) == head.input_rank:
        return
    name = type(head).__name__
    wanted = (
        "one vector a picture, (n, d), or several views, (n, v, d)"
        if head.input_rank == 1
        else "a map a picture, (n, height, width, channels), or several views, (n, v, height, width, channels)"
    )
    advice = 'layer="penultimate" or "pooled"' if head.input_rank == 1 else 'layer="feature_map"'
    raise ValueError(f"{name} reads {wanted}; X has rows of shape {tuple(input_shape)}. Extract {advice}.")
