"""Age and gender from photographs of faces, with the habits of scikit-learn.

Frozen face-recognition networks turn each picture into activations, once, kept on disk; Keras heads learn age
(a distribution over years, read as its mean) and gender on them within scikit-learn's rules.
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

# Each name is imported when it is first asked for: `import agegender` itself costs nothing.
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
