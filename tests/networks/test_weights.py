"""Weights as they come: from a mirror, cut short, replaced by a web page, changed later, or not all of them."""

from __future__ import annotations

import hashlib
import json
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agegender import Backbone
from agegender._networks.location import weights_folder
from agegender._networks.published import PUBLISHED
from agegender._networks.weights_record import record_path
from agegender.exceptions import WeightsError, WeightsNotFoundError, WeightsWarning

ONNX = b"\x08\x08" + bytes(64)
HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(64)


class Mirror:
    """A server on this machine that gives what it is told to; whatever it announces."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.announced: dict[str, int] = {}
        self.asked: list[str] = []


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    served = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(b"")

        def do_GET(self) -> None:
            self._answer(served.files.get(self.path.removeprefix("/weights/"), b""))

        def _answer(self, content: bytes) -> None:
            name = self.path.removeprefix("/weights/")
            served.asked.append(f"{self.command} {name}")
            self.send_response(200 if name in served.files else 404)
            self.send_header("Content-Length", str(served.announced.get(name, len(content))))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AGEGENDER_MIRROR", f"http://127.0.0.1:{server.server_port}/weights")
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def put(name: str, content: bytes) -> Path:
    file = weights_folder() / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_a_mirror_is_asked_and_nobody_else(mirror: Mirror) -> None:
    mirror.files["facenet_weights.onnx"] = ONNX
    backbone = Backbone.load("facenet")
    assert backbone.sha256 == hashlib.sha256(ONNX).hexdigest()
    assert [path.name for path in weights_folder().iterdir()] == ["facenet_weights.onnx"]
    assert {name.split()[1] for name in mirror.asked} == {"facenet_weights.onnx"}
    assert all(url.startswith("http://127.0.0.1") for url in PUBLISHED["arcface"].urls(".h5"))


def test_offline_the_mirror_is_not_asked(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.files["facenet_weights.onnx"] = ONNX
    monkeypatch.setenv("AGEGENDER_OFFLINE", "1")
    with pytest.raises(WeightsNotFoundError, match="AGEGENDER_OFFLINE"):
        Backbone.load("facenet")
    assert mirror.asked == []


@pytest.mark.parametrize(
    ("content", "announced", "message"),
    [
        (b"<!DOCTYPE html><title>Quota exceeded</title>", None, "web page"),
        (HDF5, None, "137,026,640"),
        (HDF5, 137_026_640, "arcface_weights.h5"),
    ],
    ids=["a page", "another file", "a broken connection"],
)
def test_what_is_not_the_file_is_not_kept(
    mirror: Mirror, content: bytes, announced: int | None, message: str
) -> None:
    mirror.files["arcface_weights.h5"] = content
    if announced:
        mirror.announced["arcface_weights.h5"] = announced
    with pytest.raises(WeightsNotFoundError, match=message) as caught:
        Backbone.load("arcface", engine="keras")
    assert "127.0.0.1" in str(caught.value)
    assert list(weights_folder().iterdir()) == []


def test_a_file_in_deepface_s_folder_that_is_not_the_published_one_is_said_aloud(tmp_path: Path) -> None:
    file = put("arcface_weights.h5", HDF5)
    with pytest.warns(WeightsWarning, match=r"137,026,640.*weights=…") as caught:
        Backbone.load("arcface", engine="keras")
    assert str(file) in str(caught[0].message)
    (tmp_path / "own.h5").write_bytes(HDF5)
    assert Backbone.load("arcface", weights=tmp_path / "own.h5").sha256 == hashlib.sha256(HDF5).hexdigest()


def test_a_file_that_changes_after_its_first_use_is_noticed_once() -> None:
    file = put("facenet_weights.onnx", ONNX)
    first = Backbone.load("facenet").sha256
    assert json.loads(record_path().read_text()) == {str(file): first}
    file.write_bytes(ONNX + b"more")
    with pytest.warns(WeightsWarning, match=first):
        second = Backbone.load("facenet").sha256
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Backbone.load("facenet").sha256 == second != first


def test_a_record_that_cannot_be_read_or_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    put("facenet_weights.onnx", ONNX)
    record_path().parent.mkdir(parents=True)
    record_path().write_text("{")
    assert Backbone.load("facenet").name == "facenet"
    monkeypatch.setenv("AGEGENDER_HOME", "/dev/null/home")
    assert Backbone.load("facenet").name == "facenet"


def test_a_layer_that_the_file_has_no_weights_for_is_an_error(tmp_path: Path) -> None:
    import keras

    from agegender._networks.keras import check_weights_are_from

    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
    )
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    check_weights_are_from(model, path)
    model.layers[1].kernel.assign(model.layers[1].kernel + 1.0)
    with pytest.raises(WeightsError, match=r"does not contain 1 of the network's 4 weights, .*b/kernel"):
        check_weights_are_from(model, path)
