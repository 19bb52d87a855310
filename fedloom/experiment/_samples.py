"""Text that a character model writes on the way, from the same prompt and seed, for the run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedloom.report import Callback, Row, RunInfo

from .._files import write_text
from ._process import LearningProcess, ProcessState

_PARTS = 4  # text is written at the start and after each of so many parts of the run


class TextSamples(Callback):
    """Keeps `samples.json` in the run folder: text by round.

    Args:
        process: That trains.
        keras_model: Whose architecture it has; weights are put into it, and taken out again.
        prompt: What to continue.
        length: By how many characters.
        temperature: As in `fl.text.generate`.
        seed: As in `fl.text.generate`.

    Raises:
        ValueError: The prompt has characters that the model does not know, or a number is out of range.
    """

    def __init__(self, process: LearningProcess, keras_model: Any, *, prompt: str, length: int, temperature: float, seed: int):
        self._process, self._keras_model = process, keras_model
        self._settings = {"prompt": prompt, "length": length, "temperature": temperature, "seed": seed}
        self._path: Path | None = None
        self._generate({**self._settings, "length": 0})  # refuses now what it would refuse later

    def on_start(self, run: RunInfo) -> None:
        """Goes on with the samples of the rounds that are done."""
        self._rounds, self._samples = run.rounds, []
        self._path = run.run_dir / "samples.json" if run.run_dir else None
        done = run.history[-1]["round"] if run.history else -1
        if self._path and self._path.exists():
            self._samples = [sample for sample in json.loads(self._path.read_text(encoding="utf-8")) if sample["round"] <= done]
        self._last = self._samples[-1]["round"] if self._samples else -1

    def on_round_end(self, state: ProcessState, row: Row) -> None:
        """Writes a sample after each part of the run."""
        r = row["round"]
        if self._path is None or (r and r * _PARTS // self._rounds == (r - 1) * _PARTS // self._rounds):
            return
        before = self._process.model.weights_from(self._keras_model)
        self._process.assign_weights(state, self._keras_model)
        text = self._generate(self._settings)
        self._process.model.assign(self._keras_model, before)
        self._samples.append({"round": r, "prompt": self._settings["prompt"], "text": text})
        write_text(self._path, json.dumps(self._samples, indent=1) + "\n")

    def _generate(self, settings: dict[str, Any]) -> str:
        from fedloom import text

        return text.generate(self._keras_model, **settings)
