"""A record of the pictures that a model was trained on: eight bytes per picture, from its digest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["are_among", "short_digests"]


def short_digests(digests: Sequence[bytes | None]) -> NDArray[np.uint64]:
    """Return the first eight bytes of each digest as sorted, unique numbers.

    The probability that two of a million different pictures have the same number is one in 40 million.

    Examples
    --------
    >>> short_digests([bytes(range(16)), None, bytes(range(16))])
    array([506097522914230528], dtype=uint64)
    """
    return np.unique(_numbers([digest for digest in digests if digest is not None]))


def are_among(digests: Sequence[bytes | None], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return for each picture whether it is among the known ones.

    Examples
    --------
    >>> are_among([bytes(range(16)), None], short_digests([bytes(range(16))]))
    array([ True, False])
    """
    readable = np.array([digest is not None for digest in digests], dtype=bool)
    found = np.zeros(len(digests), dtype=bool)
    found[readable] = np.isin(_numbers([digest for digest in digests if digest is not None]), known)
    return found


def _numbers(digests: Sequence[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(digest[:8] for digest in digests), dtype="<u8").astype(np.uint64)
