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
