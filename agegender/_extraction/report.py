"""The report of an extraction: counts and failures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

__all__ = ["ExtractionReport", "Failure"]


@dataclass(frozen=True, order=True)
class Failure:
    """A picture that could not be embedded: its index in X, its name and the reason.

    See Also
    --------
    agegender.extractor.ExtractionReport : The report of an extraction.
    """

    index: int
    picture: str
    reason: str


@dataclass
class ExtractionReport:
    """The report of the last ``transform``.

    Attributes
    ----------
    n_images : int
        Number of pictures.
    n_unique : int
        Number of different pictures, by content.
    n_cached : int
        Number of different pictures whose rows, in all views, came from the cache.
    n_computed : int
        Number of different pictures on which a network was run, in at least one view.
    n_computed_by : dict of str to int
        The same per network, by its name.
    failures : list of Failure
        Pictures that could not be read (index, picture, reason), by index.
    seconds : float
        Wall-clock time.

    See Also
    --------
    agegender.extractor.Failure : A picture that could not be embedded.
    agegender.EmbeddingExtractor : From pictures to embeddings.
    """

    n_images: int = 0
    n_unique: int = 0
    n_cached: int = 0
    n_computed: int = 0
    n_computed_by: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    def followed_by(self, other: ExtractionReport, start: int | None = None) -> ExtractionReport:
        """Return the combined report of two calls on consecutive pictures.

        The first picture of the other call has the index `start`; if None, as many as this report has pictures.
        """
        before = self.n_images if start is None else start
        shifted = [replace(failure, index=failure.index + before) for failure in other.failures]
        return ExtractionReport(
            n_images=self.n_images + other.n_images,
            n_unique=self.n_unique + other.n_unique,
            n_cached=self.n_cached + other.n_cached,
            n_computed=self.n_computed + other.n_computed,
            n_computed_by=dict(Counter(self.n_computed_by) + Counter(other.n_computed_by)),
            failures=self.failures + shifted,
            seconds=self.seconds + other.seconds,
        )

    def beside(self, other: ExtractionReport) -> ExtractionReport:
        """Return the combined report of two calls on the same pictures with other networks."""
        known = {failure.index for failure in self.failures}
        return ExtractionReport(
            n_images=self.n_images,
            n_unique=self.n_unique,
            n_cached=min(self.n_cached, other.n_cached),
            n_computed=max(self.n_computed, other.n_computed),
            n_computed_by=dict(Counter(self.n_computed_by) + Counter(other.n_computed_by)),
            failures=sorted(self.failures + [each for each in other.failures if each.index not in known]),
            seconds=self.seconds + other.seconds,
        )
