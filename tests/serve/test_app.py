"""The service answers with what the library predicts, and refuses what goes beyond its limits."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import httpx
import numpy as np
import pytest
from serving import Served, as_text, beside, blank, png_claiming, serve

from agegender.faces import load_detector
from agegender.serve import Limits, create_app


@pytest.fixture(scope="module")
def library(model: Any) -> Any:
    """The same model without a cache, as a user has it."""
    own = copy.copy(model)
    own.extractor_ = model.extractor_.with_parameters(cache=None)
    return own


def assert_same(face: dict[str, Any], row: Any) -> None:
    """Assert that an answer's face is a row of a table."""
    for name, value in row.items():
        if name == "picture":
            continue
        if isinstance(value, float) and np.isnan(value):
            assert face[name] is None
        elif isinstance(value, str):
            assert face[name] == value
        else:
            np.testing.assert_allclose(face[name], value, rtol=1e-5, atol=1e-5)


def test_every_face_comes_back_as_predict_faces_has_it(
    served: Served, library: Any, portraits: list[bytes]
) -> None:
    pictures = [blank(), beside(*portraits), portraits[1]]
    table = library.predict_faces(pictures, faces="mtcnn")
    found = served.faces(pictures)
    assert [len(faces) for faces in found] == [0, 2, 1]
    for face, row in zip(chain(*found), table.to_dict("records"), strict=True):
        assert list(face) == list(table.columns[1:])
        assert_same(face, row)


@pytest.mark.parametrize(
    "parameters",
    [
        {"coverage": 0.5},
        {"max_age_range": 15},
        {"min_gender_proba": 0.99},
        {"coverage": 0.8, "max_age_range": 60, "min_gender_proba": 0.6},
    ],
    ids=str,
)
def test_parameters_mean_what_they_mean_in_the_library(
    served: Served, library: Any, portraits: list[bytes], parameters: dict[str, float]
) -> None:
    table = library.predict_faces(portraits, faces="mtcnn", **parameters)
    found = chain(*served.faces(portraits, **parameters))
    for face, row in zip(found, table.to_dict("records"), strict=True):
        assert list(face) == list(table.columns[1:])
        assert_same(face, row)


def test_a_distribution_is_that_of_predict_proba(
    served: Served, library: Any, portraits: list[bytes]
) -> None:
    found = served.faces(portraits[:1], distribution="true")[0]
    ages, _ = library.predict_proba(portraits[:1], faces="mtcnn")
    np.testing.assert_allclose(found[0]["age_proba"], ages[0], atol=1e-6)
    assert sum(np.arange(101) * found[0]["age_proba"]) == pytest.approx(found[0]["age"], abs=1e-3)


def test_face_crops_are_taken_as_they_are(served: Served, library: Any, portraits: list[bytes]) -> None:
    frame = library.predict_frame(portraits, faces=None)
    found = served.faces(portraits, faces="none")
    for faces, row in zip(found, frame.to_dict("records"), strict=True):
        assert len(faces) == 1
        assert_same(faces[0], row)


def test_a_list_of_base64_texts_is_answered_as_files_are(served: Served, portraits: list[bytes]) -> None:
    texts = [as_text(portraits[0]), f"data:image/jpeg;base64,{as_text(portraits[1])}"]
    answer = served.client.post("/v1/predict", json=texts).json()
    assert [picture["faces"] for picture in answer["pictures"]] == served.faces(portraits)
    assert [picture["name"] for picture in answer["pictures"]] == [None, None]


def test_names_and_places_of_pictures_come_back(served: Served, portraits: list[bytes]) -> None:
    files = [("a", ("grüße.jpg", portraits[0])), ("b", ("b/../c.jpg", blank()))]
    pictures = served.client.post("/v1/predict", files=files).json()["pictures"]
    assert [(picture["picture"], picture["name"]) for picture in pictures] == [
        (0, "grüße.jpg"),
        (1, "b/../c.jpg"),
    ]


@pytest.mark.parametrize("layer", ["embedding", "pooled"])
def test_embeddings_are_those_of_the_extractor(
    served: Served, library: Any, portraits: list[bytes], layer: str
) -> None:
    extractor = library.extractor_.with_parameters(layer=layer)
    _, rows = extractor.transform_faces(portraits, faces="mtcnn")
    answer = served.post("/v1/embed", portraits, layer=layer).json()
    assert answer["layer"] == layer
    found = [face["embedding"] for picture in answer["pictures"] for face in picture["faces"]]
    np.testing.assert_allclose(found, rows, rtol=1e-5, atol=1e-5)


