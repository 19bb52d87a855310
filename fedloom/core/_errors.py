"""The exceptions that a caller may want to catch; everything else is a ValueError or a TypeError."""

from __future__ import annotations


class ClientFailure(Exception):
    """A client's work failed; raised from its cause.

    Attributes:
        client: Its id, or its place in the cohort if it has none.
        round_number: The round, counted from 0.
        stage: "data", "begin", "step" or "finish".
    """

    def __init__(self, client: str, round_number: int, stage: str, cause: BaseException):
        super().__init__(f"Client {client!r} failed in round {round_number} at stage {stage!r}: {cause}")
        self.client, self.round_number, self.stage = client, round_number, stage
