"""What a network needs: its file, found or fetched or carried; its layers; its identity."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import deepface_networks
import networks
import numpy as np
import pytest
from networks import saved

from agegender import backbones
from agegender._networks import deepface
from agegender._networks.location import weights_folder
from agegender._networks.published import PUBLISHED
from agegender.backbones import Backbone, known_backbones
from agegender.exceptions import WeightsError, WeightsNotFoundError
from agegender.runtime import close_networks, open_network

HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(100)
ONNX = b"\x08\x08" + bytes(100)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(networks.plain(), tmp_path / "plain.onnx")


@pytest.fixture
def backbone(path: Path) -> Backbone:
    return Backbone.from_onnx(path)


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for deepface's download; nothing in these tests leaves the machine."""
    asked: list[str] = []

    def unreachable(file_name, source_url, compress_type=None):
        asked.append(file_name)
        raise ValueError("no network here")

    from deepface.commons import weight_utils

    monkeypatch.setattr(weight_utils, "download_weights_if_necessary", unreachable)
    close_networks()
    return asked


def put(name: str, content: bytes = ONNX) -> Path:
    file = weights_folder() / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def serving(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> list[str]:
    """Let deepface's download give these contents, by suffix."""
    from deepface.commons import weight_utils

    names: list[str] = []

    def give(file_name, source_url, compress_type=None):
        names.append(file_name)
        suffix = Path(file_name).suffix
        if suffix not in contents:
            raise ValueError(f"nothing at {source_url}")
        (weights_folder() / file_name).write_bytes(contents[suffix])
        return str(weights_folder() / file_name)

    monkeypatch.setattr(weight_utils, "download_weights_if_necessary", give)
    return names


# Names and files


def test_deepface_s_networks_are_known_with_what_they_need() -> None:
    assert {"arcface", "facenet", "facenet512", "openface", "compact"} < set(known_backbones())
    put("arcface_weights.onnx")
    put("facenet_weights.onnx")
    arcface, facenet = Backbone.load("arcface"), Backbone.load("facenet")
    assert (arcface.color, arcface.mean, arcface.scale, arcface.input_size) == (
        "bgr",
        127.5,
        1 / 128,
        (112, 112),
    )
    assert (facenet.color, facenet.mean, facenet.scale, facenet.input_size) == (
        "bgr",
        127.5,
        1 / 127.5,
        (160, 160),
    )
    assert "MIT" in arcface.licence
    assert "MIT" in facenet.licence


@pytest.mark.parametrize(
    ("name", "message"),
    [("arcfase", "Did you mean 'arcface'"), ("vgg", "arcface, facenet"), ("model.h5", "any .onnx file")],
)
def test_an_unknown_name_is_answered_with_those_there_are(name, message) -> None:
    with pytest.raises(ValueError, match=message):
        Backbone.load(name)


def test_the_onnx_form_goes_first_and_the_engine_chooses() -> None:
    put("openface_weights.h5", HDF5)
    assert Backbone.load("openface").format == "keras"
    put("openface_weights.onnx")
    assert Backbone.load("openface").format == "onnx"
    assert Backbone.load("openface", engine="keras").path.suffix == ".h5"
    with pytest.raises(ValueError, match="engine='tensorflow'"):
        Backbone.load("openface", engine="tensorflow")


def test_weights_named_by_their_path_are_taken(tmp_path) -> None:
    (tmp_path / "mine.h5").write_bytes(HDF5)
    assert Backbone.load("facenet", weights=tmp_path / "mine.h5").path == tmp_path / "mine.h5"
    with pytest.raises(WeightsNotFoundError, match=r"absent\.h5"):
        Backbone.load("facenet", weights=tmp_path / "absent.h5")
    with pytest.raises(WeightsError, match="engine='onnx'"):
        Backbone.load("facenet", weights=tmp_path / "mine.h5", engine="onnx")


def test_missing_weights_are_named_with_folder_addresses_and_alternatives(no_download) -> None:
    with pytest.raises(WeightsNotFoundError) as caught:
        Backbone.load("arcface")
    said = str(caught.value)
    for part in (
        "arcface_weights.onnx",
        "arcface_weights.h5",
        str(weights_folder()),
        "weights=",
        "from_onnx",
    ):
        assert part in said
    for suffix in (".onnx", ".h5"):
        assert all(url in said for url in PUBLISHED["arcface"].urls(suffix))
    assert [Path(name).suffix for name in no_download] == [".onnx", ".h5"]


def test_offline_nothing_is_tried(monkeypatch, no_download) -> None:
    monkeypatch.setenv("AGEGENDER_OFFLINE", "1")
    with pytest.raises(WeightsNotFoundError, match="AGEGENDER_OFFLINE"):
        Backbone.load("facenet")
    assert no_download == []


def test_a_download_comes_under_another_name_and_is_renamed(monkeypatch) -> None:
    names = serving(monkeypatch, {".onnx": ONNX})
    backbone = Backbone.load("facenet")
    assert backbone.path == weights_folder() / "facenet_weights.onnx"
    assert names != ["facenet_weights.onnx"]
    assert [file.name for file in weights_folder().iterdir()] == ["facenet_weights.onnx"]


def test_where_one_form_is_not_to_be_had_the_other_is_fetched(monkeypatch) -> None:
    serving(monkeypatch, {".h5": HDF5})
    assert Backbone.load("openface").path.name == "openface_weights.h5"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><title>quota</title>", "web page"),
        (b"", "0 bytes"),
        (HDF5, "137,026,640"),  # the published file's size is known
    ],
    ids=["html", "empty", "cut short"],
)
def test_a_download_that_is_not_the_file_is_never_kept(monkeypatch, content, message) -> None:
    serving(monkeypatch, {".h5": content})
    with pytest.raises(WeightsNotFoundError, match=message):
        Backbone.load("arcface", engine="keras")
    assert list(weights_folder().iterdir()) == []


