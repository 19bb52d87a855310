"""Devices: when the clients of a simulated population are there, and how long their work takes.

Times are in seconds, and time 0 is midnight in the middle time zone. What is modelled follows Bonawitz et al. 2019, "Towards Federated
Learning at Scale: System Design", arXiv:1902.01046: availability that swings with the time of day, four times as many devices at night as
by day in one country, and 6 to 10 % of devices that drop out of a round. That devices differ widely in speed: Lai et al. 2021, "FedScale",
arXiv:2105.11367; Yang et al. 2021, "Characterizing Impacts of Heterogeneity in Federated Learning upon Large-Scale Smartphone Data",
arXiv:2006.06983. The curves, a cosine and lognormals, are the simplest that do this; they are not fitted to data.
Free to change: nothing in the streams of random numbers, on which simulated runs depend; the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

DAY = 86_400.0  # seconds

# The third word of a seed, never 0, as numpy takes [1, 2] and [1, 2, 0] for the same: so no stream is that of a sampler with the same seed.
_ZONE, _SPEED, _LATENCY, _PRESENCE = 1, 2, 3, 4


@dataclass(frozen=True, kw_only=True)
class Devices:
    """The devices of a population, each decided by (seed, its position in the population) alone.

    Client i is available at time t with probability `presence` (1 + `swing` cos(2 pi (t + z_i - `peak`) / day)), where z_i, its time zone,
    is uniform in [-`zones`/2, `zones`/2]. Over all clients the share is then `presence` (1 + `swing` s cos(2 pi (t - `peak`) / day)) with
    s = sin(a) / a, a = pi `zones` / day. Coins are tossed anew every `spell` seconds; in between a client comes or goes only as far as its
    probability rises or falls.

    Args:
        num_clients: The population.
        presence: Probability of being available, averaged over a day; `presence` (1 + `swing`) is at most 1.
        swing: How far the probability goes up and down relative to its mean, in [0, 1]. 0.6 makes the peak four times the low.
        peak: Local time of day at which most are available, in seconds after midnight.
        zones: Width of the band of time zones, in seconds: 0 for one zone, 86,400 for all around the earth.
        spell: Seconds from one toss to the next, > 0.
        speed: Median examples per second in training, in [1e-9, 1e9].
        speed_sigma: Standard deviation of the logarithm of the speed, which is normal, in [0, 5]. At 1 every twentieth device is more than
            5 times faster than the median, every twentieth more than 5 times slower.
        latency: Median seconds for download and upload together, in [0, 1e9]. For bytes over a lognormal bandwidth give bytes / median
            bandwidth.
        latency_sigma: Standard deviation of the logarithm of the latency, in [0, 5].
        dropout: Probability that a device which was asked never reports, in each round independently, in [0, 1].
        seed: Decides all devices.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> devices = Devices(num_clients=100_000, presence=0.2, zones=0)
        >>> night, noon = devices.probability(2 * 3600)[0], devices.probability(14 * 3600)[0]
        >>> round(float(night), 3), round(float(noon), 3), devices.available(2 * 3600).shape
        (0.32, 0.08, (100000,))
    """

    num_clients: int
    presence: float = 0.25
    swing: float = 0.6
    peak: float = 2 * 3600.0
    zones: float = 3 * 3600.0
    spell: float = 1800.0
    speed: float = 100.0
    speed_sigma: float = 1.0
    latency: float = 10.0
    latency_sigma: float = 0.5
    dropout: float = 0.08
    seed: int = 0

    def __post_init__(self):
        _check("num_clients", self.num_clients, self.num_clients >= 1, "at least 1")
        _check("swing", self.swing, 0 <= self.swing <= 1, "in [0, 1]")
        most = 1 / (1 + self.swing)
        _check("presence", self.presence, 0 <= self.presence <= most, f"in [0, {most:.4g}], 1 / (1 + swing), for probabilities end at 1")
        _check("peak", self.peak, math.isfinite(self.peak), "a finite number of seconds")
        _check("zones", self.zones, 0 <= self.zones <= DAY, "in [0, 86400] seconds")
        _check("spell", self.spell, 0 < self.spell < math.inf, "a number of seconds above 0")
        _check("speed", self.speed, 1e-9 <= self.speed <= 1e9, "in [1e-9, 1e9] examples per second")
        _check("speed_sigma", self.speed_sigma, 0 <= self.speed_sigma <= 5, "in [0, 5]")
        _check("latency", self.latency, 0 <= self.latency <= 1e9, "in [0, 1e9] seconds")
        _check("latency_sigma", self.latency_sigma, 0 <= self.latency_sigma <= 5, "in [0, 5]")
        _check("dropout", self.dropout, 0 <= self.dropout <= 1, "in [0, 1]")

    @cached_property
    def time_zones(self) -> np.ndarray:
        """z_i: local time minus the time of the simulation, seconds, float32 (num_clients,)."""
        return (self._random(0, _ZONE).random(self.num_clients, np.float32) - np.float32(0.5)) * np.float32(self.zones)

    @cached_property
    def speeds(self) -> np.ndarray:
        """Examples per second, float32 (num_clients,)."""
        return _lognormal(self._random(0, _SPEED), self.num_clients, self.speed, self.speed_sigma)

    @cached_property
    def latencies(self) -> np.ndarray:
        """Seconds for download and upload together, float32 (num_clients,)."""
        return _lognormal(self._random(0, _LATENCY), self.num_clients, self.latency, self.latency_sigma)

    def probability(self, time: float) -> np.ndarray:
        """Of being available at a time >= 0 in seconds, float32 (num_clients,)."""
        # cos(a + b) = cos a cos b - sin a sin b, so that no cosine is taken of every client in every round.
        angle = 2 * math.pi * ((time - self.peak) % DAY) / DAY
        amplitude = self.presence * self.swing
        cosines, sines = self._zone_angles
        probability = cosines * np.float32(amplitude * math.cos(angle))
        probability -= sines * np.float32(amplitude * math.sin(angle))
        probability += np.float32(self.presence)
        return probability

    def available(self, time: float) -> np.ndarray:
        """Who is available at a time >= 0 in seconds: bool (num_clients,), the same whenever it is asked."""
        coins = self._random(int(time // self.spell), _PRESENCE).random(self.num_clients, np.float32)
        return coins < self.probability(time)

    def seconds(self, clients: np.ndarray, num_examples: np.ndarray) -> np.ndarray:
        """From being asked to having reported: latency + examples / speed, float64.

        Args:
            clients: Positions in the population, integers (k,).
            num_examples: How many each of them goes through, repeats counted, (k,).
        """
        return self.latencies[clients].astype(np.float64) + num_examples / self.speeds[clients].astype(np.float64)

    @cached_property
    def _zone_angles(self) -> tuple[np.ndarray, np.ndarray]:
        angles = self.time_zones * np.float32(2 * math.pi / DAY)
        return np.cos(angles), np.sin(angles)

    def _random(self, number: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number, stream])


def _lognormal(random: np.random.Generator, count: int, median: float, sigma: float) -> np.ndarray:
    values = random.standard_normal(count, np.float32)
    values *= np.float32(sigma)
    np.exp(values, out=values)
    values *= np.float32(median)
    return values


def _check(name: str, value: float, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"Devices.{name} must be {expected}, got {value!r}.")
