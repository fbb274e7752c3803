"""The implementation of ``agegender train --shards``, which opens no pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agegender.cli._models import save
from agegender.cli._networks import networks_of
from agegender.cli._output import fold_table, import_tensorflow, out_console, say

if TYPE_CHECKING:
    from agegender.classifier import AgeGenderClassifier


def train_on_shards(
    folder: Path | str,
    labels: Path | str,
    classifier: AgeGenderClassifier,
    *,
    backbone: Any,
    group: str | None,
    folds: int,
    seed: int,
    out: Path | None,
    quiet: bool,
) -> None:
    """Cross-validate a head on rows of shards, train it on all of them, and save it with their extractor."""
    from agegender.pipeline import AgeGenderPipeline
    from agegender.shards import open_shards, shard_extractor

    # Before hours of training, check that a complete predictor can be made from it.
    extractor = None if out is None else shard_extractor(folder, backbone)
    rows = open_shards(folder, labels, group=group, verbose=0 if quiet else 1)
    say(f"{len(rows.data):,} rows of {rows.made_of['backbone']}, {len(rows.excluded):,} left out.", quiet)
    for path, reason in rows.excluded.head(5).itertuples(index=False):
        say(f"  {path}: {reason}", quiet)
    import_tensorflow()
    if folds:
        _cross_validate(classifier, rows, folds, seed, quiet)
    if extractor is not None and out is not None:
        say("Training on all rows …", quiet)
        classifier.fit(rows.data, rows.target, groups=rows.groups)
        save(AgeGenderPipeline.from_parts(extractor, classifier), out)
        say(f"Saved {out}.", quiet)


def networks_named(named: Sequence[str] | None, flags: Mapping[str, str | None], layer: str | None) -> Any:
    """Return the networks of --backbone; None if it is not given, because the footers name them.

    Raises
    ------
    ValueError
        If a layer is given, which the footers contain.
    """
    networks, layers = networks_of(named or ["arcface"], flags, layer)
    if layers != "auto":
        given = " and ".join([layers] if isinstance(layers, str) else layers)
        raise ValueError(f"The layer of --shards is in the files; leave {given} out.")
    return None if named is None else networks


def _cross_validate(classifier: AgeGenderClassifier, rows: Any, folds: int, seed: int, quiet: bool) -> None:
    import numpy as np
    from sklearn.base import clone

    from agegender.metrics import age_cumulative_score, age_mae, gender_accuracy
    from agegender.model_selection import AgeGenderKFold

    figures = []
    names = np.zeros((len(rows.data), 1))
    splits = AgeGenderKFold(folds, random_state=seed).split(names, rows.target, rows.groups)
    for number, (training, test) in enumerate(splits, 1):
        say(f"Fold {number} of {folds} …", quiet)
        # Rows of weight zero are not trained on, so that no fold has to be copied from the file.
        weights = np.zeros(len(rows.data))
        weights[training] = 1
        fitted = clone(classifier).fit(rows.data, rows.target, sample_weight=weights, groups=rows.groups)
        truth, predicted = rows.target[test], fitted.predict(rows.data)[test]
        figures.append(
            [metric(truth, predicted) for metric in (age_mae, age_cumulative_score, gender_accuracy)]
        )
    out_console.print(fold_table(figures))
