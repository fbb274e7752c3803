"""Reports on how well ages and genders are predicted: as data, as a page, in the terminal."""

from agegender.reports._report import EvaluationReport, evaluation_report

__all__ = ["EvaluationReport", "evaluation_report"]
