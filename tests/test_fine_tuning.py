"""The head that retrains the network's own last blocks."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import networks
import numpy as np
import onnx
import pytest
from conftest import write_tiny_onnx
from networks import NETWORKS
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    Augmentation,
    ConvHead,
    EmbeddingExtractor,
    FineTuneHead,
    load_model,
    save_model,
)
from agegender._fitting import onnx_head as exported
from agegender._fitting.adam import learning_rate_factors
from agegender._fitting.head_model import build
from agegender._tails.layers import RandomView
from agegender._tails.tail import build_tail
from agegender.backbones import Backbone
from agegender.datasets import load_utkface
from agegender.fine_tuning import _RANGES
from agegender.heads import head_layer, make_head
from agegender.images import decode, letterbox
from agegender.metrics import age_mae
from agegender.model_selection import AgeGenderKFold
from agegender.runtime import images_passed, open_network

STILL = Augmentation(shift=0.0, scale=0.0, rotation=0.0, mirror=False, brightness=0.0, contrast=0.0)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    path = tmp_path_factory.mktemp("networks") / "plain.onnx"
    return Backbone.from_onnx(networks.saved(NETWORKS["plain"](), path), color="bgr")


@pytest.fixture(scope="module")
def faces() -> tuple[np.ndarray, np.ndarray]:
    """Pictures brighter with age and redder for gender 1."""
    rng = np.random.default_rng(0)
    ages, genders = rng.integers(0, 101, 80), np.arange(80) % 2
    pixels = rng.normal(0, 12, (80, 16, 16, 3)) + 40 + 1.4 * ages[:, None, None, None]
    pixels[..., 0] += 60 * genders[:, None, None]
    return np.clip(pixels, 0, 255).astype(np.uint8), np.column_stack([ages, genders])


def fitted(head: Any, X: np.ndarray, y: np.ndarray, **options: Any) -> AgeGenderClassifier:
    defaults = {"epochs": 2, "validation_fraction": 0.0, "standardize": False, "random_state": 0}
    return AgeGenderClassifier(head, **defaults | options).fit(X, y)


def inner(model: Any, name: str) -> Any:
    """A layer of a model or of the models in it."""
    for layer in model.layers:
        found = layer if layer.name == name else inner(layer, name) if hasattr(layer, "layers") else None
        if found is not None:
            return found
    return None


def test_without_training_its_blocks_give_what_the_frozen_network_gives(backbone, faces) -> None:
    for layer in ("input", "conv_0", "map"):
        X = open_network(backbone, layer)(faces[0])
        model = fitted(FineTuneHead(layer, backbone=backbone), X, faces[1], epochs=0)
        rows = inner(model.keras_model_, "tail")(X.astype(np.float32))
        np.testing.assert_allclose(rows, open_network(backbone, "penultimate")(faces[0]), atol=1e-4)


def test_training_moves_the_blocks_and_not_the_network(backbone, faces) -> None:
    X = open_network(backbone, "conv_0")(faces[0])
    before = open_network(backbone, "penultimate")(faces[0])
    head = FineTuneHead("conv_0", (16,), backbone=backbone, backbone_batch_norm="affine", dropout=0.0)
    model = fitted(head, X, faces[1], epochs=40, learning_rate=0.01, batch_size=20)
    guess = np.abs(faces[1][:, 0] - faces[1][:, 0].mean()).mean()
    assert age_mae(faces[1], model.predict(X)) < 0.5 * guess
    assert np.abs(inner(model.keras_model_, "tail")(X) - before).max() > 1e-3
    np.testing.assert_array_equal(open_network(backbone, "penultimate")(faces[0]), before)


def test_blocks_learn_more_slowly_than_the_layers_on_top(backbone) -> None:
    model = build(FineTuneHead("map", backbone=backbone, backbone_rate=0.2), (4, 4, 32), 101, 2, None, 0)
    rates = {
        v.path: rate for v, rate in zip(model.trainable_variables, learning_rate_factors(model), strict=True)
    }
    assert len(rates) == 7
    assert {rate for path, rate in rates.items() if "hidden" in path or "matmul" in path} == {0.2}
    assert sum(rate == 1.0 for rate in rates.values()) == 6


def test_the_parameters_reach_the_model(backbone) -> None:
    head = FineTuneHead(
        "conv_0", (8, 4), reads="feature_map", dropout=0.1, batch_norm=True, activation="elu", weight_decay=0.01,
        backbone=backbone, backbone_rate=0,
    )  # fmt: skip
    model = head((8, 8, 16), 101, 2)
    assert inner(model, "tail").output_shape == (None, 4, 4, 32)
    assert not inner(model, "tail").trainable_variables
    assert inner(model, "age").kernel.shape == (4, 101)
    assert len(model.losses) == 4
    assert [layer.rate for layer in model.layers[-1].layers if hasattr(layer, "rate")] == [0.1] * 3
    assert FineTuneHead("conv_0", reads="pooled", backbone=backbone)((8, 8, 16), 101, 2).count_params() > 0


def test_what_is_wrong_is_said(backbone) -> None:
    for head, shape, message in (
        (FineTuneHead("map"), (4, 4, 32), "FineTuneHead.*'map'.* has no backbone"),
        (
            FineTuneHead("map", backbone=backbone),
            (8, 8, 16),
            r"rows of shape \(4, 4, 32\) at layer='map'; X has",
        ),
        (FineTuneHead("mat", backbone=backbone), (4, 4, 32), "no layer 'mat'.*Did you mean 'map'"),
        (FineTuneHead("map", backbone=backbone, backbone_rate=-1), (4, 4, 32), "backbone_rate=-1"),
        (
            FineTuneHead("map", backbone=backbone, backbone_batch_norm="fixed"),
            (4, 4, 32),
            "'frozen', 'affine'",
        ),
        (FineTuneHead("map", backbone=backbone, augment=Augmentation()), (4, 4, 32), 'layer="input"'),
        (FineTuneHead("input", backbone=backbone, augment=True), (16, 16, 3), "augment=True"),
        (
            FineTuneHead("map", backbone=backbone, train_from="conv_0"),
            (4, 4, 32),
            "does not come after 'map'",
        ),
        (FineTuneHead("map", backbone="arcfase"), (4, 4, 32), "Did you mean 'arcface'"),
    ):
        with pytest.raises(ValueError, match=message):
            head(shape, 101, 2)
    with pytest.raises(ValueError, match="has no backbone"):
        AgeGenderClassifier(FineTuneHead("map")).fit(
            np.zeros((20, 4, 4, 32)), np.tile([[20, 0], [30, 1]], (10, 1))
        )


def test_it_is_a_head_that_asks_for_its_layer_and_the_backbone(backbone) -> None:
    head = FineTuneHead("map", backbone=backbone)
    assert head.needs_backbone
    assert not head.standardizes
    assert make_head(head) is head
    assert head_layer(head, backbone) == "map"
    assert head.input_rank == 3
    assert FineTuneHead("flat", backbone=backbone).input_rank == 1
    assert FineTuneHead("input").input_rank == 3


def test_it_survives_clone_and_pickle_and_stays_light(backbone, faces) -> None:
    head = FineTuneHead("input", units=(8,), backbone=backbone, augment=Augmentation(rotation=5))
    head((16, 16, 3), 101, 2)
    assert len(pickle.dumps(head)) < 2000
    for copy in (clone(head), pickle.loads(pickle.dumps(head))):
        assert copy.get_params() == head.get_params()
        assert copy((16, 16, 3), 101, 2).count_params() == head((16, 16, 3), 101, 2).count_params()
    handed = clone(FineTuneHead("map")).set_params(backbone=backbone, units=(4,))
    assert inner(handed((4, 4, 32), 101, 2), "age").kernel.shape == (4, 101)


def test_it_can_be_searched_over_and_saved(backbone, faces, tmp_path: Path) -> None:
    X = open_network(backbone, "map")(faces[0])
    model = AgeGenderClassifier(
        FineTuneHead("map", backbone=backbone),
        epochs=1,
        standardize=False,
        random_state=0,
        validation_fraction=0.0,
    )
    search = GridSearchCV(model, {"head__units": [(4,), (8,)]}, cv=2).fit(X, faces[1])
    assert search.best_estimator_._onnx is not None
    path = tmp_path / "model.joblib"
    joblib.dump(search, path)
    np.testing.assert_array_equal(joblib.load(path).predict(X), search.predict(X))


def test_the_same_random_state_gives_the_same_model_bit_by_bit(backbone, faces) -> None:
    head = FineTuneHead("input", (8,), backbone=backbone, backbone_batch_norm="trained")
    first, again, other = (fitted(head, *faces, random_state=state).keras_model_ for state in (0, 0, 1))
    same = [np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True)]
    assert all(same)
    assert not np.array_equal(inner(first, "age").kernel, inner(other, "age").kernel)


def test_prediction_sees_pictures_as_they_are(backbone, faces) -> None:
    varied = fitted(FineTuneHead("input", (8,), backbone=backbone), *faces)
    still = fitted(FineTuneHead("input", (8,), backbone=backbone, augment=None), *faces)
    kinds = [{node.op_type for node in onnx.load_from_string(m._onnx).graph.node} for m in (varied, still)]
    assert kinds[0] == kinds[1]
    rows = faces[0].astype(np.float32)
    for by_keras, by_onnx in zip(
        exported.run_keras(varied.keras_model_, rows), exported.run_onnx(varied._onnx, rows), strict=True
    ):
        np.testing.assert_allclose(by_keras, by_onnx, atol=1e-4)
    assert varied.history_[-1]["loss"] != still.history_[-1]["loss"]


def test_several_views_and_an_ensemble(backbone, faces) -> None:
    X = np.stack([faces[0], faces[0][:, :, ::-1]], axis=1)
    model = fitted(FineTuneHead("input", (8,), backbone=backbone), X, faces[1], ensemble=2)
    assert {record["member"] for record in model.history_} == {1, 2}
    each = [model.predict_proba(view)[0] for view in (X[:, 0], X[:, 1])]
    np.testing.assert_allclose(model.predict_proba(X)[0], np.mean(each, axis=0), atol=1e-6)
    assert np.abs(each[0] - each[1]).max() > 1e-4


def test_rows_come_to_the_head_as_they_are(backbone, faces) -> None:
    X = open_network(backbone, "map")(faces[0])
    for head, rows in ((FineTuneHead("map", backbone=backbone), X), (ConvHead(), faces[0])):
        model = fitted(head, rows, faces[1], epochs=0, standardize=True).keras_model_
        assert inner(model, "standardize") is None
    assert inner(fitted(ConvHead(), X, faces[1], epochs=0, standardize=True).keras_model_, "standardize")


class OwnHead:
    """A head of a user's own, which wants the network."""

    layer, needs_backbone, backbone = "relu2", True, None

    def __call__(self, input_shape: tuple[int, ...], n_ages: int, n_genders: int) -> Any:
        return FineTuneHead("relu2", (4,), backbone=self.backbone)(input_shape, n_ages, n_genders)


