"""Safe model files: what comes back, what is refused, and that nothing is run."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import joblib
import numpy as np
import onnx
import pandas as pd
import pytest
import sklearn
from onnx import TensorProto, helper, numpy_helper

import agegender
from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    Backbone,
    ConvHead,
    DenseHead,
    EmbeddingExtractor,
    FineTuneHead,
    load_model,
    save_model,
)
from agegender._safe.absent_head import AbsentHead
from agegender.exceptions import ModelFileError, ModelVersionWarning
from agegender.fine_tuning import Augmentation
from agegender.views import View

N_ROWS = 48


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N_ROWS, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def target() -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.column_stack([rng.integers(10, 70, N_ROWS), np.arange(N_ROWS) % 2])


@pytest.fixture(scope="module")
def classifier(rows: np.ndarray, target: np.ndarray) -> AgeGenderClassifier:
    return AgeGenderClassifier(DenseHead(units=(8,)), epochs=2, random_state=0).fit(rows, target)


@pytest.fixture(scope="module")
def pipeline(
    tiny_onnx: Path, drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory
) -> AgeGenderPipeline:
    paths = sorted(map(str, drawn_faces.glob("*.jpg")))
    labels = [[int(part) for part in Path(path).name.split("_")[:2]] for path in paths]
    extractor = EmbeddingExtractor(
        Backbone.from_onnx(tiny_onnx), cache=str(tmp_path_factory.mktemp("cache")), crop=0.05
    )
    model = AgeGenderPipeline(extractor, AgeGenderClassifier(epochs=2, random_state=0))
    return model.fit(paths, labels)


@pytest.fixture(scope="module")
def pictures(drawn_faces: Path) -> list[str]:
    return sorted(map(str, drawn_faces.glob("*.jpg")))[:12]


@pytest.fixture
def saved(classifier: AgeGenderClassifier, tmp_path: Path) -> Path:
    return save_model(classifier, tmp_path / "model.agegender")


def read(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write members back with a manifest that is right about them, as an attacker would."""
    manifest = json.loads(members["manifest.json"])
    manifest["members"] = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for name, content in members.items()
        if name != "manifest.json"
    }
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {**members, "manifest.json": json.dumps(manifest).encode()}.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=compression)
    return path


def change(path: Path, suffix: str, edit: Callable[[bytes], bytes]) -> Path:
    """Change the one member whose name ends in `suffix`."""
    members = read(path)
    (name,) = (name for name in members if name.endswith(suffix))
    members[name] = edit(members[name])
    return rewrite(path, members)


