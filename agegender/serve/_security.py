"""Access control: host names, origins and API keys; and security headers for browsers."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agegender.serve._metrics import Metrics
from agegender.serve._problems import Problem

__all__ = ["CLIENT", "Guard", "Keys", "is_loopback", "read_keys"]

CLIENT = "agegender.client"
"""The name of the client in a request's scope."""

_LEAST_KEY = 16
_OPEN = ("/v1/problems/", "/v1/live")  # a live session sends its key in its first message

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "media-src 'self' blob:; worker-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), display-capture=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Keys:
    """API keys, compared in constant time.

    Parameters
    ----------
    keys : sequence of str
        If empty, everybody has access.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._keys = [key.encode() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._keys)

    def client(self, given: str, address: str) -> str:
        """Return a name for the client with a key or, if there are no keys, with this address.

        Raises
        ------
        Problem
            If the key is not one of them.
        """
        if not self._keys:
            return address
        matches = [hmac.compare_digest(key, given.encode()) for key in self._keys]
        if not any(matches):
            raise Problem("key", "Send a key of this service's as the header 'Authorization: Bearer KEY'.")
        return f"key {matches.index(True)}"


def read_keys(path: Path) -> list[str]:
    """Return the keys in a file, one per line; empty lines and lines that begin with # are ignored.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it contains no key, or a key that is too short.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r} with API keys.")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError(f"{path} holds no API key; write one per line.")
    for number, key in enumerate(keys, 1):
        if len(key) < _LEAST_KEY or not key.isascii() or len(key.split()) > 1:
            raise ValueError(
                f"{path}: key {number} should have at least {_LEAST_KEY} characters, ASCII and no spaces; "
                "python -c 'import secrets; print(secrets.token_urlsafe())' makes one."
            )
    return keys


def is_loopback(host: str) -> bool:
    """Return whether a host name or address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """ASGI middleware that refuses other hosts, other sites' pages and wrong keys before anything is read.

    A name in the `Host` header that is neither an address, nor localhost, nor listed comes from a page whose domain
    was pointed at this machine (DNS rebinding).

    Parameters
    ----------
    app : ASGI application
    keys : Keys
    hosts : collection of str
        Host names that are served besides localhost and addresses.
    paths : collection of str
        The paths that are counted under their own names.
    metrics : Metrics
    """

    def __init__(
        self, app: ASGIApp, *, keys: Keys, hosts: Collection[str], paths: Collection[str], metrics: Metrics
    ) -> None:
        self._app = app
        self._keys = keys
        self._hosts = frozenset(host.lower() for host in hosts)
        self._paths = frozenset(paths)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        sending = self._watched(scope, send)
        try:
            self._check(scope, Headers(scope=scope))
        except Problem as problem:
            self._metrics.refusals.labels(problem.name).inc()
            await _refuse(problem, scope, receive, sending)
            return
        await self._app(scope, receive, sending)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._is_served(host):
            raise Problem(
                "host", f"Host {host[:100]!r} is not served here; --allow-host NAME lets a name in."
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Problem("origin", f"A page of {origin[:100]!r} may not use the service of {host[:100]!r}.")
        address = scope["client"][0] if scope.get("client") else "unknown"
        path = scope["path"]
        if (path.startswith("/v1/") and not path.startswith(_OPEN)) or path == "/metrics":
            scope[CLIENT] = self._keys.client(_sent_key(headers), address)
        else:
            scope[CLIENT] = address

    def _is_served(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".").lower()
            if name == "localhost" or name in self._hosts:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _watched(self, scope: Scope, send: Send) -> Send:
        """Add the security headers to a response, and count it."""
        path = scope["path"] if scope["path"] in self._paths else "other"

        async def watched(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                self._metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        return watched


def _sent_key(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


async def _refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await problem.response()(scope, receive, send)
        return
    await receive()  # the request to connect
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return

    async def as_websocket(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    await problem.response()({**scope, "type": "http", "method": "GET"}, receive, as_websocket)
