"""Other hosts, other sites' pages and wrong keys are refused; the page is bound to its own files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from serving import Served, blank, serve
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from agegender.serve._security import is_loopback, read_keys

KEY = "a-key-of-more-than-sixteen-letters"
OTHER = "another-key-of-more-than-sixteen"


@pytest.fixture(scope="module")
def guarded(model: Any) -> Iterator[Served]:
    with serve(model, keys=[OTHER, KEY], hosts=["faces.example.org"]) as running:
        yield running


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "192.168.1.7", "Faces.Example.org."]
)
def test_this_machine_addresses_and_listed_names_are_served(guarded: Served, host: str) -> None:
    assert guarded.client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "[", "faces.example.org.evil"]
)
@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/predict"])
def test_another_host_name_is_refused_whatever_it_asks_for(guarded: Served, host: str, path: str) -> None:
    refused = guarded.client.get(path, headers={"host": host})
    assert refused.status_code == 421
    assert "--allow-host NAME" in refused.json()["detail"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost"])
def test_pages_of_other_sites_are_refused(served: Served, origin: str) -> None:
    refused = served.client.post("/v1/predict", headers={"origin": origin}, files={"a": ("a.jpg", blank())})
    assert (refused.status_code, refused.json()["type"]) == (403, "/v1/problems/origin")
    with pytest.raises(InvalidStatus) as error, _connected(served, origin):
        pass
    assert error.value.response.status_code == 403
    assert json.loads(error.value.response.body)["type"] == "/v1/problems/origin"


def _connected(served: Served, origin: str) -> Any:
    return connect(f"ws://127.0.0.1:{served.port}/v1/live", origin=origin)  # type: ignore[arg-type]


def test_its_own_page_is_served(served: Served) -> None:
    own = {"origin": f"http://127.0.0.1:{served.port}"}
    assert served.client.post("/v1/predict", headers=own, files={"a": ("a.jpg", blank())}).status_code == 200
    with _connected(served, own["origin"]) as socket:
        socket.send("{}")
        assert "ready" in json.loads(socket.recv())


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/embed", "/v1/model", "/metrics"])
@pytest.mark.parametrize(
    "sent", [{}, {"authorization": "Bearer wrong"}, {"x-api-key": KEY[:-1]}, {"x-api-key": "ü"}]
)
def test_without_a_key_nothing_is_answered(guarded: Served, path: str, sent: dict[str, str]) -> None:
    headers = {name: value.encode() for name, value in sent.items()}
    method = "POST" if path in ("/v1/predict", "/v1/embed") else "GET"
    refused = guarded.client.request(method, path, headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (401, "/v1/problems/key")
    assert refused.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("sent", [{"authorization": f"Bearer {KEY}"}, {"x-api-key": OTHER}])
def test_with_a_key_everything_is(guarded: Served, sent: dict[str, str]) -> None:
    assert guarded.client.get("/v1/model", headers=sent).status_code == 200
    assert (
        guarded.client.post("/v1/predict", headers=sent, files={"a": ("a.jpg", blank())}).status_code == 200
    )


def test_a_live_session_brings_its_key_in_the_first_message(guarded: Served) -> None:
    for key, answer in ((None, "problem"), ("wrong", "problem"), (KEY, "ready")):
        with connect(f"ws://127.0.0.1:{guarded.port}/v1/live") as socket:
            socket.send(json.dumps({"key": key}))
            assert answer in json.loads(socket.recv())


def test_the_page_is_there_without_a_key_and_bound_to_its_own_files(guarded: Served) -> None:
    page = guarded.client.get("/")
    policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert guarded.client.get("/", headers={"if-none-match": page.headers["etag"]}).status_code == 304


def test_the_page_has_nothing_inline_and_fetches_nothing_from_elsewhere(served: Served) -> None:
    html = served.client.get("/").text
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:", html)
    for file in (resources.files("agegender.serve") / "static").iterdir():
        addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`)]*", file.read_text(encoding="utf-8"))
        assert not [address for address in addresses if address != "http://www.w3.org/2000/svg"], file.name
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", file.read_text("utf-8"))
    for address in re.findall(r'(?:src|href)="(/[^"]*)"', html):
        assert served.client.get(address).status_code == 200, address


def test_keys_are_read_a_line_each(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(f"# of the team\n\n{KEY}\n  {OTHER}  \n", encoding="utf-8")
    assert read_keys(file) == [KEY, OTHER]


@pytest.mark.parametrize(
    ("content", "says"),
    [("# none\n", "holds no API key"), ("short\n", "at least 16"), (f"{KEY} {OTHER}\n", "no spaces")],
)
def test_files_of_bad_keys_are_refused(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        read_keys(file)


def test_what_this_machine_alone_reaches() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.7", "example.org")] == [False] * 4
