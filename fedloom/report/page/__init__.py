"""The page of a run, `report.html`: what the run did to the model, to single clients, and what it took."""

from ._page import write_report as write_report

__all__ = ["write_report"]
