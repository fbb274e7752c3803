"""The commands for photographs and videos, run as a user runs them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from material import Material
from PIL import Image
from typer.testing import CliRunner, Result

from agegender import AgeGenderClassifier, AgeGenderPipeline, Backbone, EmbeddingExtractor, images
from agegender._detectors.tracks import Reading, Tracker
from agegender.cli import app
from agegender.cli._drawing import Marked, annotate
from agegender.datasets import make_faces
from agegender.faces import load_detector
from agegender.persistence import save_model
from agegender.pretrained import load_pretrained


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path) -> Any:
    """A model trained on drawn portraits, a portrait, and a picture of two."""
    folder = tmp_path_factory.mktemp("given")
    faces = make_faces(12, folder / "portraits")
    extractor = EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), layer="embedding", cache=None)
    classifier = AgeGenderClassifier(epochs=2, random_state=0, validation_fraction=0.25)
    model = AgeGenderPipeline(extractor, classifier).fit(faces.data, faces.target)
    group = Image.new("RGB", (640, 360), (120, 130, 140))
    for path, size, place in zip(faces.data[[0, 2]], (280, 160), ((20, 40), (420, 120)), strict=True):
        group.paste(Image.open(path).resize((size, size)), place)
    (folder / "photographs").mkdir()
    group.save(folder / "photographs" / "group.png")
    return SimpleNamespace(
        model=save_model(model, folder / "model.agegender"),
        fitted=model,
        portrait=faces.data[0],
        group=folder / "photographs" / "group.png",
    )


def agegender(*arguments: object, code: int = 0) -> Result:
    done = CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_predict_tells_of_every_face_and_draws_it(given, tmp_path) -> None:
    done = agegender(
        *("predict", "--model", given.model, "--faces", "mtcnn", given.group, given.portrait, "--quiet"),
        *("--json", "--csv", tmp_path / "deep" / "people.csv", "--annotate", tmp_path / "seen"),
    )
    records = json.loads(done.stdout)
    assert [record["picture"] for record in records] == [str(given.group)] * 2 + [str(given.portrait)]
    left, right = records[:2]
    assert left["x"] < 300 < 400 < right["x"]
    assert left["width"] > right["width"]
    expected = given.fitted.predict_faces([given.group], faces="mtcnn")
    assert [record["age"] for record in records[:2]] == pytest.approx(list(expected["age"]), abs=1e-3)
    with (tmp_path / "deep" / "people.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == [record["picture"] for record in records]
    assert [float(row["age"]) for row in rows] == pytest.approx(
        [record["age"] for record in records], abs=1e-3
    )
    drawn = {path.name: images.load(path) for path in (tmp_path / "seen").iterdir()}
    assert sorted(drawn) == sorted(["group.jpg", f"{Path(given.portrait).stem}.jpg"])
    plain = images.load(given.group)
    assert drawn["group.jpg"].shape == plain.shape
    changed = np.abs(drawn["group.jpg"].astype(int) - plain).max(axis=2) > 60
    for face in (left, right):
        row = round(face["y"] + face["height"] / 2)
        assert changed[row, round(face["x"]) - 1 : round(face["x"]) + 3].any()
        assert not changed[row, round(face["x"] + face["width"] / 2)]
    assert "group.png" in agegender("predict", "--model", given.model, "--faces", "mtcnn", given.group).stdout


def test_predict_names_pictures_without_a_face_and_ends_with_1(given, tmp_path) -> None:
    wall = tmp_path / "wall.png"
    Image.new("RGB", (120, 90), (200, 190, 180)).save(wall)
    done = agegender(
        "predict", "--model", given.model, "--faces", "mtcnn", "--json", wall, given.portrait, code=1
    )
    assert "no face found" in done.stderr
    assert "wall.png" in done.stderr
    first, second = json.loads(done.stdout)
    assert first == {
        "picture": str(wall),
        "error": "no face found; a face crop can be read with --faces none",
    }
    assert second["picture"] == str(given.portrait)
    crop = json.loads(agegender("predict", "--model", given.model, "--faces", "none", "--json", wall).stdout)
    assert set(crop[0]) == {"picture", "age", "age_low", "age_high", "gender", "gender_proba"}


def test_predict_finds_faces_from_the_smallest_size_on(given, tmp_path) -> None:
    photograph = Image.new("RGB", (1600, 1200), (120, 130, 140))
    portrait = Image.open(given.portrait)
    photograph.paste(portrait.resize((500, 500)), (100, 100))
    photograph.paste(portrait.resize((40, 40), Image.Resampling.BOX), (1200, 800))
    photograph.save(tmp_path / "large.png")
    command = ("predict", "--model", given.model, "--faces", "mtcnn", "--json", tmp_path / "large.png")
    (only,) = json.loads(agegender(*command).stdout)
    assert only["x"] < 600
    large, tiny = json.loads(agegender(*command, "--min-face-size", 24).stdout)
    assert large["x"] == pytest.approx(only["x"], abs=10)
    assert 1190 < tiny["x"] < tiny["x"] + tiny["width"] < 1250
    table = given.fitted.predict_faces(
        [tmp_path / "large.png"], faces=load_detector("mtcnn", min_face_size=24)
    )
    assert [large["age"], tiny["age"]] == pytest.approx(list(table["age"]), abs=1e-3)
    assert (tiny["reliable"], tiny["doubts"]) == (table["reliable"][1], table["doubts"][1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--min-face-size", 5), "min_face_size=5"),
        (("--min-face-size", 24, "--faces", "none"), "--min-face-size 24 is for photographs"),
    ],
)
def test_predict_refuses_a_smallest_size_that_cannot_be(given, options, message) -> None:
    done = agegender("predict", "--model", given.model, given.portrait, *options, code=1)
    assert message in str(done.exception)


def test_predict_without_a_model_uses_the_one_in_the_package(given) -> None:
    (told,) = json.loads(agegender("predict", "--faces", "mtcnn", "--json", given.portrait).stdout)
    expected = load_pretrained().predict_faces([given.portrait], faces="mtcnn")
    assert told["age"] == pytest.approx(expected["age"][0], abs=1e-3)


def test_predict_imports_no_tensorflow(given) -> None:
    script = (
        "import sys; from agegender.cli import app\n"
        f"app(['predict', '--model', {str(given.model)!r}, '--faces', 'mtcnn', {str(given.portrait)!r}], "
        "standalone_mode=False)\n"
        "assert not {'tensorflow', 'keras', 'matplotlib', 'mtcnn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def write_clip(path: Path, pixels: np.ndarray, n_frames: int) -> Path:
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (320, 240))
    for number in range(n_frames):
        frame = np.full((240, 320, 3), 120, np.uint8)
        frame[20:220, 10 + 6 * number : 210 + 6 * number] = pixels[..., ::-1]
        writer.write(frame)
    writer.release()
    return path


def test_video_follows_a_face_and_writes_every_frame(given, tmp_path) -> None:
    import cv2

    clip = write_clip(tmp_path / "clip.mp4", images.load(given.portrait), 15)
    out = tmp_path / "deep" / "annotated.mp4"
    done = agegender("video", clip, "--out", out, "--model", given.model, "--faces", "mtcnn")
    assert "15 frames, 1 faces followed" in done.stderr.replace("\n", " ")
    assert [path.name for path in out.parent.iterdir()] == ["annotated.mp4"]
    plain, drawn = cv2.VideoCapture(str(clip)), cv2.VideoCapture(str(out))
    changes = []
    while True:
        (more, before), (also, after) = plain.read(), drawn.read()
        assert more == also
        if not more:
            break
        changes.append((np.abs(before.astype(int) - after).max(axis=2) > 80).sum())
    assert len(changes) == 15
    assert min(changes) > 300
    short = agegender(
        "video", clip, "--out", out, "--model", given.model, "--faces", "mtcnn", "--seconds", 0.5
    )
    assert "5 frames" in short.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.mp4", "--out", "a.mp4"], "There is no video 'none.mp4'"),
        (["CLIP", "--out", "a.avi"], "should end in .mp4"),
        (["CLIP", "--out", "a.mp4", "--faces", "none"], "face crops"),
        (["CLIP", "--out", "a.mp4", "--per-second", "0"], "above 0"),
        (["CLIP", "--out", "a.mp4"], "cannot be opened as a video"),
    ],
    ids=["missing", "ending", "faces", "rate", "no video"],
)
def test_video_says_what_is_wrong(given, tmp_path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    clip = tmp_path / "text.mp4"
    clip.write_text("no video")
    arguments = [str(clip) if argument == "CLIP" else argument for argument in arguments]
    done = agegender("video", *arguments, "--model", given.model, code=1)
    assert message in str(done.exception)
    assert not (tmp_path / "a.mp4").exists()


def test_download_verifies_what_is_there_and_names_what_is_not_to_be_had(
    shared: Material, own_home: Path, monkeypatch
) -> None:
    folder = own_home / ".deepface" / "weights"
    folder.mkdir(parents=True)
    content = (shared / "weights/face_detection_yunet_2026may.onnx").read_bytes()
    (folder / "face_detection_yunet_2026may.onnx").write_bytes(content)
    said = agegender("download", "yunet", "--quiet").stdout
    assert load_detector("yunet").sha256 in said
    assert str(folder) in said
    monkeypatch.setenv("AGEGENDER_OFFLINE", "1")
    assert "AGEGENDER_OFFLINE" in str(agegender("download", "arcface", code=1).exception)
    assert "Did you mean 'facenet'" in str(agegender("download", "facenett", code=1).exception)


def reading(x: float, age: float, second: float = 1.0) -> Reading:
    return Reading((x, 10.0, 100.0, 100.0), age, age - 5, age + 5, second)


def test_a_track_averages_what_is_read_along_the_way() -> None:
    tracker = Tracker()
    for number, age in enumerate([30.0, 40.0, 50.0]):
        (track,) = tracker.update([reading(10.0 * number, age)])
    assert track.reading.age == pytest.approx(40)
    assert track.reading.box[0] == 20
    for _ in range(60):
        tracker.update([reading(20, 70.0)])
    assert track.reading.age == pytest.approx(70, abs=0.2)
    assert tracker.n_seen == 1


def test_two_faces_keep_their_tracks_whatever_their_order_and_a_lost_one_is_given_up() -> None:
    tracker = Tracker()
    tracker.update([reading(0, 20), reading(200, 60)])
    tracks = tracker.update([reading(205, 60), reading(5, 20)])
    assert [(track.number, round(track.reading.age)) for track in tracks] == [(0, 20), (1, 60)]
    for _ in range(4):
        assert [track.number for track in tracker.update([reading(205, 60)])] == [1]
    assert [track.number for track in tracker.update([reading(0, 25), reading(205, 60)])] == [1, 2]
    assert tracker.update([]) == []


@pytest.mark.parametrize("size", [(60, 40), (640, 480), (3000, 2000)])
def test_labels_stay_inside_and_off_other_faces(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.full((height, width, 3), 255, np.uint8)
    unit = width / 60
    faces = [
        Marked((0.0, 0.0, 20 * unit, 25 * unit), "31 (25-40) female", "#ffb000"),
        Marked((36 * unit, 12 * unit, 20 * unit, 25 * unit), "47 (40-55) male", "#5ee0ff"),
    ]
    drawn = annotate(pixels, faces)
    assert max(drawn.shape[:2]) >= 480
    factor = drawn.shape[1] / width
    black = (drawn < 40).all(axis=2)
    for face in faces:
        x, y, w, h = (round(side * factor) for side in face.box)
        inside = black[y + h // 4 : y + 3 * h // 4, x + w // 4 : x + 3 * w // 4]
        assert not inside.any()
    assert black.sum() > 0.004 * black.size
