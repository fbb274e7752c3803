"""Networks by name: deepface's, InsightFace's packs, UniFace's weights, and names of one's own."""

from __future__ import annotations

import importlib
import inspect
import json
import shutil
import sys
import zipfile
from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from agegender import Backbone, EmbeddingExtractor
from agegender._networks.location import insightface_folder, uniface_folder, weights_folder
from agegender._networks.of_deepface import OF_DEEPFACE
from agegender._networks.published import PUBLISHED
from agegender.backbones import describe_backbones, known_backbones, register_backbone
from agegender.cli import app
from agegender.exceptions import WeightsError, WeightsNotFoundError, WeightsWarning
from agegender.runtime import open_network

DOCS = Path(__file__).resolve().parents[2] / "docs"
ONNX = b"\x08\x08" + bytes(64)
HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(64)
# Our name, the module and the constant in which deepface says where its files are.
ADDRESSES = [
    ("arcface", "ArcFace", "WEIGHTS_URL"),
    ("facenet", "Facenet", "FACENET128_WEIGHTS"),
    ("facenet512", "Facenet", "FACENET512_WEIGHTS"),
    ("openface", "OpenFace", "WEIGHTS_URL"),
    ("vggface", "VGGFace", "WEIGHTS_URL"),
    ("ghostfacenet", "GhostFaceNet", "WEIGHTS_URL"),
    ("sface", "SFace", "WEIGHTS_URL"),
    ("deepid", "DeepID", "WEIGHTS_URL"),
    ("fbdeepface", "FbDeepFace", "WEIGHTS_URL"),
]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of InsightFace and UniFace of this test's own; no downloads."""
    monkeypatch.setenv("INSIGHTFACE_HOME", str(tmp_path / "insightface"))
    monkeypatch.setenv("UNIFACE_CACHE_DIR", str(tmp_path / "uniface"))
    monkeypatch.setenv("AGEGENDER_OFFLINE", "1")


def put(path: Path, content: bytes = ONNX) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def face_network(n_numbers: int = 512, seed: int = 0) -> onnx.ModelProto:
    """A small network of the layout of InsightFace's: (n, 3, 112, 112) in, one embedding out."""
    b = networks.Builder(seed)
    x = b.add("Relu", b.conv("picture", 3, 8, strides=[8, 8]))
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    b.dense(x, 8, n_numbers, name="out")
    return b.model({"out": ["N", n_numbers]}, ["N", 3, 112, 112])


@pytest.mark.parametrize(("name", "module", "constant"), ADDRESSES)
@pytest.mark.parametrize("form", ["onnx", "tf"])
def test_files_and_addresses_are_those_of_deepface(name: str, module: str, constant: str, form: str) -> None:
    suffix = {"onnx": ".onnx", "tf": ".h5"}[form]
    if suffix not in PUBLISHED[name].files:
        assert PUBLISHED[name].no_keras
        return
    found = importlib.import_module(f"deepface.models.facial_recognition.{form}.{module}")
    urls = getattr(found, constant)
    assert PUBLISHED[name].urls(suffix) == ([urls] if isinstance(urls, str) else urls)
    assert f'"{PUBLISHED[name].files[suffix]}"' in inspect.getsource(found)


def test_the_file_of_deepface_s_buffalo_l_is_where_deepface_looks_for_it() -> None:
    from deepface.models.facial_recognition.onnx import Buffalo_L

    source = inspect.getsource(Buffalo_L)
    folder, file = PUBLISHED["buffalo_l"].files[".onnx"].split("/")
    assert f'sub_dir = "{folder}"' in source
    assert f'model_file = "{file}"' in source
    assert f'"{PUBLISHED["buffalo_l"].urls(".onnx")[0]}"' in source


