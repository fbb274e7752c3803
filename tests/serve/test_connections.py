"""Connections that keep the service waiting: it goes on answering others, and ends them; refusals are read."""

from __future__ import annotations

import json
import re
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from serving import Served, as_text, blank, is_ended, received_until, serve, wait_until

from agegender.serve import Limits, _connections, _lingering
from agegender.serve._connections import raise_file_limit


@pytest.fixture
def impatient(model: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(_connections, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(_connections, "SEND_SECONDS", 0.5)
    with serve(model, small_buffers=True) as running:
        yield running


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
        served.wait_for('agegender_running{what="requests"}', 50)
        assert len(served.faces(portraits)) == 2
    served.wait_for('agegender_running{what="requests"}', 0)


def test_one_who_does_not_read_the_answer_is_ended(impatient: Served, portraits: list[bytes]) -> None:
    body = json.dumps([as_text(portraits[0])] * 32).encode()
    with impatient.connect(small_buffer=True) as raw:
        raw.sendall(
            b"POST /v1/embed?faces=none&layer=penultimate HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        impatient.wait_for('agegender_requests_total{path="/v1/embed",status="200"}', 1)
        connections = impatient.server.server_state.connections
        wait_until(lambda: len(connections) == 1, "only the client of this test is connected")
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
    served.wait_for('agegender_running{what="requests"}', 0)
    assert len(served.faces(portraits)) == 2


def head(address: str, n_bytes: int, *headers: str) -> bytes:
    """Return the head of a request whose body follows later."""
    lines = [f"POST {address} HTTP/1.1", "Host: localhost", f"Content-Length: {n_bytes}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


JSON, EVIL = "Content-Type: application/json", "Origin: http://evil.example"


@pytest.fixture
def strict(model: Any) -> Iterator[Served]:
    with serve(model, limits=Limits(max_body=60_000), keys=["k" * 20]) as running:
        yield running


def test_a_client_that_first_sends_its_whole_body_reads_the_refusal(strict: Served) -> None:
    key = "X-API-Key: " + "k" * 20
    refused = {
        413: head("/v1/predict", 80_000, JSON, key),
        415: head("/v1/predict", 50_000, "Content-Type: text/plain", key),
        422: head("/v1/predict?coverage=2", 50_000, JSON, key),
        401: head("/v1/predict", 50_000, JSON),
        403: head("/v1/predict", 50_000, JSON, EVIL),
        404: head("/v1/predicted", 50_000, JSON, key),
        405: head("/v1/model", 50_000, JSON, key),
        400: b"no HTTP\r\n\r\n",
    }
    with ExitStack() as stack:
        clients = {status: stack.enter_context(strict.connect()) for status in refused}
        for status, raw in clients.items():
            raw.sendall(refused[status])
        for _ in range(5):
            strict.client.get("/healthz")  # meanwhile, the service sees what was sent, and answers
            for raw in clients.values():
                raw.sendall(bytes(10_000))
        for status, raw in clients.items():
            assert raw.recv(4096).startswith(b"HTTP/1.1 %d" % status)


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({"upload_seconds": 0.3}, 408),
        ({"max_requests_per_client": 1}, 429),
        ({"max_requests": 1}, 503),
        ({"max_memory": 20_000}, 503),
    ],
    ids=["408-slow", "429-client", "503-requests", "503-memory"],
)
def test_so_does_one_who_is_refused_while_the_service_is_busy_or_the_body_slow(
    model: Any, limits: dict[str, Any], status: int
) -> None:
    with serve(model, limits=Limits(**limits)) as served, served.connect() as first, served.connect() as raw:
        if "max_requests" in str(limits):
            first.sendall(head("/v1/predict", 50_000, JSON))
            served.wait_for('agegender_running{what="requests"}', 1)
        raw.sendall(head("/v1/predict", 90_000, JSON))
        if "max_memory" in limits:
            raw.sendall(bytes(30_000))
        served.wait_for(f'agegender_requests_total{{path="/v1/predict",status="{status}"}}', 1)
        for _ in range(5):
            raw.sendall(bytes(10_000))
            served.client.get("/healthz")  # meanwhile, the service sees what was sent
        assert raw.recv(4096).startswith(b"HTTP/1.1 %d" % status)
        raw.shutdown(socket.SHUT_WR)
        assert is_ended(raw)


def test_a_refusal_that_keeps_the_connection_drops_the_body_before_the_next_request(strict: Served) -> None:
    with strict.connect() as raw:
        for _ in range(2):
            raw.sendall(head("/v1/predict", 50_000, JSON, EVIL))
            assert received_until(raw, b"}").startswith(b"HTTP/1.1 403")
            raw.sendall(bytes(50_000))
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("more", [[], [EVIL]], ids=["closed", "kept"])
def test_the_rest_of_a_refused_body_is_waited_for_within_limits(
    strict: Served, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.setattr(_lingering, "LINGER_SECONDS", 0.5)
    sent = head("/v1/predict", 10**9, JSON, *more)
    with strict.connect() as raw:
        raw.sendall(sent)
        connections = strict.server.server_state.connections
        wait_until(lambda: len(connections) == 2, "the service sees the connection")
        wait_until(lambda: len(connections) == 1, "the service has ended the connection")
    monkeypatch.setattr(_lingering, "LINGER_SECONDS", 60.0)
    monkeypatch.setattr(_lingering, "LINGER_BYTES", 1_000_000)
    with strict.connect() as raw, pytest.raises(ConnectionError):
        raw.sendall(sent + bytes(100_000_000))


def test_refused_connections_make_room_as_well(
    model: Any, portraits: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connections, "MAX_CONNECTIONS", 20)
    with serve(model, limits=Limits(max_body=60_000)) as served, ExitStack() as stack:
        for _ in range(40):
            raw = stack.enter_context(served.connect())
            raw.sendall(head("/v1/predict", 80_000, JSON))
            assert raw.recv(4096).startswith(b"HTTP/1.1 413")
        assert len(served.server.server_state.connections) <= 21
        assert len(served.faces(portraits)) == 2  # its connection was not the one to go


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
    served.wait_for('agegender_running{what="requests"}', 0)
    assert served.count('agegender_running{what="bytes"}') == 0


def test_files_are_enough_for_the_connections() -> None:
    raise_file_limit()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft >= min(_connections.MAX_CONNECTIONS, hard)
