"""A head that retrains a copy of the network's own last blocks, on activations cached at an earlier layer.

What comes before ``layer`` stays frozen and is computed once a picture, ever; what comes after it begins with the
network's weights and learns about age and gender. The network itself is never changed.
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


@dataclass(frozen=True)
class Augmentation:
    """How differently a picture is shown each time that it is trained on; every view is drawn anew.

    All but `mirror` are the ends of ranges from which numbers are drawn evenly, to both sides.

    Attributes
    ----------
    shift : float
        Along each side, as a fraction of it.
    scale : float
        Factor of size beyond 1: with 0.1, from 1/1.1 to 1.1.
    rotation : float
        Degrees.
    mirror : bool
        Whether every second picture is mirrored.
    brightness : float
        Added to all values, as a fraction of half their range.
    contrast : float
        Factor beyond 1 by which values are stretched about mid-grey.

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

    def stronger(self, factor: float) -> Augmentation:
        """Return the same with all ranges widened by a factor.

        Parameters
        ----------
        factor : float
            Below 1, narrowed.
        """
        ranges = {name: value * factor for name, value in asdict(self).items() if name != "mirror"}
        return replace(self, **ranges)


class FineTuneHead(Head):
    """The network's own blocks after `layer`, trained further, and dense layers on top of them.

    The blocks begin with their pretrained weights: before any training, they give exactly what the frozen network
    gives. They learn more slowly than the new layers (`backbone_rate`), so that what they know is bent and not lost.

    Parameters
    ----------
    layer : str
        Where the blocks begin: a tensor of the backbone's (see ``Backbone.layers``) through which everything passes
        on its way to `reads`. Its activations are what the head is given, and what the extractor caches. "input" is
        the picture itself, values 0 … 255: the whole network is trained.
    units : tuple of int, default=(256,)
        Widths of the hidden layers between the blocks and the outputs.
    reads : str, default="auto"
        Where the blocks end: a layer of the backbone's after `layer`. Maps are flattened; "pooled" averages them.
        "auto" is the penultimate layer, and of a network without a dense layer its output, the "embedding".
    dropout : float, default=0.3
        Fraction of activations dropped before every dense layer. Dropout inside the blocks is left out.
    batch_norm : bool, default=False
        Whether hidden layers are batch-normalised before their activation.
    activation : str, default="relu"
        A Keras activation for the hidden layers.
    weight_decay : float, default=0.0
        L2 penalty on the dense layers' kernels.
    backbone : Backbone, str or None, default=None
        The network. The pipeline hands over its own; without a pipeline it is a parameter.
    backbone_rate : float, default=0.5
        Learning rate of the blocks as a multiple of the classifier's. With 0 they stay frozen.
    backbone_batch_norm : {"frozen", "affine", "trained"}, default="frozen"
        What of the blocks' batch normalisation is trained. "frozen" is nothing: a small, one-sided set of faces
        tells less of the statistics than the millions that they were measured on, and normalising by each batch
        in training, but not in prediction, makes two networks of one. "affine" trains scale and shift, the
        statistics staying what they are. "trained" normalises by each batch and moves the statistics: for large
        data, or faces of another kind than the network has seen.
    train_from : str, default=None
        A layer between `layer` and `reads`; blocks before it stay frozen. For training late blocks on pictures that
        are shown differently each time (``layer="input"``).
    augment : "auto", Augmentation or None, default="auto"
        How pictures are varied in training, with ``layer="input"`` only. "auto" is ``Augmentation()`` there and
        None elsewhere. Nothing of it is in the model that predicts.

    See Also
    --------
    agegender.DenseHead : Dense layers on a frozen network.

    Notes
    -----
    Everything random is seeded by the classifier's ``random_state``. A row is exactly what the network gave, so
    the classifier's ``standardize`` does not apply.

    On CPUs, ``batch_size=64`` (with ``layer="input"``, 32) passes more pictures a second than larger batches, whose
    first maps take fresh memory in every step. ``TF_ENABLE_ONEDNN_OPTS=1``, set before TensorFlow is imported, gains
    a third and more where TensorFlow does not set it by itself.

    Examples
    --------
    >>> FineTuneHead("_plus9", units=(128,))
    FineTuneHead(layer='_plus9', units=(128,))
    >>> FineTuneHead("_plus9")((14, 14, 128), 101, 2)
    Traceback (most recent call last):
    ValueError: FineTuneHead(layer='_plus9') has no backbone; give it to an AgeGenderPipeline, which hands over its \
own, or set backbone=Backbone.load(…).
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
        """Build the Keras model for rows of `input_shape`, which is the shape of what `layer` gives.

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
        values = tail(inputs if augmentation is None else _random_view(augmentation)(inputs))
        if len(values.shape) > 2:
            values = keras.layers.Flatten()(values)
        return keras.Model(inputs, self._dense(tuple(values.shape[1:]), n_ages, n_genders)(values))

    @property
    def input_rank(self) -> int:
        """How many axes one row has."""
        return 3 if self.layer == "input" else len(self._backbone().output_shape(self.layer))

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
        """Return what stands on top of the blocks."""
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
                f"FineTuneHead(layer={self.layer!r}) has no backbone; give it to an AgeGenderPipeline, which hands "
                "over its own, or set backbone=Backbone.load(…)."
            )
        return self.backbone if isinstance(self.backbone, Backbone) else Backbone.load(self.backbone)

    def _check(self, input_shape: tuple[int, ...]) -> tuple[Backbone, Augmentation | None]:
        """Check the parameters against each other; return the network and how pictures are varied."""
        from agegender._tails.tail import NORMALISATIONS

        backbone, rate = self._backbone(), self.backbone_rate
        check_choice("backbone_batch_norm", self.backbone_batch_norm, NORMALISATIONS, "FineTuneHead")
        if not isinstance(rate, Real) or isinstance(rate, bool) or not 0 <= rate < float("inf"):
            raise ValueError(
                f"FineTuneHead: backbone_rate={rate!r} should be a number of at least 0, such as 0.1: the blocks' "
                "learning rate as a multiple of the classifier's."
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
                f'FineTuneHead: augment varies pictures, which need layer="input"; layer={self.layer!r} gives '
                "activations, of which the extractor's views can be cached."
            )
        return self.augment


def _random_view(augmentation: Augmentation) -> Any:
    from agegender._tails.layers import RandomView

    return RandomView(**asdict(augmentation), name="random_view")
