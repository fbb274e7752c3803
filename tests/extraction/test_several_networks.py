"""Several networks side by side: one extractor, each network cached by itself."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import write_tiny_onnx
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    Backbone,
    ConvHead,
    EmbeddingExtractor,
    FineTuneHead,
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
