"""Cohorts are functions of (seed, round), drawn with the probabilities they promise, and TFF's to the bit where that is asked for."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fedloom.data import cyclic, fixed, poisson, uniform, uniform_tff, weighted

DRAWN_BY_TFF = json.loads((Path(__file__).parents[2] / "goldens" / "uniform_sampling.json").read_text())
IDS = [f"c{i}" for i in range(30)]


def equally_weighted(client_ids, size, *, seed=0):
    return weighted(client_ids, np.full(len(client_ids), 7), size, seed=seed)


@pytest.mark.parametrize("sampler", [uniform, uniform_tff, equally_weighted, cyclic])
def test_a_cohort_is_decided_by_seed_and_round_alone(sampler):
    """Another sampler, asked in another order, gives the same cohorts; another seed or round gives others."""
    first, second = sampler(IDS, 10, seed=3), sampler(IDS, 10, seed=3)
    np.random.default_rng(0).random()
    np.random.seed(5)  # the global generator is nobody's business
    assert [first(r) for r in range(6)] == [second(r) for r in reversed(range(6))][::-1]
    cohorts = {(seed, r): tuple(sampler(IDS, 10, seed=seed)(r)) for seed in range(4) for r in range(4)}
    assert len(set(cohorts.values())) == len(cohorts)


@pytest.mark.parametrize("sampler", [uniform, uniform_tff, equally_weighted, cyclic])
@pytest.mark.parametrize("size", [1, 7, 30])
def test_a_cohort_has_no_repeats_and_comes_from_the_population(sampler, size):
    for r in range(20):
        cohort = sampler(IDS, size, seed=1)(r)
        assert len(cohort) == len(set(cohort)) == size and set(cohort) <= set(IDS)


@pytest.mark.parametrize("sampler", [uniform, uniform_tff, equally_weighted])
def test_clients_and_pairs_are_drawn_uniformly(sampler):
    """Over n = 4000 rounds of 3 from 6, a client is in Binomial(n, 1/2) cohorts, first in Binomial(n, 1/6), a pair in Binomial(n, 1/5).

    Each of the 6 + 6 + 15 counts is held to 4.5 sigma: a correct sampler fails with probability 27 * 7e-6 = 2e-4, once for a fixed seed.
    """
    n, ids = 4000, list("abcdef")
    sample = sampler(ids, 3, seed=0)
    cohorts = [sample(r) for r in range(n)]
    counts = [(sum(c in cohort for cohort in cohorts), 1 / 2) for c in ids]
    counts += [(sum(c == cohort[0] for cohort in cohorts), 1 / 6) for c in ids]
    counts += [(sum({a, b} <= set(cohort) for cohort in cohorts), 1 / 5) for a in ids for b in ids if a < b]
    for count, p in counts:
        assert abs(count - n * p) <= 4.5 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("case", DRAWN_BY_TFF, ids=lambda case: f"{case['size']} with seed {case['seed']}")
def test_the_cohorts_of_tff_come_out_to_the_bit(case):
    population = case["population"] if isinstance(case["population"], list) else list(range(case["population"]))
    sample = uniform_tff(population, case["size"], seed=case["seed"], replace=case["replace"])
    assert {r: sample(int(r)) for r in case["rounds"]} == case["rounds"]


def test_with_replacement_a_cohort_may_be_larger_than_the_population():
    cohort = uniform_tff(["a", "b"], 9, seed=0, replace=True)(0)
    assert len(cohort) == 9 and set(cohort) <= {"a", "b"}


def test_fixed_gives_the_same_clients_in_a_list_of_its_own():
    sample = fixed(("b", "a"))
    sample(0).append("intruder")
    assert sample(0) == sample(7) == ["b", "a"]


@pytest.mark.parametrize("sampler", [uniform, uniform_tff, cyclic])
@pytest.mark.parametrize("size", [31, 0, -1])
def test_a_cohort_too_large_or_without_clients_is_an_error_at_once(sampler, size):
    with pytest.raises(ValueError, match=rf"cohort_size must be in \[1, 30\].*got {size}"):
        sampler(IDS, size)


@pytest.mark.parametrize(("ids", "size"), [(IDS, 0), ([], 1)])
def test_with_replacement_too_there_must_be_clients(ids, size):
    with pytest.raises(ValueError, match="cohort_size must be in"):
        uniform_tff(ids, size, replace=True)


def test_poisson_cohorts_are_coins_of_their_own():
    """Over n = 4000 rounds each of 30 clients is in Binomial(n, 1/5) cohorts, each of 3 pairs in Binomial(n, 1/25): held to 4.5 sigma."""
    n, sample = 4000, poisson(IDS, 6, seed=2)
    present = np.array([[client in cohort for client in IDS] for cohort in map(set, map(sample, range(n)))])
    assert (abs(present.sum(0) - n / 5) < 4.5 * math.sqrt(n * 0.2 * 0.8)).all()
    for i, j in ((0, 1), (3, 29), (12, 7)):
        assert abs((present[:, i] & present[:, j]).sum() - n / 25) < 4.5 * math.sqrt(n * 0.04 * 0.96)
    assert sample(7) == poisson(IDS, 6, seed=2)(7) != poisson(IDS, 6, seed=3)(7)


def test_poisson_cohorts_may_be_everyone_or_nobody():
    assert poisson(IDS, 30)(0) == IDS
    assert [] in [poisson(IDS, 0.5, seed=1)(r) for r in range(20)]


@pytest.mark.parametrize("size", [0, -1, 31])
def test_a_poisson_cohort_out_of_range_is_refused(size):
    with pytest.raises(ValueError, match="cohort_size must be in"):
        poisson(IDS, size)


def test_weighted_cohorts_are_drawn_one_after_the_other():
    """By weights 1, 2, 3, 4 a cohort is (i, j) with probability w_i / 10 * w_j / (10 - w_i).

    Over n = 10,000 rounds each of 12 counts is held to 4.5 sigma: a correct sampler fails with probability 12 * 7e-6 = 8e-5.
    """
    n, weights = 10_000, {"a": 1, "b": 2, "c": 3, "d": 4}
    sample = weighted(list(weights), list(weights.values()), 2, seed=0)
    drawn = Counter(tuple(sample(r)) for r in range(n))
    for first, second in itertools.permutations(weights, 2):
        p = weights[first] / 10 * weights[second] / (10 - weights[first])
        assert abs(drawn[first, second] - n * p) <= 4.5 * math.sqrt(n * p * (1 - p)), (first, second)


def test_weights_are_relative_and_may_lie_far_apart():
    """Only ratios count, and next to 1e200 a weight of 1e-200 is drawn when all others are."""
    sizes = np.arange(1, 31)
    assert weighted(IDS, sizes, 5)(3) == weighted(IDS, sizes / 4, 5)(3)
    sample = weighted(["tiny", "huge", "never"], [1e-200, 1e200, 0], 2)
    assert all(sample(r) == ["huge", "tiny"] for r in range(50))


def test_weighted_cohorts_are_in_the_order_of_the_draws():
    """Heavy clients come before all that weigh next to nothing. Many clients, as numpy happens to sort few where it need not."""
    heavy = np.arange(2000) % 2 == 0
    cohort = weighted(range(2000), np.where(heavy, 1e100, 1e-100), 1500)(0)
    assert heavy[cohort[:1000]].all() and not heavy[cohort[1000:]].any()


@pytest.mark.parametrize(
    ("weights", "size", "message"),
    [
        ([1.0] * 29, 1, r"weights must have one entry per client, shape \(30,\), got \(29,\)"),
        (np.ones((30, 1)), 1, r"got \(30, 1\)"),
        ([1.0] * 29 + [-1.0], 1, "weights must be 0 or in .*got -1.0 for client 'c29'"),
        ([1.0] * 29 + [math.nan], 1, "got nan for client 'c29'"),
        ([math.inf] + [1.0] * 29, 1, "got inf for client 'c0'"),
        ([1.0] * 3 + [0.0] * 27, 4, r"cohort_size must be in \[1, 3\], the number of clients with a weight above 0, got 4"),
        ([1.0] * 30, 0, r"cohort_size must be in \[1, 30\].*got 0"),
    ],
)
def test_weights_out_of_range_are_refused(weights, size, message):
    with pytest.raises(ValueError, match=message):
        weighted(IDS, weights, size)


@pytest.mark.parametrize("sampler", [uniform, poisson, uniform_tff, equally_weighted, cyclic])
def test_only_the_chosen_are_looked_up(sampler):
    """A population may be a sequence that reads an id from disk when it is asked for it."""

    class OnDisk(Sequence):
        looked_up = 0

        def __len__(self):
            return 10_000

        def __getitem__(self, index):
            self.looked_up += 1
            return f"c{index}"

    ids = OnDisk()
    cohort = sampler(ids, 10, seed=1)(0)
    assert 0 < ids.looked_up == len(cohort) < 100
