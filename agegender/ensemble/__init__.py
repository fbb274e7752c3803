"""Averages of pipelines with different networks and heads, as one estimator."""

from agegender.ensemble._ensemble import AgeGenderEnsemble

__all__ = ["AgeGenderEnsemble"]
