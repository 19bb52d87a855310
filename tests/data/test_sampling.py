"""Cohorts are functions of (seed, round), uniform, and TFF's to the bit where that is asked for."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from fedloom.data import fixed, poisson, uniform, uniform_tff

DRAWN_BY_TFF = json.loads((Path(__file__).parents[1] / "goldens" / "uniform_sampling.json").read_text())
IDS = [f"c{i}" for i in range(30)]


@pytest.mark.parametrize("sampler", [uniform, uniform_tff])
def test_a_cohort_is_decided_by_seed_and_round_alone(sampler):
    """Another sampler, asked in another order, gives the same cohorts; another seed or round gives others."""
    first, second = sampler(IDS, 10, seed=3), sampler(IDS, 10, seed=3)
    np.random.default_rng(0).random()
    np.random.seed(5)  # the global generator is nobody's business
    assert [first(r) for r in range(6)] == [second(r) for r in reversed(range(6))][::-1]
    cohorts = {(seed, r): tuple(sampler(IDS, 10, seed=seed)(r)) for seed in range(4) for r in range(4)}
    assert len(set(cohorts.values())) == len(cohorts)


@pytest.mark.parametrize("sampler", [uniform, uniform_tff])
@pytest.mark.parametrize("size", [1, 7, 30])
def test_a_cohort_has_no_repeats_and_comes_from_the_population(sampler, size):
    for r in range(20):
        cohort = sampler(IDS, size, seed=1)(r)
        assert len(cohort) == len(set(cohort)) == size and set(cohort) <= set(IDS)


@pytest.mark.parametrize("sampler", [uniform, uniform_tff])
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


@pytest.mark.parametrize("sampler", [uniform, uniform_tff])
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
