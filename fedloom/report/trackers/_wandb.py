"""Keeps a run at Weights & Biases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..._files import write_text
from .._callback import RunInfo
from .._record import Row
from ._tracker import Tracker, metrics_of, require


class WandB(Tracker):
    """Metrics by round, settings, warnings and how the run ended, at Weights & Biases.

    A resumed run goes on there too: its id is kept in `wandb.json` in the run folder. Rounds that it does again stay as they were logged
    first.

    Args:
        project: Whose run it is.
        **settings: Further arguments of `wandb.init`, such as `entity`, `name`, `tags` or `mode="offline"`. Unless you say otherwise,
            files lie in the run folder, and what is printed is not recorded, for a live view prints much.

    Raises:
        ImportError: wandb is missing.
    """

    def __init__(self, project: str, **settings: Any):
        require("wandb", "wandb")
        self._project, self._settings = project, settings
        self._run: Any = None

    def on_start(self, run: RunInfo) -> None:
        """Begins a run, or goes on with it."""
        import wandb

        known = _read(run.run_dir / "wandb.json") if run.run_dir else {}
        own: dict[str, Any] = {"config": dict(run.config), "settings": wandb.Settings(console="off"), "reinit": "create_new"}
        if run.run_dir:
            own["dir"] = str(run.run_dir)
        if "id" in known:
            own |= {"id": known["id"], "resume": "allow", "allow_val_change": True}
        self._run = wandb.init(project=self._project, **{**own, **self._settings})
        self._round = run.history[-1]["round"] if run.history else 0
        self._warnings: dict[int, list[str]] = {}
        if run.run_dir and "id" not in known:
            write_text(run.run_dir / "wandb.json", json.dumps({"id": self._run.id, "url": self._run.url}, indent=1) + "\n")

    def on_round_end(self, state: Any, row: Row) -> None:
        """A value per metric."""
        self._round = row["round"]
        self._run.log(metrics_of(row), step=self._round)

    def on_warning(self, round_number: int, text: str) -> None:
        """A text at its round."""
        if self._run:  # else it came before the start
            self._warnings.setdefault(round_number, []).append(text)
            self._run.log({"warnings": "\n".join(self._warnings[round_number])}, step=round_number)

    def on_end(self, status: str) -> None:
        """The status, in the summary; a run that failed is marked as such."""
        if not self._run:
            return
        self._run.summary["status"] = status
        self._run.finish(exit_code=int(status == "failed"))
        self._run = None


def _read(path: Any) -> Mapping[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
