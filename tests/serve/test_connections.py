"""Connections that keep the service waiting: it goes on answering others, and ends them."""

from __future__ import annotations

import json
import re
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from serving import Served, as_text, blank, serve

from agegender.serve import _connections
from agegender.serve._connections import raise_file_limit


@pytest.fixture
def impatient(model: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(_connections, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(_connections, "SEND_SECONDS", 0.5)
    with serve(model, small_buffers=True) as running:
        yield running


def is_ended(raw: socket.socket) -> bool:
    """Wait until the other side ends the connection."""
    try:
        while raw.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: b"]
)
def test_a_head_that_does_not_end_is_not_waited_for(impatient: Served, sent: bytes) -> None:
    with impatient.connect() as raw:
        raw.sendall(sent)
        assert is_ended(raw)


def test_nor_is_the_second_head_of_a_connection(impatient: Served) -> None:
    with impatient.connect() as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 200")
        raw.sendall(b"GET /hea")
        assert is_ended(raw)


def test_a_head_without_end_is_cut_off(served: Served) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X-Y: %s\r\n" % (b"y" * 1000) * 100_000
    with served.connect() as raw, pytest.raises(ConnectionError):
        raw.sendall(head)


def test_a_thousand_half_open_connections_keep_nobody_waiting(served: Served, portraits: list[bytes]) -> None:
    raise_file_limit()
    with ExitStack() as stack:
        for number in range(1000):
            raw = stack.enter_context(served.connect())
            raw.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n" if number % 2 else b"")
        assert len(served.faces(portraits)) == 2


def test_beyond_the_limit_the_one_that_waited_longest_makes_room(
    model: Any, portraits: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connections, "MAX_CONNECTIONS", 20)
    with serve(model) as served, ExitStack() as stack:
        waiting = [stack.enter_context(served.connect()) for _ in range(40)]
        assert all(is_ended(raw) for raw in waiting[:20])
        assert len(served.faces(portraits)) == 2


def test_slow_uploads_keep_nobody_waiting(served: Served, portraits: list[bytes]) -> None:
    with ExitStack() as stack:
        for _ in range(50):
            raw = stack.enter_context(served.connect())
            raw.sendall(
                b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 1000000\r\n\r\n["
            )
        while served.count('agegender_running{what="requests"}') < 50:
            pass
        assert len(served.faces(portraits)) == 2
    while served.count('agegender_running{what="requests"}'):
        pass


def test_one_who_does_not_read_the_answer_is_ended(impatient: Served, portraits: list[bytes]) -> None:
    body = json.dumps([as_text(portraits[0])] * 32).encode()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", impatient.port))
        raw.sendall(
            b"POST /v1/embed?faces=none&layer=penultimate HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        while impatient.count('agegender_requests_total{path="/v1/embed",status="200"}') < 1:
            pass
        while len(impatient.server.server_state.connections) > 1:
            pass
        received = bytearray()
        with suppress(ConnectionResetError):
            while some := raw.recv(65536):
                received += some
    claimed = re.search(rb"content-length: (\d+)", received)
    assert claimed is not None
    assert len(received) < int(claimed[1])
    assert len(impatient.faces(portraits)) == 2


def test_requests_that_do_not_wait_for_answers_are_refused(served: Served, portraits: list[bytes]) -> None:
    body = json.dumps([as_text(portraits[0])]).encode()
    ask = (
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
    with served.connect() as raw:
        raw.sendall(ask * 2)
        assert raw.recv(4096).startswith(b"HTTP/1.1 400")
        assert is_ended(raw)
    while served.count('agegender_running{what="requests"}'):
        pass
    assert len(served.faces(portraits)) == 2


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"\0" * 1000]
)
def test_what_is_no_http_is_refused(served: Served, sent: bytes) -> None:
    with served.connect() as raw:
        raw.sendall(sent)
        assert raw.recv(4096).startswith(b"HTTP/1.1 400")
        assert is_ended(raw)


def test_a_broken_connection_amid_a_body_leaves_nothing_behind(served: Served) -> None:
    body = b"--x\r\nContent-Disposition: form-data; name=a; filename=a.jpg\r\n\r\n" + blank()[:100]
    for _ in range(20):
        with served.connect() as raw:
            raw.sendall(
                b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + body
            )
    while served.count('agegender_running{what="requests"}'):
        pass
    assert served.count('agegender_running{what="bytes"}') == 0


def test_files_are_enough_for_the_connections() -> None:
    raise_file_limit()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft >= min(_connections.MAX_CONNECTIONS, hard)
