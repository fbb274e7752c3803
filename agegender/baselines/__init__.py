"""Published predictors of age and gender as fixed estimators, for comparison with your own models."""

from __future__ import annotations

from agegender.baselines._deepface import DeepFaceAgeGender
from agegender.baselines._insightface import InsightFaceAgeGender
from agegender.baselines._named import BASELINES, load_baseline

__all__ = ["BASELINES", "DeepFaceAgeGender", "InsightFaceAgeGender", "load_baseline"]
