"""Limits of what one service handles at the same time, and the counters that enforce them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from agegender.serve._problems import Problem

__all__ = ["Admission", "Limits", "Slot"]


@dataclass(frozen=True)
class Limits:
    """Limits of a service; a request that exceeds one is refused before it uses memory.

    Parameters
    ----------
    max_body : int, default=33554432
        Bytes per request body (413).
    max_pictures : int, default=32
        Pictures per request (422).
    max_pixels : int, default=32000000
        Largest width × height in a picture's header (422). Decoding takes up to 12 bytes per pixel.
    max_memory : int, default=268435456
        Bytes of all request bodies in memory at the same time (503).
    max_requests : int, default=128
        Requests at the same time (503).
    max_requests_per_client : int, default=64
        Requests at the same time from one client: one API key or, if there are no keys, one address (429).
    max_live : int, default=8
        Live cameras at the same time (503).
    max_frame : int, default=2097152
        Bytes per live frame.
    max_batch : int, default=8
        Pictures that are predicted in one call.
    max_wait : float, default=0.005
        Seconds that a picture waits for other arriving pictures, to be predicted together with them.
    upload_seconds : float, default=30.0
        A body that has not arrived after this time, or of which no byte arrives for a third of it, is refused
        (408).
    predict_seconds : float, default=60.0
        A request that is not answered after this time is refused (503).

    Raises
    ------
    ValueError
        If a limit is not above 0.

    See Also
    --------
    agegender.serve.create_app : The service.

    Examples
    --------
    >>> from agegender.serve import Limits
    >>> Limits(max_pictures=4).max_pictures
    4
    """

    max_body: int = 32 * 2**20
    max_pictures: int = 32
    max_pixels: int = 32_000_000
    max_memory: int = 256 * 2**20
    max_requests: int = 128
    max_requests_per_client: int = 64
    max_live: int = 8
    max_frame: int = 2 * 2**20
    max_batch: int = 8
    max_wait: float = 0.005
    upload_seconds: float = 30.0
    predict_seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(f"Limits: {field.name}={value!r} should be above 0.")


class Slot:
    """One request in the service, with the number of bytes that it holds in memory."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = 0
        self._arriving = True

    def hold(self, n_bytes: int) -> None:
        """Count bytes that have arrived.

        Raises
        ------
        Problem
            If all requests together hold too many bytes.
        """
        limit = self._admission.limits.max_memory
        if self._admission.held + n_bytes > limit:
            raise Problem(
                "busy",
                f"The service holds {limit:,} bytes of pictures already; send this request again later.",
                retry_after=1,
            )
        self._held += n_bytes
        self._admission.held += n_bytes

    def arrived(self) -> None:
        """Mark the request as completely received, so that no picture waits for it any more."""
        if self._arriving:
            self._arriving = False
            self._admission.n_arriving -= 1

    def leave(self) -> None:
        """Remove the request from the counters."""
        self.arrived()
        self._admission.held -= self._held
        self._held = 0


class Admission:
    """Counts the requests that are in the service.

    Attributes
    ----------
    n_requests, n_arriving, n_live, held : int
        Number of requests, of requests whose body is still arriving, of live cameras, and of bytes of all
        bodies.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.n_requests = self.n_arriving = self.n_live = self.held = 0
        self._of_client: Counter[str] = Counter()

    @contextmanager
    def request(self, client: str) -> Iterator[Slot]:
        """Accept a request.

        Raises
        ------
        Problem
            If there are too many requests, of all clients or of this client.
        """
        limits = self.limits
        if self._of_client[client] >= limits.max_requests_per_client:
            raise Problem(
                "too-many-requests",
                f"This client has {limits.max_requests_per_client} requests running; wait for their answers.",
                retry_after=1,
            )
        if self.n_requests >= limits.max_requests:
            raise Problem(
                "busy",
                f"{limits.max_requests} requests are running; send this one again later.",
                retry_after=1,
            )
        self.n_requests += 1
        self.n_arriving += 1
        self._of_client[client] += 1
        slot = Slot(self)
        try:
            yield slot
        finally:
            slot.leave()
            self.n_requests -= 1
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]

    @contextmanager
    def live(self) -> Iterator[None]:
        """Accept a live camera.

        Raises
        ------
        Problem
            If there are too many live cameras.
        """
        if self.n_live >= self.limits.max_live:
            raise Problem(
                "busy",
                f"{self.limits.max_live} cameras are live already; try again when one has stopped.",
                retry_after=10,
            )
        self.n_live += 1
        try:
            yield
        finally:
            self.n_live -= 1
