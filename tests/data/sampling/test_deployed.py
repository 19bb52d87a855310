"""Deployed rounds: against closed forms, a simulation in plain loops, and the rules that any round obeys."""

import itertools
import math
import random
from collections import Counter
from statistics import NormalDist

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from fedloom.data import CohortSampler, DeployedCohorts, Devices, available

DAY = 86_400.0
ALWAYS_THERE = {"presence": 1.0, "swing": 0.0, "dropout": 0.0}
ALIKE = {"speed": 1.0, "speed_sigma": 0.0, "latency": 0.0, "latency_sigma": 0.0}


def names(n):
    return [f"c{i}" for i in range(n)]


def test_large_clients_are_under_represented_as_the_hypergeometric_law_says():
    """On equal devices the client with j smaller ones is in the cohort if it is asked and fewer than `size` of those j are.

    With n = 12 clients, m = 6 asked and 4 waited for, P(j) = sum_{i<4} C(j, i) C(11 - j, 5 - i) / C(12, 6). Over 4000 rounds each of 12
    counts is held to 4.5 sigma: a correct sampler fails with probability 12 * 7e-6 = 8e-5.
    """
    n, m, size, rounds = 12, 6, 4, 4000
    examples = np.array([50, 10, 70, 30, 20, 90, 40, 60, 80, 100, 120, 110])
    sample = available(Devices(num_clients=n, **ALWAYS_THERE, **ALIKE), names(n), examples, size, over_selection=m / size, deadline=1000.0)
    seen = Counter(itertools.chain(*(sample(r) for r in range(rounds))))
    shares = []
    for client, count in zip(names(n), examples, strict=True):
        j = int((examples < count).sum())
        p = sum(math.comb(j, i) * math.comb(n - 1 - j, m - 1 - i) for i in range(size)) / math.comb(n, m)
        assert abs(seen[client] - rounds * p) <= 4.5 * math.sqrt(rounds * p * (1 - p)), client
        shares.append(p)
    assert max(shares) == m / n and min(shares) == 0.0, "as often as asked, and never"


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("deadline", [3.0, 10.0, 40.0])
def test_at_the_deadline_the_lognormal_tail_is_late(deadline, dropout):
    """Without latency a report takes examples / speed seconds, and is in time with probability Phi(log(deadline speed / examples) / sigma).

    Everybody is asked, n = 20,000: reports are Binomial(n, (1 - dropout) Phi), drop-outs Binomial(n, dropout), both held to 4.5 sigma.
    """
    n, sigma = 20_000, 1.2
    settings = {**ALWAYS_THERE, "dropout": dropout, "speed": 10.0, "speed_sigma": sigma, "latency": 0.0}
    happened = available(
        Devices(num_clients=n, seed=5, **settings), names(n), np.full(n, 100), n, over_selection=1.0, deadline=deadline, seed=5
    ).round(0)
    p = (1 - dropout) * NormalDist().cdf(math.log(deadline * 10.0 / 100) / sigma)
    assert abs(happened.reported - n * p) <= 4.5 * math.sqrt(n * p * (1 - p))
    assert abs(happened.dropped - n * dropout) <= 4.5 * math.sqrt(n * dropout * (1 - dropout))
    assert happened.seconds == deadline


def simulate(devices, examples, size, asked, at_least, deadline, time, rng):
    """A round in plain loops: who is there, who is asked, who drops out, who comes first."""
    present = []
    for i in range(devices.num_clients):
        local = time + float(devices.time_zones[i])
        if rng.random() < devices.presence * (1 + devices.swing * math.cos(2 * math.pi * (local - devices.peak) / DAY)):
            present.append(i)
    reports = []
    for i in rng.sample(present, min(asked, len(present))):
        if rng.random() >= devices.dropout:
            reports.append((float(devices.latencies[i]) + examples[i] / float(devices.speeds[i]), i))
    in_time = sorted(report for report in reports if report[0] <= deadline)[:size]
    seconds = in_time[-1][0] if len(in_time) == size else deadline
    return [i for _, i in in_time] if len(in_time) >= at_least else [], len(present), len(reports), seconds