def change_model(path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    def edited(content: bytes) -> bytes:
        entry = json.loads(content)
        edit(entry)
        return json.dumps(entry).encode()

    return change(path, "model.json", edited)


def change_onnx(path: Path, edit: Callable[[Any], None]) -> Path:
    def edited(content: bytes) -> bytes:
        model = onnx.load_model_from_string(content)
        edit(model)
        return model.SerializeToString()

    return change(path, ".onnx", edited)


def test_a_loaded_pipeline_predicts_the_same_bit_for_bit(
    pipeline: AgeGenderPipeline, pictures: list[str], tmp_path: Path
) -> None:
    loaded = load_model(save_model(pipeline, tmp_path / "model.agegender"))
    for before, after in zip(pipeline.predict_proba(pictures), loaded.predict_proba(pictures), strict=True):
        assert before.tobytes() == after.tobytes()
    pd.testing.assert_frame_equal(
        pipeline.predict_frame(pictures), loaded.predict_frame(pictures), check_exact=True
    )
    assert loaded.extractor.crop == 0.05
    assert loaded.classifier_.history_ == pipeline.classifier_.history_


def test_a_loaded_model_carries_a_small_network_and_no_folder_of_the_machine_it_was_made_on(
    pipeline: AgeGenderPipeline, pictures: list[str], tiny_onnx: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    path = save_model(pipeline, tmp_path / "model.agegender")
    assert str(tiny_onnx.parent).encode() not in path.read_bytes()
    assert str(pipeline.extractor.cache).encode() not in path.read_bytes()
    loaded = load_model(path)
    assert loaded.extractor.cache == "auto"
    assert loaded.extractor.backbone is loaded.extractor_.backbone_
    assert loaded.extractor_.backbone_.read_bytes() == tiny_onnx.read_bytes()
    assert loaded.fit(pictures, np.column_stack([range(20, 32), [0, 1] * 6])).predict(pictures).shape == (
        12,
        2,
    )


def test_metadata_requests_do_not_hinder_and_are_left_behind(
    pipeline: AgeGenderPipeline, tmp_path: Path
) -> None:
    asking = copy.deepcopy(pipeline)
    with sklearn.config_context(enable_metadata_routing=True):
        asking.set_fit_request(groups=True)
    loaded = load_model(save_model(asking, tmp_path / "model.agegender"))
    assert not hasattr(loaded, "_metadata_request")


def test_a_large_network_is_named_and_looked_for_where_it_lay(
    pipeline: AgeGenderPipeline, pictures: list[str], tiny_onnx: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("agegender._safe.networks.CARRIED_BYTES", 100)
    monkeypatch.setattr("agegender.backbones.CARRIED_BYTES", 100)
    network = tmp_path / "moved.onnx"
    network.write_bytes(tiny_onnx.read_bytes())
    extractor = EmbeddingExtractor(Backbone.from_onnx(network), cache=None).fit()
    path = save_model(extractor, tmp_path / "model.agegender")
    assert path.stat().st_size < 4000
    loaded = load_model(path)
    assert loaded.transform(pictures).tobytes() == extractor.transform(pictures).tobytes()
    network.unlink()
    agegender.runtime.close_networks()
    with pytest.raises(agegender.exceptions.WeightsNotFoundError, match=r"moved\.onnx.*sha256"):
        load_model(path).transform(pictures)


def test_every_kind_of_parameter_comes_back(tmp_path: Path) -> None:
    model = AgeGenderClassifier(
        ConvHead(filters=(4, 8), depthwise="global", dropout=np.float64(0.25)),
        learning_rate=np.float32(1e-3),
        epochs=np.int64(3),
        random_state=np.random.RandomState(7),
        balance="age",
        standardize=False,
    )
    loaded = load_model(save_model(model, tmp_path / "model.agegender"))
    assert loaded.head.filters == (4, 8)
    assert type(loaded.head.filters) is tuple
    assert (loaded.learning_rate, loaded.epochs, loaded.balance) == (np.float32(1e-3), 3, "age")
    assert loaded.random_state.randint(1000) == np.random.RandomState(7).randint(1000)


def test_views_and_paths_come_back(tmp_path: Path) -> None:
    extractor = EmbeddingExtractor(
        "facenet", views=("plain", View(mirror=True, zoom=1.1)), weights=Path("a.onnx")
    )
    loaded = load_model(save_model(extractor, tmp_path / "model.agegender"))
    assert loaded.get_params() == extractor.get_params()


def test_text_labels_columns_and_missing_numbers_come_back(rows: np.ndarray, tmp_path: Path) -> None:
    X = pd.DataFrame(rows, columns=[f"x{i}" for i in range(rows.shape[1])])
    y = pd.DataFrame({"age": np.arange(N_ROWS) + 10, "gender": ["man", "woman"] * (N_ROWS // 2)})
    model = AgeGenderClassifier(DenseHead(), epochs=1, validation_fraction=0, random_state=0).fit(X, y)
    loaded = load_model(save_model(model, tmp_path / "model.agegender"))
    assert loaded.predict(X).tolist() == model.predict(X).tolist()
    assert list(loaded.feature_names_in_) == list(X.columns)
    assert np.isnan(loaded.history_[0]["val_age_mae"])


def test_the_keras_form_comes_back(classifier: AgeGenderClassifier, saved: Path, rows: np.ndarray) -> None:
    ages = load_model(saved).keras_model_.predict(rows, verbose=0)[0]
    np.testing.assert_allclose(ages, classifier.predict_proba(rows)[0], atol=1e-5)


def test_a_fine_tuned_network_comes_back_in_both_forms(
    pictures: list[str], tiny_onnx: Path, tmp_path: Path
) -> None:
    extractor = EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), cache=None)
    head = FineTuneHead("input", units=(4,), augment=Augmentation(rotation=3.0))
    model = AgeGenderPipeline(extractor, AgeGenderClassifier(head, epochs=1, random_state=0))
    model.fit(pictures, np.column_stack([range(20, 32), [0, 1] * 6]))
    loaded = load_model(save_model(model, tmp_path / "model.agegender"))
    assert loaded.predict(pictures).tobytes() == model.predict(pictures).tobytes()
    assert loaded.classifier_.head.augment == Augmentation(rotation=3.0)
    assert loaded.classifier_.head.backbone is loaded.extractor_.backbone_
    rows = model.extractor_.transform(pictures).astype(np.float32)
    np.testing.assert_allclose(
        loaded.classifier_.keras_model_(rows)[0], model.classifier_.predict_proba(rows)[0], atol=1e-5
    )


def test_a_head_of_ones_own_predicts_and_says_that_it_cannot_be_trained(
    rows: np.ndarray, target: np.ndarray, tmp_path: Path
) -> None:
    model = AgeGenderClassifier(own_head, epochs=1, random_state=0).fit(rows, target)
    loaded = load_model(save_model(model, tmp_path / "model.agegender"))
    assert loaded.predict(rows).tobytes() == model.predict(rows).tobytes()
    assert loaded.head == AbsentHead(f"{__name__}.own_head")
    with pytest.raises(ModelFileError, match=r"own_head.*set_params\(head=…\)"):
        loaded.fit(rows, target)
    assert loaded.set_params(head=own_head).fit(rows, target).n_epochs_ == 1
    again = load_model(save_model(load_model(tmp_path / "model.agegender"), tmp_path / "again.agegender"))
    assert again.predict(rows).tobytes() == model.predict(rows).tobytes()


def test_a_head_with_a_lambda_is_saved_without_its_keras_form(
    rows: np.ndarray, target: np.ndarray, tmp_path: Path
) -> None:
    model = AgeGenderClassifier(lambda_head, epochs=1, random_state=0).fit(rows, target)
    loaded = load_model(save_model(model, tmp_path / "model.agegender"))
    assert loaded.predict(rows).tobytes() == model.predict(rows).tobytes()
    with pytest.raises(ModelFileError, match="cannot save the Keras form"):
        _ = loaded.keras_model_


def test_a_head_that_onnx_has_no_form_of_is_saved_in_its_keras_form(
    classifier: AgeGenderClassifier, rows: np.ndarray, tmp_path: Path
) -> None:
    model = joblib.load(_dumped(classifier, tmp_path))
    model._onnx = None
    loaded = load_model(save_model(model, tmp_path / "model.agegender"))
    assert loaded.predict(rows).tobytes() == model.predict(rows).tobytes()


def test_what_cannot_be_kept_as_data_is_refused_when_it_is_saved(
    rows: np.ndarray, target: np.ndarray, tmp_path: Path
) -> None:
    model = AgeGenderClassifier(lambda_head, epochs=1, random_state=0).fit(rows, target)
    model._onnx = None
    with pytest.raises(ModelFileError, match=r"Lambda.*joblib\.dump"):
        save_model(model, tmp_path / "model.agegender")
    noted = AgeGenderClassifier()
    noted.note = "mine"
    with pytest.raises(ModelFileError, match=r"model\.note"):
        save_model(noted, tmp_path / "model.agegender")
    with pytest.raises(ModelFileError, match="save_model takes AgeGenderPipeline"):
        save_model(DenseHead(), tmp_path / "model.agegender")
    with pytest.raises(ModelFileError, match=r"verbose is a object.*joblib\.dump"):
        save_model(AgeGenderClassifier(verbose=object()), tmp_path / "model.agegender")
    assert list(tmp_path.iterdir()) == []


def test_equal_models_make_equal_files(classifier: AgeGenderClassifier, tmp_path: Path) -> None:
    first = save_model(classifier, tmp_path / "a.agegender").read_bytes()
    assert save_model(classifier, tmp_path / "b.agegender").read_bytes() == first
    assert save_model(load_model(tmp_path / "a.agegender"), tmp_path / "c.agegender").read_bytes() == first


def test_an_interrupted_save_leaves_the_file_that_was_there(
    classifier: AgeGenderClassifier, saved: Path, monkeypatch: Any
) -> None:
    before = saved.read_bytes()

    def stop(*names: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        save_model(classifier, saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_loading_and_predicting_import_no_tensorflow(
    pipeline: AgeGenderPipeline, pictures: list[str], tmp_path: Path
) -> None:
    path = save_model(pipeline, tmp_path / "model.agegender")
    code = (
        "import sys, agegender\n"
        f"print(agegender.load_model({str(path)!r}).predict({pictures[:2]!r}).tolist())\n"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pipeline.predict(pictures[:2]).tolist()


# What strangers' files hold.


def refuse(path: Path, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_is_refused_and_not_run(saved: Path, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    members = read(saved)
    refuse(
        rewrite(saved, {**members, "model.pkl": pickle.dumps(Touch(harm))}), "nothing in it uses 'model.pkl'"
    )
    array = io.BytesIO()
    np.lib.format.write_array(array, np.array([Touch(harm), 1], dtype=object), allow_pickle=True)
    name = next(name for name in members if name.endswith(".npy"))
    refuse(rewrite(saved, {**members, name: array.getvalue()}), "holds object")
    refuse(_dumped(Touch(harm), tmp_path), "runs the code")
    refuse(rewrite(saved, {**members, "model.json": pickle.dumps(Touch(harm))}), "cannot be read")
    assert not harm.exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "..", "C:\\evil", "a/../../evil", "café", ""])
def test_names_that_lead_elsewhere_are_refused(saved: Path, name: str) -> None:
    refuse(rewrite(saved, {**read(saved), name: b"x"}), "a name that no such file has")
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_zip_bomb_is_refused_before_it_is_unpacked(saved: Path) -> None:
    members = {**read(saved), "array-99.npy": bytes(64 * 2**20)}
    refuse(rewrite(saved, members, compression=zipfile.ZIP_DEFLATED), "compressed")
    assert saved.stat().st_size < 2**20


def test_members_that_overlap_are_refused(saved: Path) -> None:
    """A file that names the same bytes many times would be many times as large in memory."""
    with zipfile.ZipFile(saved, "a") as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        for number in range(20):
            copy = zipfile.ZipInfo(f"array-{number + 90}.npy")
            for field in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(copy, field, getattr(largest, field))
            archive.filelist.append(copy)
        archive._didModify = True
    refuse(saved, "larger together than the file|damaged")


def test_two_members_of_one_name_are_refused(saved: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("model.json", b"{}")
    refuse(saved, "two members of one name")


def test_truncated_files_are_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for size in [*range(0, len(whole), max(1, len(whole) // 25)), len(whole) - 1]:
        saved.write_bytes(whole[:size])
        refuse(saved, "truncated or damaged|is not a file of")


def test_a_flipped_byte_is_noticed_or_changes_nothing(
    classifier: AgeGenderClassifier, saved: Path, rows: np.ndarray
) -> None:
    whole, expected = saved.read_bytes(), classifier.predict(rows).tobytes()
    rng = np.random.default_rng(0)
    for position in [*rng.integers(0, len(whole), 150), *range(len(whole) - 120, len(whole))]:
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        saved.write_bytes(damaged)
        try:
            loaded = load_model(saved)
        except ModelFileError:
            continue
        assert loaded.predict(rows).tobytes() == expected, position


def test_a_member_that_the_manifest_does_not_know_in_this_form_is_refused(saved: Path) -> None:
    members = read(saved)
    name = next(name for name in members if name.endswith(".onnx"))
    members[name] = members[name][:-1] + b"\x00"
    with zipfile.ZipFile(saved, "w") as archive:
        for key, content in members.items():
            archive.writestr(key, content)
    refuse(saved, "differs from manifest.json")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda e: e.update({"class": "Popen"}), "contains 'Popen'"),
        (lambda e: e.update({"class": "DenseHead"}), "contains 'DenseHead'"),
        (
            lambda e: e["parameters"].update(head={"class": "os.system", "parameters": {}, "fitted": {}}),
            "os.system",
        ),
        (lambda e: e["parameters"].update(shell=True), "not as it should be"),
        (lambda e: e["fitted"].update(fit=1), "no attribute 'fit'"),
        (lambda e: e["fitted"].update(__class__=1), "no attribute '__class__'"),
        (lambda e: e["fitted"].update(_row_shape={"tuple": [10**12]}), "takes rows of"),
        (lambda e: e["fitted"].update(_row_shape={"tuple": [-1]}), "its rows have the shape"),
        (lambda e: e["fitted"].update(classes_=[]), "not as it should be"),
        (lambda e: e["fitted"].update(_onnx=None, _keras=None), "no trained head"),
        (lambda e: e["fitted"].update(_onnx={"bytes": "manifest.json"}), "no member"),
        (lambda e: e["fitted"].pop("_row_shape"), "not as it should be"),
        (lambda e: e["fitted"].update(calibration_=None), "its calibration"),
        (lambda e: e["fitted"].update(n_epochs_={"pickle": "gASV"}), "no value that such a file has"),
        (
            lambda e: e["parameters"].update(random_state={"random_state": {"tuple": ["MT19937"]}}),
            "not as it should",
        ),
    ],
)
def test_hostile_descriptions_are_refused(saved: Path, edit: Any, message: str) -> None:
    refuse(change_model(saved, edit), message)


def test_json_that_nests_too_deep_is_refused(saved: Path) -> None:
    refuse(change(saved, "model.json", lambda content: b"[" * 100_000), "cannot be read")


def test_an_array_that_claims_more_than_it_holds_is_refused(saved: Path) -> None:
    members = read(saved)
    name = next(name for name in members if name.endswith(".npy"))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    members[name] = header.getvalue() + bytes(80)
    refuse(rewrite(saved, members), "holds 80 bytes")


def _spoil_weights(value: float) -> Callable[[Any], None]:
    def spoil(model: Any) -> None:
        weight = max(model.graph.initializer, key=lambda entry: np.prod(entry.dims))
        numbers = numpy_helper.to_array(weight).copy()
        numbers.ravel()[1] = value
        weight.CopyFrom(numpy_helper.from_array(numbers, weight.name))

    return spoil


def _point_outside(model: Any) -> None:
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")


def _claim_more(model: Any) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([10**6, 10**6])


def _widen_output(model: Any) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7


def _add_strange_operator(model: Any) -> None:
    model.opset_import.append(helper.make_opsetid("evil", 1))
    model.graph.node.append(helper.make_node("Run", [], ["harm"], domain="evil"))


def _add_huge_tensor(model: Any) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([10**6, 10**6]), "shape"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["huge"]))


def _add_loop(model: Any) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", [], ["endless"], body=body))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_spoil_weights(np.nan), "no numbers"),
        (_spoil_weights(np.inf), "no numbers"),
        (_point_outside, "in other files"),
        (_claim_more, "that are not in it"),
        (_widen_output, "no valid ONNX network|gives"),
        (_add_strange_operator, "'evil'"),
        (_add_huge_tensor, "makes a tensor of"),
        (_add_loop, "never end"),
    ],
)
def test_hostile_networks_are_refused(saved: Path, edit: Any, message: str) -> None:
    refuse(change_onnx(saved, edit), message)


def test_a_network_that_is_none_is_refused(saved: Path) -> None:
    refuse(change(saved, ".onnx", lambda content: b"\x08\x08" + b"\x00" * 50), "no valid ONNX network")


def _with_keras(edit: Callable[[dict[str, bytes]], None]) -> Callable[[bytes], bytes]:
    def edited(content: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        edit(members)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, member in members.items():
                archive.writestr(name, member)
        return out.getvalue()

    return edited


def _with_layer(layer: dict[str, Any]) -> Callable[[dict[str, bytes]], None]:
    def edit(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        config["config"]["layers"].append(layer)
        members["config.json"] = json.dumps(config).encode()

    return edit


def _with_weights(edit: Callable[[h5py.File], None]) -> Callable[[dict[str, bytes]], None]:
    def edited(members: dict[str, bytes]) -> None:
        content = io.BytesIO(members["model.weights.h5"])
        with h5py.File(content, "a") as file:
            edit(file)
        members["model.weights.h5"] = content.getvalue()

    return edited


def _nan(file: h5py.File) -> None:
    file["extra"] = np.array([1.0, np.nan], dtype=np.float32)


def _bomb(file: h5py.File) -> None:
    file.create_dataset("extra", shape=(10**12,), dtype="f4", chunks=(1024,))


def _outside(file: h5py.File) -> None:
    file["extra"] = h5py.ExternalLink("/etc/passwd", "/x")


def _external(file: h5py.File) -> None:
    file.create_dataset("extra", shape=(8,), dtype="f4", external=[("/etc/passwd", 0, 32)])


LAMBDA = {
    "class_name": "Lambda",
    "module": "keras.layers",
    "registered_name": None,
    "config": {"function": "gASV"},
}
CODE = {"class_name": "__lambda__", "config": {"value": "gASV"}}
CALL = {"class_name": "function", "module": "os", "config": "system", "registered_name": "system"}
FILE = {
    "class_name": "TFSMLayer",
    "module": "keras.layers",
    "registered_name": None,
    "config": {"filepath": "/tmp"},
}
OWN = {"class_name": "Mine", "module": "mine", "registered_name": "mine>Mine", "config": {}}
DISGUISED = {"class_name": "system", "module": "os", "registered_name": "agegender>FusedPReLU", "config": {}}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        *(
            (_with_layer(layer), "known to run no code")
            for layer in (LAMBDA, CODE, CALL, FILE, OWN, DISGUISED)
        ),
        (
            _with_layer({"class_name": "Dense", "module": "keras.layers", "config": {"x": [CODE]}}),
            "__lambda__",
        ),
        (_with_weights(_nan), "no numbers"),
        (_with_weights(_bomb), "larger than the file"),
        (_with_weights(_outside), "points out of itself"),
        (_with_weights(_external), "in other files"),
        (lambda members: members.update({"model.weights.h5": b"\x89HDF"}), "damaged weights"),
        (lambda members: members.update({"assets/x": b""}), "a name that no such file has"),
    ],
)
def test_hostile_keras_files_are_refused(saved: Path, edit: Any, message: str) -> None:
    refuse(change(saved, ".keras", _with_keras(edit)), message)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sha256", "../../evil", "no proper sha256"),
        ("sha256", "0" * 64, "not the one that it says"),
        ("suffix", ".py", "of the kind"),
        ("input_size", {"tuple": [10**9, 10**9]}, "pixels"),
        ("mean", {"float": "nan"}, "prepared in no way"),
        ("color", "cmyk", "prepared in no way"),
    ],
)
def test_hostile_records_of_networks_are_refused(
    tiny_onnx: Path, tmp_path: Path, field: str, value: Any, message: str
) -> None:
    extractor = EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), cache=None).fit()
    saved = save_model(extractor, tmp_path / "model.agegender")

    def edit(entry: dict[str, Any]) -> None:
        (source,) = entry["fitted"]["resolved_"]["parameters"]["sources"]["tuple"]
        for part in (entry["parameters"]["backbone"], source["parameters"]["backbone"]):
            part["network"][field] = value

    refuse(change_model(saved, edit), message)


