"""Predict age and gender from photographs of faces, in the style of scikit-learn.

A frozen face-recognition network embeds each picture once, and the embeddings are cached on disk. Keras heads
learn the age (a distribution over years; the prediction is its mean) and the gender from the embeddings. All
estimators follow scikit-learn's conventions.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from agegender._version import __version__

if TYPE_CHECKING:
    from agegender.backbones import Backbone
    from agegender.classifier import AgeGenderClassifier
    from agegender.extractor import EmbeddingExtractor
    from agegender.fine_tuning import Augmentation, FineTuneHead
    from agegender.heads import ConvHead, DenseHead
    from agegender.persistence import load_model, save_model
    from agegender.pipeline import AgeGenderPipeline
    from agegender.pretrained import load_pretrained
    from agegender.versions import show_versions

__all__ = [
    "AgeGenderClassifier",
    "AgeGenderPipeline",
    "Augmentation",
    "Backbone",
    "ConvHead",
    "DenseHead",
    "EmbeddingExtractor",
    "FineTuneHead",
    "__version__",
    "load_model",
    "load_pretrained",
    "save_model",
    "show_versions",
]

# Each name is imported when it is first used, so that `import agegender` is fast.
_HOMES = {
    "AgeGenderClassifier": "classifier",
    "AgeGenderPipeline": "pipeline",
    "Augmentation": "fine_tuning",
    "Backbone": "backbones",
    "ConvHead": "heads",
    "DenseHead": "heads",
    "EmbeddingExtractor": "extractor",
    "FineTuneHead": "fine_tuning",
    "load_model": "persistence",
    "load_pretrained": "pretrained",
    "save_model": "persistence",
    "show_versions": "versions",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"agegender.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'agegender' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
