"""uvicorn's connections with added limits on slow request heads, slow readers and idle connections.

A connection is closed if it does not send a request's head in time, or if it does not read what was written
to it. If too many connections are open, the one that the service has waited for longest is closed.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

__all__ = ["MAX_CONNECTIONS", "Connection", "LiveConnection", "raise_file_limit"]

HEAD_SECONDS = 10.0
SEND_SECONDS = 20.0
HEAD_BYTES = 64 * 2**10
MAX_CONNECTIONS = 2000
_SPARE_FILES = 200


class _SlowReader(asyncio.Protocol):
    """Closes a connection whose client does not read."""

    transport: asyncio.Transport
    _unread: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """Start the timer, because the client has not read what was written."""
        super().pause_writing()
        if self._unread is None:
            self._unread = asyncio.get_running_loop().call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer."""
        super().resume_writing()
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the timer when the connection is lost."""
        self._read_on()
        super().connection_lost(exc)

    def _read_on(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class Connection(_SlowReader, HttpToolsProtocol):
    """An HTTP connection."""

    _waiting: asyncio.TimerHandle | None = None
    _n_head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Wait for a request's head for a limited time."""
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > MAX_CONNECTIONS:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Receive bytes, up to the largest size of a head."""
        if self._waiting is not None:
            self._n_head_bytes += len(data)
        super().data_received(data)
        if self._waiting is not None and self._n_head_bytes > HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Start to wait for the rest of a head."""
        super().on_message_begin()
        if self._waiting is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Stop waiting; refuse a request that is sent before the previous one was answered (pipelining).

        uvicorn reads such requests without a limit, however slowly the client reads the answers.
        """
        self._end_waiting()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            raise ValueError("requests are pipelined")
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the timer when the connection is lost."""
        self._end_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._n_head_bytes = 0
        self._waiting = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _end_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _make_room(self) -> None:
        waiting = (one for one in self.connections if isinstance(one, Connection))
        longest = min(waiting, key=lambda one: one._waiting.when() if one._waiting else float("inf"))
        longest._end_waiting()  # it closes a moment later, and must not be chosen again
        longest.transport.abort()


class LiveConnection(_SlowReader, WebSocketsSansIOProtocol):
    """A WebSocket connection."""


def raise_file_limit() -> None:
    """Raise this process' limit of open files to what the connections need, if the system allows it."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < wanted:
            logging.getLogger("agegender.serve").warning(
                "Only %d files may be open; %d connections need more (ulimit -n).", most, MAX_CONNECTIONS
            )
