"""Pictures that are made worse in training."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from agegender._tails.degradation import KINDS, Degradation


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Smooth coloured pictures with an edge, all different."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :40]
    whole = 60 + rng.uniform(0, 40, (32, 1, 1, 3)) + (x + y)[None, :, :, None] * np.array([1.0, 0.5, 0.2])
    whole[:, 20:, 15:] += 60
    return whole.clip(0, 255).astype(np.float32)


def worse(pictures: np.ndarray, seed: int = 1, **shares: Any) -> np.ndarray:
    layer = Degradation(seed=seed, **shares)
    np.testing.assert_array_equal(layer(pictures, training=False), pictures)
    found = np.asarray(layer(pictures, training=True))
    assert found.shape == pictures.shape
    assert found.min() >= 0
    assert found.max() <= 255.001
    return found


def changed(found: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    return np.abs(found - pictures).max(axis=(1, 2, 3)) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_its_fraction_of_pictures(pictures, kind) -> None:
    assert not changed(worse(pictures), pictures).any()
    assert changed(worse(pictures, **{kind: 1.0}), pictures).all()
    half = changed(worse(pictures, **{kind: 0.5}), pictures)
    assert 0.2 < half.mean() < 0.8
    np.testing.assert_array_equal(worse(pictures, **{kind: 0.5}), worse(pictures, **{kind: 0.5}))
    assert not np.array_equal(worse(pictures, **{kind: 0.5}), worse(pictures, seed=2, **{kind: 0.5}))


def test_occlusion_covers_one_rectangle_with_the_mean_colour(pictures) -> None:
    found = worse(pictures, occlusion=1.0)
    for view, picture in zip(found, pictures, strict=True):
        rows, columns = np.nonzero((view != picture).any(axis=2))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 0.1 * 48 <= height <= 0.36 * 48 + 1
        assert 0.1 * 40 <= width <= 0.36 * 40 + 1
        inside = view[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        np.testing.assert_allclose(
            inside, np.broadcast_to(picture.mean(axis=(0, 1)), inside.shape), atol=1e-3
        )


def test_grey_pictures_have_the_luma_of_the_coloured_ones(pictures) -> None:
    found = worse(pictures, grey=1.0)
    np.testing.assert_allclose(found[..., 0], pictures @ np.array([0.299, 0.587, 0.114]), rtol=1e-4)
    assert np.ptp(found, axis=3).max() == 0


@pytest.mark.parametrize("kind", ["blur", "low_resolution"])
def test_fine_detail_is_lost_and_the_rest_stays(kind) -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255.0
    fine = np.repeat(board[None, :, :, None], 16, axis=0).repeat(3, axis=3).astype(np.float32)
    found = worse(fine, **{kind: 1.0})
    left = found[:, 16:48, 16:48].std(axis=(1, 2, 3)) / fine.std()
    assert left.min() < 0.2
    assert left.max() < 0.95
    assert np.ptp(left) > 0.05  # each picture has a strength of its own
    assert found.mean(axis=(1, 2, 3)) == pytest.approx(np.full(16, 127.5), abs=4)
    flat = np.full((4, 24, 24, 3), 90, np.float32) + np.arange(3, dtype=np.float32)
    np.testing.assert_allclose(worse(flat, **{kind: 1.0}), flat, atol=1e-2)


def test_blur_is_a_gaussian_of_the_picture_itself() -> None:
    import cv2

    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 255, (3, 100, 100, 3)).astype(np.float32)
    for view, picture in zip(worse(noise, blur=1.0), noise, strict=True):
        errors = [
            np.abs(cv2.GaussianBlur(picture, (13, 13), sigma, borderType=cv2.BORDER_REFLECT_101) - view).max()
            for sigma in np.linspace(0.4, 2.0, 161)
        ]
        assert min(errors) < 1.5


def test_noise_and_compression_are_as_strong_as_they_say() -> None:
    flat = np.full((32, 32, 32, 3), 128, np.float32)
    deviations = (worse(flat, noise=1.0) - flat).std(axis=(1, 2, 3))
    assert 2.8 < deviations.min() < 6
    assert 11 < deviations.max() < 14.5
    rng = np.random.default_rng(0)
    rough = np.clip(128 + rng.normal(0, 30, (8, 32, 32, 3)), 0, 255).astype(np.float32)
    found = worse(rough, jpeg=1.0)
    assert np.array_equal(found, np.round(found))  # what a decoder returns
    assert 3 < np.abs(found - rough).mean() < 40


def test_it_is_created_again_from_its_configuration(pictures) -> None:
    layer = Degradation(seed=7, grey=0.5, jpeg=0.5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_array_equal(layer(pictures, training=True), again(pictures, training=True))