def test_crops_are_embedded_as_they_are(served: Served, library: Any, portraits: list[bytes]) -> None:
    extractor = library.extractor_.with_parameters(layer="embedding")
    answer = served.post("/v1/embed", portraits, faces="none").json()
    found = [picture["faces"][0]["embedding"] for picture in answer["pictures"]]
    np.testing.assert_allclose(found, extractor.transform(portraits), rtol=1e-5, atol=1e-5)


def test_sixteen_clients_at_once_are_predicted_together_and_get_what_each_alone_gets(
    model: Any, portraits: list[bytes]
) -> None:
    pictures = [portraits[0], beside(*portraits), blank(), portraits[1]] * 4
    with serve(model) as served:
        alone = [served.faces([picture])[0] for picture in pictures[:4]] * 4
        n_calls = served.count("agegender_batch_pictures_count")
        with ThreadPoolExecutor(16) as pool:
            together = list(pool.map(lambda picture: served.faces([picture])[0], pictures))
        assert served.count("agegender_batch_pictures_count") - n_calls < 16
        assert served.count("agegender_batch_pictures_sum") == 4 + 16
    for faces, expected in zip(together, alone, strict=True):
        assert len(faces) == len(expected)
        for face, same in zip(faces, expected, strict=True):
            assert face == pytest.approx(same, abs=1e-4)


@pytest.mark.parametrize(
    ("request_", "status", "problem", "says"),
    [
        (lambda c: c.get("/nowhere"), 404, "not-found", "/openapi.json lists what is"),
        (lambda c: c.get("/static/../../pyproject.toml"), 404, "not-found", "is not here"),
        (lambda c: c.get("/static/..%2f__init__.py"), 404, "not-found", "is not here"),
        (lambda c: c.get("/v1/predict"), 405, "method", "POST is"),
        (lambda c: c.post("/v1/predict", content=b"x"), 415, "media-type", "multipart/form-data"),
        (lambda c: c.post("/v1/predict", json=[]), 422, "upload", "no picture"),
        (lambda c: c.post("/v1/predict", json={"a": 1}), 422, "upload", "JSON list"),
        (lambda c: c.post("/v1/predict", json=["!"]), 422, "upload", "Picture 0 is no base64"),
        (
            lambda c: c.post("/v1/predict", content=b"[" * 200_000, headers={"content-type": "application/json"}),
            422,
            "upload",
            "no JSON",
        ),
        (lambda c: c.post("/v1/predict", files={"a": ("a.txt", b"words")}), 422, "picture", "a.txt is text"),
        (lambda c: c.post("/v1/predict", files={"a": ("", b"words")}), 422, "upload", ""),
        (
            lambda c: c.post("/v1/predict", files={"a": ("a.jpg", blank())}, data={"coverage": "0.5"}),
            422,
            "upload",
            "'coverage' of the form is no file",
        ),
        (
            lambda c: c.post("/v1/predict", files={"a": ("a.png", png_claiming(60_000, 60_000))}),
            422,
            "picture",
            "claims 60000 × 60000 pixels",
        ),
        (lambda c: c.post("/v1/predict?coverag=0.5"), 422, "parameter", "Did you mean 'coverage'"),
        (lambda c: c.post("/v1/predict?coverage=1"), 422, "parameter", "from 0.01 to 0.99"),
        (lambda c: c.post("/v1/predict?coverage=0.5&coverage=0.6"), 422, "parameter", "more than once"),
        (lambda c: c.post("/v1/predict?coverage=nan"), 422, "parameter", "coverage=nan"),
        (lambda c: c.post("/v1/predict?max_age_range=-1"), 422, "parameter", "from 0 to 200"),
        (lambda c: c.post("/v1/predict?min_gender_proba=0.2"), 422, "parameter", "from 0.5 to 1"),
        (lambda c: c.post("/v1/predict?distribution=perhaps"), 422, "parameter", "true or false"),
        (lambda c: c.post("/v1/predict?faces=/etc/passwd"), 422, "parameter", "'auto', 'mtcnn', 'none'"),
        (lambda c: c.post("/v1/embed?layer=input"), 422, "parameter", "'embedding'"),
        (lambda c: c.post("/v1/embed?coverage=0.5"), 422, "parameter", "There is no parameter"),
    ],
)  # fmt: skip
def test_what_is_refused_is_a_problem_that_says_what_to_do(
    served: Served, request_: Any, status: int, problem: str, says: str
) -> None:
    answer: httpx.Response = request_(served.client)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    members = answer.json()
    assert members["type"] == f"/v1/problems/{problem}"
    assert members["status"] == status
    assert says in members["detail"]
    kind = served.client.get(members["type"]).json()
    assert (kind["title"], kind["status"]) == (members["title"], status)


