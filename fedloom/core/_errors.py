"""The exceptions that a caller may want to catch; everything else is a ValueError or a TypeError."""

from __future__ import annotations

import re

_COLOURS = re.compile("\x1b\\[[0-9;]*m")  # Keras writes its errors for a terminal


class LeftOut(Exception):
    """A client takes no part in a round, because it failed or is not needed; executors go on with the next. Never leaves a round."""


class ClientFailure(Exception):
    """A client's work failed; raised from its cause.

    Attributes:
        client: Its id, or its place in the cohort if it has none.
        round_number: The round, counted from 0.
        stage: "data", "begin", "step 3" (of its batches, counted from 0) or "finish".
        reason: What went wrong, in words.
    """

    def __init__(self, client: str, round_number: int, stage: str, cause: BaseException, *, during: str = ""):
        speaks_for_itself = isinstance(cause, ValueError | OSError | RuntimeError) and str(cause)
        reason = str(cause) if speaks_for_itself else f"{type(cause).__name__}: {cause}".removesuffix(": ")
        self.reason = " ".join(_COLOURS.sub("", reason).split())  # one line, for tables
        super().__init__(f"Client {client!r} failed in {during or f'round {round_number}'} at stage {stage!r}: {self.reason}")
        self.client, self.round_number, self.stage = client, round_number, stage


class RoundFailed(Exception):
    """A round was given up: time after time too few clients reported. What was done before it is not lost.

    Attributes:
        round_number: The round, counted from 0.
        attempts: How many cohorts were tried.
        failures: Of the last cohort, as dicts with `client`, `stage` and `reason`.
    """

    def __init__(self, message: str, *, round_number: int, attempts: int, failures: list[dict[str, str]]):
        super().__init__(message)
        self.round_number, self.attempts, self.failures = round_number, attempts, failures


class CheckpointMismatch(Exception):
    """A run cannot be resumed: what its checkpoint is of is not what it is resumed with, or none is whole. The folder is as it was."""


class RunInterrupted(KeyboardInterrupt):
    """A run was asked to stop, by Ctrl-C or SIGTERM: it finished its round and saved.

    Attributes:
        run_dir: The run folder.
        round_number: The last round done.
    """

    def __init__(self, message: str, *, run_dir: str, round_number: int):
        super().__init__(message)
        self.run_dir, self.round_number = run_dir, round_number


class PrivacyBudgetExceeded(Exception):
    """A round was refused, because it would have spent more privacy than the run may spend; nothing was released.

    Attributes:
        epsilon_spent: So far.
        epsilon_next: After the round that was refused.
        epsilon_budget: The most that may be spent.
    """

    def __init__(self, message: str, *, epsilon_spent: float, epsilon_next: float, epsilon_budget: float):
        super().__init__(message)
        self.epsilon_spent, self.epsilon_next, self.epsilon_budget = epsilon_spent, epsilon_next, epsilon_budget
