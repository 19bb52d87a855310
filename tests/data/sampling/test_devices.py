"""Devices: availability in closed form, lognormal speeds, and everything decided by (seed, position)."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from fedloom.data import Devices

HOUR, DAY = 3600.0, 86_400.0
N = 100_000


@pytest.mark.parametrize("time", [0.0, 2 * HOUR, 9.5 * HOUR, 14 * HOUR, 3 * DAY + 20 * HOUR])
def test_the_probability_of_each_client_is_the_cosine_of_its_local_time(time):
    devices = Devices(num_clients=1000, presence=0.3, swing=0.8, peak=3 * HOUR, zones=8 * HOUR, seed=4)
    expected = [0.3 * (1 + 0.8 * math.cos(2 * math.pi * (time + zone - 3 * HOUR) / DAY)) for zone in devices.time_zones.tolist()]
    np.testing.assert_allclose(devices.probability(time), expected, atol=1e-6)


def test_four_times_as_many_at_the_peak_as_at_the_low():
    """(1 + 0.6) / (1 - 0.6) = 4, in one time zone and at the default swing."""
    devices = Devices(num_clients=3, zones=0.0)
    np.testing.assert_allclose(devices.probability(2 * HOUR), 0.25 * 1.6, rtol=1e-6)
    np.testing.assert_allclose(devices.probability(2 * HOUR) / devices.probability(14 * HOUR), 4, rtol=1e-5)


@pytest.mark.parametrize("zones", [0.0, 3 * HOUR, 12 * HOUR, DAY])
@pytest.mark.parametrize("time", [0.0, 6 * HOUR, 15 * HOUR])
def test_the_share_available_is_the_closed_form(zones, time):
    """The mean of the cosine over a band of width 2a is sin(a) / a times that in its middle.

    n = 100,000 clients, each there by two coins (its zone, its presence), so the count is Binomial(n, share): held to 4.5 sigma.
    """
    devices = Devices(num_clients=N, presence=0.3, swing=0.9, peak=2 * HOUR, zones=zones, seed=1)
    a = math.pi * zones / DAY
    flattened = math.sin(a) / a if a else 1.0
    share = 0.3 * (1 + 0.9 * flattened * math.cos(2 * math.pi * (time - 2 * HOUR) / DAY))
    assert abs(devices.available(time).sum() - N * share) <= 4.5 * math.sqrt(N * share * (1 - share))


def test_time_zones_are_uniform_in_their_band():
    """Mean 0 and variance width^2 / 12; over n = 100,000 the mean has a sigma of width / sqrt(12 n). Held to 4.5 sigma."""
    zones = Devices(num_clients=N, zones=6 * HOUR).time_zones.astype(np.float64)
    assert zones.min() >= -3 * HOUR and zones.max() <= 3 * HOUR
    assert abs(zones.mean()) <= 4.5 * 6 * HOUR / math.sqrt(12 * N)
    below = (zones < 1 * HOUR).sum()
    assert abs(below - N * 4 / 6) <= 4.5 * math.sqrt(N * 4 / 6 * 2 / 6)


@pytest.mark.parametrize("deviations", [-2, -1, 0, 1, 2])
def test_speeds_and_latencies_are_lognormal(deviations):
    """Below median * exp(k sigma) are Binomial(n, Phi(k)) of n = 100,000: held to 4.5 sigma."""
    devices = Devices(num_clients=N, speed=40.0, speed_sigma=0.8, latency=5.0, latency_sigma=0.3, seed=2)
    p = NormalDist().cdf(deviations)
    for values, median, sigma in ((devices.speeds, 40.0, 0.8), (devices.latencies, 5.0, 0.3)):
        below = (values < median * math.exp(deviations * sigma)).sum()
        assert abs(below - N * p) <= 4.5 * math.sqrt(N * p * (1 - p))


def test_the_traits_of_a_device_are_independent():
    """A correlation of independent columns over n = 100,000 has a sigma of 1 / sqrt(n); 6 pairs are held to 4.5 of them."""
    devices = Devices(num_clients=N, swing=0.0, seed=3)
    traits = [devices.time_zones, np.log(devices.speeds), np.log(devices.latencies), devices.available(0.0)]
    correlations = np.corrcoef(np.asarray(traits, np.float64))
    assert np.abs(correlations[np.triu_indices(4, 1)]).max() <= 4.5 / math.sqrt(N)


def test_without_spread_all_devices_are_the_median():
    devices = Devices(num_clients=4, speed=20.0, speed_sigma=0.0, latency=3.0, latency_sigma=0.0)
    np.testing.assert_allclose(devices.seconds(np.array([0, 3]), np.array([40, 0])), [5.0, 3.0])


def test_a_device_is_decided_by_seed_and_position_alone():
    """The first thousand of many devices are a thousand devices; another seed makes others."""
    few, many, other = (Devices(num_clients=n, seed=seed) for n, seed in ((1000, 1), (5000, 1), (1000, 2)))
    many.available(7 * DAY)  # what was asked before changes nothing
    for trait in ("time_zones", "speeds", "latencies"):
        np.testing.assert_array_equal(getattr(few, trait), getattr(many, trait)[:1000])
        assert (getattr(few, trait) != getattr(other, trait)).mean() > 0.99
    np.testing.assert_array_equal(few.available(DAY), many.available(DAY)[:1000])
    assert (few.available(DAY) != other.available(DAY)).any()


def test_coins_are_tossed_anew_every_spell():
    devices = Devices(num_clients=1000, presence=0.5, swing=0.0, spell=600.0)
    np.testing.assert_array_equal(devices.available(1200.0), devices.available(1799.0))
    # Half of them change sides on average, n = 1000: sigma is 15.8, held to 4.5 of them.
    assert abs((devices.available(1199.0) != devices.available(1200.0)).sum() - 500) <= 71


def test_within_a_spell_clients_come_as_their_probability_rises():
    devices = Devices(num_clients=5000, presence=0.5, swing=1.0, peak=6 * HOUR, zones=0.0, spell=DAY)
    earlier, later = devices.available(1 * HOUR), devices.available(5 * HOUR)
    assert (later >= earlier).all() and later.sum() > earlier.sum()


@pytest.mark.parametrize(("presence", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_never_is_nobody_and_always_is_everybody(presence, share):
    devices = Devices(num_clients=N, presence=presence, swing=0.0)
    assert devices.available(12_345.0).mean() == share


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_clients": 0}, "num_clients must be at least 1, got 0"),
        ({"presence": 0.7}, r"presence must be in \[0, 0.625\].*got 0.7"),
        ({"presence": -0.1}, "presence must be in"),
        ({"presence": math.nan}, "presence must be in"),
        ({"swing": 1.1}, r"swing must be in \[0, 1\]"),
        ({"peak": math.inf}, "peak must be a finite number of seconds"),
        ({"zones": DAY + 1}, r"zones must be in \[0, 86400\] seconds"),
        ({"spell": 0.0}, "spell must be a number of seconds above 0"),
        ({"speed": 0.0}, "speed must be in .* examples per second, got 0.0"),
        ({"speed_sigma": 6.0}, r"speed_sigma must be in \[0, 5\]"),
        ({"latency": -1.0}, "latency must be in"),
        ({"latency_sigma": -1.0}, "latency_sigma must be in"),
        ({"dropout": 1.5}, r"dropout must be in \[0, 1\], got 1.5"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match="Devices." + message):
        Devices(**{"num_clients": 10, **arguments})


@pytest.mark.parametrize("extreme", [{"speed": 1e-9, "latency": 1e9}, {"speed": 1e9, "latency": 0.0}])
def test_the_extremes_allowed_stay_finite(extreme):
    devices = Devices(num_clients=N, speed_sigma=5.0, latency_sigma=5.0, **extreme)
    seconds = devices.seconds(np.arange(N), np.full(N, 100))
    assert np.isfinite(seconds).all() and (seconds > 0).all()
