"""JPEG files decoded as large as a face needs: what it changes, and what it must not."""

from __future__ import annotations

import io
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image

from agegender import EmbeddingExtractor, images, load_model, save_model
from agegender._extraction.framing import FaceFinder, Framing
from agegender._extraction.opened import OpenedPicture, scaled
from agegender.backbones import Backbone
from agegender.faces import load_detector


@pytest.fixture(scope="module")
def photo(shared: Path) -> bytes:
    """A couple, 2280 × 1588 pixels, twice as large as it was taken."""
    with Image.open(shared / "photos" / "couple.jpg") as picture:
        file = io.BytesIO()
        picture.resize((4560, 3176), Image.Resampling.LANCZOS).save(file, "JPEG", quality=92)
    return file.getvalue()


@pytest.fixture(scope="module")
def network(shared: Path) -> Backbone:
    return Backbone.from_onnx(shared / "weights" / "mobilefacenet_arcface.onnx", mean=0.0, scale=1.0)


@pytest.fixture(scope="module")
def yunet(shared: Path) -> str:
    return str(shared / "weights" / "face_detection_yunet_2026may.onnx")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def test_embeddings_of_a_large_photograph_hardly_move(photo, network, yunet, tmp_path) -> None:
    options = {"layer": "embedding", "faces": yunet, "cache": tmp_path}
    whole = EmbeddingExtractor(network, **options)
    drafted = EmbeddingExtractor(network, draft=2.0, **options)
    found, rows = whole.transform_faces([photo])
    there, drawn = drafted.transform_faces([photo])
    assert len(found[0]) == len(there[0]) == 2
    for face, other in zip(found[0], there[0], strict=True):
        np.testing.assert_allclose(other.landmarks, face.landmarks, atol=0.03 * face.width)
    for row, other in zip(rows, drawn, strict=True):
        assert 0.985 < cosine(row, other) < 1
    # The same whether one face is asked for or every one, found now or kept, one size or another beside it.
    np.testing.assert_array_equal(drafted.transform([photo])[0], drawn[0])
    alone = EmbeddingExtractor(network, draft=2.0, **options | {"cache": None})
    np.testing.assert_allclose(alone.transform([photo])[0], drawn[0], atol=1e-6)


def test_each_face_keeps_the_pixels_that_it_needs(photo, yunet) -> None:
    finder = FaceFinder(load_detector(yunet), drafts=True)
    framing = Framing(0.0, finder=finder, draft=2.0)
    picture = OpenedPicture(framing, photo, images.digest(photo))
    first = picture.faces()[0]
    for size in ((24, 24), (112, 112), (500, 500)):
        shrink = picture.shrink(0, size)
        assert framing.oversampling(first, size) / shrink >= 2 or shrink == 1
        assert shrink == 2 or framing.oversampling(first, size) / (2 * shrink) < 2
    assert picture.shrink(0, (24, 24)) == 2  # no further than twice the detector's 640 pixels
    assert picture.shrink(0, (500, 500)) == 1
    np.testing.assert_allclose(scaled(scaled(first, 0.25), 4).to_row(), first.to_row())


def test_drafts_have_keys_of_their_own_and_small_pictures_stay_as_they_are(backbone, paths, tmp_path) -> None:
    whole, drafted = (EmbeddingExtractor(backbone, draft=draft, cache=tmp_path) for draft in (None, 2))
    assert whole.recipes()[0].faces is None
    assert drafted.recipes()[0].faces == "draft2"
    np.testing.assert_array_equal(drafted.transform(paths), whole.transform(paths))
    assert drafted.report_.n_computed == 60
    np.testing.assert_array_equal(
        EmbeddingExtractor(backbone, draft=1, cache=None).transform(paths), whole.transform(paths)
    )


def test_crops_are_decoded_smaller_too(backbone) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8)).resize(
        (480, 480), Image.Resampling.BICUBIC
    )
    file = io.BytesIO()
    smooth.save(file, "JPEG", quality=95)
    whole, drafted = (
        EmbeddingExtractor(backbone, draft=draft, cache=None).transform([file.getvalue()])[0]
        for draft in (None, 2)
    )
    assert not np.array_equal(whole, drafted)
    assert cosine(whole, drafted) > 0.99


@pytest.mark.parametrize("draft", [0.5, -1, "auto", float("inf"), float("nan")])
def test_what_is_no_factor_is_told_of(backbone, paths, draft) -> None:
    with pytest.raises(ValueError, match=r"draft=.*at least 1"):
        EmbeddingExtractor(backbone, draft=draft).transform(paths[:1])


def test_models_keep_it(backbone, tmp_path) -> None:
    extractor = EmbeddingExtractor(backbone, layer="pooled", draft=2.0).fit()
    save_model(extractor, tmp_path / "a.agegender")
    joblib.dump(extractor, tmp_path / "a.joblib")
    for loaded in (load_model(tmp_path / "a.agegender"), joblib.load(tmp_path / "a.joblib")):
        assert loaded.draft == 2.0
        assert [recipe.json for recipe in loaded.recipes()] == [recipe.json for recipe in extractor.recipes()]
