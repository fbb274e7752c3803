"""Evaluation reports: as data, as a page, and in the terminal."""

from agegender.reports._report import EvaluationReport, evaluation_report

__all__ = ["EvaluationReport", "evaluation_report"]
