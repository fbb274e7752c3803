"""Adam as one fused TensorFlow operation per variable, with a learning rate per variable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["Adam", "learning_rate_factors"]

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7


class Adam:
    """Adam (Kingma & Ba 2015), with the same update as in Keras, in a twelfth of the operations.

    Parameters
    ----------
    variables : sequence of keras.Variable
        The variables to train.
    scales : sequence of float
        The learning rate of each variable as a multiple of the common one.
    """

    def __init__(self, variables: Sequence[Any], scales: Sequence[float]) -> None:
        import tensorflow as tf

        self.learning_rate = tf.Variable(0.0)
        self._variables = variables
        self._scales = scales
        self._powers = [tf.Variable(1.0), tf.Variable(1.0)]
        self._moments = [[tf.Variable(tf.zeros(v.shape)) for v in variables] for _ in (BETA_1, BETA_2)]

    @property
    def variables(self) -> list[Any]:
        """All variables of the state: powers of the decay rates, first and second moments."""
        return [*self._powers, *self._moments[0], *self._moments[1]]

    def reset(self) -> None:
        """Reset the state of all steps made so far."""
        for power in self._powers:
            power.assign(1.0)
        for moment in [*self._moments[0], *self._moments[1]]:
            moment.assign(moment * 0)

    def apply(self, gradients: Sequence[Any]) -> None:
        """Update each variable by its gradient; variables without a gradient are not changed."""
        import tensorflow as tf

        for power, beta in zip(self._powers, (BETA_1, BETA_2), strict=True):
            power.assign(power * beta)
        for gradient, variable, scale, first, second in zip(
            gradients, self._variables, self._scales, *self._moments, strict=True
        ):
            if gradient is None or scale == 0:
                continue
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=self._powers[0],
                beta2_power=self._powers[1],
                lr=self.learning_rate * scale,
                beta1=BETA_1,
                beta2=BETA_2,
                epsilon=EPSILON,
                grad=tf.convert_to_tensor(gradient),
            )


def learning_rate_factors(model: Any) -> list[float]:
    """Return the learning rate of each of ``model.trainable_variables``, as a multiple of the common one.

    It is the attribute ``learning_rate_factor`` of the variable's layer, or else of the model that contains
    the layer. If neither has it, it is 1.

    Parameters
    ----------
    model : keras.Model
    """
    factors = dict(_factors(model, 1.0))
    return [factors.get(id(variable), 1.0) for variable in model.trainable_variables]


def _factors(layer: Any, inherited: float) -> Iterator[tuple[int, float]]:
    factor = getattr(layer, "learning_rate_factor", inherited)
    for variable in layer.trainable_variables:
        yield id(variable), factor
    for inner in getattr(layer, "layers", ()):
        yield from _factors(inner, factor)
