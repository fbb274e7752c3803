"""A head that trains a copy of the network's last blocks further, on activations cached at an earlier layer.

Everything before ``layer`` stays frozen; its output is computed once per picture and cached. Everything after
it starts from the pretrained weights and is trained on age and gender. The backbone itself never changes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

from agegender._utils.validation import check_choice
from agegender.heads import DenseHead, Head

if TYPE_CHECKING:
    from agegender.backbones import Backbone

__all__ = ["Augmentation", "FineTuneHead"]

_RANGES = ("shift", "scale", "rotation", "brightness", "contrast")
_FRACTIONS = ("occlusion", "grey", "blur", "low_resolution", "noise", "jpeg")


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a picture in every training step.

    `shift` to `contrast` except `mirror` are ranges: values are drawn uniformly from both sides of zero.
    `occlusion` to `jpeg` are fractions of pictures, from 0 to 1, for each of which a strength is drawn.

    Attributes
    ----------
    shift : float
        Along each side, as a fraction of the side.
    scale : float
        Factor of size above 1: with 0.1, from 1/1.1 to 1.1.
    rotation : float
        Degrees.
    mirror : bool
        Whether every second picture is mirrored.
    brightness : float
        Added to all values, as a fraction of half their range.
    contrast : float
        Factor above 1 by which values are scaled around mid-grey.
    occlusion : float
        Fraction of pictures with a rectangle covered by the mean colour, 12 to 35 % of each side.
    grey : float
        Fraction of pictures without colour.
    blur : float
        Fraction of pictures that are blurred by a Gaussian, its standard deviation 0.4 to 2 % of the side,
        and at least 0.4 pixels.
    low_resolution : float
        Fraction of pictures that are scaled down, to 25 to 80 % of their size, and up again.
    noise : float
        Fraction of pictures with noise, its standard deviation 3 to 14 of 255.
    jpeg : float
        Fraction of pictures that are compressed as JPEG, with a quality of 15 to 80.

    See Also
    --------
    agegender.FineTuneHead : The network's last blocks, trained further.
    agegender.views.View : One fixed change of a picture.

    Examples
    --------
    >>> Augmentation(rotation=15).stronger(0.5).rotation
    7.5
    """

    shift: float = 0.05
    scale: float = 0.1
    rotation: float = 10.0
    mirror: bool = True
    brightness: float = 0.2
    contrast: float = 0.2
    occlusion: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    low_resolution: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0

    def stronger(self, factor: float) -> Augmentation:
        """Return a copy with all ranges multiplied by a factor; fractions of pictures stay as they are.

        Parameters
        ----------
        factor : float
            Below 1, the ranges get smaller.
        """
        ranges: dict[str, Any] = {name: getattr(self, name) * factor for name in _RANGES}
        return replace(self, **ranges)

    def degraded(self, fraction: float) -> Augmentation:
        """Return a copy with the same fraction of pictures for each of occlusion, grey, blur and so on.

        Parameters
        ----------
        fraction : float
            From 0 to 1.

        Examples
        --------
        >>> Augmentation().degraded(0.15).jpeg
        0.15
        """
        fractions: dict[str, Any] = dict.fromkeys(_FRACTIONS, fraction)
        return replace(self, **fractions)


