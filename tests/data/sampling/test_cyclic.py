"""Everybody in turn: once per pass, never twice in a cohort, whichever round is asked for first."""

import itertools
import math
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fedloom.data import cyclic

populations = st.integers(1, 25).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@settings(max_examples=60, deadline=None)
@given(populations, st.integers(0, 5), st.booleans())
def test_every_pass_has_everybody_once_and_no_cohort_anybody_twice(population, seed, reshuffle):
    n, size = population
    ids = [f"c{i}" for i in range(n)]
    sample = cyclic(ids, size, seed=seed, reshuffle=reshuffle)
    cohorts = [sample(r) for r in range(3 * n)]
    assert all(len(set(cohort)) == len(cohort) == size for cohort in cohorts)
    in_turn = list(itertools.chain(*cohorts))
    for start in range(0, 3 * n * size, n):
        assert sorted(in_turn[start : start + n]) == sorted(ids)
    latest = cyclic(ids, size, seed=seed, reshuffle=reshuffle)
    assert [latest(r) for r in reversed(range(3 * n))] == cohorts[::-1]


@settings(max_examples=40, deadline=None)
@given(populations, st.integers(0, 5))
def test_in_a_fixed_order_nobody_comes_back_too_soon(population, seed):
    """Client i of the order is in the rounds (i + k n) // size, k = 0, 1, ..., of which two are n // size apart at least."""
    n, size = population
    sample = cyclic([f"c{i}" for i in range(n)], size, seed=seed, reshuffle=False)
    rounds = {}
    for r in range(4 * n):
        for client in sample(r):
            rounds.setdefault(client, []).append(r)
    assert min(b - a for seen in rounds.values() for a, b in itertools.pairwise(seen)) == n // size


def test_passes_have_orders_of_their_own_unless_told_otherwise():
    ids = [f"c{i}" for i in range(30)]
    fresh, same = cyclic(ids, 30, seed=1), cyclic(ids, 30, seed=1, reshuffle=False)
    assert len({tuple(fresh(r)) for r in range(5)}) == 5
    assert len({tuple(same(r)) for r in range(5)}) == 1


@pytest.mark.parametrize("round_number", [2, 3])
def test_a_cohort_across_two_passes_is_uniform_too(round_number):
    """The third cohort of 2 from 5 is the last of a pass with the first of the next; each of 20 pairs in order is as likely as the others.

    Over n = 4000 seeds each count is Binomial(n, 1/20), held to 4.5 sigma: a correct sampler fails with probability 20 * 7e-6 = 2e-4.
    So with the fourth, whose clients are moved back if they were in the third.
    """
    n, ids = 4000, list("abcde")
    drawn = Counter(tuple(cyclic(ids, 2, seed=seed)(round_number)) for seed in range(n))
    for pair in itertools.permutations(ids, 2):
        assert abs(drawn[pair] - n / 20) <= 4.5 * math.sqrt(n / 20 * 19 / 20), pair


def test_a_late_round_of_most_of_the_population_is_found_without_recursion():
    """Here every order depends on the one before it, back to the first."""
    ids = [f"c{i}" for i in range(1999)]
    cohort = cyclic(ids, 1998, seed=0)(1500)
    assert len(set(cohort)) == 1998
