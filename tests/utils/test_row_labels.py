"""Labels of rows that contradict each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agegender import AgeGenderClassifier, AgeGenderPipeline, DenseHead, EmbeddingExtractor
from agegender._utils.row_labels import check_row_order
from agegender.model_selection import AgeGenderKFold, cross_val_predict_frame

OTHER_ORDER = "y has the index labels of X in another order: row 0 is .* X and .* in y.*X.index.*reset_index"


@pytest.fixture
def labelled(paths, faces):
    """Paths with labels from 100 on, and their target with the same labels in another order."""
    table = faces.frame.set_index(np.arange(100, 100 + len(faces.frame)))
    return table["path"], table[["age", "gender"]], table[["age", "gender"]].sample(frac=1, random_state=0)


def test_every_call_that_takes_x_and_y_refuses_another_order(backbone, labelled) -> None:
    X, y, shuffled = labelled
    model = AgeGenderPipeline(
        EmbeddingExtractor(backbone), AgeGenderClassifier(DenseHead(), epochs=1, random_state=0)
    )
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(len(X), 3)), index=X.index)
    model.fit(X, y)
    for call in (
        lambda: model.fit(X, shuffled),
        lambda: model.score(X, shuffled),
        lambda: AgeGenderClassifier(epochs=0).fit(rows, shuffled),
        lambda: model.classifier_.score(rows, shuffled),
        lambda: next(AgeGenderKFold(2).split(X, shuffled)),
        lambda: cross_val_predict_frame(model, X, shuffled),
    ):
        with pytest.raises(ValueError, match=OTHER_ORDER):
            call()
    with pytest.raises(ValueError, match="sample_weight has the index labels"):
        model.fit(X, y, sample_weight=pd.Series(1.0, index=X.index[::-1]))
    assert model.score(X, y) == model.score(list(X), y.to_numpy())


def test_labels_of_another_kind_or_none_pass() -> None:
    X = pd.Series(list("abc"), index=[3, 1, 2])
    for y in (pd.Series([1, 2, 3]), [1, 2, 3], np.arange(3), X.copy(), pd.Series([1], index=[3])):
        check_row_order(X, y=y)
    check_row_order(["a", "b"], y=pd.Series([1, 2], index=[1, 0]))
    repeated = pd.Series(list("aab"), index=[1, 1, 2])
    with pytest.raises(ValueError, match="another order"):
        check_row_order(repeated, y=pd.Series([1, 2, 3], index=[1, 2, 1]))
