"""The page of a run, `report.html`: what the run did to the model, to single clients, and what it took."""

from ._numbers import bytes_text as bytes_text
from ._numbers import seconds_text as seconds_text
from ._page import write_report as write_report

__all__ = ["bytes_text", "seconds_text", "write_report"]
