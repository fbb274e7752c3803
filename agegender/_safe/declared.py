"""What safe files contain of the estimators, declared apart from them, so that reading needs no scikit-learn."""

from __future__ import annotations

from agegender._safe.declaration import SafeState

__all__ = ["CLASSIFIER", "ENSEMBLE", "EXTRACTOR", "PIPELINE"]

PIPELINE = SafeState(fitted=("extractor_", "classifier_", "trained_on_"), dropped=("_metadata_request",))
"""Of an AgeGenderPipeline."""

EXTRACTOR = SafeState(
    fitted=("resolved_", "_sklearn_output_config"), dropped=("report_", "_asked", "_metadata_request")
)
"""Of an EmbeddingExtractor."""

CLASSIFIER = SafeState(
    fitted=(
        *("classes_", "history_", "n_epochs_", "n_features_in_", "feature_names_in_"),
        *("calibration_", "_row_shape", "_keras", "_onnx"),
    ),
    dropped=("_metadata_request",),
    members={"_keras": ".keras", "_onnx": ".onnx"},
)
"""Of an AgeGenderClassifier."""

ENSEMBLE = SafeState(fitted=("models_", "weights_", "calibration_"), dropped=("_metadata_request",))
"""Of an AgeGenderEnsemble."""