def in_pipeline(tiny_onnx: Path, head: Any, **options: Any) -> AgeGenderPipeline:
    classifier = AgeGenderClassifier(head, epochs=1, random_state=0, validation_fraction=0.0)
    return AgeGenderPipeline(EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), **options), classifier)


def test_a_pipeline_hands_over_its_network_and_writes_to_no_parameter(tiny_onnx, drawn_faces) -> None:
    people = load_utkface(drawn_faces)
    for head in (FineTuneHead("relu2"), OwnHead()):
        model = in_pipeline(tiny_onnx, head).fit(people.data, people.target)
        assert model.extractor_.layer == "relu2"
        assert model.classifier_.head.backbone is model.extractor_.backbone_
        assert model.classifier.head is head
        assert head.backbone is None
        assert np.isfinite(model.predict(people.data)).all()


@pytest.mark.slow
def test_a_search_over_cuts_and_widths_passes_each_picture_once_a_cut(tiny_onnx, drawn_faces) -> None:
    people = load_utkface(drawn_faces)
    grid = {"classifier__head__layer": ["conv1", "relu2"], "classifier__head__backbone_rate": [0.0, 0.5]}
    before = images_passed()
    search = GridSearchCV(
        in_pipeline(tiny_onnx, FineTuneHead("relu2", (4,))), grid, cv=AgeGenderKFold(2), refit=False
    )
    search.fit(people.data, people.target)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert images_passed() - before == 2 * len(people.data)