def test_a_download_with_another_sha256_is_refused(monkeypatch) -> None:
    monkeypatch.setitem(PUBLISHED["facenet512"].known, ".h5", ("0" * 64, len(HDF5)))
    serving(monkeypatch, {".h5": HDF5})
    with pytest.raises(WeightsNotFoundError, match="sha256"):
        Backbone.load("facenet512", engine="keras")


def test_a_web_page_under_the_name_of_weights_is_told_from_them() -> None:
    file = put("openface_weights.h5", b"<html>Not found</html>")
    with pytest.raises(WeightsError, match="web page") as caught:
        Backbone.load("openface")
    assert str(file) in str(caught.value)


def test_another_network_s_onnx_file_is_refused_at_first_use(path) -> None:
    put("arcface_weights.onnx", path.read_bytes())
    with pytest.raises(WeightsError, match="arcface_weights"):
        Backbone.load("arcface").resolve_layer("embedding")


def test_an_onnx_file_with_another_embedding_is_refused_at_first_use(monkeypatch) -> None:
    b = networks.Builder()
    x = b.add("Flatten", b.add("GlobalAveragePool", b.conv("picture", 3, 16, strides=[4, 4])))
    b.dense(x, 16, 128, name="out")
    saved(b.model({"out": ["N", 128]}, ["N", 3, 112, 112]), put("arcface_weights.onnx"))
    with pytest.raises(WeightsError, match=r"128 numbers; that of arcface has 512.*arcface_weights\.onnx"):
        Backbone.load("arcface").resolve_layer("embedding")


# Keras weights


@pytest.fixture(scope="module")
def openface(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The smallest of deepface's networks, with random weights."""
    model = deepface_networks.build("openface")
    return deepface_networks.save(
        model, tmp_path_factory.mktemp("openface") / "openface_weights.h5"
    ).read_bytes()


@pytest.mark.slow
def test_openface_runs_from_its_h5_file(openface) -> None:
    put("openface_weights.h5", openface)
    backbone = Backbone.load("openface")
    assert {layer: backbone.output_shape(layer) for layer in ("embedding", "penultimate", "feature_map")} == {
        "embedding": (128,),
        "penultimate": (736,),
        "feature_map": (3, 3, 736),
    }
    pictures = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    np.testing.assert_allclose(
        np.linalg.norm(open_network(backbone, "embedding")(pictures), axis=1), 1, rtol=1e-5
    )


def test_layer_names_do_not_depend_on_what_was_built_before(openface) -> None:
    put("openface_weights.h5", openface)
    first = deepface.build_keras(PUBLISHED["openface"], weights_folder() / "openface_weights.h5")
    again = deepface.build_keras(PUBLISHED["openface"], weights_folder() / "openface_weights.h5")
    assert [layer.name for layer in first.layers] == [layer.name for layer in again.layers]


def damaged_by_nan(content: bytes, tmp_path: Path) -> bytes:
    import h5py

    file = tmp_path / "nan.h5"
    file.write_bytes(content)
    with h5py.File(file, "r+") as weights:
        names: list[str] = []
        weights.visit(names.append)
        kernel = weights[next(name for name in names if name.endswith("kernel:0") or name.endswith("kernel"))]
        kernel[...] = np.nan
    return file.read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "another network's", "nan"])
