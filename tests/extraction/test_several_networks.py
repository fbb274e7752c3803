"""Several networks side by side: one extractor, each network cached by itself."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import write_tiny_onnx
from one_face import OneFace
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    Backbone,
    ConvHead,
    DenseHead,
    EmbeddingExtractor,
    FineTuneHead,
    images,
    load_model,
    save_model,
)
from agegender.model_selection import AgeGenderKFold
from agegender.shards import write_shard


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A second network: other weights, other colours, another normalisation."""
    path = write_tiny_onnx(tmp_path_factory.mktemp("other") / "other.onnx", seed=1)
    return Backbone.from_onnx(path, color="bgr", mean=(104.0, 117.0, 123.0), scale=1 / 60)


@pytest.fixture
def both(backbone: Backbone, other: Backbone, tmp_path: Path) -> EmbeddingExtractor:
    return EmbeddingExtractor((backbone, other), cache=tmp_path / "cache")


def test_rows_stand_side_by_side_in_the_order_of_the_networks(both, backbone, other, paths) -> None:
    alone = [EmbeddingExtractor(one, cache=None).transform(paths) for one in (backbone, other)]
    np.testing.assert_allclose(both.transform(paths), np.hstack(alone), atol=1e-6)
    turned = clone(both).set_params(backbone=(other, backbone))
    np.testing.assert_allclose(turned.transform(paths), np.hstack(alone[::-1]), atol=1e-6)
    union = FeatureUnion([(one.name, EmbeddingExtractor(one, cache=None)) for one in (backbone, other)])
    np.testing.assert_allclose(union.fit_transform(paths), np.hstack(alone), atol=1e-6)


def test_one_more_network_computes_that_one_alone(both, backbone, paths) -> None:
    first = EmbeddingExtractor(backbone, cache=both.cache)
    first.transform(paths)
    assert first.report_.n_computed_by == {"tiny": len(paths)}
    both.transform(paths)
    assert both.report_.n_computed_by == {"other": len(paths)}
    both.transform(paths)
    assert (both.report_.n_computed, both.report_.n_cached) == (0, len(paths))


def test_a_search_over_lists_computes_each_network_once(
    backbone, other, faces, tmp_path, monkeypatch
) -> None:
    from agegender._extraction.fill import Fill

    passed: dict[str, int] = {}
    count = Fill.count

    def counted(self, done):
        before = dict(self.report.n_computed_by)
        count(self, done)
        for name, n in self.report.n_computed_by.items():
            passed[name] = passed.get(name, 0) + n - before.get(name, 0)

    monkeypatch.setattr(Fill, "count", counted)
    model = AgeGenderPipeline(
        EmbeddingExtractor(cache=tmp_path), AgeGenderClassifier(epochs=1, random_state=0)
    )
    lists = [(backbone,), (other,), (backbone, other)]
    search = GridSearchCV(model, {"extractor__backbone": lists}, cv=AgeGenderKFold(2), refit=False)
    search.fit(faces.data, faces.target, groups=faces.groups)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert passed == {"tiny": len(faces.data), "other": len(faces.data)}


def test_layers_may_differ_and_names_tell_network_and_layer(both, paths) -> None:
    both.set_params(layer=("embedding", "pooled"))
    names = both.get_feature_names_out()
    assert list(names[[0, 15, 16, -1]]) == [
        "tiny_embedding_0",
        "tiny_embedding_15",
        "other_pooled_0",
        "other_pooled_11",
    ]
    table = both.set_output(transform="pandas").transform(paths[:2])
    assert list(table.columns) == list(names)


def test_the_same_network_twice_has_names_that_differ(backbone) -> None:
    twice = EmbeddingExtractor((backbone, backbone), layer=("embedding", "embedding"))
    assert len(set(twice.get_feature_names_out())) == 32


def test_views_halves_and_shards_work_as_for_one(both, backbone, other, paths, tmp_path) -> None:
    import pyarrow.parquet as pq

    both.set_params(views=("plain", "mirror"), dtype="float16")
    rows = both.transform(paths[:5])
    assert (rows.shape, rows.dtype) == ((5, 2, 24), np.float16)
    alone = EmbeddingExtractor(other, cache=None, views="mirror", dtype="float16").transform(paths[:5])
    np.testing.assert_array_equal(rows[:, 1, 12:], alone)
    report = write_shard(paths[:5], tmp_path / "shards", both)
    kept = pq.read_table(report.path)["embedding"].combine_chunks().flatten().to_numpy()
    np.testing.assert_array_equal(kept.reshape(rows.shape), rows)


def test_a_fitted_model_travels_with_all_its_networks(both, faces, tmp_path) -> None:
    model = AgeGenderPipeline(both, AgeGenderClassifier(epochs=2, random_state=0))
    model.fit(faces.data, faces.target)
    expected = model.predict(faces.data)
    loaded = [pickle.loads(pickle.dumps(model)), load_model(save_model(model, tmp_path / "m.agegender"))]
    for one in loaded:
        assert [network.name for network in one.extractor_.backbones_] == ["tiny", "other"]
        assert all(network.content is not None for network in one.extractor_.backbones_)
        np.testing.assert_array_equal(
            one.extractor_.set_params(cache=None) and one.predict(faces.data), expected
        )


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (ConvHead(), "needs one network"),
        (FineTuneHead("relu1"), r"trains one network further, and the extractor has 2.*to_backbone\(\)"),
        (FineTuneHead("of_neither"), "trains one network further"),
    ],
)
def test_a_head_that_needs_one_network_says_what_would_do(both, faces, head, message) -> None:
    model = AgeGenderPipeline(both, AgeGenderClassifier(head, epochs=1))
    with pytest.raises(ValueError, match=message):
        model.fit(faces.data, faces.target)


