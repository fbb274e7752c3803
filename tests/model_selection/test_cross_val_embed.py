"""Rows of fine-tuned networks for pictures that each of them was not trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agegender import AgeGenderClassifier, AgeGenderPipeline, DenseHead, EmbeddingExtractor, FineTuneHead
from agegender._networks.opening import pictures_of_training
from agegender.backbones import Backbone
from agegender.model_selection import AgeGenderKFold, cross_val_embed


def fine_tuned(backbone: Backbone, **options: int) -> AgeGenderPipeline:
    head = AgeGenderClassifier(
        FineTuneHead("relu1", (4,)), epochs=1, random_state=0, validation_fraction=0.0, **options
    )
    return AgeGenderPipeline(EmbeddingExtractor(backbone), head)


def test_no_network_embeds_the_pictures_that_it_was_trained_on(backbone, faces, tmp_path: Path) -> None:
    model, folds = fine_tuned(backbone), AgeGenderKFold(2)
    found = cross_val_embed(model, faces.data, faces.target, groups=faces.groups, cv=folds, folder=tmp_path)
    splits = list(folds.split(faces.data, faces.target, groups=faces.groups))
    assert found.rows.shape == (len(faces.data), 12)
    for number, (train, test) in enumerate(splits):
        assert (found.folds[test] == number).all()
        network = found.backbones[number]
        probe = AgeGenderPipeline(EmbeddingExtractor(network), AgeGenderClassifier(epochs=1, random_state=0))
        probe.fit(faces.data[test], faces.target[test])  # no LeakageWarning
        assert len(pictures_of_training(network)) == len(train)
        np.testing.assert_array_equal(
            EmbeddingExtractor(network).transform(faces.data[test]), found.rows[test]
        )
    assert found.backbones[0] != found.backbones[1]

    stored = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = cross_val_embed(model, faces.data, faces.target, groups=faces.groups, cv=folds, folder=tmp_path)
    np.testing.assert_array_equal(again.rows, found.rows)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == stored
    other = model.set_params(classifier__epochs=0)
    cross_val_embed(other, faces.data, faces.target, groups=faces.groups, cv=folds, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_what_has_no_network_of_its_own_is_refused(backbone, faces) -> None:
    with pytest.raises(TypeError, match="cross_val_embed takes an AgeGenderPipeline with a FineTuneHead"):
        cross_val_embed(AgeGenderClassifier(), faces.data, faces.target)
    dense = AgeGenderPipeline(EmbeddingExtractor(backbone), AgeGenderClassifier(DenseHead(), epochs=1))
    with pytest.raises(ValueError, match="leaves the network as it is"):
        cross_val_embed(dense, faces.data, faces.target, cv=2)
    with pytest.raises(ValueError, match="cross_val_embed: row 0 is in 0 test folds"):
        cross_val_embed(
            fine_tuned(backbone), faces.data, faces.target, cv=[(np.arange(30), np.arange(30, 60))]
        )