def test_a_folder_for_the_cache_is_refused(tmp_path: Path) -> None:
    saved = save_model(EmbeddingExtractor(), tmp_path / "model.agegender")
    refuse(
        change_model(saved, lambda entry: entry["parameters"].update(cache="/home/anna")),
        "folder for the cache",
    )


def test_a_file_of_a_later_agegender_says_what_to_install(saved: Path) -> None:
    members = read(saved)
    manifest = json.loads(members["manifest.json"])
    manifest["format_version"] = 99
    manifest["versions"]["agegender"] = "99.4.1"
    members["manifest.json"] = json.dumps(manifest).encode()
    refuse(rewrite(saved, members), r"pip install 'agegender>=99\.4'")


# joblib


def _dumped(model: Any, folder: Path) -> Path:
    path = folder / "model.joblib"
    joblib.dump(model, path)
    return path


def test_a_pickle_of_other_versions_warns_and_says_what_to_do(
    classifier: AgeGenderClassifier, rows: np.ndarray, tmp_path: Path, monkeypatch: Any
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(
            "agegender._utils.versions.versions",
            lambda: {"agegender": "0.1.9", "scikit-learn": "1.2.0", "keras": "2.15.0", "onnxruntime": "1.0"},
        )
        path = _dumped(classifier, tmp_path)
    with pytest.warns(ModelVersionWarning, match=r"scikit-learn 1\.2\.0 \(here .*'scikit-learn==1\.2\.0'"):
        loaded = joblib.load(path)
    assert loaded.predict(rows).tobytes() == classifier.predict(rows).tobytes()


def test_a_pickle_of_a_later_agegender_is_refused(
    classifier: AgeGenderClassifier, tmp_path: Path, monkeypatch: Any
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("agegender._utils.versions.versions", lambda: {"agegender": "99.0"})
        path = _dumped(classifier, tmp_path)
    with pytest.raises(ModelFileError, match=r"saved by agegender 99\.0"):
        joblib.load(path)


def test_a_pickle_of_these_versions_carries_them_and_warns_of_nothing(
    classifier: AgeGenderClassifier, rows: np.ndarray, tmp_path: Path
) -> None:
    state = classifier.__getstate__()
    assert state["_versions"]["agegender"] == agegender.__version__
    loaded = joblib.load(_dumped(classifier, tmp_path))
    assert "_versions" not in vars(loaded)
    assert loaded.predict(rows).tobytes() == classifier.predict(rows).tobytes()


def own_head(input_shape: tuple[int, ...], n_ages: int, n_genders: int) -> Any:
    import keras

    inputs = keras.Input(input_shape)
    values = keras.layers.Dense(4, activation="tanh")(inputs)
    return keras.Model(
        inputs, [keras.layers.Dense(n, activation="softmax")(values) for n in (n_ages, n_genders)]
    )


def lambda_head(input_shape: tuple[int, ...], n_ages: int, n_genders: int) -> Any:
    import keras

    inputs = keras.Input(input_shape)
    values = keras.layers.Lambda(lambda x: x * 2.0)(inputs)
    return keras.Model(
        inputs, [keras.layers.Dense(n, activation="softmax")(values) for n in (n_ages, n_genders)]
    )


def test_a_loaded_pipeline_says_that_it_has_read_nothing_yet(pipeline, pictures, tmp_path) -> None:
    loaded = load_model(save_model(pipeline, tmp_path / "model.agegender"))
    with pytest.raises(sklearn.exceptions.NotFittedError, match="has read no picture since it was loaded"):
        _ = loaded.report_
    loaded.predict(pictures)
    assert loaded.report_.n_images == len(pictures)
