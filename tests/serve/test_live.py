"""A camera over a WebSocket: faces followed, frames dropped and never queued, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from serving import Served, beside, blank, is_ended, png_claiming, received_until, serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from agegender.serve import Limits, _connections, _live

PATIENCE = 60
"""Seconds."""


@contextmanager
def camera(served: Served, **wanted: Any) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{served.port}/v1/live") as live:
        live.send(json.dumps(wanted))
        assert json.loads(live.recv(PATIENCE)) == {"ready": True, "faces": "mtcnn"}
        yield live


def look(live: ClientConnection, frame: bytes) -> dict[str, Any]:
    live.send(frame)
    return json.loads(live.recv(PATIENCE))


def test_a_face_is_followed_and_its_numbers_are_averaged(served: Served, portraits: list[bytes]) -> None:
    with camera(served, distribution=True) as live:
        first = look(live, portraits[0])
        second = look(live, portraits[1])  # another person in the same place is taken for the same face
        third = look(live, portraits[1])
    (a,), (b,), (c,) = first["faces"], second["faces"], third["faces"]
    assert [first["frame"], second["frame"], third["frame"]] == [1, 2, 3]
    assert a["number"] == b["number"] == c["number"] == 0
    with camera(served) as live:
        alone = look(live, portraits[1])["faces"][0]
    assert b["age"] == pytest.approx((a["age"] + alone["age"]) / 2, abs=0.02)
    assert c["age"] == pytest.approx((a["age"] + 2 * alone["age"]) / 3, abs=0.02)
    assert b["x"] == alone["x"]
    assert sum(k * p for k, p in enumerate(c["age_proba"])) == pytest.approx(c["age"], abs=0.1)
    assert "age_proba" not in alone


def test_several_faces_keep_their_numbers_and_come_the_largest_first(
    served: Served, portraits: list[bytes]
) -> None:
    both, mirrored = beside(*portraits), beside(*reversed(portraits))
    with camera(served) as live:
        for frame in (both, mirrored, both):
            faces = look(live, frame)["faces"]
            assert [face["number"] for face in faces] == [0, 1]
            assert faces[0]["width"] > faces[1]["width"]
        assert look(live, blank())["faces"] == []
        assert [face["number"] for face in look(live, both)["faces"]] == [0, 1]


def test_what_the_model_is_not_sure_of_is_not_said(served: Served, portraits: list[bytes]) -> None:
    with camera(served, max_age_range=1, min_gender_proba=1) as live:
        face = look(live, portraits[0])["faces"][0]
    assert (face["age"], face["gender"]) == (None, None)
    assert face["age_low"] < face["age_high"]


def test_frames_that_come_too_fast_are_dropped_but_for_the_newest(
    served: Served, portraits: list[bytes]
) -> None:
    n_sent = 60
    with camera(served) as live:
        for number in range(n_sent):
            live.send(portraits[number % 2])
        answers = [json.loads(live.recv(PATIENCE))]
        while answers[-1]["frame"] < n_sent:
            answers.append(json.loads(live.recv(PATIENCE)))
    assert len(answers) + answers[-1]["dropped"] == n_sent
    assert answers[-1]["dropped"] > 0
    numbers = [answer["frame"] for answer in answers]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("frame", "says"),
    [(b"words", "text, not a picture"), (b"", "empty"), (png_claiming(4000, 4000), "claims 4000 × 4000")],
    ids=["text", "empty", "bomb"],
)
def test_a_bad_frame_costs_itself_alone(
    served: Served, portraits: list[bytes], frame: bytes, says: str
) -> None:
    with camera(served) as live:
        assert says in look(live, frame)["problem"]["detail"]
        assert len(look(live, portraits[0])["faces"]) == 1


@pytest.mark.parametrize(
    ("first", "says"),
    [
        ("no JSON", "no JSON"),
        ("[1]", "no JSON object"),
        ('{"faces": "none"}', "'auto', 'mtcnn'"),
        ('{"coverag": 0.5}', "Did you mean 'coverage'"),
        ('{"coverage": "much"}', "not a number"),
        (b"bytes", "no JSON"),
    ],
)
def test_a_bad_first_message_is_a_problem_and_the_end(served: Served, first: Any, says: str) -> None:
    with connect(f"ws://127.0.0.1:{served.port}/v1/live") as live:
        live.send(first)
        assert says in json.loads(live.recv(PATIENCE))["problem"]["detail"]
        with pytest.raises(ConnectionClosed) as end:
            live.recv(PATIENCE)
    assert end.value.rcvd.code == 1008


def test_text_amid_frames_is_the_end(served: Served) -> None:
    with camera(served) as live:
        assert "binary messages" in look(live, "text")["problem"]["detail"]  # type: ignore[arg-type]


def test_a_frame_that_is_too_large_is_the_end(served: Served) -> None:
    with camera(served) as live:
        live.send(bytes(Limits().max_frame + 1))
        with pytest.raises(ConnectionClosed, match="1009"):
            live.recv(PATIENCE)


def test_a_client_that_first_sends_its_whole_frame_reads_why_it_is_the_end(served: Served) -> None:
    frame = _masked(2, bytes(Limits().max_frame + 1))
    with served.connect() as raw:
        raw.sendall(_UPGRADE)
        assert raw.recv(4096).startswith(b"HTTP/1.1 101")
        raw.sendall(frame[:20])
        for start in range(20, 500_000, 100_000):
            served.client.get("/healthz")  # meanwhile, the service sees what was sent, and ends
            raw.sendall(frame[start : start + 100_000])
        close = raw.recv(4096)
        assert (close[0], int.from_bytes(close[2:4])) == (0x88, 1009)
        assert raw.recv(4096) == b""


def test_so_many_cameras_and_no_more(model: Any, portraits: list[bytes]) -> None:
    with serve(model, limits=Limits(max_live=1)) as served:
        with camera(served) as first:
            with connect(f"ws://127.0.0.1:{served.port}/v1/live") as second:
                assert "1 cameras are live" in json.loads(second.recv(PATIENCE))["problem"]["detail"]
            assert len(look(first, portraits[0])["faces"]) == 1
        served.wait_for('agegender_running{what="cameras"}', 0)
        with camera(served) as third:
            assert len(look(third, portraits[0])["faces"]) == 1


def test_one_who_says_nothing_is_not_waited_for(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_live, "_HELLO_SECONDS", 1.0)
    monkeypatch.setattr(_live, "_IDLE_SECONDS", 1.0)
    with serve(model) as served:
        with connect(f"ws://127.0.0.1:{served.port}/v1/live") as live:
            assert "No first message" in json.loads(live.recv(PATIENCE))["problem"]["detail"]
        with camera(served) as live:
            assert "No frame came" in json.loads(live.recv(PATIENCE))["problem"]["detail"]


def test_one_who_never_reads_is_ended_and_keeps_nobody_waiting(
    model: Any, portraits: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_live, "_SEND_SECONDS", 0.2)
    monkeypatch.setattr(_connections, "SEND_SECONDS", 0.2)
    with serve(model, small_buffers=True) as served, served.connect(small_buffer=True) as raw:
        raw.sendall(_UPGRADE)
        received_until(raw, b"\r\n\r\n")
        raw.sendall(_masked(1, b'{"distribution": true}'))
        served.wait_for('agegender_running{what="cameras"}', 1)
        raw.sendall(_masked(9, bytes(125)) * 1500)  # the answers to pings fill the buffers soon
        raw.sendall(_masked(2, b"words"))
        served.wait_for('agegender_running{what="cameras"}', 0)
        assert is_ended(raw)
        assert len(served.faces(portraits)) == 2


def test_pings_of_one_who_does_not_read_are_not_stored_and_the_newest_is_answered(model: Any) -> None:
    with serve(model, small_buffers=True) as served, served.connect(small_buffer=True) as raw:
        raw.sendall(_UPGRADE)
        received_until(raw, b"\r\n\r\n")
        most = 0
        for _ in range(20):
            raw.sendall(_masked(9, bytes(125)) * 1000)
            served.client.get("/healthz")  # meanwhile, the service sees what was sent
            stored = [one.transport.get_write_buffer_size() for one in served.server.server_state.connections]
            most = max(most, *stored)
        assert 2**16 < most < 2**20
        raw.sendall(_masked(9, b"the newest"))
        received_until(raw, b"\x8a\x0athe newest")


_UPGRADE = (
    b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def _masked(opcode: int, content: bytes) -> bytes:
    """Return a client's WebSocket frame; the mask is zeros."""
    size = len(content)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + length + bytes(4) + content
