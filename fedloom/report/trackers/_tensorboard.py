"""Keeps a run for TensorBoard, by TensorBoard's own writer: no TensorFlow."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import Any

from .._callback import RunInfo
from .._record import Row
from ._tracker import Tracker, metrics_of, require, settings_of

_LONGEST = 1000  # characters of a setting: TensorBoard has no limit, but its table has


class TensorBoard(Tracker):
    """Metrics by round, settings and warnings, to be seen with `tensorboard --logdir FOLDER`.

    A resumed run goes on in its folder; what was written there of rounds that are done again is not shown.

    Args:
        log_dir: The folder; None takes `tensorboard` in the run's.

    Raises:
        ImportError: tensorboard is missing.
    """

    def __init__(self, log_dir: str | Path | None = None):
        require("tensorboard", "tensorboard")
        self._log_dir = log_dir
        self._writer: Any = None

    def check(self, run: RunInfo) -> None:
        """Needs a place to write to."""
        self._folder(run)

    def on_start(self, run: RunInfo) -> None:
        """Opens a file of events, with the settings as hyperparameters and as text."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        # Modules of generated code, in which type checkers see no names.
        self._events: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summaries: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        self._writer = EventFileWriter(str(self._folder(run)))
        self._round = run.history[-1]["round"] if run.history else -1
        # Readers forget what older files have of this step and later ones.
        self._add(self._round + 1, session_log=self._events.SessionLog(status=self._events.SessionLog.START))
        self._add(0, summary=hparams_pb(settings_of(run.config, _LONGEST), trial_id=str(run.run_dir) if run.run_dir else None))
        self._text("config", f"```json\n{json.dumps(run.config, indent=1, default=str)}\n```", 0)
        self._writer.flush()

    def on_round_end(self, state: Any, row: Row) -> None:
        """A value per metric."""
        self._round = row["round"]
        values = [self._summaries.Summary.Value(tag=name, simple_value=value) for name, value in metrics_of(row).items()]
        self._add(self._round, summary=self._summaries.Summary(value=values))
        self._writer.flush()

    def on_warning(self, round_number: int, text: str) -> None:
        """A text at its round."""
        if self._writer:  # else it came before the start
            self._text("warnings", text, round_number)

    def on_end(self, status: str) -> None:
        """The status, as the hyperparameter page knows it and as text."""
        if not self._writer:
            return
        from tensorboard.plugins.hparams import metadata

        # By hand: TensorBoard's own function for it imports TensorFlow.
        codes: Any = importlib.import_module("tensorboard.plugins.hparams.api_pb2")
        data: Any = importlib.import_module("tensorboard.plugins.hparams.plugin_data_pb2")
        known = {"finished": codes.STATUS_SUCCESS, "stopped": codes.STATUS_SUCCESS, "failed": codes.STATUS_FAILURE}
        end = data.SessionEndInfo(status=known.get(status, codes.STATUS_UNKNOWN), end_time_secs=time.time())
        about = metadata.create_summary_metadata(data.HParamsPluginData(session_end_info=end))
        value = self._summaries.Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)
        self._add(max(self._round, 0), summary=self._summaries.Summary(value=[value]))
        self._text("status", status, max(self._round, 0))
        self._writer.close()
        self._writer = None

    def _folder(self, run: RunInfo) -> Path:
        if self._log_dir is None and run.run_dir is None:
            raise ValueError("TensorBoard needs a log_dir where the run has no run_dir, got None. Name a folder.")
        return Path(self._log_dir) if self._log_dir is not None else Path(run.run_dir or "") / "tensorboard"

    def _text(self, name: str, text: str, step: int) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(step, summary=text_pb(name, text))

    def _add(self, step: int, **what: Any) -> None:
        self._writer.add_event(self._events.Event(step=step, wall_time=time.time(), **what))