def test_all_of_deepface_s_networks_are_known_in_its_own_spelling() -> None:
    from deepface.modules.modeling import AVAILABLE_MODELS

    theirs = {published.spelled for published in OF_DEEPFACE}
    assert theirs | {"Dlib"} == set(AVAILABLE_MODELS["facial_recognition"])


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("VGG-Face", "vggface"),
        ("Buffalo_L", "buffalo_l"),
        ("DeepFace", "fbdeepface"),
        ("SFACE", "sface"),
    ],
)
def test_deepface_s_spellings_are_understood(monkeypatch, spelled: str, name: str) -> None:
    monkeypatch.delitem(PUBLISHED[name].known, ".onnx", raising=False)
    put(weights_folder() / PUBLISHED[name].files[".onnx"])
    backbone = Backbone.load(spelled)
    assert (backbone.name, backbone.input_size, backbone.color) == (
        name,
        PUBLISHED[name].input_size,
        PUBLISHED[name].color,
    )


def test_dlib_is_refused_with_the_reason() -> None:
    for name in ("Dlib", "dlib"):
        with pytest.raises(ValueError, match=r"\.dat file that dlib's own code alone can run"):
            Backbone.load(name)


@pytest.mark.parametrize("name", ["sface", "fbdeepface", "insightface/buffalo_l"])
def test_a_keras_form_that_there_is_not_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name} has no Keras form.*engine='auto'"):
        Backbone.load(name, engine="keras")
    with pytest.raises(ValueError, match="has no Keras form"):
        Backbone.load(name, weights=put(tmp_path / "weights.h5", HDF5))


def test_what_is_missing_says_which_file_to_put_where() -> None:
    with pytest.raises(WeightsNotFoundError) as caught:
        Backbone.load("insightface/buffalo_l")
    said = str(caught.value)
    assert f"Put buffalo_l/w600k_r50.onnx into {insightface_folder()} (INSIGHTFACE_HOME moves it)" in said
    assert "releases/download/v0.7/buffalo_l.zip" in said


def test_a_pack_is_fed_as_insightface_feeds_it() -> None:
    file = put(insightface_folder() / "buffalo_s" / "w600k_mbf.onnx", face_network().SerializeToString())
    with pytest.warns(WeightsWarning, match="13,616,099"):
        backbone = Backbone.load("insightface/buffalo_s")
    assert backbone.path == file
    assert (backbone.color, backbone.mean, backbone.scale, backbone.input_size) == (
        "rgb",
        127.5,
        1 / 127.5,
        (112, 112),
    )
    assert "non-commercial" in str(backbone.licence)
    assert backbone.output_shape("embedding") == (512,)


def test_embeddings_of_a_pack_are_those_of_insightface_s_own_code() -> None:
    model_zoo = pytest.importorskip("insightface.model_zoo", reason="pip install --no-deps insightface")
    file = put(insightface_folder() / "mine" / "w600k_mbf.onnx", face_network().SerializeToString())
    pictures = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    theirs = model_zoo.get_model(str(file)).get_feat([picture[..., ::-1] for picture in pictures])
    ours = open_network(Backbone.load("insightface/mine"), "embedding")(pictures)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_real_network_that_normalises_itself_is_told_by_insightface_s_rule(shared: Path) -> None:
    source = shared / "weights" / "mobilefacenet_arcface.onnx"
    named = onnx.load(source)
    for node in named.graph.node:
        node.name = node.output[0]  # as in the files from MXNet that InsightFace has
    file = put(insightface_folder() / "mxnet" / "model.onnx", named.SerializeToString())
    backbone = Backbone.load("insightface/mxnet")
    assert (backbone.color, backbone.mean, backbone.scale) == ("rgb", 0.0, 1.0)
    put(insightface_folder() / "nameless" / "model.onnx", source.read_bytes())
    assert (Backbone.load("insightface/nameless").mean, Backbone.load("insightface/nameless").scale) == (
        0.0,
        1.0,
    )
    model_zoo = pytest.importorskip("insightface.model_zoo", reason="pip install --no-deps insightface")
    picture = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    theirs = model_zoo.get_model(str(file)).get_feat(picture[..., ::-1])
    np.testing.assert_allclose(
        open_network(backbone, "embedding")(picture[None]), theirs, rtol=1e-3, atol=1e-4
    )


