"""The weights of distributions in a mixture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["mixture_weights"]

PRIOR_PICTURES = 10.0
"""Prior of equal weights, in pictures per model; it limits the influence of small held-out sets."""

_STEPS = 500
_ENOUGH = 1e-7


def mixture_weights(likelihoods: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the weights with the smallest held-out loss: the mean −log of the mixture's probability of the truth.

    The loss is convex in the weights, and the steps of expectation maximisation decrease it.

    Parameters
    ----------
    likelihoods : ndarray of shape (n_samples, n_models)
        The probability of the truth, per picture and model.

    Returns
    -------
    ndarray of shape (n_models,)
        Non-negative, with the sum 1.

    Examples
    --------
    >>> mixture_weights(np.tile([0.5, 0.1], (1000, 1))).round(2)
    array([0.99, 0.01])
    """
    likelihoods = np.maximum(np.asarray(likelihoods, np.float64), 1e-12)
    n_models = likelihoods.shape[1]
    weights = np.full(n_models, 1 / n_models)
    for _ in range(_STEPS):
        share = likelihoods * weights
        counts = (share / share.sum(axis=1, keepdims=True)).sum(axis=0) + PRIOR_PICTURES
        after = counts / counts.sum()
        if np.abs(after - weights).max() < _ENOUGH:
            return after
        weights = after
    return weights
