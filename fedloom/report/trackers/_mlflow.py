"""Keeps a run with MLflow."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from ..._files import write_text
from .._callback import RunInfo
from .._record import Row
from ._tracker import Tracker, cut, metrics_of, require, settings_of

_LONGEST_NAME, _LONGEST_SETTING, _LONGEST_TAG, _MOST_SETTINGS = 250, 6000, 5000, 100  # what every server takes
_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]", re.ASCII)
_STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflow(Tracker):
    """Metrics by round, settings, warnings and how the run ended, with MLflow.

    A resumed run goes on there too: its id is kept in `mlflow.json` in the run folder. MLflow's own active run, if your code has one, is
    left alone.

    Args:
        experiment: The name of the experiment, which is made if there is none of this name.
        tracking_uri: Of the server or database, such as "sqlite:///runs/mlflow.db"; None takes what MLflow is set to.

    Raises:
        ImportError: mlflow is missing.
    """

    def __init__(self, experiment: str, tracking_uri: str | None = None):
        require("mlflow", "mlflow")
        self._experiment, self._tracking_uri = experiment, tracking_uri
        self._client: Any = None

    def on_start(self, run: RunInfo) -> None:
        """Begins a run, or goes on with it."""
        from mlflow.entities import Param, RunTag
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=self._tracking_uri)
        path = run.run_dir / "mlflow.json" if run.run_dir else None
        if path and path.exists():
            self._id = json.loads(path.read_text(encoding="utf-8"))["run_id"]
            client.update_run(self._id, status="RUNNING")
        else:
            found = client.get_experiment_by_name(self._experiment)
            experiment = found.experiment_id if found else client.create_experiment(self._experiment)
            self._id = client.create_run(experiment, run_name=run.run_dir.name if run.run_dir else None).info.run_id
            if path:
                write_text(path, json.dumps({"run_id": self._id}, indent=1) + "\n")
        known = client.get_run(self._id).data
        self._warnings = known.tags.get("warnings", "")
        settings = {_name(name): str(value) for name, value in settings_of(run.config, _LONGEST_SETTING).items()}
        new = [Param(name, value) for name, value in settings.items() if name not in known.params]
        # A param cannot change, but a resumed run may have more rounds, say.
        changed = [
            RunTag(f"resumed.{name}"[:_LONGEST_NAME], cut(value, _LONGEST_TAG))
            for name, value in settings.items()
            if known.params.get(name, value) != value
        ]
        for i in range(0, max(len(new), len(changed)), _MOST_SETTINGS):
            batch = slice(i, i + _MOST_SETTINGS)
            client.log_batch(self._id, params=new[batch], tags=changed[batch])
        self._client = client

    def on_round_end(self, state: Any, row: Row) -> None:
        """A value per metric."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._id, metrics=[Metric(_name(name), value, now, row["round"]) for name, value in metrics_of(row).items()])

    def on_warning(self, round_number: int, text: str) -> None:
        """A line of the tag `warnings`, which keeps as many of the newest as it may."""
        if self._client:  # else it came before the start
            self._warnings = f"{self._warnings}round {round_number}: {text}\n"[-_LONGEST_TAG:]
            self._client.set_tag(self._id, "warnings", self._warnings)

    def on_end(self, status: str) -> None:
        """The status, as MLflow's and in our own words as a tag."""
        if not self._client:
            return
        self._client.set_tag(self._id, "status", status)
        self._client.set_terminated(self._id, status=_STATUS.get(status, "FINISHED"))
        self._client = None


def _name(name: str) -> str:
    """With what MLflow does not take in names replaced."""
    return _NOT_IN_NAMES.sub("_", name)[:_LONGEST_NAME]
