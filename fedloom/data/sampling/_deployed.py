"""Rounds as a server in deployment runs them: more devices are asked than needed, and whoever reports first makes the cohort.

Paper: Bonawitz et al. 2019, "Towards Federated Learning at Scale: System Design", arXiv:1902.01046 (selection, reporting, over-selection
to 130 % of the goal, and abandoned rounds).
Free to change: how fast a round is worked out. With care: the streams of random numbers, on which simulated runs depend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from ._devices import Devices
from ._drawn import check_cohort_size

_SELECTION, _DROPOUT = 5, 6  # streams of random numbers, apart from those of the devices


class DeployedRound(NamedTuple):
    """What became of the devices of a round: asked = reported + dropped + late."""

    ids: list[str]  # of the cohort, first come first; empty if the round was abandoned
    asked: int
    unavailable: int  # of the population, when the round began
    reported: int  # before the round closed
    dropped: int  # asked, and never to be heard of again
    late: int  # still at work when the round closed
    seconds: float  # from the beginning to the close

    def metrics(self) -> dict[str, float]:
        """What a round's row shows of it."""
        names = ("asked", "unavailable", "reported", "dropped", "late")
        return {**{f"num_{name}": float(getattr(self, name)) for name in names}, "simulated_seconds": self.seconds}


@runtime_checkable
class DeployedCohorts(Protocol):
    """A `CohortSampler` that can also tell how its rounds went; `fl.train` then adds that to `metrics.csv`."""

    def __call__(self, round_number: int, /) -> list[str]: ...

    def round(self, round_number: int, /) -> DeployedRound:
        """The round with this number, from 0; its ids are those that calling gives."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class AvailableCohorts:
    """The sampler that `available` makes, whose arguments are its fields."""

    devices: Devices
    client_ids: Sequence[str] = field(repr=False)
    num_examples: np.ndarray = field(repr=False)
    size: int
    over_selection: float
    at_least: int
    deadline: float
    every: float
    start: float
    seed: int

    scheme = "available"  # see DrawnCohorts
    min_separation = 1

    def __call__(self, round_number: int) -> list[str]:
        """The cohort of a round, counted from 0."""
        return self.round(round_number).ids

    def round(self, round_number: int) -> DeployedRound:
        """All that happens in a round, counted from 0."""
        present = np.flatnonzero(self.devices.available(self.start + round_number * self.every))
        goal = math.ceil(round(self.size * self.over_selection, 9))  # rounded first: 100 * 1.1 is a hair more than 110
        asked = self._random(round_number, _SELECTION).choice(present, min(goal, len(present)), replace=False)
        stays = self._random(round_number, _DROPOUT).random(len(asked)) >= self.devices.dropout
        remaining = asked[stays]
        finish = self.devices.seconds(remaining, self.num_examples[remaining])
        order = np.argsort(finish, kind="stable")
        in_time = order[finish[order] <= self.deadline][: self.size]
        full = len(in_time) == self.size
        cohort = remaining[in_time] if len(in_time) >= self.at_least else remaining[:0]
        return DeployedRound(
            ids=[self.client_ids[int(client)] for client in cohort],
            asked=len(asked),
            unavailable=len(self.client_ids) - len(present),
            reported=len(in_time),
            dropped=len(asked) - len(remaining),
            late=len(remaining) - len(in_time),
            seconds=float(finish[in_time[-1]]) if full else float(self.deadline),
        )

    def _random(self, round_number: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, round_number, stream])


def available(
    devices: Devices,
    client_ids: Sequence[str],
    num_examples: ArrayLike,
    size: int,
    *,
    over_selection: float = 1.3,
    at_least: int = 1,
    deadline: float = 600.0,
    every: float | None = None,
    start: float = 0.0,
    seed: int = 0,
) -> AvailableCohorts:
    """The cohorts of a deployed system: those of the available devices that were asked and reported first.

    At time `start` + round * `every` the server asks ceil(`size` * `over_selection`) clients, drawn uniformly from those available, or all
    of them if there are fewer. Each drops out with probability `devices.dropout` or reports after `devices.seconds`. The round closes when
    `size` have reported, or at the deadline; who has reported by then is the cohort. With fewer than `at_least` the round is abandoned: its
    cohort is empty, and trains nothing.

    Such cohorts are not uniform: clients that are slow, have many examples, or are there at other hours than the rounds come less often.
    Rounds begin at fixed times whatever happened before, so that each depends on its number alone. No scheme of privacy accounting but
    `Everyone` describes them.

    Args:
        devices: One for each client.
        client_ids: The population.
        num_examples: How many each client goes through in a round, repeats over epochs counted, shape (len(client_ids),), >= 0;
            `dataset.size_array()` for one epoch.
        size: Reports that a round waits for, in [1, len(client_ids)].
        over_selection: Clients asked per report waited for, >= 1.
        at_least: Reports without which a round is abandoned, in [1, `size`].
        deadline: Seconds after which a round closes, > 0.
        every: Seconds from the beginning of a round to that of the next, >= `deadline`; None takes the deadline.
        start: When round 0 begins, in seconds after midnight in the middle time zone, >= 0.
        seed: Decides who is asked and who drops out; the devices have a seed of their own.

    Returns:
        A `CohortSampler` with a further method: `round(r)` tells what became of all devices in round r.

    Raises:
        ValueError: An argument is out of range, or there is not one device and one number per client.

    Example:
        >>> ids = [str(i) for i in range(1000)]
        >>> sample = available(Devices(num_clients=1000), ids, np.full(1000, 50), 20, deadline=60, seed=1)
        >>> happened = sample.round(0)
        >>> happened.asked, happened.reported, happened.asked - happened.dropped - happened.late, happened.ids == sample(0)
        (26, 20, 20, True)
    """
    check_cohort_size(client_ids, size)
    if devices.num_clients != len(client_ids):
        raise ValueError(
            f"There must be a device for each client, got Devices(num_clients={devices.num_clients}) for {len(client_ids)} clients. "
            "Make the devices with num_clients=len(client_ids)."
        )
    examples = np.asarray(num_examples)
    if examples.shape != (len(client_ids),):
        raise ValueError(f"num_examples must have one entry per client, shape ({len(client_ids)},), got {examples.shape}.")
    if not ((examples >= 0) & np.isfinite(examples)).all():
        raise ValueError(f"num_examples must be finite and at least 0, got entries from {examples.min()} to {examples.max()}.")
    every = deadline if every is None else every
    for name, value, holds, expected in (
        ("over_selection", over_selection, 1 <= over_selection < math.inf, "at least 1"),
        ("at_least", at_least, 1 <= at_least <= size, f"in [1, {size}], the size of a cohort"),
        ("deadline", deadline, 0 < deadline < math.inf, "a number of seconds above 0"),
        ("every", every, deadline <= every < math.inf, f"at least deadline={deadline} seconds, so that rounds do not overlap"),
        ("start", start, 0 <= start < math.inf, "a number of seconds, at least 0"),
    ):
        if not holds:
            raise ValueError(f"{name} must be {expected}, got {value}.")
    return AvailableCohorts(
        devices=devices, client_ids=client_ids, num_examples=examples, size=size, over_selection=over_selection, at_least=at_least,
        deadline=deadline, every=every, start=start, seed=seed,
    )  # fmt: skip
