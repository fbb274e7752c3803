"""Averages of weights over steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Averages"]

# In the first steps, the average follows faster: after t steps, its decay is at most (1 + t) / (10 + t).
WARM_UP = 10.0


class Averages:
    """Exponential moving averages of a model's weights (Polyak & Juditsky 1992, with exponential weights).

    Parameters
    ----------
    model : keras.Model
    decay : float
        What an average keeps in each step, from 0 to less than 1. If 0, there are no averages.
    """

    def __init__(self, model: Any, decay: float) -> None:
        import tensorflow as tf

        self._decay = decay
        self._weights = list(model.weights) if decay else []
        self._averages = [tf.Variable(tf.zeros(w.shape, w.dtype)) for w in self._weights]
        self._n_steps = tf.Variable(0.0)

    @property
    def variables(self) -> list[Any]:
        """All variables of the state."""
        return [self._n_steps, *self._averages] if self._averages else []

    def reset(self) -> None:
        """Begin with the current weights."""
        self._n_steps.assign(0.0)
        for average, weight in zip(self._averages, self._weights, strict=True):
            average.assign(weight.value)

    def follow(self) -> None:
        """Move all averages towards the weights, after a step."""
        import tensorflow as tf

        if not self._averages:
            return
        n_steps = self._n_steps.assign_add(1.0)
        share = 1 - tf.minimum(self._decay, (1 + n_steps) / (WARM_UP + n_steps))
        for average, weight in zip(self._averages, self._weights, strict=True):
            average.assign_add((weight.value - average) * tf.cast(share, average.dtype))

    def take_over(self) -> None:
        """Set the weights to their averages."""
        for average, weight in zip(self._averages, self._weights, strict=True):
            weight.assign(average)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Set the weights to their averages for a while."""
        import tensorflow as tf

        kept = [tf.identity(weight.value) for weight in self._weights]
        self.take_over()
        try:
            yield
        finally:
            for weight, value in zip(self._weights, kept, strict=True):
                weight.assign(value)