def test_no_prediction_comes_from_weights_that_were_not_loaded(openface, tmp_path, damage) -> None:
    from deepface.commons import weight_utils

    content, name, message = {
        "truncated": (openface[: len(openface) // 2], "openface", "does not contain the weights of openface"),
        "another network's": (openface, "facenet", "does not contain the weights of facenet"),
        "nan": (damaged_by_nan(openface, tmp_path), "openface", "damaged"),
    }[damage]
    file = put(f"{name}_weights.h5", content)
    backbone = Backbone.load(name, weights=file)
    original = weight_utils.download_weights_if_necessary
    for _ in range(2 if name == "openface" else 1):  # a failure leaves nothing that a second try would run on
        with pytest.raises(WeightsError, match=message) as caught:
            open_network(backbone, "embedding")
        assert str(file) in str(caught.value)
        assert "download" in str(caught.value).lower()
    assert weight_utils.download_weights_if_necessary is original


# Layers


@pytest.mark.parametrize(
    "layer", ["embedding", "penultimate", "pooled", "feature_map", "input", "hidden", "pooled(map)"]
)
def test_what_a_layer_resolves_to_resolves_to_itself(backbone, layer) -> None:
    name = backbone.resolve_layer(layer)
    assert backbone.resolve_layer(name) == name
    assert backbone.output_shape(name) == backbone.output_shape(layer)


def test_a_tensor_whose_name_is_a_word_of_ours_keeps_a_name_of_its_own(tiny_onnx) -> None:
    backbone = Backbone.from_onnx(tiny_onnx)  # its penultimate tensor is called "pooled"
    assert backbone.resolve_layer("pooled") == "pooled(relu2)"
    assert backbone.resolve_layer("penultimate") == "tensor(pooled)"
    assert backbone.resolve_layer("tensor(pooled)") == "tensor(pooled)"
    pictures = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)
    rows = [open_network(backbone, layer)(pictures) for layer in ("penultimate", "tensor(pooled)", "flat")]
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("penultimte", "plain: .*Did you mean 'penultimate'"),
        ("hiden", "Did you mean 'hidden'"),
        ("pooled(hidden)", "no layer"),
        ("pooled(absent)", "no layer"),
        (7, "no layer '7'"),
    ],
)
def test_an_unknown_layer_is_answered_with_those_there_are(backbone, layer, message) -> None:
    with pytest.raises(ValueError, match=message):
        backbone.resolve_layer(layer)


def test_a_network_without_a_dense_layer_says_so(tmp_path) -> None:
    backbone = Backbone.from_onnx(saved(networks.squeezed(), tmp_path / "squeezed.onnx"))
    with pytest.raises(ValueError, match="no dense layer"):
        backbone.output_shape("penultimate")


def test_tensors_are_listed_in_their_order_with_their_shapes(backbone) -> None:
    listed = [
        "conv_0",
        "batchnormalization_1",
        "prelu_2",
        "conv_3",
        "map",
        "flat",
        "matmul_6",
        "hidden",
        "out",
    ]
    assert backbone.layers == listed
    assert [backbone.output_shape(name) for name in listed[-5:]] == [(4, 4, 32), (512,), (20,), (20,), (8,)]


# Identity


