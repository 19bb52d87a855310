"""The cohorts of a run: `sampling` as users name it, and the draws that a run makes from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from fedloom.data import CohortSampler, DeployedCohorts, FederatedDataset, cyclic, poisson, uniform, uniform_tff, weighted

from ._failures import Failures

Sampling = Literal["uniform", "poisson", "weighted", "cyclic", "tff"]


class Draw(NamedTuple):
    """The clients asked in a round."""

    ids: list[str]
    metrics: dict[str, float]  # of simulated devices; empty without them


def sampler(sampling: Sampling | CohortSampler, dataset: FederatedDataset, size: int, failures: Failures, seed: int) -> CohortSampler:
    """The function from a draw's number to client ids.

    Raises:
        ValueError: The name is not known, or the size does not go with the population or the failures' policy.
    """
    if callable(sampling):
        if failures.over_selection > 1:
            raise ValueError(
                f"failures.over_selection must be 1 for cohorts that come from a function, got {failures.over_selection}: it is the "
                "function that draws spare clients, as fl.data.available does."
            )
        return cast(CohortSampler, sampling)
    known: dict[str, Callable[..., CohortSampler]] = {
        "uniform": uniform,
        "poisson": poisson,
        "weighted": lambda client_ids, size, seed: weighted(client_ids, dataset.size_array(), size, seed=seed),
        "cyclic": cyclic,
        "tff": uniform_tff,
    }
    if sampling not in known:
        raise ValueError(f"sampling must be one of {sorted(known)} or a function from round number to client ids, got {sampling!r}.")
    if sampling == "poisson" and failures.over_selection > 1:
        raise ValueError(
            f"failures.over_selection must be 1 for Poisson cohorts, got {failures.over_selection}: their size is left to chance, and "
            "there is no spare client."
        )
    drawn = failures.drawn(size)
    if drawn > len(dataset) >= size:
        raise ValueError(
            f"cohort_size * failures.over_selection must be at most {len(dataset)}, the number of clients to draw from, got {drawn}. Lower "
            "one of them."
        )
    return known[sampling](dataset.client_ids, drawn if drawn <= len(dataset) else size, seed=seed)  # which says that `size` is too large


def evenly_spaced(number: int, most: int) -> list[int]:
    """Up to `most` places out of so many, from the first to the last.

    Example:
        >>> evenly_spaced(10, 4), evenly_spaced(2, 4), evenly_spaced(0, 4)
        ([0, 3, 6, 9], [0, 1], [])
    """
    return [int(place) for place in np.unique(np.linspace(0, number - 1, min(number, most)).astype(int))]


def draw(sample: CohortSampler, number: int) -> Draw:
    """The draw with this number, from 0."""
    if isinstance(sample, DeployedCohorts):
        deployed = sample.round(number)
        return Draw(deployed.ids, deployed.metrics())
    return Draw(sample(number), {})


def scheme(sampling: Any) -> str:
    """The name of a sampling, for a run's record."""
    return sampling if isinstance(sampling, str) else getattr(sampling, "scheme", "a function")
