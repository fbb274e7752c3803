"""The command `agegender serve`, as a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import wait_until

from agegender import save_model
from agegender.serve._server import Settings, check

KEY = "a-key-of-more-than-sixteen-letters"


@contextmanager
def command(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on a free port; give the process and the page's address."""
    script = "from agegender.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "serve", "--port", "0", "--faces", "mtcnn", *options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+:\d+", line)
        assert found, line + process.stderr.read()
        yield process, found[0]
    finally:
        process.terminate()
        process.communicate(timeout=60)


def post(address: str, picture: bytes, **settings: Any) -> httpx.Response:
    return httpx.post(f"{address}/v1/predict", files={"a": ("a.jpg", picture)}, timeout=60, **settings)


def test_it_serves_and_finishes_what_runs_when_it_is_stopped(portraits: list[bytes]) -> None:
    answers: list[httpx.Response] = []
    with command() as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert "agegender" in httpx.get(address, timeout=60).text
        thread = threading.Thread(target=lambda: answers.append(post(address, portraits[0])))
        thread.start()
        running = 'agegender_running{what="requests"} 1'
        wait_until(
            lambda: answers or running in httpx.get(f"{address}/metrics").text,
            "the request runs or is answered",
        )
        process.send_signal(signal.SIGTERM)
        thread.join()
    assert answers[0].status_code == 200
    assert process.returncode == 0


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare (util-linux) is not installed")
def test_the_first_process_of_a_container_stops_while_it_still_loads() -> None:
    own_processes = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*own_processes, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespace can be made here")
    script = """if True:
        import os, signal, sys
        from agegender.cli import main
        def stop_before_it_serves(event, arguments):
            if event == "socket.bind":
                os.kill(1, signal.SIGTERM)
        sys.addaudithook(stop_before_it_serves)
        main()
    """
    ended = subprocess.run([*own_processes, sys.executable, "-c", script, "serve", "--port", "0"], timeout=60)
    assert ended.returncode == 0


def test_a_model_file_with_keys(model: Any, portraits: list[bytes], tmp_path: Path) -> None:
    save_model(model, tmp_path / "mine.agegender")
    (tmp_path / "keys.txt").write_text(KEY, encoding="utf-8")
    options = ("--model", str(tmp_path / "mine.agegender"), "--api-key-file", str(tmp_path / "keys.txt"))
    with command(*options, "--host", "0.0.0.0", "--allow-host", "faces.example") as (process, address):
        assert post(address, portraits[0]).status_code == 401
        headers = {"authorization": f"Bearer {KEY}", "host": "faces.example"}
        told = httpx.get(f"{address}/v1/model", headers=headers, timeout=60).json()
        assert told["name"] == "mine.agegender"
        assert told["trained_on"] == "not recorded in the model's file"
        assert len(post(address, portraits[0], headers=headers).json()["pictures"][0]["faces"]) == 1
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert process.returncode == 130


def test_two_workers_answer_and_count_together(portraits: list[bytes]) -> None:
    with command("--workers", "2") as (_, address):
        first = post(address, portraits[0]).json()
        for _ in range(7):
            assert post(address, portraits[0]).json() == first
        assert "agegender_pictures_total 8.0" in httpx.get(f"{address}/metrics").text


def fails(*options: str) -> str:
    script = "from agegender.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", script, "serve", *options],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"COLUMNS": "300"},
    )
    assert ended.returncode == 2
    return ended.stderr


def test_a_port_that_is_taken_and_a_model_that_is_not_there_are_told_of() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "try --port 0" in fails("--port", str(taken.getsockname()[1]))
    assert "There is no model 'nowhere.agegender'" in fails("--model", "nowhere.agegender")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"host": "0.0.0.0"}, "--host 0.0.0.0 is reached from other machines"),
        ({"host": "example.org"}, "--api-key-file FILE"),
        ({"workers": 0}, "--workers 0"),
        ({"port": 70_000}, "--port 70000"),
        ({"key_file": Path("nowhere")}, "There is no file 'nowhere'"),
    ],
)
def test_what_is_not_served(settings: dict[str, Any], says: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(says)):
        check(Settings(load=lambda path: None, **settings))


@pytest.mark.parametrize(
    "settings", [{}, {"host": "localhost"}, {"host": "::1"}, {"host": "0.0.0.0", "insecure": True}]
)
def test_what_is(settings: dict[str, Any]) -> None:
    check(Settings(load=lambda path: None, **settings))