def test_backbones_are_equal_by_what_decides_their_numbers(path, tmp_path) -> None:
    elsewhere = tmp_path / "copy.onnx"
    elsewhere.write_bytes(path.read_bytes())
    backbone = Backbone.from_onnx(path)
    assert backbone == Backbone.from_onnx(elsewhere, name="another")
    assert len({backbone, Backbone.from_onnx(elsewhere)}) == 1
    other = [
        Backbone.from_onnx(path, color="bgr"),
        Backbone.from_onnx(path, mean=0.0),
        Backbone.from_onnx(path, scale=(1.0, 1.0, 2.0)),
        Backbone.from_onnx(saved(networks.squeezed(), tmp_path / "squeezed.onnx")),
    ]
    assert len({backbone, *other}) == 5
    assert backbone != "plain"


def test_nothing_about_a_backbone_can_be_changed(backbone) -> None:
    with pytest.raises(AttributeError):
        backbone.mean = 0.0
    assert copy.deepcopy([backbone])[0] is backbone
    assert copy.copy(backbone) is backbone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"color": "grb"}, "color='grb'"),
        ({"mean": (1.0, 2.0)}, "mean"),
        ({"mean": float("nan")}, "mean"),
        ({"scale": 0.0}, "scale"),
    ],
)
def test_a_bad_normalisation_is_refused_with_the_rule(path, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Backbone.from_onnx(path, **options)


def test_it_pickles_without_its_network_and_finds_it_again(backbone) -> None:
    pickled = pickle.dumps(backbone)
    assert len(pickled) < 1500
    again = pickle.loads(pickled)
    assert again == backbone
    assert again.output_shape("embedding") == (8,)


def test_a_file_with_new_content_is_not_taken_for_the_old_one(backbone, path) -> None:
    pickled = pickle.dumps(backbone)
    saved(networks.squeezed(), path)
    os.utime(path, ns=(1, 1))
    again = pickle.loads(pickled)
    with pytest.raises(WeightsNotFoundError, match="another file lies now") as caught:
        again.read_bytes()
    for part in (backbone.sha256, f"{backbone.size:,} bytes", "networks"):
        assert part in str(caught.value)


def test_a_copy_put_where_the_error_says_is_found(backbone, path, own_home) -> None:
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(WeightsNotFoundError) as caught:
        backbone.ensure_file()
    place = own_home / "agegender" / "networks" / f"{backbone.sha256}.onnx"
    assert str(place) in str(caught.value)
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    assert backbone.ensure_file() == place


def test_small_networks_are_carried_and_large_ones_are_not(backbone, path, monkeypatch, own_home) -> None:
    arrived = pickle.loads(pickle.dumps(backbone.with_content()))
    monkeypatch.setattr(backbones, "CARRIED_BYTES", backbone.size - 1)
    assert backbone.with_content() is backbone
    path.unlink()
    assert len(arrived.read_bytes()) == backbone.size
    assert arrived.ensure_file() == own_home / "agegender" / "networks" / f"{backbone.sha256}.onnx"


def test_deepface_s_files_are_found_again_in_another_home(monkeypatch, tmp_path) -> None:
    put("facenet_weights.onnx")
    pickled = pickle.dumps(Backbone.load("facenet"))
    (weights_folder() / "facenet_weights.onnx").unlink()
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path / "elsewhere"))
    again = pickle.loads(pickled)
    with pytest.raises(WeightsNotFoundError, match=r"is published at .*facenet_weights\.onnx"):
        again.ensure_file()
    file = put("facenet_weights.onnx")
    assert again.ensure_file() == file


def test_deepface_s_files_are_fetched_again_where_they_are_the_same(monkeypatch) -> None:
    file = put("facenet_weights.onnx")
    backbone = Backbone.load("facenet")
    file.unlink()
    serving(monkeypatch, {".onnx": ONNX})
    assert backbone.ensure_file() == file
    file.unlink()
    serving(monkeypatch, {".onnx": ONNX + b"another"})
    with pytest.raises(WeightsNotFoundError, match=backbone.sha256):
        backbone.ensure_file()


# Keras models


@pytest.fixture(scope="module")
def keras_model():
    import keras

    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((16, 16, 3)),
        keras.layers.Conv2D(8, 3, strides=4, name="map"),
        keras.layers.GlobalAveragePooling2D(name="average"),
        keras.layers.Dense(5, name="out"),
    ]
    model = keras.Sequential(layers)
    model.compile(optimizer="adam", loss="mse")
    return model


