"""Metrics of the service for Prometheus."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["CONTENT_TYPE", "FOLDER", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable of the folder in which several workers share their counts."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Metrics of one application; with several workers, the metrics of all workers are shown."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "agegender_requests", "Requests answered.", ["path", "status"], registry=registry
        )
        self.refusals = Counter(
            "agegender_refusals", "Requests refused, by the kind of problem.", ["problem"], registry=registry
        )
        self.pictures = Counter("agegender_pictures", "Pictures predicted or embedded.", registry=registry)
        self.faces = Counter("agegender_faces", "Faces found.", registry=registry)
        self.frames = Counter("agegender_live_frames", "Live frames.", ["outcome"], registry=registry)
        self.running = Gauge(
            "agegender_running", "At this moment.", ["what"], registry=registry, multiprocess_mode="livesum"
        )
        self.batch = Histogram(
            "agegender_batch_pictures",
            "Pictures predicted in one call.",
            registry=registry,
            buckets=(1, 2, 4, 8, 16, 32),
        )
        self._seconds = Histogram(
            "agegender_step_seconds", "Seconds by step.", ["step"], registry=registry, buckets=_SECONDS
        )

    def seconds(self, step: str, value: float) -> None:
        """Record the duration of a step: "upload", "check", "wait" or "predict"."""
        self._seconds.labels(step).observe(value)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Measure and record the duration of the code inside."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds(step, time.perf_counter() - started)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        registry = self._registry
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry)
