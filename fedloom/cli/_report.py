"""`fedloom report`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import tyro

from fedloom.report import write_report

from ._output import say


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Write the report of a run anew from what is in its folder: one HTML file that needs no network.

    Example: fedloom report runs/shakespeare-001
    """

    run_dir: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN_DIR")]]  # the run's folder
    json: bool = False  # print one line of JSON
    traceback: bool = False  # show where an error came from

    def run(self) -> None:
        """Writes it."""
        path = write_report(self.run_dir)
        if self.json:
            print(json.dumps({"report": str(path)}))
        else:
            say(f"written: {path}")