def test_a_pack_of_one_s_own_is_read_as_insightface_would_and_by_file() -> None:
    folder = insightface_folder() / "mine"
    detector = networks.Builder()
    detector.conv("picture", 3, 8, strides=[8, 8], name="map")
    put(
        folder / "a_det.onnx",
        detector.model({"map": ["N", 8, 24, 24]}, ["N", 3, 192, 192]).SerializeToString(),
    )
    recognition = put(folder / "b_rec.onnx", face_network(seed=1).SerializeToString())
    assert Backbone.load("insightface/mine").path == recognition
    assert Backbone.load("insightface/mine/b_rec.onnx") == Backbone.load("insightface/mine")
    recognition.unlink()
    with pytest.raises(WeightsError, match=r"No file in .*mine .*a_det\.onnx.*Name the file"):
        Backbone.load("insightface/mine")
    with pytest.raises(WeightsNotFoundError, match="lie the packs: mine"):
        Backbone.load("insightface/yours")


@pytest.mark.parametrize("inside", ["", "antelopev2/"])
def test_a_pack_is_fetched_and_unpacked_whole(monkeypatch, tmp_path: Path, inside: str) -> None:
    from deepface.commons import weight_utils

    content = face_network().SerializeToString()
    archive = tmp_path / "antelopev2.zip"
    with zipfile.ZipFile(archive, "w") as pack:
        for name in ("genderage.onnx", "glintr100.onnx"):
            pack.writestr(f"{inside}{name}", content)
    asked: list[str] = []

    def give(file_name: str, source_url: list[str]) -> None:
        asked.extend(source_url)
        shutil.copy(archive, file_name)

    monkeypatch.setattr(weight_utils, "download_weights_if_necessary", give)
    monkeypatch.delenv("AGEGENDER_OFFLINE")
    folder = insightface_folder() / "antelopev2"
    with pytest.raises(WeightsNotFoundError, match=r"glintr100\.onnx in .* has sha256"):
        Backbone.load("insightface/antelopev2")
    assert not (folder / "glintr100.onnx").exists()
    monkeypatch.delitem(PUBLISHED["insightface/antelopev2"].known, ".onnx")
    assert Backbone.load("insightface/antelopev2").path == folder / "glintr100.onnx"
    assert sorted(path.name for path in folder.iterdir()) == ["genderage.onnx", "glintr100.onnx"]
    assert asked[0].endswith("/antelopev2.zip")
    monkeypatch.setenv("AGEGENDER_MIRROR", "https://files.example/weights")
    assert PUBLISHED["insightface/antelopev2"].urls(".onnx") == [
        "https://files.example/weights/antelopev2.zip"
    ]


def test_uniface_s_folder_is_read_without_its_package() -> None:
    file = put(uniface_folder() / "sphere20.onnx", face_network().SerializeToString())
    with pytest.warns(WeightsWarning, match="c02878cf"):
        backbone = Backbone.load("uniface/sphere20")
    assert (backbone.path, backbone.color, backbone.mean, backbone.scale) == (file, "rgb", 127.5, 1 / 127.5)
    assert backbone.output_shape("embedding") == (512,)


# Names of one's own


@pytest.fixture
def own_name():
    yield "my-network"
    register_backbone("my-network", None)


def test_a_registered_name_is_found_everywhere(own_name: str, tiny_onnx: Path, paths: list[str]) -> None:
    register_backbone(own_name, tiny_onnx)
    assert own_name in known_backbones()
    rows = EmbeddingExtractor(own_name, layer="embedding", cache=None).transform(paths[:2])
    expected = EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), layer="embedding", cache=None).transform(
        paths[:2]
    )
    np.testing.assert_array_equal(rows, expected)
    with pytest.raises(ValueError, match="weights="):
        Backbone.load(own_name, weights=tiny_onnx)
    register_backbone(own_name, None)
    with pytest.raises(ValueError, match="There is no backbone 'my-network'"):
        Backbone.load(own_name)


def test_a_registered_function_is_called_when_it_is_asked_for(own_name: str, backbone: Backbone) -> None:
    calls = []
    register_backbone(own_name, lambda: calls.append(1) or backbone)
    assert calls == []
    assert Backbone.load(own_name) is backbone
    register_backbone(own_name, lambda: "a text")
    with pytest.raises(WeightsError, match="gives a str; it should be a Backbone"):
        Backbone.load(own_name)


