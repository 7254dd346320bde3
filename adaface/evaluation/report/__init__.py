"""The report of an evaluation: one HTML page that needs no other file, a summary in Markdown, a section for model cards."""

from adaface.evaluation.report.card import model_card_section
from adaface.evaluation.report.columns import describe_columns
from adaface.evaluation.report.data import Column, MethodInfo, PromptInfo, ReportData, SubjectInfo
from adaface.evaluation.report.markdown import markdown
from adaface.evaluation.report.page import build_report

__all__ = [
    "Column",
    "MethodInfo",
    "PromptInfo",
    "ReportData",
    "SubjectInfo",
    "build_report",
    "describe_columns",
    "markdown",
    "model_card_section",
]