def test_a_broken_multipart_body_is_refused(served: Served) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a.jpg"\r\n\r\nbytes'
    cut = served.client.post("/v1/predict", content=part, headers=headers)
    assert (cut.status_code, "cut off" in cut.json()["detail"]) == (422, True)
    strange = served.client.post("/v1/predict", content=b"no boundary here", headers=headers)
    assert (strange.status_code, "broken" in strange.json()["detail"]) == (422, True)
    long = b'--x\r\nContent-Disposition: form-data; name="' + b"n" * 10_000
    assert (
        "Maximum header size exceeded"
        in served.client.post("/v1/predict", content=long, headers=headers).text
    )


def test_on_error_nan_answers_for_the_pictures_that_can_be_used(
    served: Served, portraits: list[bytes]
) -> None:
    pictures = [b"words", portraits[0], portraits[1][:-500]]
    refused = served.predict(pictures)
    assert [picture["picture"] for picture in refused.json()["pictures"]] == [0, 2]
    answer = served.predict(pictures, on_error="nan").json()["pictures"]
    assert "text, not a picture" in answer[0]["error"]
    assert "truncated JPEG" in answer[2]["error"]
    assert answer[1]["faces"] == served.faces(portraits[:1])[0]
    assert answer[0]["faces"] == answer[2]["faces"] == []


def test_damage_that_shows_only_in_the_pixels_is_refused_as_well(served: Served) -> None:
    damaged = png_claiming(40, 30)  # its pixels are one letter
    assert "picture-0.jpg is damaged" in served.predict([damaged]).json()["detail"]


@pytest.fixture(scope="module")
def narrow(model: Any) -> Any:
    limits = Limits(max_body=60_000, max_pictures=2, max_pixels=200_000, max_memory=70_000)
    with serve(model, limits=limits) as served:
        yield served


def test_a_body_that_is_too_large_is_refused_by_its_claim_and_by_its_bytes(narrow: Served) -> None:
    claimed = narrow.predict([bytes(80_000)])
    assert (claimed.status_code, claimed.headers["connection"]) == (413, "close")
    with narrow.connect() as raw:  # no content-length: the bytes themselves are counted
        raw.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        raw.sendall(b"f000\r\n" + bytes(0xF000) + b"\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 413")


def test_too_many_pictures_and_pixels_are_refused(narrow: Served) -> None:
    assert narrow.predict([blank()] * 3).json()["type"] == "/v1/problems/pictures"
    assert narrow.client.post("/v1/predict", json=[as_text(blank())] * 3).json()["type"].endswith("pictures")
    large = narrow.predict([png_claiming(500, 500)])
    assert "claims 500 × 500 pixels, more than the 200,000" in large.json()["detail"]


def test_a_slow_upload_is_refused_and_gives_its_place_back(model: Any) -> None:
    with serve(model, limits=Limits(upload_seconds=1.5)) as served:
        with served.connect() as raw:
            raw.sendall(
                b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 1000\r\n\r\n["
            )
            assert raw.recv(4096).startswith(b"HTTP/1.1 408")
        assert served.count('agegender_running{what="requests"}') == 0


def test_all_bodies_together_may_hold_so_much_memory(narrow: Served) -> None:
    with narrow.connect() as raw:
        raw.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 59000\r\n\r\n" + b" " * 58_000
        )
        narrow.wait_for('agegender_running{what="bytes"}', 58_000)
        refused = narrow.predict([bytes(20_000)])
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "70,000 bytes" in refused.json()["detail"]