@pytest.mark.parametrize("name", ["ArcFace", "compact", "vgg-face", "Dlib"])
def test_a_name_that_means_another_network_cannot_be_registered(name: str, backbone: Backbone) -> None:
    with pytest.raises(ValueError, match=r"already means|cannot be used here"):
        register_backbone(name, backbone)


@pytest.mark.parametrize("name", ["", "a b", "x.onnx", "/x", "x/"])
def test_what_is_no_name_cannot_be_registered(name: str, backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        register_backbone(name, backbone)


def test_what_is_no_network_cannot_be_registered(own_name: str) -> None:
    with pytest.raises(TypeError, match="not int"):
        register_backbone(own_name, 3)


def test_an_installed_package_names_networks_by_entry_points(
    tmp_path: Path, monkeypatch, tiny_onnx: Path
) -> None:
    (tmp_path / "their_networks.py").write_text(
        f"from agegender import Backbone\ndef make(): return Backbone.from_onnx({str(tiny_onnx)!r})\n"
    )
    info = tmp_path / "their_networks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-networks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[agegender.backbones]\ntheirs = their_networks:make\nbroken = their_networks:nothing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"theirs", "broken"} < set(known_backbones())
    assert "their_networks" not in sys.modules
    assert Backbone.load("theirs") == Backbone.from_onnx(tiny_onnx)
    with pytest.raises(WeightsError, match=r"their_networks:nothing.*their-networks cannot be imported"):
        Backbone.load("broken")


# What there is


def test_every_name_is_described_whether_it_is_here_or_not(own_name: str, backbone: Backbone) -> None:
    register_backbone(own_name, backbone)
    put(weights_folder() / "openface_weights.h5", HDF5)
    table = describe_backbones().set_index("name")
    assert set(table.index) == set(known_backbones())
    assert table.loc["openface", ["here", "size"]].tolist() == [True, len(HDF5)]
    assert table.loc["openface", "path"] == str(weights_folder() / "openface_weights.h5")
    assert table.loc["insightface/buffalo_l", ["here", "size", "embedding"]].tolist() == [
        False,
        174_383_860,
        512,
    ]
    assert table.loc[own_name, "input"] == "24 × 24 RGB"
    assert [name for name in table.index if "real weights" in table.loc[name, "checked"]] == ["compact"]
    assert [name for name in table.index if table.loc[name, "worth"]] == ["compact"]


def test_a_registered_name_that_fails_is_listed_with_the_reason(own_name: str) -> None:
    register_backbone(own_name, lambda: Backbone.from_onnx("gone.onnx"))
    row = describe_backbones().set_index("name").loc[own_name]
    assert not row["here"]
    assert "gone.onnx" in row["checked"]


def test_the_command_lists_every_name_and_tells_one_in_full() -> None:
    listed = CliRunner().invoke(app, ["networks", "--json"])
    assert {entry["name"] for entry in json.loads(listed.stdout)} == set(known_backbones())
    here = CliRunner().invoke(app, ["networks", "--here"], env={"COLUMNS": "200"})
    assert "compact" in here.stdout
    assert "arcface" not in here.stdout
    one = CliRunner().invoke(app, ["networks", "VGG-Face"])
    assert "vgg_face_weights.onnx (not here)" in one.stdout
    assert "VGG, Oxford: for non-commercial research" in one.stdout
    unknown = CliRunner().invoke(app, ["networks", "arcfase"])
    assert "Did you mean 'arcface'?" in str(unknown.exception)


@pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is not beside the tests")
def test_the_table_in_the_documentation_is_what_there_is() -> None:
    lines = (DOCS / "networks.md").read_text(encoding="utf-8").splitlines()
    written = {
        line.split("`")[1]: [cell.strip() for cell in line.split("|")] for line in lines if line[:3] == "| `"
    }
    table = describe_backbones().set_index("name")
    assert set(written) == set(table.index)
    for name, row in table.iterrows():
        shown = [row["input"], row["fed_as"], f"{row['embedding']:,}", row["checked"]]
        assert [*written[name][4:7], written[name][8]] == shown
