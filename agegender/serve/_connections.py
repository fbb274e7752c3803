"""uvicorn's connections with added limits on slow request heads, slow readers and idle connections.

A connection is closed if it does not send a request's head in time, or if it does not read what was written
to it. If too many connections are open, the one that the service has waited for longest is closed. What remains
of the body of a request that was refused is dropped, within limits (`_lingering`).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from agegender.serve import _lingering
from agegender.serve._lingering import ClosingTransport

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

    transport: Any
    _waiting: asyncio.TimerHandle | None = None
    _n_waited_for = _most_waited_for = 0
    _is_broken = False

    def connection_made(self, transport: Any) -> None:
        """Wait for a request's head for a limited time."""
        super().connection_made(ClosingTransport(transport, self))  # type: ignore[arg-type]
        self._wait(HEAD_SECONDS, HEAD_BYTES)
        if len(self.connections) > MAX_CONNECTIONS:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Receive bytes, up to the largest size of a head or of the rest of a refused body."""
        if self._waiting is not None:
            self._n_waited_for += len(data)
        super().data_received(data)
        if self._waiting is not None and self._n_waited_for > self._most_waited_for:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Start to wait for the rest of a head."""
        super().on_message_begin()
        if self._waiting is None:
            self._wait(HEAD_SECONDS, HEAD_BYTES)

    def on_headers_complete(self) -> None:
        """Stop waiting; refuse a request that is sent before the previous one was answered (pipelining).

        uvicorn reads such requests without a limit, however slowly the client reads the answers.
        """
        self._end_waiting()
        if self.cycle is not None and not self.cycle.response_complete:
            raise ValueError("requests are pipelined")
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the rest of a body that was refused, if the connection is kept for the next request."""
        super().on_response_complete()
        if self.cycle.more_body and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._wait(_lingering.LINGER_SECONDS, _lingering.LINGER_BYTES)

    def on_message_complete(self) -> None:
        """Wait for the next request after the rest of a refused body."""
        super().on_message_complete()
        if self._waiting is not None:
            self.cycle.more_body = False
            self._end_waiting()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, and end the request that it broke."""
        self._is_broken = True
        super().send_400_response(msg)

    def may_be_sent_more(self) -> bool:
        """Return whether a part of a request has not arrived."""
        return self._is_broken or (self.cycle is not None and self.cycle.more_body)

    def stop_answering(self) -> None:
        """End the request, whose answer cannot be written any more."""
        self._end_waiting()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the timer when the connection is lost."""
        self._end_waiting()
        super().connection_lost(exc)

    def _wait(self, seconds: float, n_bytes: int) -> None:
        self._n_waited_for, self._most_waited_for = 0, n_bytes
        self._waiting = self.loop.call_later(seconds, self.transport.abort)

    def _end_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _make_room(self) -> None:
        waiting = (one for one in self.connections if isinstance(one, Connection))
        longest = min(waiting, key=Connection._waits_until)
        longest._end_waiting()  # it closes a moment later, and must not be chosen again
        longest.transport.abort()

    def _waits_until(self) -> float:
        if self._waiting is not None:
            return self._waiting.when()
        return self.transport.lingers_until or float("inf")


class LiveConnection(_SlowReader, WebSocketsSansIOProtocol):
    """A WebSocket connection."""

    _pong = b""

    def handle_ping(self) -> None:
        """Answer pings; while the client does not read, only the answer to the newest is kept (RFC 6455, 5.5.3).

        uvicorn stores every answer, as many as a client that never reads sends pings for.
        """
        answers = self.conn.data_to_send()
        if self.writable.is_set():
            self.transport.write(b"".join(answers))
        elif answers:
            self._pong = answers[-1]

    def resume_writing(self) -> None:
        """Write the answer that was kept."""
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong:
            self.transport.write(pong)

    def may_be_sent_more(self) -> bool:
        """Return whether the client has not said that it sends nothing more."""
        return self.conn.close_rcvd is None

    def stop_answering(self) -> None:
        """Send no more answers."""
        self.disconnected = True


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