def test_pictures_are_cached_once_for_all_networks_of_one_size(tiny_onnx, drawn_faces, tmp_path) -> None:
    people = load_utkface(drawn_faces)
    model = in_pipeline(tiny_onnx, FineTuneHead("input", (4,)))
    pixels = model.resolve_extractor().transform(people.data)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[0], letterbox(decode(Path(people.data[0]).read_bytes()), (24, 24)))
    other = Backbone.from_onnx(write_tiny_onnx(tmp_path / "other.onnx", seed=1), color="bgr")
    again = EmbeddingExtractor(other, layer="input")
    np.testing.assert_array_equal(again.transform(people.data), pixels)
    assert again.report_.n_computed == 0
    missing = EmbeddingExtractor(other, layer="input", on_error="nan").transform(["none.jpg", people.data[0]])
    assert np.isnan(missing[0]).all()
    np.testing.assert_array_equal(missing[1], pixels[0])
    with pytest.raises(ValueError, match=r"float64; it should be .*, uint8 or float16 or float32"):
        again.transform(people.data, out=np.empty(pixels.shape))


@pytest.mark.slow
def test_a_saved_model_predicts_without_tensorflow(tiny_onnx, drawn_faces, tmp_path) -> None:
    people = load_utkface(drawn_faces)
    model = in_pipeline(tiny_onnx, FineTuneHead("input", (4,))).fit(people.data, people.target)
    path = tmp_path / "model.joblib"
    joblib.dump(model, path)
    program = (
        "import sys, joblib; model = joblib.load(sys.argv[1]); print(model.predict(sys.argv[2:])[0, 0]);"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules;"
        "print(float(model.classifier_.keras_model_(model.extractor_.transform(sys.argv[2:]))[0][0, 0]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(path), people.data[0]], capture_output=True, text=True, check=True
    )
    age, probability = map(float, ran.stdout.split())
    assert age == pytest.approx(model.predict(people.data[:1])[0, 0], abs=1e-3)
    assert probability == pytest.approx(model.predict_proba(people.data[:1])[0][0, 0], abs=1e-5)