def test_a_keras_model_s_layers_are_found_from_its_structure(keras_model) -> None:
    backbone = Backbone.from_keras(keras_model, name="mine")
    assert backbone.layers == ["map", "average", "out"]
    assert [
        backbone.resolve_layer(layer) for layer in ("embedding", "penultimate", "feature_map", "pooled")
    ] == [
        "out",
        "average",
        "map",
        "pooled(map)",
    ]
    assert backbone.output_shape("map") == (4, 4, 8)
    assert (backbone.name, backbone.format, backbone.input_size) == ("mine", "keras", (16, 16))


def test_training_the_model_further_leaves_the_backbone_as_it_was(keras_model) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    backbone = Backbone.from_keras(keras_model)
    before = open_network(backbone, "embedding")(pictures)
    assert Backbone.from_keras(keras_model) == backbone
    keras_model.fit(pictures / 255.0, np.ones((4, 5)), verbose=0)
    assert Backbone.from_keras(keras_model) != backbone
    close_networks()
    np.testing.assert_array_equal(open_network(backbone, "embedding")(pictures), before)


def test_a_keras_model_loaded_from_a_file_is_the_same_backbone(keras_model, tmp_path) -> None:
    import keras

    keras_model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert Backbone.from_keras(loaded) == Backbone.from_keras(keras_model)


def test_numbers_of_an_array_are_those_of_a_tuple(path) -> None:
    mean = 255 * np.array([0.485, 0.456, 0.406])
    backbone = Backbone.from_onnx(path, mean=mean, scale=np.float32(0.5))
    assert backbone.mean == tuple(mean)
    assert backbone == Backbone.from_onnx(path, mean=tuple(mean), scale=0.5)
    with pytest.raises(ValueError, match=r"mean=array\(\[1., 2.\]\) should be one number, or three"):
        Backbone.from_onnx(path, mean=np.array([1.0, 2.0]))


def test_a_small_keras_model_travels_inside_its_pickle(keras_model, monkeypatch, tmp_path) -> None:
    pickled = pickle.dumps(Backbone.from_keras(keras_model))
    monkeypatch.setenv("AGEGENDER_HOME", str(tmp_path / "another machine"))
    close_networks()
    assert pickle.loads(pickled).output_shape("embedding") == (5,)
    assert not (tmp_path / "another machine").exists()


def test_a_large_keras_model_is_written_once_and_found_by_its_sha256(
    keras_model, monkeypatch, own_home
) -> None:
    monkeypatch.setattr(backbones, "CARRIED_BYTES", 1000)
    backbone = Backbone.from_keras(keras_model)
    for _ in range(2):
        pickled = pickle.dumps(backbone)
    assert len(pickled) < 1500
    assert [file.name for file in (own_home / "agegender" / "networks").iterdir()] == [
        f"{backbone.sha256}.keras"
    ]
    pictures = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        open_network(pickle.loads(pickled), "embedding")(pictures),
        open_network(backbone, "embedding")(pictures),
    )


def with_lambda():
    import keras

    layers = [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Lambda(lambda x: x * 2)]
    return keras.Sequential(layers)


def of_any_size():
    import keras

    return keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()])


def of_a_class():
    import keras

    class Own(keras.Model):
        def call(self, x):
            return x

    return Own()


def of_maps():
    import keras

    return keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (with_lambda, "Lambda"),
        (of_any_size, r"input_shape=\(height, width, 3\)"),
        (of_a_class, "functional or sequential"),
        (of_maps, "no output of shape"),
    ],
)
def test_a_keras_model_that_cannot_serve_is_refused_at_once(make, message) -> None:
    with pytest.raises((ValueError, WeightsError), match=message):
        Backbone.from_keras(make())


def test_naming_a_network_imports_no_framework(own_home) -> None:
    put("openface_weights.h5", HDF5)
    script = """
import sys
import agegender.backbones, agegender.runtime
heavy = {"tensorflow", "keras", "onnx", "onnxruntime", "deepface", "cv2", "pandas", "h5py"}
print(sorted(heavy & set(sys.modules)))
agegender.backbones.Backbone.load("openface")
print(sorted((heavy - {"deepface"}) & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["[]", "[]"]
