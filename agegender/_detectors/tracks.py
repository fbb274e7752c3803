"""Following faces through the frames of a video, with averaged predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Reading", "Track", "Tracker"]

_LEAST_OVERLAP = 0.3
# Number of frames without the face after which its track ends.
_PATIENCE = 3
# The minimum weight of a new reading, so that long tracks still follow changes.
_LEAST_WEIGHT = 0.1


@dataclass(frozen=True)
class Reading:
    """The prediction for one face in one frame.

    It has a box (left, top, width, height, in pixels), three ages in years, and the probability of the second
    gender.
    """

    box: tuple[float, float, float, float]
    age: float
    age_low: float
    age_high: float
    second: float


class Track:
    """One face through the frames in which it was found.

    Attributes
    ----------
    number : int
        Counted from 0 in the order of appearance.
    reading : Reading
        The last box, and averages of the numbers: plain averages at first, later with a weight of 0.1 for the
        latest.
    n_readings, n_missed : int
        Number of frames in which it was found, and number of frames since then in which it was not found.
    """

    def __init__(self, number: int, reading: Reading) -> None:
        self.number = number
        self.reading = reading
        self.n_readings = 1
        self.n_missed = 0

    def add(self, new: Reading) -> None:
        """Add the reading of a later frame."""
        self.n_readings, self.n_missed = self.n_readings + 1, 0
        weight, old = max(_LEAST_WEIGHT, 1 / self.n_readings), self.reading
        smooth = {
            name: (1 - weight) * getattr(old, name) + weight * getattr(new, name)
            for name in ("age", "age_low", "age_high", "second")
        }
        self.reading = Reading(new.box, **smooth)


class Tracker:
    """Follow faces from frame to frame by the overlap of their boxes (intersection over union).

    Attributes
    ----------
    tracks : list of Track
        The current tracks.
    n_seen : int
        Number of tracks so far.
    """

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.n_seen = 0

    def update(self, readings: Sequence[Reading]) -> list[Track]:
        """Add the faces of the next frame.

        Parameters
        ----------
        readings : sequence of Reading

        Returns
        -------
        list of Track
            The tracks of the faces in this frame.
        """
        pairs = self._pairs(readings)
        for track in self.tracks:
            track.n_missed += 1
        for number, reading in enumerate(readings):
            if number in pairs:
                pairs[number].add(reading)
            else:
                self.tracks.append(Track(self.n_seen, reading))
                self.n_seen += 1
        self.tracks = [track for track in self.tracks if track.n_missed <= _PATIENCE]
        return [track for track in self.tracks if track.n_missed == 0]

    def _pairs(self, readings: Sequence[Reading]) -> dict[int, Track]:
        """Assign each reading to the track with the largest overlap, best pairs first."""
        if not readings or not self.tracks:
            return {}
        overlaps = _overlaps([reading.box for reading in readings], [t.reading.box for t in self.tracks])
        pairs: dict[int, Track] = {}
        for _ in range(min(overlaps.shape)):
            row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
            if overlaps[row, column] < _LEAST_OVERLAP:
                break
            pairs[int(row)] = self.tracks[int(column)]
            overlaps[row, :] = overlaps[:, column] = -1
        return pairs


def _overlaps(boxes: Sequence[tuple[float, ...]], others: Sequence[tuple[float, ...]]) -> NDArray[np.float64]:
    """Return the intersection over union of each box with each of the others."""
    a, b = np.array(boxes)[:, np.newaxis], np.array(others)[np.newaxis]
    low, high = (
        np.maximum(a[..., :2], b[..., :2]),
        np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]),
    )
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    return np.asarray(shared / (np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - shared))
