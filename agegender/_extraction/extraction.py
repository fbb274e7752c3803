"""From pictures to rows with what is resolved: a function of one frozen value and of how a call runs."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, Literal, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from agegender._extraction.crops import warn_of_other_pictures
from agegender._extraction.every_face import EveryFace, Place
from agegender._extraction.framing import FaceFinder, Framing
from agegender._extraction.one_pass import OnePass
from agegender._extraction.report import ExtractionReport
from agegender._extraction.resolved import FacesParameter, Resolved
from agegender._extraction.task import Task
from agegender._machine.devices import DEVICES
from agegender._utils.pictures import check_pictures
from agegender._utils.stored import part_of
from agegender._utils.validation import check_choice
from agegender.cache import EmbeddingCache, Recipe, open_cache
from agegender.faces import Face

__all__ = ["Embedded", "Extraction", "Own", "Running", "is_own"]

Own = Literal["own"]
Rows = TypeVar("Rows")


class Embedded(NamedTuple, Generic[Rows]):
    """Rows, the digest of each picture's content (None if it could not be read), and the face of each row.

    The rows are one array, or one per model. The faces are None if they were not asked for or not searched.
    """

    rows: Rows
    digests: list[bytes | None]
    faces: list[Face | None] | None = None


@dataclass(frozen=True)
class Running:
    """The parameters of an extractor that do not change the numbers of a picture.

    Parameters
    ----------
    device, batch_size, cache, trust_mtime, on_cache_error, n_jobs, on_error, verbose
        As in :class:`agegender.EmbeddingExtractor`.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int = 64
    cache: str | os.PathLike[str] | None = "auto"
    trust_mtime: bool = False
    on_cache_error: Literal["warn", "raise"] = "warn"
    n_jobs: int | None = None
    on_error: str = "raise"
    verbose: int = 0

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Take them from the parameters of an extractor."""
        return cls(
            **{field.name: parameters[field.name] for field in fields(cls) if field.name in parameters}
        )

    def check(self, owner: str) -> None:
        """Raise a ValueError that names the owner and a parameter that is not as described."""
        check_choice("on_error", self.on_error, ("raise", "nan"), owner)
        check_choice("on_cache_error", self.on_cache_error, ("warn", "raise"), owner)
        check_choice("device", self.device, DEVICES, owner)
        if not isinstance(self.batch_size, (int, np.integer)) or self.batch_size < 1:
            raise ValueError(f"{owner}: batch_size={self.batch_size!r} is not an integer of at least 1.")

    def open_cache(self) -> EmbeddingCache | None:
        """Open the cache."""
        return open_cache(self.cache, on_error=self.on_cache_error)


class Extraction:
    """The way from pictures to rows; everything that embeds pictures takes it.

    Parameters
    ----------
    resolved : Resolved
        Everything besides the pictures that determines the rows.
    running : Running
    faces : str, path, Detector or None
        The parameter `faces` for which the detector of `resolved` was chosen.

    Attributes
    ----------
    report : ExtractionReport or None
        That of the last call, or of its part so far; None before the first call.
    """

    def __init__(self, resolved: Resolved, running: Running, faces: FacesParameter) -> None:
        self.resolved = resolved
        self.running = running
        self.faces = faces
        self.report: ExtractionReport | None = None

    @property
    def members(self) -> tuple[Extraction, ...]:
        """Those whose rows it gives: itself. See :class:`agegender._extraction.shared.SharedExtraction`."""
        return (self,)

    def with_running(self, **options: Any) -> Extraction:
        """Return one that runs otherwise and gives the same numbers; options are fields of `Running`."""
        return Extraction(self.resolved, replace(self.running, **options), self.faces)

    def embed(
        self,
        X: Any,
        *,
        out: NDArray[Any] | None = None,
        faces: FacesParameter | Own = "own",
        with_faces: bool = False,
    ) -> Embedded[NDArray[Any]]:
        """Return one row per picture, and the pictures' digests; see `EmbeddingExtractor.embed`."""
        started = time.perf_counter()
        pictures = check_pictures(X)
        rows = self._output(out, len(pictures))
        cache = self.running.open_cache()
        framing = self._framing(self.faces if is_own(faces) else faces, cache)
        if with_faces and framing.finder is not None:
            framing = replace(framing, finder=framing.finder.remembering())
        extract = OnePass(
            pictures,
            self._task(framing),
            cache,
            self.resolved.kept_dtype,
            trust_mtime=self.running.trust_mtime,
            skip_failures=self.running.on_error == "nan",
            verbose=self.running.verbose,
        )
        try:
            extract(rows if self.resolved.has_view_axis else rows[:, np.newaxis])
        finally:
            self._finish(extract.report, started)
        return Embedded(rows, extract.digests, extract.faces() if with_faces else None)

    def embed_blocks(
        self,
        X: Any,
        max_bytes: float,
        *,
        faces: FacesParameter | Own = "own",
        with_faces: bool = False,
    ) -> Iterator[Embedded[NDArray[Any]]]:
        """Yield the result of `embed` in blocks; see `EmbeddingExtractor.embed_blocks`."""
        pictures = check_pictures(X)
        size = self.rows_within(max_bytes, len(pictures))
        before = ExtractionReport()
        for start in range(0, len(pictures), size):
            embedded = self.embed(part_of(pictures, start, start + size), faces=faces, with_faces=with_faces)
            assert self.report is not None
            self.report = before = before.followed_by(self.report)
            yield embedded

    def faces_blocks(
        self, X: Any, max_bytes: float, *, faces: FacesParameter | Own = "own"
    ) -> Iterator[tuple[list[Place], NDArray[Any]]]:
        """Yield places and rows of all faces; see `EmbeddingExtractor.transform_faces_blocks`."""
        started = time.perf_counter()
        if faces is None:
            raise ValueError("faces=None detects no faces; pass a detector, or use transform on face crops.")
        wanted = self.faces if is_own(faces) else faces
        cache = self.running.open_cache()
        framing = self._framing("auto" if wanted is None else wanted, cache)
        assert framing.finder is not None
        every = EveryFace(
            check_pictures(X),
            self._task(framing),
            framing.finder,
            cache,
            self.resolved.kept_dtype,
            trust_mtime=self.running.trust_mtime,
            skip_failures=self.running.on_error == "nan",
            verbose=self.running.verbose,
        )
        shape = (len(self.resolved.views), *self.resolved.features_shape)
        try:
            for places, rows in every.rows(shape, self.row_dtypes[0], self.rows_within(max_bytes)):
                yield places, rows if self.resolved.has_view_axis else rows[:, 0]
        finally:
            self._finish(every.report, started)

    def recipes(self) -> list[Recipe]:
        """Return everything that decides the numbers of a row except the picture, for each network and view."""
        return self._task(self._framing(self.faces, None)).recipes(self.resolved.kept_dtype)

    def check_pictures_are_crops(self, X: Any) -> None:
        """Warn if pictures differ from the face crops of the training; only a few pictures are checked."""
        resolved = self.resolved
        if resolved.finds_faces or resolved.crops is None:
            return

        def finder() -> FaceFinder:
            return FaceFinder(resolved.detector_for("auto", self.faces), self.running.open_cache())

        warn_of_other_pictures(check_pictures(X), resolved.crops, finder)

    @property
    def row_dtypes(self) -> tuple[str, ...]:
        """The allowed dtypes of rows, the default first."""
        dtype = self.resolved.dtype
        if not self.resolved.gives_pixels:
            return tuple(dict.fromkeys([dtype, "float32", "float16"]))
        # Half precision can represent every pixel value exactly, and NaN for a picture that cannot be read.
        return ("float16", "float32") if self.running.on_error == "nan" else ("uint8", "float16", "float32")

    def _task(self, framing: Framing) -> Task:
        return Task(
            sources=self.resolved.sources,
            views=self.resolved.views,
            framing=framing,
            batch_size=int(self.running.batch_size),
            n_jobs=self.running.n_jobs,
            device=self.running.device,
        )

    def _framing(self, faces: FacesParameter, cache: EmbeddingCache | None) -> Framing:
        resolved = self.resolved
        if faces is None:
            return Framing(resolved.crop, source=resolved.framing, draft=resolved.draft)
        detector = resolved.detector_for(faces, self.faces)
        finder = FaceFinder(detector, cache, drafts=resolved.draft is not None)
        return Framing(resolved.crop, finder=finder, template=resolved.template(), draft=resolved.draft)

    def rows_within(self, max_bytes: float, most: int = 2**31) -> int:
        """Return the number of rows in a block of this size."""
        row_bytes = np.dtype(self.row_dtypes[0]).itemsize * math.prod(self.resolved.row_shape)
        return int(max(1, min(most, max_bytes // row_bytes)))

    def _output(self, out: NDArray[Any] | None, n_rows: int) -> NDArray[Any]:
        shape, dtypes = (n_rows, *self.resolved.row_shape), self.row_dtypes
        if out is None:
            return np.empty(shape, dtype=dtypes[0])
        if out.shape != shape or out.dtype.name not in dtypes:
            raise ValueError(
                f"out has shape {out.shape} and type {out.dtype}; it should be {shape}, {' or '.join(dtypes)}."
            )
        return out

    def _finish(self, report: ExtractionReport, started: float) -> None:
        report.failures.sort()
        report.seconds = time.perf_counter() - started
        self.report = report


def is_own(faces: Any) -> bool:
    """Tell whether the parameter of a call stands for that of the extractor."""
    return isinstance(faces, str) and faces == "own"
