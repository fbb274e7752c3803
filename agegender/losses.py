"""Losses of an age distribution: small functions of the true ages and the predicted probabilities.

Each takes ``ages`` (batch,), ``probabilities`` (batch, max_age + 1), both Keras tensors, and ``sigma``, the
width in years of a label distribution, and returns one loss per row. To add a loss, write a function with the
decorator ``@_register(name)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["AGE_LOSSES", "expected_age_error", "gender_loss"]

AgeLoss = Callable[[Any, Any, float], Any]

AGE_LOSSES: dict[str, AgeLoss] = {}
"""The values of `age_loss`: functions from ages, probabilities (n_samples, n_ages) and sigma to one loss per
sample."""

# Smaller than any probability that matters, larger than float32 rounds to zero in 1 - p.
TINY = 1e-7


def _register(name: str) -> Callable[[AgeLoss], AgeLoss]:
    def register(loss: AgeLoss) -> AgeLoss:
        AGE_LOSSES[name] = loss
        return loss

    return register


@_register("categorical_crossentropy")
def categorical_crossentropy(ages: Any, probabilities: Any, sigma: float) -> Any:
    """−log p of the true age, rounded to whole years; `sigma` is not used."""
    from keras import ops

    n_ages = probabilities.shape[-1]
    target = ops.one_hot(ops.cast(ops.floor(ages + 0.5), "int32"), n_ages)
    return -ops.sum(target * _log(probabilities), axis=-1)


@_register("label_distribution")
def label_distribution(ages: Any, probabilities: Any, sigma: float) -> Any:
    """Cross-entropy to a Gaussian of width `sigma` years around the true age (Gao et al. 2017).

    Its gradient is that of the paper's Kullback–Leibler divergence. Unlike the paper's, the Gaussian is narrower
    close to the youngest and the oldest class (a quarter of the years up to the end, plus a quarter), so that its
    mean is the label: a Gaussian of two years that is cut off at 0 makes babies of one year two years old.

    References
    ----------
    B.-B. Gao et al., Deep Label Distribution Learning with Label Ambiguity, IEEE TIP 26(6), 2017.
    """
    from keras import ops

    to_an_end = ops.minimum(ages, probabilities.shape[-1] - 1 - ages)
    widths = ops.minimum(sigma, (ops.maximum(to_an_end, 0.0) + 1.0) / 4.0)
    distance = (_grid(probabilities) - ops.expand_dims(ages, -1)) / ops.expand_dims(widths, -1)
    target = ops.softmax(-0.5 * ops.square(distance), axis=-1)
    return -ops.sum(target * _log(probabilities), axis=-1)


@_register("mean_variance")
def mean_variance(ages: Any, probabilities: Any, sigma: float) -> Any:
    """Cross-entropy, plus 0.1 · squared error of the mean, plus 0.05 · variance (Pan et al. 2018).

    `sigma` is not used.

    References
    ----------
    H. Pan et al., Mean-Variance Loss for Deep Age Estimation from a Face, CVPR 2018 (λ₁ = 0.2 on half the squared
    error, λ₂ = 0.05).
    """
    from keras import ops

    mean = _expectation(probabilities)
    deviation = _grid(probabilities) - ops.expand_dims(mean, -1)
    variance = ops.sum(probabilities * ops.square(deviation), axis=-1)
    penalty = 0.1 * ops.square(mean - ages) + 0.05 * variance
    return categorical_crossentropy(ages, probabilities, sigma) + penalty


@_register("ordinal")
def ordinal(ages: Any, probabilities: Any, sigma: float) -> Any:
    """Binary cross-entropies of "older than k years", one per threshold k, summed; `sigma` is not used.

    P(older than k) is the tail of the softmax. So the probabilities are always consistent, which CORAL achieves
    by shared weights, and the output of the head is still a distribution over ages.

    References
    ----------
    W. Cao, V. Mirjalili, S. Raschka, Rank consistent ordinal regression for neural networks with application to
    age estimation, Pattern Recognition Letters 140, 2020.
    """
    from keras import ops

    below = ops.cumsum(probabilities, axis=-1)[:, :-1]
    thresholds = _grid(probabilities)[:, :-1]
    older = ops.clip(ops.expand_dims(ages, -1) - thresholds, 0.0, 1.0)
    return -ops.sum(older * _log(1.0 - below) + (1.0 - older) * _log(below), axis=-1)


def expected_age_error(ages: Any, probabilities: Any) -> Any:
    """Absolute error of the expected age, in years (the L1 term of Gao et al. 2018, DLDL-v2).

    See Also
    --------
    agegender.losses.gender_loss : Cross-entropy of the gender.
    """
    from keras import ops

    return ops.abs(_expectation(probabilities) - ages)


def gender_loss(genders: Any, probabilities: Any) -> Any:
    """−log p of the true gender, `genders` being class indices.

    See Also
    --------
    agegender.losses.expected_age_error : Absolute error of the mean age.
    """
    from keras import ops

    return -ops.sum(ops.one_hot(genders, probabilities.shape[-1]) * _log(probabilities), axis=-1)


def _grid(probabilities: Any) -> Any:
    from keras import ops

    return ops.expand_dims(ops.arange(probabilities.shape[-1], dtype="float32"), 0)


def _expectation(probabilities: Any) -> Any:
    from keras import ops

    return ops.sum(probabilities * _grid(probabilities), axis=-1)


def _log(probabilities: Any) -> Any:
    from keras import ops

    return ops.log(ops.clip(probabilities, TINY, 1.0))
