"""The report of a dataset build: one HTML page that needs no other file."""

from data_pipeline.report.page import build_report, write_report

__all__ = ["build_report", "write_report"]
