"""The configurations that accuracy.py compares, each one Python expression over backbones.

``bb`` is the network of ``--backbone``, and ``fr`` that of ``--faceres``: HSE's FaceRes, a MobileNet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agegender
from agegender.backbones import Backbone
from agegender.ensemble import AgeGenderEnsemble
from agegender.fine_tuning import Augmentation

ALL, FIRST = (0, 1, 2, 3, 4), (0,)


@dataclass(frozen=True)
class Configuration:
    """An expression, and the folds that it is measured on."""

    expression: str
    folds: tuple[int, ...] = ALL

    @property
    def networks(self) -> list[str]:
        """The names of the networks in the expression."""
        return sorted({"bb", "fr"} & set(re.findall(r"\w+", self.expression)))


def build(configuration: Configuration, networks: dict[str, Backbone], checkpoints: Path) -> Any:
    """Return the estimator that the expression stands for; its trainings go on after an interruption."""
    names = {name: getattr(agegender, name) for name in agegender.__all__}
    names |= {"Augmentation": Augmentation, "AgeGenderEnsemble": AgeGenderEnsemble}
    model = eval(configuration.expression, names | networks)
    for pipeline in getattr(model, "models", [model]):
        pipeline.set_params(
            classifier__random_state=0, classifier__verbose=1, classifier__checkpoint=checkpoints
        )
    return model


def _pipeline(head: str = "", extractor: str = "", classifier: str = "", network: str = "bb") -> str:
    """Write out a pipeline's expression, given the arguments of its parts."""
    extractor, classifier = (
        ", ".join(filter(None, parts)) for parts in ((network, extractor), (head, classifier))
    )
    return f"AgeGenderPipeline(EmbeddingExtractor({extractor}), AgeGenderClassifier({classifier}))"


def _ensemble(*pipelines: str) -> str:
    return f"AgeGenderEnsemble([{', '.join(pipelines)}])"


TUNED = '"dense"'
MIRROR = 'views=("plain", "mirror")'
GENTLY = 'epochs={}, batch_size=64, schedule="cosine", validation_fraction=0.03, calibration_fraction=0.05'

BOTH = "(bb, fr)"
WIDE = "DenseHead(units=(512,), dropout=0.5, batch_norm=True)"
TUNED_BB = _pipeline(
    'FineTuneHead("_plus9", backbone_rate=0.5)', f'{MIRROR}, dtype="float16"', GENTLY.format(10)
)
# Its batch normalisation is part of its convolutions, which therefore need smaller steps.
TUNED_FR = _pipeline(
    'FineTuneHead("conv_pw_11_relu6", backbone_rate=0.1)',
    f'{MIRROR}, dtype="float16"',
    GENTLY.format(10),
    "fr",
)
WHOLE_BB = _pipeline(
    'FineTuneHead("input", backbone_rate=0.5, augment=Augmentation().degraded(0.15))',
    MIRROR,
    f"averaging=0.998, {GENTLY.format(10)}",
)

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
    "blocks after _plus9": Configuration(TUNED_BB, FIRST),
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
    # two networks
    "FaceRes": Configuration(_pipeline(network="fr")),
    "two networks": Configuration(_pipeline(network=BOTH)),
    "two networks, five heads": Configuration(_pipeline(TUNED, "", "ensemble=5", BOTH)),
    "two networks, mirrored view, five heads": Configuration(_pipeline(TUNED, MIRROR, "ensemble=5", BOTH)),
    "two networks, mirrored view, five wide heads": Configuration(
        _pipeline(WIDE, MIRROR, "ensemble=5", BOTH)
    ),
    "blocks of FaceRes after conv_pw_11_relu6": Configuration(TUNED_FR, FIRST),
    "two networks and tuned blocks averaged": Configuration(
        _ensemble(_pipeline(TUNED, MIRROR, "ensemble=5", BOTH), TUNED_BB), FIRST
    ),
    "two networks and tuned blocks of both averaged": Configuration(
        _ensemble(_pipeline(TUNED, MIRROR, "ensemble=5", BOTH), TUNED_BB, TUNED_FR), FIRST
    ),
    # training
    "averaged weights": Configuration(_pipeline(TUNED, "", "averaging=0.99")),
    "mixup": Configuration(_pipeline(TUNED, "", "mixup=0.2")),
    "two networks, averaged weights and mixup": Configuration(
        _pipeline(TUNED, "", "averaging=0.99, mixup=0.2", BOTH)
    ),
    "two networks, a whole one dropped": Configuration(
        _pipeline("DenseHead(units=(256,), dropout=0.3, batch_norm=True, network_dropout=0.1)", network=BOTH)
    ),
    "whole network, worse pictures, averaged weights": Configuration(WHOLE_BB, FIRST),
    "two networks and a whole network averaged": Configuration(
        _ensemble(_pipeline(WIDE, MIRROR, "ensemble=5", BOTH), WHOLE_BB), FIRST
    ),
}
