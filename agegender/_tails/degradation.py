"""A Keras layer that makes pictures worse at random, in training. Importing this module registers it with Keras."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

__all__ = ["KINDS", "Degradation"]

# How strong each kind is, from its weakest to its strongest. Lengths are fractions of the picture's side.
COVERED = (0.12, 0.35)
BLUR_SIGMA, LEAST_SIGMA = (0.004, 0.02), 0.4  # the latter in pixels: less would change nothing
SIZE_LEFT = (0.8, 0.25)
NOISE_DEVIATION = (3.0, 14.0)  # of values 0 … 255
JPEG_QUALITY = (80.0, 15.0)
LUMA = (0.299, 0.587, 0.114)


@keras.saving.register_keras_serializable(package="agegender")
class Degradation(keras.layers.Layer):
    """Make some pictures of values 0 … 255 worse, in training only: as cameras, programs and other people do.

    Kinds that take time are computed for the chosen pictures alone.

    Parameters
    ----------
    occlusion, grey, blur, low_resolution, noise, jpeg
        As in `agegender.fine_tuning.Augmentation`: the fraction of pictures of each kind.
    seed : int, default=None
        If None, a seed is drawn from Python's ``random``, as in Keras' own layers.
    """

    def __init__(
        self,
        *,
        occlusion: float = 0.0,
        grey: float = 0.0,
        blur: float = 0.0,
        low_resolution: float = 0.0,
        noise: float = 0.0,
        jpeg: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.shares = {
            "occlusion": occlusion,
            "grey": grey,
            "blur": blur,
            "low_resolution": low_resolution,
            "noise": noise,
            "jpeg": jpeg,
        }
        self.seed = random.randrange(2**31) if seed is None else seed
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def call(self, inputs: Any, training: bool | None = False) -> Any:
        """Return worse pictures in training, and the unchanged pictures otherwise."""
        if not training:
            return inputs
        pictures = inputs
        for name, share in self.shares.items():
            if share > 0:
                chosen = self._uniform(pictures, 1)[:, 0] < share
                pictures = _of_some(pictures, chosen, KINDS[name], self)
        return pictures

    def between(self, pictures: Any, limits: tuple[float, float]) -> Any:
        """Draw a number per picture between two limits."""
        return limits[0] + (limits[1] - limits[0]) * self._uniform(pictures, 1)[:, 0]

    def _uniform(self, pictures: Any, n: int) -> Any:
        return keras.random.uniform((ops.shape(pictures)[0], n), seed=self.seed_generator)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the pictures."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the configuration from which the layer can be created again."""
        return {**super().get_config(), **self.shares, "seed": self.seed}


Kind = Callable[[Any, Degradation], Any]


def _of_some(pictures: Any, chosen: Any, kind: Kind, layer: Degradation) -> Any:
    """Change the chosen pictures only."""
    import tensorflow as tf

    places = tf.where(chosen)

    def changed() -> Any:
        part = tf.gather(pictures, places[:, 0])
        return tf.tensor_scatter_nd_update(pictures, places, tf.cast(kind(part, layer), pictures.dtype))

    return tf.cond(tf.shape(places)[0] > 0, changed, lambda: pictures)


def _cover(pictures: Any, layer: Degradation) -> Any:
    """Cover a rectangle with the picture's mean colour: a hand, a scarf, the edge of another picture."""
    height, width = pictures.shape[1:3]
    inside = True
    for length, shape in ((height, (-1, height, 1, 1)), (width, (-1, 1, width, 1))):
        size = layer.between(pictures, COVERED) * length
        start = layer.between(pictures, (0.0, 1.0)) * (length - size)
        places = ops.arange(length, dtype="float32")[None] + 0.5
        within = ops.logical_and(places >= start[:, None], places < (start + size)[:, None])
        inside = ops.logical_and(inside, ops.reshape(within, shape))
    return ops.where(inside, ops.mean(pictures, axis=(1, 2), keepdims=True), pictures)


def _without_colour(pictures: Any, layer: Degradation) -> Any:
    """Replace the three colours by their luma."""
    luma = ops.sum(pictures * ops.convert_to_tensor(LUMA), axis=-1, keepdims=True)
    return ops.broadcast_to(luma, ops.shape(pictures))


def _blurred(pictures: Any, layer: Degradation) -> Any:
    """Blur each picture by a Gaussian of its own."""
    import tensorflow as tf

    height, width = pictures.shape[1:3]
    side = min(height, width)
    radius = min(side - 1, math.ceil(3 * max(LEAST_SIGMA, BLUR_SIGMA[1] * side)))
    sigma = tf.maximum(LEAST_SIGMA, layer.between(pictures, BLUR_SIGMA) * side)
    distances = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernels = tf.exp(-0.5 * (distances[:, None] / sigma[None]) ** 2)
    kernels = tf.repeat(kernels / tf.reduce_sum(kernels, axis=0), 3, axis=1)  # (taps, picture and colour)
    n = tf.shape(pictures)[0]
    # All pictures and colours are channels of one map, each with its own kernel.
    values = tf.reshape(tf.transpose(pictures, (1, 2, 0, 3)), (1, height, width, 3 * n))
    values = tf.pad(values, ((0, 0), (radius, radius), (radius, radius), (0, 0)), mode="REFLECT")
    for kernel in (kernels[:, None, :, None], kernels[None, :, :, None]):
        values = tf.nn.depthwise_conv2d(values, kernel, (1, 1, 1, 1), "VALID")
    return tf.transpose(tf.reshape(values, (height, width, n, 3)), (2, 0, 1, 3))


def _coarser(pictures: Any, layer: Degradation) -> Any:
    """Scale each picture down and up again."""
    import tensorflow as tf

    sides = [int(side) for side in pictures.shape[1:3]]

    def resized(given: tuple[Any, Any]) -> Any:
        picture, left = given
        size = tf.maximum(1, tf.cast(tf.round(tf.constant(sides, tf.float32) * left), tf.int32))
        small = tf.image.resize(picture, size, method="area")
        return tf.image.resize(small, sides)

    return _each(resized, (pictures, layer.between(pictures, SIZE_LEFT)), pictures)


def _noisy(pictures: Any, layer: Degradation) -> Any:
    """Add noise that is normally distributed and independent per value."""
    deviation = layer.between(pictures, NOISE_DEVIATION)[:, None, None, None]
    noise = keras.random.normal(ops.shape(pictures), seed=layer.seed_generator)
    return ops.clip(pictures + noise * deviation, 0.0, 255.0)


def _compressed(pictures: Any, layer: Degradation) -> Any:
    """Encode each picture as JPEG, and decode it."""
    import tensorflow as tf

    def encoded(given: tuple[Any, Any]) -> Any:
        picture, quality = given
        pixels = tf.cast(tf.round(tf.clip_by_value(picture, 0.0, 255.0)), tf.uint8)
        return tf.cast(tf.image.adjust_jpeg_quality(pixels, tf.cast(quality, tf.int32)), tf.float32)

    return _each(encoded, (pictures, layer.between(pictures, JPEG_QUALITY)), pictures)


def _each(function: Callable[[tuple[Any, Any]], Any], given: tuple[Any, Any], pictures: Any) -> Any:
    import tensorflow as tf

    signature = tf.TensorSpec(pictures.shape[1:], tf.float32)
    return tf.map_fn(function, given, fn_output_signature=signature)


KINDS: dict[str, Kind] = {
    "occlusion": _cover,
    "grey": _without_colour,
    "blur": _blurred,
    "low_resolution": _coarser,
    "noise": _noisy,
    "jpeg": _compressed,
}
"""The kinds, in the order in which they are applied."""
