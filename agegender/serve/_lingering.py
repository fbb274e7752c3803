"""Close a connection so that the client can read what was written to it.

If a socket is closed while bytes of the client are unread, or if bytes arrive later, the system resets the
connection, and the client may lose an answer that it has not read yet. A refusal is often written before the body
of its request has arrived. Therefore only the writing side is closed at first, and what still arrives is dropped
until the client closes its side, within limits of time and bytes. It takes no memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol

__all__ = ["LINGER_BYTES", "LINGER_SECONDS", "ClosingTransport"]

LINGER_SECONDS = 5.0
LINGER_BYTES = 64 * 2**20


class _Owner(Protocol):
    """A connection that is closed in this way."""

    def may_be_sent_more(self) -> bool:
        """Return whether the client may still be sending."""

    def stop_answering(self) -> None:
        """Write nothing more."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""

    def pause_writing(self) -> None:
        """Wait until the client reads."""

    def resume_writing(self) -> None:
        """Write again."""


class ClosingTransport:
    """A transport whose `close` drops what the client still sends before the socket is closed.

    Parameters
    ----------
    transport : asyncio.Transport
    owner : _Owner
        The connection; it decides whether its client may still be sending.
    """

    def __init__(self, transport: asyncio.Transport, owner: _Owner) -> None:
        self._transport = transport
        self._owner = owner
        self._dropping: _Dropping | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def lingers_until(self) -> float | None:
        """The time of the event loop at which dropping ends; None if nothing is dropped."""
        return None if self._dropping is None or self._transport.is_closing() else self._dropping.until

    def set_protocol(self, protocol: Any) -> None:
        """Hand the transport to another connection (WebSocket)."""
        self._owner = protocol
        self._transport.set_protocol(protocol)

    def is_closing(self) -> bool:
        """Return whether nothing more can be written."""
        return self._dropping is not None or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Write, unless the writing side is closed."""
        if self._dropping is None:
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection when the client has read what was written, or has had the time to."""
        if self._dropping is not None:
            return
        if self._transport.is_closing() or not self._owner.may_be_sent_more():
            self._transport.close()
            return
        self._dropping = _Dropping(self._transport, self._owner)
        self._owner.stop_answering()


class _Dropping(asyncio.Protocol):
    """Reads and drops what a client sends until it closes its side, or for so long."""

    def __init__(self, transport: asyncio.Transport, owner: _Owner) -> None:
        self._transport = transport
        self._n_bytes = 0
        self._end = asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)
        self.until = self._end.when()
        self._owner = owner
        transport.set_protocol(self)
        transport.resume_reading()
        with contextlib.suppress(OSError):  # reset by the client
            transport.write_eof()

    def data_received(self, data: bytes) -> None:
        """Drop bytes."""
        self._n_bytes += len(data)
        if self._n_bytes > LINGER_BYTES:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the connection that it has ended."""
        self._end.cancel()
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Tell the connection that the client does not read."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Tell the connection that the client reads again."""
        self._owner.resume_writing()
