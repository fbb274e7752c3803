"""Views: what each does to a picture, what its name is in a cache's key, and views from pictures to predictions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from agegender import AgeGenderClassifier, AgeGenderPipeline, ConvHead, DenseHead, EmbeddingExtractor
from agegender.views import ORDER, VIEWS, View, look, resolve_views


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """Smooth and different everywhere: a red slope to the right, a green one downwards, a blue spot."""
    y, x = np.mgrid[:81, :101]
    spot = 255 * np.exp(-((x - 70) ** 2 + (y - 30) ** 2) / 50)
    return np.stack([2 * x, 2 * y, spot], axis=-1).round().astype(np.uint8)


def spot(pixels: np.ndarray) -> tuple[float, float]:
    """Return column and row of the blue spot's middle."""
    blue = np.where(pixels[..., 2] > 60, pixels[..., 2], 0).astype(float)
    return (blue.sum(0) @ np.arange(blue.shape[1])) / blue.sum(), (
        blue.sum(1) @ np.arange(blue.shape[0])
    ) / blue.sum()


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("plain", (70, 30)),
        ("mirror", (30, 30)),
        ("zoom", (50 + 1.1 * 20, 40 - 1.1 * 10)),
        ("zoom_out", (50 + 0.9 * 20, 40 - 0.9 * 10)),
        ("shift_left", (70 - 5.05, 30)),
        ("shift_right", (70 + 5.05, 30)),
        ("shift_up", (70, 30 - 4.05)),
        ("shift_down", (70, 30 + 4.05)),
        # Counter-clockwise by 8 degrees, rows counted downwards.
        ("rotate_left", (50 + 20 * 0.9903 - 10 * 0.1392, 40 - 10 * 0.9903 - 20 * 0.1392)),
        ("rotate_right", (50 + 20 * 0.9903 + 10 * 0.1392, 40 - 10 * 0.9903 + 20 * 0.1392)),
        ("mirror+shift_left", (30 - 5.05, 30)),
        ("zoom+mirror", (50 - 1.1 * 20, 40 - 1.1 * 10)),
    ],
)
def test_a_view_moves_the_picture_as_its_name_says(photograph, name, where) -> None:
    (view,) = resolve_views(name)
    seen = view(photograph)
    assert seen.shape == photograph.shape
    assert spot(seen) == pytest.approx(where, abs=0.15)


def test_light_colour_and_sharpness(photograph) -> None:
    seen = {name: VIEWS[name](photograph).astype(float) for name in ("darker", "brighter", "grey", "blur")}
    assert (
        seen["darker"].mean() < 0.85 * photograph.mean() < photograph.mean() < 0.87 * seen["brighter"].mean()
    )
    assert (seen["brighter"] == 255).sum() == (photograph == 255).sum()
    np.testing.assert_array_equal(seen["grey"][..., 0], seen["grey"][..., 2])
    # A Gaussian of variance 25 blurred by one of variance (0.008 * 101)².
    assert seen["blur"][..., 2].max() == pytest.approx(255 * 25 / (25 + 0.808**2), abs=2)
    assert seen["blur"].mean() == pytest.approx(photograph.mean(), abs=0.5)


def test_uncovered_borders_continue_the_picture(photograph) -> None:
    bright = np.full_like(photograph, 200)
    for name in VIEWS.keys() - {"darker", "brighter"}:
        np.testing.assert_array_equal(VIEWS[name](bright), bright)


def test_the_same_changes_are_the_same_view_by_any_name() -> None:
    assert resolve_views(("mirror+zoom", "plain")) == resolve_views((View(zoom=1.1, mirror=1), View()))
    assert str(resolve_views("zoom+mirror")[0]) == str(resolve_views("mirror+zoom")[0]) == "mirror,zoom=1.1"
    assert str(View()) == "plain"
    assert len({str(view) for view in VIEWS.values()}) == len(VIEWS)
    assert resolve_views(len(ORDER)) == resolve_views(ORDER)


def test_the_picture_itself_is_never_written_to(photograph) -> None:
    before = photograph.copy()
    for view in VIEWS.values():
        view(photograph)
    np.testing.assert_array_equal(photograph, before)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (3000, 40, 3)])
def test_pictures_of_any_shape_have_views(shape) -> None:
    pixels = np.full(shape, 90, np.uint8)
    plain, *others = look(pixels, resolve_views(ORDER))
    assert plain is pixels
    height, width = min(shape[0], 1024), max(1, round(shape[1] * min(1, 1024 / shape[0])))
    assert {view.shape for view in others} == {(height, width, 3)}


@pytest.mark.parametrize(
    ("views", "error", "message"),
    [
        ("miror", ValueError, r"'miror' is not one of plain, mirror, .*Did you mean 'mirror'"),
        (("plain", "mirror+zom"), ValueError, "Did you mean 'zoom'"),
        (("mirror+zoom", "zoom+mirror"), ValueError, "'mirror,zoom=1.1' occurs twice"),
        ((), ValueError, "no view"),
        (0, ValueError, "from 1 to 12"),
        (13, ValueError, "from 1 to 12"),
        (True, TypeError, "number of views"),
        (None, TypeError, "number of views"),
        ((1, 2), TypeError, "1 should be a name"),
    ],
    ids=str,
)
def test_bad_views_are_refused_with_the_rule(backbone, faces, views, error, message) -> None:
    with pytest.raises(error, match=message):
        EmbeddingExtractor(backbone, views=views).transform(faces.data)


@pytest.mark.parametrize(
    "change", [{"zoom": 0}, {"gamma": -1}, {"turn": float("nan")}, {"blur": -0.1}], ids=str
)
def test_bad_numbers_are_refused(change) -> None:
    with pytest.raises(ValueError, match=f"View: {next(iter(change))}="):
        View(**change)


