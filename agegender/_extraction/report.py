"""What an extraction did: its counts and its failures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

__all__ = ["ExtractionReport", "Failure"]


@dataclass(frozen=True, order=True)
class Failure:
    """A picture that could not be embedded: its row in X, its name, what is wrong with it."""

    index: int
    picture: str
    reason: str


@dataclass
class ExtractionReport:
    """What the last ``transform`` did.

    Attributes
    ----------
    n_images : int
        Pictures asked for.
    n_unique : int
        Different pictures among them, by content.
    n_cached : int
        Different pictures whose rows, all views of them, came from the cache.
    n_computed : int
        Different pictures that passed through a network, in one view at least.
    n_computed_by : dict of str to int
        The same for each network, by its name.
    failures : list of Failure
        Pictures that could not be read (index, picture, reason), by index.
    seconds : float
        Wall-clock time.
    """

    n_images: int = 0
    n_unique: int = 0
    n_cached: int = 0
    n_computed: int = 0
    n_computed_by: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    def followed_by(self, other: ExtractionReport) -> ExtractionReport:
        """Return the report of two calls as one on the pictures of both, one after the other."""
        shifted = [replace(failure, index=failure.index + self.n_images) for failure in other.failures]
        return ExtractionReport(
            n_images=self.n_images + other.n_images,
            n_unique=self.n_unique + other.n_unique,
            n_cached=self.n_cached + other.n_cached,
            n_computed=self.n_computed + other.n_computed,
            n_computed_by=dict(Counter(self.n_computed_by) + Counter(other.n_computed_by)),
            failures=self.failures + shifted,
            seconds=self.seconds + other.seconds,
        )