def of_view(augmentation: Augmentation) -> dict[str, Any]:
    """Its parameters that move a picture and change its light."""
    return {name: value for name, value in vars(augmentation).items() if name in (*_RANGES, "mirror")}


def shown(pictures: np.ndarray, seed: int = 3, **strengths: Any) -> np.ndarray:
    layer = RandomView(**of_view(STILL) | strengths, seed=seed)
    np.testing.assert_array_equal(layer(pictures, training=False), pictures)
    return np.asarray(layer(pictures, training=True))


@pytest.fixture(scope="module")
def smooth() -> np.ndarray:
    """Pictures of one slope from left to right and another from top to bottom, far from the ends of the range."""
    y, x = np.mgrid[:24, :32]
    return np.repeat((80 + x + 2 * y)[None, :, :, None], 64, axis=0).repeat(3, axis=3).astype(np.float32)


def test_pictures_are_mirrored_every_other_time(smooth) -> None:
    views = shown(smooth, mirror=True)
    mirrored = np.array([np.allclose(view, smooth[0, :, ::-1], atol=1e-2) for view in views])
    plain = np.array([np.allclose(view, smooth[0], atol=1e-2) for view in views])
    assert (mirrored ^ plain).all()
    assert 0.2 < mirrored.mean() < 0.8