def test_rounds_are_those_of_a_simulation_in_plain_loops():
    """All effects at once, 3000 rounds over 30 clients at all hours, simulated with other random numbers.

    The difference of a client's two counts has a variance of at most 2 n p (1 - p), so it is held to 4.5 sigma for 30 clients; the means of
    reports and seconds per round are held to 4.5 standard errors, taken from the two samples.
    """
    n, size, rounds, every = 30, 4, 3000, 5 * 3600.0 + 7
    devices = Devices(num_clients=n, presence=0.4, swing=0.9, zones=DAY / 3, speed=5.0, latency=8.0, latency_sigma=1.0, dropout=0.2, seed=8)
    examples = np.random.default_rng(0).integers(5, 200, n)
    rule = {"at_least": 3, "deadline": 60.0}
    sample = available(devices, names(n), examples, size, over_selection=2.5, every=every, start=1000.0, seed=9, **rule)
    happened, rng = [sample.round(r) for r in range(rounds)], random.Random(1)
    simulated = [simulate(devices, examples, size, 10, time=1000.0 + r * every, rng=rng, **rule) for r in range(rounds)]
    ours = Counter(itertools.chain(*(h.ids for h in happened)))
    theirs = Counter(f"c{i}" for cohort, *_ in simulated for i in cohort)
    for client in names(n):
        p = (ours[client] + theirs[client]) / (2 * rounds)
        assert abs(ours[client] - theirs[client]) <= 4.5 * math.sqrt(2 * rounds * p * (1 - p)), client
    assert max(ours.values()) > 3 * min(ours.values()) > 100, "clients differ, so there was something to compare"
    for mine, other in (
        ([n - h.unavailable for h in happened], [present for _, present, _, _ in simulated]),
        ([h.asked - h.dropped for h in happened], [remaining for _, _, remaining, _ in simulated]),
        ([h.seconds for h in happened], [seconds for *_, seconds in simulated]),
        ([not h.ids for h in happened], [not cohort for cohort, *_ in simulated]),
    ):
        error = math.sqrt((np.var(mine) + np.var(other)) / rounds)
        assert error > 0 and abs(np.mean(mine) - np.mean(other)) <= 4.5 * error


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 60),
    share=st.floats(0.05, 1),
    over_selection=st.floats(1, 3),
    deadline=st.floats(0.5, 100),
    presence=st.floats(0, 0.6),
    dropout=st.floats(0, 1),
    seed=st.integers(0, 100),
    round_number=st.integers(0, 1000),
)
def test_the_books_of_any_round_balance(n, share, over_selection, deadline, presence, dropout, seed, round_number):
    ids, size = names(n), max(1, int(share * n))
    devices = Devices(num_clients=n, presence=presence, dropout=dropout, speed=5.0, latency=2.0, seed=seed)
    examples = np.arange(n) % 17
    sample = available(devices, ids, examples, size, over_selection=over_selection, deadline=deadline, at_least=1 + size // 3, seed=seed)
    happened = sample.round(round_number)
    assert happened.asked == happened.reported + happened.dropped + happened.late
    assert happened.asked <= n - happened.unavailable and happened.reported <= size
    assert happened.ids == sample(round_number) and len(set(happened.ids)) == len(happened.ids)
    assert len(happened.ids) == (happened.reported if happened.reported > size // 3 else 0)
    chosen = np.array([ids.index(client) for client in happened.ids], int)
    assert devices.available(round_number * deadline)[chosen].all()
    seconds = devices.seconds(chosen, examples[chosen])
    assert (np.diff(seconds) >= 0).all(), "first come first"
    assert (seconds <= deadline).all()
    assert happened.seconds == (seconds[-1] if happened.reported == size else deadline)


@pytest.mark.parametrize(
    ("size", "over_selection", "asked"), [(100, 1.3, 130), (100, 1.1, 110), (7, 1.3, 10), (5, 1.0, 5), (150, 1.5, 200)]
)
def test_so_many_are_asked(size, over_selection, asked):
    """ceil(size * over_selection), where 100 * 1.1 counts as 110, or all 200."""
    sample = available(Devices(num_clients=200, **ALWAYS_THERE), names(200), np.ones(200), size, over_selection=over_selection)
    assert sample.round(0).asked == asked


def test_rounds_begin_at_their_time_of_day():
    """With the deepest swing in one time zone all are there at the peak, at 2 in the morning, and none 12 hours later."""
    devices = Devices(num_clients=20, presence=0.5, swing=1.0, peak=2 * 3600.0, zones=0.0)
    sample = available(devices, names(20), np.ones(20), 5, every=6 * 3600.0, start=8 * 3600.0)
    assert sample.round(1).unavailable == sample.round(5).unavailable == 20
    assert sample.round(3).unavailable == sample.round(7).unavailable == 0


def test_a_round_of_too_few_reports_is_abandoned():
    """All 4 that are asked report: enough for `at_least` 4, and too few for 5."""
    devices = Devices(num_clients=4, **ALWAYS_THERE, **ALIKE)
    some = available(devices, names(4), [1, 2, 3, 400], 4, at_least=3, deadline=50.0).round(0)
    assert (some.ids, some.asked, some.reported, some.late, some.seconds) == (["c0", "c1", "c2"], 4, 3, 1, 50.0)
    none = available(devices, names(4), [1, 2, 3, 400], 4, at_least=4, deadline=50.0).round(0)
    assert (none.ids, none.asked, none.reported, none.late, none.seconds) == ([], 4, 3, 1, 50.0)
    nobody = available(Devices(num_clients=4, presence=0.0), names(4), [1, 2, 3, 4], 2, deadline=50.0).round(0)
    assert nobody == ([], 0, 4, 0, 0, 0, 50.0)


def test_a_round_depends_on_its_number_and_the_two_seeds_alone():
    def cohorts(seed, device_seed, rounds):
        devices = Devices(num_clients=50, seed=device_seed)
        sample = available(devices, names(50), np.full(50, 100), 5, seed=seed)
        return [sample.round(r) for r in rounds]

    forwards = cohorts(1, 1, range(8))
    assert cohorts(1, 1, reversed(range(8)))[::-1] == forwards
    assert len({tuple(happened.ids) for happened in forwards}) == 8
    assert cohorts(2, 1, range(8)) != forwards != cohorts(1, 2, range(8))


def test_it_is_a_cohort_sampler_that_can_tell_more():
    sample: CohortSampler = available(Devices(num_clients=3, **ALWAYS_THERE, **ALIKE), names(3), [5, 6, 7], 2)
    assert isinstance(sample, DeployedCohorts) and not isinstance(lambda round_number: [], DeployedCohorts)
    assert sample.round(0).metrics() == {
        "num_asked": 3.0, "num_unavailable": 0.0, "num_reported": 2.0, "num_dropped": 0.0, "num_late": 1.0, "simulated_seconds": 6.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, r"cohort_size must be in \[1, 10\]"),
        ({"size": 11}, r"cohort_size must be in \[1, 10\]"),
        ({"devices": Devices(num_clients=9)}, r"a device for each client, got Devices\(num_clients=9\) for 10 clients"),
        ({"num_examples": [1] * 9}, r"num_examples must have one entry per client, shape \(10,\), got \(9,\)"),
        ({"num_examples": [1] * 9 + [-3]}, "num_examples must be finite and at least 0, got entries from -3 to 1"),
        ({"num_examples": [1] * 9 + [math.nan]}, "num_examples must be finite"),
        ({"over_selection": 0.9}, "over_selection must be at least 1, got 0.9"),
        ({"over_selection": math.inf}, "over_selection must be"),
        ({"at_least": 0}, r"at_least must be in \[1, 5\], the size of a cohort, got 0"),
        ({"at_least": 6}, "at_least must be in"),
        ({"deadline": 0.0}, "deadline must be a number of seconds above 0"),
        ({"deadline": math.nan}, "deadline must be"),
        ({"every": 599.0}, "every must be at least deadline=600.0 seconds, so that rounds do not overlap, got 599.0"),
        ({"start": -1.0}, "start must be a number of seconds, at least 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    arguments = {"devices": Devices(num_clients=10), "client_ids": names(10), "num_examples": np.ones(10), "size": 5, **arguments}
    with pytest.raises(ValueError, match=message):
        available(**arguments)