class FineTuneHead(Head):
    """The network's blocks after `layer`, trained further, with dense layers on top.

    The blocks start from their pretrained weights: before training, their output is exactly that of the frozen
    network. Their learning rate is lower than that of the new layers (`backbone_rate`), so that the weights
    change only slowly.

    Parameters
    ----------
    layer : str
        The start of the blocks: a tensor of the backbone (see ``Backbone.layers``) that all paths to `reads`
        pass through. Its activations are the input of the head, and the extractor caches them. "input" is the
        picture itself, values 0 … 255: the whole network is trained.
    units : tuple of int, default=(256,)
        Widths of the hidden layers between the blocks and the outputs.
    reads : str, default="auto"
        The end of the blocks: a layer of the backbone after `layer`. Maps are flattened; "pooled" averages them.
        "auto" is the penultimate layer, and of a network without a dense layer its output, the "embedding".
    dropout : float, default=0.3
        Fraction of activations dropped before every dense layer. Dropout inside the blocks is removed.
    batch_norm : bool, default=False
        Whether hidden layers are batch-normalised before their activation.
    activation : str, default="relu"
        A Keras activation for the hidden layers.
    weight_decay : float, default=0.0
        L2 penalty on the dense layers' kernels.
    backbone : Backbone, str or None, default=None
        The network. A pipeline sets it; without a pipeline, pass it here.
    backbone_rate : float, default=0.5
        Learning rate of the blocks as a multiple of the classifier's. If 0, they stay frozen.
    backbone_batch_norm : {"frozen", "affine", "trained"}, default="frozen"
        How the batch normalisation of the blocks is trained. "frozen": not at all, because the statistics were
        measured on millions of faces and a small data set gives worse ones. "affine": scale and shift are
        trained, and the statistics do not change. "trained": each batch is normalised by its own statistics,
        and the stored statistics are updated; use it for large data sets, or for faces that differ from those
        of the pretraining.
    train_from : str, default=None
        A layer between `layer` and `reads`; blocks before it stay frozen. Use it with ``layer="input"`` to
        train late blocks on augmented pictures.
    augment : "auto", Augmentation or None, default="auto"
        Augmentation in training, with ``layer="input"`` only. "auto" is ``Augmentation()`` with
        ``layer="input"`` and None otherwise. It is not used in prediction.

    See Also
    --------
    agegender.DenseHead : Dense layers on a frozen network.

    Notes
    -----
    The classifier's ``random_state`` seeds all random numbers. The classifier's ``standardize`` is ignored,
    because the blocks need the network's activations unchanged.

    On CPUs, ``batch_size=64`` (with ``layer="input"``, 32) trains more pictures per second than larger batches,
    which allocate memory in every step. ``TF_ENABLE_ONEDNN_OPTS=1``, set before TensorFlow is imported, makes
    training a third faster if TensorFlow does not set it automatically.

    Examples
    --------
    >>> FineTuneHead("_plus9", units=(128,))
    FineTuneHead(layer='_plus9', units=(128,))
    >>> FineTuneHead("_plus9")((14, 14, 128), 101, 2)
    Traceback (most recent call last):
    ValueError: FineTuneHead(layer='_plus9') has no backbone; pass it to an AgeGenderPipeline, which sets it, \
or set backbone=Backbone.load(…).
    """

    needs_backbone = True
    standardizes = False

    def __init__(
        self,
        layer: str,
        units: tuple[int, ...] = (256,),
        *,
        reads: str = "auto",
        dropout: float = 0.3,
        batch_norm: bool = False,
        activation: str = "relu",
        weight_decay: float = 0.0,
        backbone: Backbone | str | None = None,
        backbone_rate: float = 0.5,
        backbone_batch_norm: str = "frozen",
        train_from: str | None = None,
        augment: Any = "auto",
    ) -> None:
        self.layer = layer
        self.units = units
        self.reads = reads
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.activation = activation
        self.weight_decay = weight_decay
        self.backbone = backbone
        self.backbone_rate = backbone_rate
        self.backbone_batch_norm = backbone_batch_norm
        self.train_from = train_from
        self.augment = augment

    def __call__(self, input_shape: tuple[int, ...], n_ages: int, n_genders: int) -> Any:
        """Build the Keras model for rows of `input_shape`, the output shape of `layer`.

        Raises
        ------
        ValueError
            If a parameter is not as described, the rows have another shape, or the network cannot be cut there.
        """
        import keras

        from agegender._tails.tail import build_tail

        backbone, augmentation = self._check(input_shape)
        tail = build_tail(
            backbone,
            self.layer,
            self._end(backbone),
            batch_norm=self.backbone_batch_norm,
            rate=self.backbone_rate,
            train_from=self.train_from,
        )
        inputs = keras.Input(input_shape)
        values = tail(inputs if augmentation is None else _augmented(augmentation, inputs))
        if len(values.shape) > 2:
            values = keras.layers.Flatten()(values)
        return keras.Model(inputs, self._dense(tuple(values.shape[1:]), n_ages, n_genders)(values))

    @property
    def input_rank(self) -> int:
        """The number of dimensions of one row."""
        return 3 if self.layer == "input" else len(self._backbone().output_shape(self.layer))

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """The widths of the hidden layers between the blocks and the outputs."""
        return (self.units,) if isinstance(self.units, int) else tuple(self.units)

    def _end(self, backbone: Backbone) -> str:
        """Return the layer where the blocks end."""
        if self.reads != "auto":
            return self.reads
        try:
            backbone.resolve_layer("penultimate")
        except ValueError:  # no dense layer
            return "embedding"
        return "penultimate"

    def _dense(self, input_shape: tuple[int, ...], n_ages: int, n_genders: int) -> Any:
        """Return the layers on top of the blocks."""
        head = DenseHead(
            self.units,
            dropout=self.dropout,
            batch_norm=self.batch_norm,
            activation=self.activation,
            weight_decay=self.weight_decay,
        )
        return head(input_shape, n_ages, n_genders)

    def _backbone(self) -> Backbone:
        from agegender.backbones import Backbone

        if self.backbone is None:
            raise ValueError(
                f"FineTuneHead(layer={self.layer!r}) has no backbone; pass it to an AgeGenderPipeline, which sets "
                "it, or set backbone=Backbone.load(…)."
            )
        return self.backbone if isinstance(self.backbone, Backbone) else Backbone.load(self.backbone)

    def _check(self, input_shape: tuple[int, ...]) -> tuple[Backbone, Augmentation | None]:
        """Check the parameters; return the network and the augmentation."""
        from agegender._tails.tail import NORMALISATIONS

        backbone, rate = self._backbone(), self.backbone_rate
        check_choice("backbone_batch_norm", self.backbone_batch_norm, NORMALISATIONS, "FineTuneHead")
        if not isinstance(rate, Real) or isinstance(rate, bool) or not 0 <= rate < float("inf"):
            raise ValueError(
                f"FineTuneHead: backbone_rate={rate!r} should be a number of at least 0, such as 0.1: the "
                "learning rate of the blocks as a multiple of the classifier's."
            )
        shape = backbone.output_shape(self.layer)
        if tuple(input_shape) != shape:
            raise ValueError(
                f"FineTuneHead: {backbone.name} gives rows of shape {shape} at layer={self.layer!r}; X has rows of "
                f"shape {tuple(input_shape)}. Extract that layer."
            )
        return backbone, self._augmentation()

    def _augmentation(self) -> Augmentation | None:
        pictures = self.layer == "input"
        if self.augment == "auto":
            return Augmentation() if pictures else None
        if self.augment is not None and not isinstance(self.augment, Augmentation):
            raise ValueError(
                f"FineTuneHead: augment={self.augment!r} is neither 'auto', an Augmentation(…) nor None."
            )
        if self.augment is not None and not pictures:
            raise ValueError(
                f'FineTuneHead: augment changes pictures and needs layer="input"; layer={self.layer!r} gives '
                "activations. Use the extractor's views instead."
            )
        if self.augment is not None:
            _check_fractions(self.augment)
        return self.augment


def _check_fractions(augmentation: Augmentation) -> None:
    for name in _FRACTIONS:
        value = getattr(augmentation, name)
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) <= 1:
            raise ValueError(
                f"Augmentation: {name}={value!r} should be a number from 0 to 1, such as 0.15: the fraction of "
                "pictures that are changed in this way."
            )


def _augmented(augmentation: Augmentation, pictures: Any) -> Any:
    """Return random views of pictures, in training."""
    from agegender._tails.degradation import Degradation
    from agegender._tails.layers import RandomView

    strengths = asdict(augmentation)
    fractions = {name: strengths.pop(name) for name in _FRACTIONS}
    views = RandomView(**strengths, name="random_view")(pictures)
    return Degradation(**fractions, name="degradation")(views) if any(fractions.values()) else views