def test_pictures_are_shifted_turned_and_scaled_about_their_middle(smooth) -> None:
    middle = (slice(None), slice(8, 16), slice(12, 20))
    np.testing.assert_allclose(shown(smooth), smooth, atol=1e-2)
    moved = (shown(smooth, shift=0.1) - smooth)[middle]
    assert np.ptp(moved, axis=(1, 2, 3)).max() < 1e-2  # one shift is one step of values everywhere
    assert 2.0 < np.abs(moved).max() <= 0.1 * 32 + 2 * 0.1 * 24 + 1e-2
    for strength in ({"rotation": 20.0}, {"scale": 0.2}):
        views = shown(smooth, **strength)
        assert np.abs(views - smooth)[middle].max() > 0.5
        np.testing.assert_allclose(
            views[middle].mean(axis=(1, 2)), smooth[middle].mean(axis=(1, 2)), atol=0.02
        )
    steps = np.diff(shown(smooth, scale=0.25)[:, 12, 12:20, 0], axis=1).mean(axis=1)
    assert 0.8 - 1e-2 <= steps.min() < 0.9
    assert 1.1 < steps.max() <= 1.25 + 1e-2


def test_light_changes_within_the_range_of_values(smooth) -> None:
    brighter = shown(smooth, brightness=0.2) - smooth
    assert np.ptp(brighter, axis=(1, 2, 3)).max() < 1e-2
    assert 15 < np.abs(brighter).max() <= 0.2 * 127.5 + 1e-2
    stretched = (shown(smooth, contrast=0.5) - 127.5) / (smooth - 127.5 + 1e-6)
    factors = stretched[:, 0, 0, 0]
    assert 1 / 1.5 - 1e-3 <= factors.min() < 0.8
    assert 1.25 < factors.max() <= 1.5 + 1e-3
    glaring = shown(smooth * 1.5, brightness=2.0, contrast=3.0)
    assert glaring.min() >= 0
    assert glaring.max() == 255


def test_views_depend_on_the_seed_and_are_new_each_time(smooth) -> None:
    layer, again = (RandomView(**of_view(Augmentation()), seed=5) for _ in range(2))
    first, second = (np.asarray(layer(smooth, training=True)) for _ in range(2))
    np.testing.assert_array_equal(again(smooth, training=True), first)
    assert np.abs(first - second).max() > 1
    assert np.abs(first - shown(smooth, seed=6, **of_view(Augmentation()))).max() > 1


def test_a_stronger_augmentation_widens_all_ranges() -> None:
    assert STILL.stronger(2) == STILL
    twice = Augmentation().stronger(2)
    assert (twice.shift, twice.rotation, twice.mirror) == (0.1, 20.0, True)
    worse = Augmentation(jpeg=0.5).degraded(0.1)
    assert (worse.jpeg, worse.grey, worse.shift) == (0.1, 0.1, 0.05)
    assert worse.stronger(2).grey == 0.1


def test_worse_pictures_train_another_head_that_is_exported_like_any(backbone, faces, tmp_path) -> None:
    plain = fitted(FineTuneHead("input", (8,), backbone=backbone, augment=STILL), *faces)
    worse = fitted(FineTuneHead("input", (8,), backbone=backbone, augment=STILL.degraded(0.5)), *faces)
    kinds = [{node.op_type for node in onnx.load_from_string(m._onnx).graph.node} for m in (plain, worse)]
    assert kinds[0] == kinds[1]
    assert worse.history_[-1]["loss"] != plain.history_[-1]["loss"]
    again = fitted(FineTuneHead("input", (8,), backbone=backbone, augment=STILL.degraded(0.5)), *faces)
    np.testing.assert_array_equal(again.predict(faces[0]), worse.predict(faces[0]))
    loaded = load_model(save_model(worse, tmp_path / "model.agegender"))
    assert loaded.head.augment == STILL.degraded(0.5)
    np.testing.assert_allclose(
        loaded.keras_model_(faces[0].astype(np.float32))[0], worse.predict_proba(faces[0])[0], atol=1e-5
    )
    with pytest.raises(ValueError, match=r"grey=1\.5 should be a number from 0 to 1"):
        FineTuneHead("input", backbone=backbone, augment=Augmentation(grey=1.5))((16, 16, 3), 101, 2)


