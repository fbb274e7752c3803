"""Genders of a small set come from a logistic regression that flipped labels change little."""

import numpy as np
import pytest

from agegender import AgeGenderClassifier, DenseHead
from agegender.inspection._few import FewFacesModel
from agegender.inspection._look import FEW, Look


@pytest.fixture
def small():
    """Rows of 60 numbers, of which one is the gender, and labels of which one in ten is flipped."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 60)).astype(np.float32)
    genders = rng.integers(0, 2, 200)
    rows[:, 0] = 20 * genders + rng.normal(size=200)
    flipped = genders.copy()
    flipped[::10] = 1 - flipped[::10]
    return rows, genders, np.column_stack([np.full(200, 30.0) + np.arange(200) % 20, flipped])


def test_flipped_genders_are_not_learnt(small) -> None:
    rows, genders, labels = small
    head = AgeGenderClassifier(DenseHead(units=(8,)), epochs=2, calibration_fraction=0)
    ages, proba = FewFacesModel(head, (60,)).fit(rows, labels, groups=np.arange(200)).predict_proba(rows)
    assert ages.shape == (200, head.max_age + 1)
    np.testing.assert_allclose(ages.sum(axis=1), 1, atol=1e-5)
    wrong = labels[:, 1] != genders
    assert ((proba[wrong, 1] >= 0.5) == genders[wrong]).mean() >= 0.9


def test_a_training_part_of_one_gender_is_refused(small) -> None:
    rows, _, labels = small
    labels[:, 1] = 1
    with pytest.raises(ValueError, match="of one gender and none of the other"):
        FewFacesModel(AgeGenderClassifier(), (60,)).fit(rows, labels)


def test_large_sets_and_chosen_classifiers_keep_their_head() -> None:
    chosen = Look(None, AgeGenderClassifier(), None, 0, chosen=True)
    default = Look(None, AgeGenderClassifier(), None, 0, chosen=False)
    assert isinstance(default.judge(FEW - 1, (4,)), FewFacesModel)
    assert isinstance(default.judge(FEW, (4,)), AgeGenderClassifier)
    assert isinstance(chosen.judge(FEW - 1, (4,)), AgeGenderClassifier)
