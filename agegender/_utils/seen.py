"""Which pictures a model was trained on, remembered by eight bytes of each content's digest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["are_among", "short_digests"]


def short_digests(digests: Sequence[bytes | None]) -> NDArray[np.uint64]:
    """Return the first eight bytes of each digest as a number, sorted, each once.

    Two different pictures among a million have the same number with a probability of one in 40 million.

    Examples
    --------
    >>> short_digests([bytes(range(16)), None, bytes(range(16))])
    array([506097522914230528], dtype=uint64)
    """
    return np.unique(_numbers([digest for digest in digests if digest is not None]))


def are_among(digests: Sequence[bytes | None], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell of each picture whether it is among those known.

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