def test_a_network_whose_output_is_its_pooled_map_is_trained_to_its_end(tmp_path, faces) -> None:
    pooled = Backbone.from_onnx(networks.saved(NETWORKS["squeezed"](), tmp_path / "pooled.onnx"))
    X = open_network(pooled, "before")(faces[0])
    model = fitted(FineTuneHead("before", backbone=pooled), X, faces[1], epochs=0)
    rows = inner(model.keras_model_, "tail")(X)
    np.testing.assert_allclose(rows, open_network(pooled, "embedding")(faces[0]), atol=1e-4)
    trained = fitted(FineTuneHead("before", backbone=pooled), X, faces[1], epochs=2, learning_rate=0.01)
    assert np.abs(inner(trained.keras_model_, "tail")(X) - rows).max() > 1e-4
    with pytest.raises(
        ValueError, match="there is no layer 'penultimate', because the network has no dense layer"
    ):
        FineTuneHead("before", reads="penultimate", backbone=pooled)((4, 4, 16), 101, 2)


def test_keras_applications_with_an_average_are_trained_to_their_end(faces) -> None:
    import keras

    application = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
    )
    network = Backbone.from_keras(application)
    pictures = faces[0].repeat(2, axis=1).repeat(2, axis=2)
    extractor = EmbeddingExtractor(network, cache=None)
    model = AgeGenderPipeline(extractor, AgeGenderClassifier(FineTuneHead("block_16_project"), epochs=1))
    assert np.isfinite(model.fit(pictures, faces[1]).predict(pictures)[:, 0].astype(float)).all()


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["conv_pw_11_relu6", "input"])
def test_a_real_mobilenet_is_trained_from_a_middle_layer_and_from_pixels(shared, layer) -> None:
    """Clip, paddings that differ per side, a global average, and three Gemm layers behind the output."""
    network = Backbone.from_onnx(
        shared / "weights" / "hse_faceres.onnx", color="bgr", mean=(103.939, 116.779, 123.68), scale=1.0
    )
    collection = load_utkface(shared / "data" / "utkface_mini")
    paths, y = collection.data[::63][:8], collection.target[::63][:8]
    pictures = np.stack([letterbox(decode(Path(path).read_bytes()), (224, 224)) for path in paths])
    X = pictures if layer == "input" else open_network(network, layer)(pictures)
    before = open_network(network, "embedding")(pictures)
    np.testing.assert_allclose(build_tail(network, layer, "embedding")(X), before, atol=1e-4)
    feats = open_network(network, "feats")(pictures)
    np.testing.assert_allclose(build_tail(network, layer, "feats")(X), feats, rtol=1e-4, atol=1e-4)
    head = FineTuneHead(layer, (8,), dropout=0.0, augment=None)
    model = AgeGenderPipeline(
        EmbeddingExtractor(network, cache=None),
        AgeGenderClassifier(head, epochs=1, learning_rate=1e-4, validation_fraction=0.0, random_state=0),
    ).fit(paths, y)
    tail = inner(model.classifier_.keras_model_, "tail")
    assert tail.output_shape == (None, 1024)
    trained = np.asarray(tail(X))
    assert np.abs(trained - before).max() > 1e-3
    tuned = model.to_backbone()
    np.testing.assert_allclose(open_network(tuned, "embedding")(pictures), trained, atol=1e-4)
    assert tuned.sha256 != network.sha256
    assert np.isfinite(model.predict(paths).astype(float)).all()


def test_rows_of_another_network_are_refused(backbone, faces, tmp_path) -> None:
    same_shapes = Backbone.from_onnx(backbone.path, color="rgb")
    model = AgeGenderPipeline(
        EmbeddingExtractor(same_shapes, cache=None),
        AgeGenderClassifier(FineTuneHead("map", backbone=backbone), epochs=1),
    )
    with pytest.raises(ValueError, match=r"has the network <Backbone plain.*bgr.*the extractor has .*rgb"):
        model.fit(faces[0], faces[1])
    model.set_params(extractor__backbone=backbone).fit(faces[0], faces[1])
    pixels = AgeGenderPipeline(
        EmbeddingExtractor(same_shapes, cache=None),
        AgeGenderClassifier(FineTuneHead("input", backbone=backbone), epochs=1),
    )
    pixels.fit(faces[0], faces[1])