def test_a_dense_head_drops_whole_networks_in_training(both, faces) -> None:
    import keras

    head = DenseHead(network_dropout=0.5)
    classifier = AgeGenderClassifier(head, epochs=2, random_state=0, validation_fraction=0.0)
    model = AgeGenderPipeline(both, classifier).fit(faces.data, faces.target)
    fitted = model.classifier_.head
    assert fitted.network_widths == (12, 12)
    assert head.network_widths is None
    inner = fitted((24,), 101, 2)
    dropped = keras.Model(
        inner.inputs[0], next(one for one in inner.layers if one.name.startswith("concat")).output
    )
    rows = np.asarray(dropped(np.ones((200, 24), np.float32), training=True))
    np.testing.assert_array_equal(np.asarray(dropped(np.ones((2, 24)), training=False)), np.ones((2, 24)))
    for part in (rows[:, :12], rows[:, 12:]):
        assert set(part[:, 0]) == {0.0, 2.0}
        assert np.ptp(part, axis=1).max() == 0
    assert 0.3 < (rows[:, 0] != rows[:, 12]).mean() < 0.7
    plain = clone(model).set_params(classifier__head=DenseHead()).fit(faces.data, faces.target)
    assert plain.classifier_.history_[-1]["loss"] != model.classifier_.history_[-1]["loss"]
    alone = clone(model).set_params(extractor__backbone=both.backbone[0]).fit(faces.data, faces.target)
    assert alone.classifier_.head.network_widths == (12,)
    with pytest.raises(ValueError, match=r"network_widths=\(4, 4\) are 8 features in all, and X has 24"):
        DenseHead(network_dropout=0.5, network_widths=(4, 4))((24,), 101, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": ("embedding",)}, "names 1 layers for 2 networks"),
        ({"layer": "input"}, "pictures, which cannot be concatenated"),
        ({"weights": "file.onnx"}, "need one network given by name"),
        ({"backbone": ()}, "names no network"),
    ],
)
def test_what_does_not_fit_together_is_an_error(both, paths, change, message) -> None:
    with pytest.raises(ValueError, match=message):
        both.set_params(**change).transform(paths[:1])


def test_each_network_and_view_has_a_recipe_of_its_own(both, backbone, other) -> None:
    both.set_params(layer=("embedding", "pooled"), views=("plain", "mirror"), dtype="float16")
    found = both.recipes()
    assert [recipe.network for recipe in found] == [backbone.sha256] * 2 + [other.sha256] * 2
    assert [recipe.view for recipe in found] == ["plain", "mirror"] * 2
    assert [recipe.layer for recipe in found] == ["embedding"] * 2 + [other.resolve_layer("pooled")] * 2
    alone = clone(both).set_params(backbone=(other,), layer=("pooled",))
    assert alone.recipes() == found[2:]


def test_a_picture_is_decoded_and_its_face_found_once_for_all_networks(
    both, backbone, paths, tmp_path, monkeypatch
) -> None:
    calls = {"found": 0, "decoded": 0}
    decode = images.decode

    class Counting(OneFace):
        def __call__(self, pixels, min_score):
            calls["found"] += 1
            return super().__call__(pixels, min_score)

    def counted(content, **options):
        calls["decoded"] += isinstance(content, bytes)  # an array is decoded already
        return decode(content, **options)

    monkeypatch.setattr(images, "decode", counted)
    both.set_params(faces=Counting(), layer="embedding")
    both.transform(paths)
    assert calls == {"found": len(paths), "decoded": len(paths)}
    one_more = clone(both).set_params(cache=tmp_path / "other", backbone=backbone)
    one_more.transform(paths)
    clone(both).set_params(cache=tmp_path / "other").transform(paths)
    assert calls == {"found": 2 * len(paths), "decoded": 3 * len(paths)}


def test_a_network_in_integers_stands_beside_others(both, backbone, other, faces, tmp_path) -> None:
    integers = other.quantize(list(faces.data[:20]), max_error=1.0)
    both.set_params(backbone=(backbone, integers), layer="embedding")
    alone = [
        EmbeddingExtractor(one, layer="embedding", cache=None).transform(faces.data)
        for one in (backbone, integers)
    ]
    np.testing.assert_array_equal(both.transform(faces.data), np.hstack(alone))
    assert set(both.report_.n_computed_by) == {"tiny", integers.name}
    model = AgeGenderPipeline(both, AgeGenderClassifier(epochs=1, random_state=0)).fit(
        faces.data, faces.target
    )
    loaded = load_model(save_model(model, tmp_path / "m.agegender"))
    np.testing.assert_allclose(loaded.predict(faces.data), model.predict(faces.data), atol=1e-4)


def test_threads_may_share_an_extractor_of_two_networks(both, paths) -> None:
    both.set_params(cache=None).fit()
    expected = both.transform(paths)
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: both.with_parameters().transform(paths), range(8)):
            np.testing.assert_allclose(rows, expected, atol=1e-6)
