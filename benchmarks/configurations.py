"""The configurations that accuracy.py compares, each one Python expression over ``bb``, a backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import agegender
from agegender.backbones import Backbone
from agegender.fine_tuning import Augmentation

ALL, FIRST = (0, 1, 2, 3, 4), (0,)


@dataclass(frozen=True)
class Configuration:
    """An expression, and the folds that it is measured on."""

    expression: str
    folds: tuple[int, ...] = ALL


def build(configuration: Configuration, bb: Backbone) -> Any:
    """Return the estimator that the expression stands for, its random state set."""
    names = {name: getattr(agegender, name) for name in agegender.__all__}
    model = eval(configuration.expression, names | {"bb": bb, "Augmentation": Augmentation})
    return model.set_params(classifier__random_state=0, classifier__verbose=1)


def _pipeline(head: str = "", extractor: str = "", classifier: str = "") -> str:
    """Write out a pipeline's expression, given the arguments of its parts."""
    extractor, classifier = (
        ", ".join(filter(None, parts)) for parts in (("bb", extractor), (head, classifier))
    )
    return f"AgeGenderPipeline(EmbeddingExtractor({extractor}), AgeGenderClassifier({classifier}))"


TUNED = '"dense"'
MIRROR = 'views=("plain", "mirror")'
GENTLY = 'epochs={}, batch_size=64, schedule="cosine", validation_fraction=0.03, calibration_fraction=0.05'

CONFIGURATIONS: dict[str, Configuration] = {
    "default": Configuration(_pipeline()),
    # layers, each read by the plainest head
    "softmax on the embedding": Configuration(_pipeline("DenseHead()", 'layer="embedding"')),
    "softmax on the pooled map": Configuration(_pipeline("DenseHead()", 'layer="pooled"')),
    "softmax on the penultimate layer": Configuration(_pipeline("DenseHead()", 'layer="penultimate"')),
    "convolution and softmax": Configuration(_pipeline("ConvHead()"), FIRST),
    # heads
    "256 hidden units": Configuration(_pipeline("DenseHead(units=(256,))")),
    "conv": Configuration(_pipeline('"conv"'), FIRST),
    # losses
    "categorical cross-entropy": Configuration(_pipeline(TUNED, "", 'age_loss="categorical_crossentropy"')),
    "mean-variance": Configuration(_pipeline(TUNED, "", 'age_loss="mean_variance"')),
    "ordinal": Configuration(_pipeline(TUNED, "", 'age_loss="ordinal"')),
    "label distribution, 1 year": Configuration(_pipeline(TUNED, "", "age_sigma=1.0")),
    "label distribution, 4 years": Configuration(_pipeline(TUNED, "", "age_sigma=4.0")),
    "with expected-age error": Configuration(_pipeline(TUNED, "", "expected_age_weight=0.1")),
    "cosine schedule": Configuration(_pipeline(TUNED, "", 'epochs=40, patience=40, schedule="cosine"')),
    "ages balanced by weight": Configuration(_pipeline(TUNED, "", 'balance="age"')),
    "surplus ages dropped": Configuration(_pipeline(TUNED, "", 'balance="age-drop"')),
    # views, framing, ensembles
    "mirrored view": Configuration(_pipeline(TUNED, MIRROR)),
    "five heads": Configuration(_pipeline(TUNED, "", "ensemble=5")),
    "mirrored view, five heads": Configuration(_pipeline(TUNED, MIRROR, "ensemble=5")),
    # fine-tuning
    "blocks after _plus9": Configuration(
        _pipeline(
            'FineTuneHead("_plus9", backbone_rate=0.5)', f'{MIRROR}, dtype="float16"', GENTLY.format(10)
        ),
        FIRST,
    ),
    "blocks after _plus9, three averaged": Configuration(
        _pipeline(
            'FineTuneHead("_plus9", backbone_rate=0.5)',
            f'{MIRROR}, dtype="float16"',
            f"ensemble=3, {GENTLY.format(15)}",
        ),
        FIRST,
    ),
    "whole network": Configuration(
        _pipeline('FineTuneHead("input", backbone_rate=0.5)', MIRROR, GENTLY.format(10)), FIRST
    ),
}