def test_rows_are_those_of_the_pictures_changed_by_hand(backbone, faces) -> None:
    pictures = [cv2.imread(path)[..., ::-1] for path in faces.data[:5]]
    extractor = EmbeddingExtractor(
        backbone, layer="pooled", views=("plain", "mirror", "darker"), batch_size=4
    )
    rows = extractor.transform(pictures)
    assert rows.shape == (5, 3, 12)
    one = EmbeddingExtractor(backbone, layer="pooled", cache=None)
    np.testing.assert_allclose(rows[:, 0], one.transform(pictures), atol=1e-5)
    np.testing.assert_allclose(rows[:, 1], one.transform([p[:, ::-1] for p in pictures]), atol=1e-5)
    by_hand = [VIEWS["darker"](np.ascontiguousarray(picture)) for picture in pictures]
    np.testing.assert_allclose(rows[:, 2], one.transform(by_hand), atol=1e-5)


def test_a_crop_of_a_shifted_picture_shows_what_the_crop_had_cut_off(backbone) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    shifted = EmbeddingExtractor(backbone, views=View(right=-0.1), crop=0.1).transform([pixels])
    by_hand = EmbeddingExtractor(backbone).transform([pixels[4:36, 8:40]])
    np.testing.assert_allclose(shifted, by_hand, atol=1e-5)


def test_a_tuple_and_a_number_above_one_give_an_axis(backbone, faces) -> None:
    shapes = {
        views: EmbeddingExtractor(backbone, views=views).transform(faces.data[:2]).shape
        for views in (1, "mirror", View(), ("mirror",), 2, ("plain", "zoom", "blur"))
    }
    assert list(shapes.values()) == [(2, 12), (2, 12), (2, 12), (2, 1, 12), (2, 2, 12), (2, 3, 12)]


def test_each_view_is_cached_on_its_own_and_plain_as_ever(backbone, faces) -> None:
    from agegender.runtime import images_passed

    plain = EmbeddingExtractor(backbone).transform(faces.data)
    before = images_passed()
    extractor = EmbeddingExtractor(backbone, views=("mirror", "plain"))
    rows = extractor.transform(faces.data)
    assert images_passed() - before == len(faces.data)
    np.testing.assert_array_equal(rows[:, 1], plain)
    assert (extractor.report_.n_cached, extractor.report_.n_computed) == (0, len(faces.data))
    again = EmbeddingExtractor(backbone, views=(View(), View(mirror=True)))
    np.testing.assert_array_equal(again.transform(faces.data), rows[:, ::-1])
    assert (again.report_.n_cached, again.report_.n_computed) == (len(faces.data), 0)


def test_a_picture_is_decoded_once_for_all_its_views(backbone, faces, monkeypatch) -> None:
    from agegender import images

    decoded, decode = [], images.decode
    monkeypatch.setattr(images, "decode", lambda content, **how: decoded.append(1) or decode(content, **how))
    EmbeddingExtractor(backbone, views=6, batch_size=4).transform(faces.data)
    assert len(decoded) == len(faces.data)


def test_copies_and_failures_have_all_their_views(backbone, faces, tmp_path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing")
    extractor = EmbeddingExtractor(backbone, views=3, on_error="nan")
    rows = extractor.transform([faces.data[0], broken, faces.data[1], faces.data[0]])
    np.testing.assert_array_equal(rows[3], rows[0])
    assert np.isnan(rows[1]).all()
    assert np.isfinite(rows[[0, 2, 3]]).all()
    assert [failure.index for failure in extractor.report_.failures] == [1]


def test_views_do_not_fit_into_a_table_and_the_error_says_so(backbone, faces) -> None:
    extractor = EmbeddingExtractor(backbone, views=2).set_output(transform="pandas")
    with pytest.raises(ValueError, match=r"views=2 gives rows of shape \(2, 12\).*set_output.*views=1"):
        extractor.transform(faces.data)
    with pytest.raises(ValueError, match="views=2 gives rows"):
        extractor.get_feature_names_out()


def test_a_step_that_reads_tables_refuses_views(backbone, faces) -> None:
    model = make_pipeline(EmbeddingExtractor(backbone, views=2), StandardScaler(), AgeGenderClassifier())
    with pytest.raises(ValueError, match=r"dim 3.*StandardScaler"):
        model.fit(faces.data, faces.target)


def test_a_head_for_the_other_kind_of_row_says_what_it_reads(backbone, faces) -> None:
    extractor = EmbeddingExtractor(backbone, views=2, layer="feature_map")
    with pytest.raises(ValueError, match=r"or several views, \(n, v, d\).*penultimate"):
        AgeGenderPipeline(extractor, AgeGenderClassifier(DenseHead())).fit(faces.data, faces.target)


@pytest.mark.parametrize(
    "head", [DenseHead(), ConvHead(), lambda *args: DenseHead()(*args)], ids=["dense", "conv", "any"]
)
def test_predictions_are_averaged_over_views(backbone, faces, head) -> None:
    model = AgeGenderPipeline(
        EmbeddingExtractor(backbone, views=("plain", "mirror", "zoom")),
        AgeGenderClassifier(head, epochs=2, random_state=0),
    ).fit(faces.data, faces.target)
    ages, genders = model.predict_proba(faces.data)
    each = []
    for name in ("plain", "mirror", "zoom"):
        one = clone(model.extractor_).set_params(views=name)
        each.append(model.classifier_.predict_proba(one.transform(faces.data)))
    np.testing.assert_allclose(ages, np.mean([age for age, _ in each], axis=0), atol=1e-5)
    np.testing.assert_allclose(genders, np.mean([gender for _, gender in each], axis=0), atol=1e-5)
    assert not np.allclose(each[0][0], each[1][0])
