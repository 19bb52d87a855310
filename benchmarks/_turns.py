"""The worker's side of taking turns: wait for a line on standard input, do a round, write a line of JSON.

Whatever else a system prints goes to standard error, even from its native code.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


class Turns:
    """The conversation with the process that measures. Make it before a system is imported."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def wait(self) -> bool:
        """Until it is this worker's turn; False if there are no more."""
        return bool(sys.stdin.readline())

    def answer(self, **values: Any) -> None:
        """Says what became of the turn: `seconds`, `loss` and whatever else was measured."""
        print(json.dumps(values), file=self._answers, flush=True)


def serve(turns: Turns, prepare: Callable[[int], Any], run: Callable[[Any], dict[str, Any]]) -> None:
    """Does rounds until there are no more turns.

    Args:
        turns: The conversation.
        prepare: A round's number to its data; not timed.
        run: Does the round; gives `seconds`, `loss` and whatever else was measured.
    """
    round_number = 0
    while turns.wait():
        turns.answer(**run(prepare(round_number)))
        round_number += 1
