"""What an analysis with noise gives away about a client, and the noise for a target.

Free to change: the checks. With care: `distributed_noise_multiplier`, which is the privacy analysis of noise that clients add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedloom.privacy import Everyone, epsilon, noise_multiplier

_LEAST_STD = 0.5  # of a client's discrete Gaussian, below which Proposition 14 says nothing


@dataclass(frozen=True)
class PrivacySpent:
    """What was given away about a client, with all of its data.

    Attributes:
        epsilon: Spent by this analysis; further ones add to it.
        delta: As asked for.
        noise_multiplier: Standard deviation of the noise over the largest L2 norm that one client has in the sum; of noise that clients
            add, that of a Gaussian which hides no more.
        relation: What is hard to tell apart: data with and without a client ("add_or_remove_one"), or with a client and with one that has
            no values in its place ("replace_special"), where the number of clients is no secret.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    relation: str


@dataclass(frozen=True)
class Target:
    """The privacy that an analysis was asked for; `target` checks it.

    Attributes:
        epsilon: The most to spend, or None if the noise is given.
        delta: In (0, 1).
        noise_multiplier: Or None if epsilon is given.
    """

    epsilon: float | None
    delta: float
    noise_multiplier: float | None

    def least_noise(self, accountant: Literal["pld", "rdp"], delta: float | None = None) -> float:
        """The noise multiplier asked for, or the least that one Gaussian release needs within `delta`, by default all of it."""
        if self.noise_multiplier is not None:
            return self.noise_multiplier
        assert self.epsilon is not None
        return noise_multiplier(Everyone(), rounds=1, epsilon=self.epsilon, delta=delta or self.delta, accountant=accountant)

    def spent(self, noise_multiplier: float, delta: float | None = None) -> PrivacySpent:
        """What one Gaussian release by the server spends, within `delta`, by default all of it."""
        spent = epsilon(Everyone(), noise_multiplier, 1, delta or self.delta, accountant="pld")
        return PrivacySpent(spent, self.delta, noise_multiplier, Everyone.relation)


def target(
    epsilon: float | None, delta: float | None, noise_multiplier: float | None, seed: int | None, *, num_clients: int
) -> Target | None:
    """Checks the arguments of privacy that analyses share; None if no noise is asked for.

    Raises:
        ValueError: Only a part is given, epsilon and noise both, or one is out of range.
    """
    if epsilon is None and noise_multiplier is None:
        if delta is not None:
            raise ValueError(f"delta={delta!r} needs epsilon, or noise_multiplier, beside it. Leave it out for results without noise.")
        return None
    if epsilon is not None and noise_multiplier is not None:
        raise ValueError(
            f"Give epsilon or noise_multiplier, as one follows from the other, got epsilon={epsilon!r} and "
            f"noise_multiplier={noise_multiplier!r}."
        )
    for name, value in (("epsilon", epsilon), ("noise_multiplier", noise_multiplier)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be finite and above 0, got {value!r}. Leave it out for results without noise.")
    if delta is None or not 0 < delta < 1 / num_clients:
        raise ValueError(
            f"delta must be in (0, {1 / num_clients:.3g}), below 1 / number of clients, got {delta!r}: publishing all data of one client, "
            "drawn at random, would pass as private. A tenth of that bound is a usual choice."
        )
    if seed is None:
        raise ValueError(
            "seed must be given with epsilon or noise_multiplier, got None. Take a new, secret one each time, as secrets.randbits(63) is: "
            "two analyses with one seed have the same noise, and their difference is exact."
        )
    return Target(epsilon, delta, noise_multiplier)


def distributed_noise_multiplier(std: float, clients: int, sensitivity: float, size: int) -> float:
    """The noise multiplier of a Gaussian that hides no more than the sum of these clients' discrete Gaussians.

    Kairouz, Liu and Steinke 2021 (arXiv:2102.06387), Proposition 14: of the sum of n times N_Z(0, sigma^2) in d coordinates, the Renyi
    divergence of order alpha from itself moved by Delta is at most alpha / 2 (Delta / (sqrt(n) sigma) + tau sqrt(d))^2, where
    tau = 10 sum_{k=1}^{n-1} exp(-2 pi^2 sigma^2 k / (k + 1)). A Gaussian of noise multiplier z has alpha / (2 z^2).

    Args:
        std: sigma, of one client's noise, at least 1/2.
        clients: n.
        sensitivity: Delta, the L2 norm of a client's vector.
        size: d.
    """
    k = np.arange(1, clients)
    tau = 10 * np.exp(-2 * (math.pi * std) ** 2 * k / (k + 1)).sum()
    return float(1 / (sensitivity / (math.sqrt(clients) * std) + tau * math.sqrt(size)))


def distributed_std(goal: float, clients: int, sensitivity: float, size: int) -> float:
    """The least standard deviation of one client's noise with which `distributed_noise_multiplier` is at least `goal`."""
    too_little, enough = _LEAST_STD, max(_LEAST_STD, goal * sensitivity / math.sqrt(clients))
    if distributed_noise_multiplier(_LEAST_STD, clients, sensitivity, size) >= goal:
        return _LEAST_STD
    while distributed_noise_multiplier(enough, clients, sensitivity, size) < goal:
        enough *= 2
    while enough - too_little > 1e-6 * enough:
        middle = (too_little + enough) / 2
        if distributed_noise_multiplier(middle, clients, sensitivity, size) < goal:
            too_little = middle
        else:
            enough = middle
    return enough


def distributed_spent(request: Target, std: float, clients: int, sensitivity: float, size: int) -> PrivacySpent:
    """What the sum of so many clients' counts spends, if each has added such noise."""
    z = distributed_noise_multiplier(std, clients, sensitivity, size)
    # Renyi divergences, since those are what Proposition 14 bounds.
    return PrivacySpent(epsilon(Everyone(), z, 1, request.delta, accountant="rdp"), request.delta, z, "replace_special")
