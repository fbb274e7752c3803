"""Pictures behind URLs: memory, archives, a web server that fails, S3 on loopback."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import sys
import tarfile
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from faulty_server import FaultyServer, faulty_server
from PIL import Image

from agegender import images
from agegender._pixels import remote
from agegender._utils import stores
from agegender.exceptions import PictureError


def jpeg(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 30, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "FIRST_WAIT", 0.001)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/faces", recursive=True)


def test_a_picture_in_memory_is_its_bytes(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/faces/anna.jpg", jpeg())
    assert images.read("memory://faces/anna.jpg") == jpeg()
    memory.pipe("/faces/anna.jpg", jpeg(1))  # a URL is no identity: its content is
    assert images.read("memory://faces/anna.jpg") == jpeg(1)
    assert images.load("memory://faces/anna.jpg").shape == (40, 30, 3)
    with pytest.raises(PictureError, match=r"^memory://faces/bert.jpg: .*does not exist in its store"):
        images.read("memory://faces/bert.jpg")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_opened_once_and_seen_to_change(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"faces.{kind}"

    def write(seed: int) -> None:
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("in/anna.jpg", jpeg(seed))
        else:
            with tarfile.open(path, "w") as tar:
                entry = tarfile.TarInfo("in/anna.jpg")
                entry.size = len(jpeg(seed))
                tar.addfile(entry, io.BytesIO(jpeg(seed)))

    write(0)
    url = f"{kind}://in/anna.jpg::{path}"
    assert images.read(url) == jpeg(0)
    opened = stores._archives[str(path)][1]
    assert images.read(url) == jpeg(0)
    assert stores._archives[str(path)][1] is opened
    with pytest.raises(PictureError, match="does not exist in its store"):
        images.read(f"{kind}://in/bert.jpg::{path}")
    path.unlink()
    write(1)
    assert images.read(url) == jpeg(1)


@pytest.mark.parametrize("fault", ["503", "429", "cut"])
def test_a_store_that_fails_for_a_time_is_tried_again(server: FaultyServer, fault: str) -> None:
    server.files["anna.jpg"] = jpeg()
    server.faults["anna.jpg"] = (3, fault)
    assert images.read(server.url("anna.jpg")) == jpeg()
    assert server.requests["anna.jpg"] == 4


def test_a_store_that_goes_on_failing_is_an_error_with_its_reason(server: FaultyServer) -> None:
    server.faults["anna.jpg"] = (10**6, "503")
    with pytest.raises(PictureError, match=r"after 6 tries \(ClientResponseError: 503"):
        images.read(server.url("anna.jpg"))
    assert server.requests["anna.jpg"] == stores.TRIES


@pytest.mark.parametrize(("status", "said"), [("403", "403"), ("404", "does not exist"), ("400", "400")])
def test_what_will_not_change_is_asked_for_once(server: FaultyServer, status: str, said: str) -> None:
    server.faults["anna.jpg"] = (10**6, status)
    with pytest.raises(PictureError, match=said):
        images.read(server.url("anna.jpg"))
    assert server.requests["anna.jpg"] == 1


def test_waits_grow(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(stores.time, "sleep", waits.append)
    monkeypatch.setattr(stores, "FIRST_WAIT", 0.25)
    server.faults["anna.jpg"] = (10**6, "503")
    with pytest.raises(PictureError):
        images.read(server.url("anna.jpg"))
    for number, wait in enumerate(waits):
        assert 0.25 * 2**number <= wait <= 0.375 * 2**number
    assert len(waits) == 5


def test_no_more_than_the_cap_is_read(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_FILE_BYTES", 4 * 2**20)
    server.faults["anna.jpg"] = (1, "endless")
    with pytest.raises(PictureError, match="more than the 4,194,304 bytes"):
        images.read(server.url("anna.jpg"))
    assert server.requests["anna.jpg"] == 1
    assert server.sent < 64 * 2**20  # what the sockets buffer, beside what was read


def test_a_bomb_in_an_archive_is_not_unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(remote, "MAX_FILE_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("anna.jpg", bytes(64 * 2**20))
    with pytest.raises(PictureError, match="more than the 1,048,576 bytes"):
        images.read(f"zip://anna.jpg::{tmp_path / 'bomb.zip'}")


def test_an_empty_file_is_told_of(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/faces/empty.jpg", b"")
    with pytest.raises(PictureError, match="empty file"):
        images.read("memory://faces/empty.jpg")


@pytest.mark.parametrize("fault", ["503", "403", "404", "cut"])
def test_credentials_are_shown_nowhere(
    server: FaultyServer, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.files["anna.jpg"] = jpeg()
    server.faults["anna.jpg"] = (10**6, fault)
    url = server.url("anna.jpg?X-Amz-Signature=5ecre7").replace("http://", "http://bob:pa55word@")
    with caplog.at_level(logging.INFO), pytest.raises(PictureError) as raised:
        images.read(url)
    shown = "".join(traceback.format_exception(raised.value)) + caplog.text + repr(raised.value)
    assert "anna.jpg?…" in shown
    assert "5ecre7" not in shown
    assert "pa55word" not in shown
    error: BaseException | None = raised.value
    while error is not None:  # nor in what a debugger or an error tracker would walk through
        assert "5ecre7" not in str(error)
        error = error.__cause__ or error.__context__


def test_unknown_stores_and_paths_that_were_urls() -> None:
    with pytest.raises(PictureError, match=r"is a URL that cannot be opened here: .*nowhere"):
        images.read("nowhere://bucket/anna.jpg")
    with pytest.raises(PictureError, match="pass it as text"):
        images.read(Path("s3://bucket/anna.jpg"))


def test_what_to_install_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(PictureError, match=r"pip install 'agegender\[remote\]'"):
        images.read("memory://faces/anna.jpg")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes")
def test_a_forked_process_opens_archives_for_itself(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("anna.jpg", jpeg())
    url = f"zip://anna.jpg::{tmp_path / 'faces.zip'}"
    images.read(url)
    process = multiprocessing.get_context("fork").Process(target=_reads_for_itself, args=(url,))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def _reads_for_itself(url: str) -> None:
    assert not stores._archives
    assert images.read(url) == jpeg()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """S3 as moto's server plays it, on loopback; the credentials come from the environment, as the store has them."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0, verbose=False
    )
    patch = pytest.MonkeyPatch()
    server.start()
    host, port = server.get_host_and_port()
    patch.setenv("AWS_ACCESS_KEY_ID", "loopback")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "5ecre7-of-s3")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    client = boto3.client("s3")
    client.create_bucket(Bucket="people")
    for number in range(20):
        client.put_object(Bucket="people", Key=f"faces/{number:02d}.jpg", Body=jpeg(number))
    client.put_object(Bucket="people", Key="faces/empty.jpg", Body=b"")
    yield "s3://people"
    patch.undo()
    server.stop()


def test_s3(s3: str) -> None:
    assert images.read(f"{s3}/faces/03.jpg") == jpeg(3)
    assert list(stores.find(f"{s3}/faces"))[:2] == ["00.jpg", "01.jpg"]
    with pytest.raises(PictureError, match="does not exist in its store"):
        images.read(f"{s3}/faces/99.jpg")
    with pytest.raises(PictureError, match="empty file"):
        images.read(f"{s3}/faces/empty.jpg")
    with pytest.raises(PictureError, match="store") as raised:
        images.read("s3://nobodys/faces/03.jpg")
    assert "5ecre7" not in "".join(traceback.format_exception(raised.value))


def test_a_file_is_put_whole_into_a_store(s3: str) -> None:
    stores.put_whole(f"{s3}/out/text.bin", lambda arriving: arriving.write_bytes(b"all"))
    with stores.open_place(f"{s3}/out/text.bin") as file:
        assert file.read() == b"all"
    assert stores.exists(f"{s3}/out/text.bin")
    assert not stores.exists(f"{s3}/out/other.bin")