def test_too_many_requests_at_once_are_refused_by_client_and_in_all(model: Any) -> None:
    held = (
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 9\r\n\r\n["
    )
    for limits, status in ((Limits(max_requests=2), 503), (Limits(max_requests_per_client=2), 429)):
        with serve(model, limits=limits) as served, served.connect() as first, served.connect() as second:
            first.sendall(held)
            second.sendall(held)
            served.wait_for('agegender_running{what="requests"}', 2)
            refused = served.predict([blank()])
            assert (refused.status_code, refused.headers["retry-after"]) == (status, "1")
            first.close()
            served.wait_for('agegender_running{what="requests"}', 1)
            assert served.predict([blank()]).status_code == 200


def test_a_prediction_that_takes_too_long_is_refused(model: Any, portraits: list[bytes]) -> None:
    with serve(model, limits=Limits(predict_seconds=0.001)) as served:
        refused = served.predict(portraits)
    assert (refused.status_code, refused.json()["type"]) == (503, "/v1/problems/slow")


def test_nothing_of_a_picture_is_stored_or_logged(
    model: Any,
    portraits: list[bytes],
    own_home: Any,
    tmp_path: Any,
    monkeypatch: Any,
    capfd: Any,
    caplog: Any,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with serve(model) as served:
        served.predict([portraits[0] + bytes(3_000_000), b"words"], on_error="nan")
        served.post("/v1/embed", portraits)
        served.predict([b"secret words"])
    assert not [path for path in (*tmp_path.rglob("*"), *own_home.rglob("*")) if path.is_file()]
    written = capfd.readouterr()
    assert "picture-0" not in written.out + written.err + caplog.text
    assert "secret" not in written.out + written.err + caplog.text


def test_what_is_counted(model: Any, portraits: list[bytes]) -> None:
    with serve(model) as served:
        served.predict([beside(*portraits), blank()])
        served.predict([b"words"])
        served.client.get("/elsewhere")
        assert served.count('agegender_requests_total{path="/v1/predict",status="200"}') == 1
        assert served.count('agegender_requests_total{path="/v1/predict",status="422"}') == 1
        assert served.count('agegender_requests_total{path="other",status="404"}') == 1
        assert served.count('agegender_refusals_total{problem="picture"}') == 1
        assert served.count("agegender_pictures_total") == 2
        assert served.count("agegender_faces_total") == 2
        for step in ("upload", "check", "wait", "predict"):
            assert served.count(f'agegender_step_seconds_count{{step="{step}"}}') >= 1


def test_the_model_says_what_it_is(model: Any) -> None:
    settings = {"name": "mine", "sha256": "0" * 64, "trained_on": "drawn faces"}
    with serve(model, **settings) as served:
        told = served.client.get("/v1/model").json()
    assert {name: told[name] for name in settings} == settings
    network = model.extractor_.backbone_
    assert (told["networks"][0]["sha256"], told["networks"][0]["terms"]) == (network.sha256, network.licence)
    assert told["n_training_pictures"] == len(model.trained_on_)
    assert told["genders"] == [{"label": 0, "word": "male"}, {"label": 1, "word": "female"}]
    assert told["faces"]["auto"]["sha256"] == load_detector("mtcnn").sha256
    assert told["limits"]["max_pictures"] == 32
    assert "never decide about a person" in told["must_not_be_used_for"]


def test_the_description_names_every_address_and_its_examples_have_the_form_of_answers(
    served: Served, portraits: list[bytes]
) -> None:
    described = served.client.get("/openapi.json").json()
    paths = {route.path for route in served.app.routes} - {"/", "/static/{name}", "/openapi.json"}
    assert set(described["paths"]) == paths
    operation = described["paths"]["/v1/predict"]["post"]
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    answer = served.predict(portraits[:1]).json()
    assert set(answer) == set(example)
    assert list(answer["pictures"][0]) == list(example["pictures"][0])
    assert list(answer["pictures"][0]["faces"][0]) == list(example["pictures"][0]["faces"][0])
    names = {parameter["name"] for parameter in operation["parameters"]}
    listed = served.client.post("/v1/predict?x=1").json()["detail"]
    assert all(name in listed for name in names)
    faces = described["components"]["schemas"]["Face"]["properties"]
    asked = {"distribution": "true", "max_age_range": 200, "min_gender_proba": 0.5}
    assert set(served.faces(portraits[:1], **asked)[0][0]) == set(faces)


def test_the_model_that_is_served_is_a_copy(model: Any) -> None:
    create_app(model, faces="mtcnn")
    assert model.extractor_.cache == "auto"
    assert model.extractor_.on_error == "raise"


@pytest.mark.parametrize("name", ["max_body", "max_wait"])
def test_limits_are_above_zero(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0 should be above 0"):
        Limits(**{name: 0})


def test_what_waits_when_the_service_stops_is_finished(model: Any, portraits: list[bytes]) -> None:
    answers: list[httpx.Response] = []
    with serve(model) as served:
        threads = [
            threading.Thread(
                target=lambda: answers.append(
                    httpx.post(
                        f"http://127.0.0.1:{served.port}/v1/predict",
                        files={"a": ("a.jpg", portraits[0])},
                        timeout=60,
                    )
                )
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        served.wait_for('agegender_step_seconds_count{step="upload"}', 4)
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 4
