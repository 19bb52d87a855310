"""Epsilon and noise: closed forms, limits and the order of things. Here z is a noise multiplier and q a sampling probability."""

import logging
import math
import subprocess
import sys

import dp_accounting
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.privacy import Everyone, FixedSize, Ledger, Poisson, Tree, epsilon, noise_multiplier, split_noise_multiplier

SHAKESPEARE = Poisson(cohort_size=120, population=3383)
FEW = settings(max_examples=8, deadline=None, derandomize=True)


def gaussian_epsilon(z, delta):
    """The exact epsilon of one Gaussian release: delta = Phi(1/2z - eps z) - e^eps Phi(-1/2z - eps z), Balle & Wang 2018, Theorem 8."""

    def phi(x):
        return math.erfc(-x / math.sqrt(2)) / 2

    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        exceeds = phi(1 / (2 * z) - middle * z) - math.exp(middle) * phi(-1 / (2 * z) - middle * z) > delta
        low, high = (middle, high) if exceeds else (low, middle)
    return high


def test_120_of_3383_clients_in_100_rounds_at_noise_1_2():
    """Also by hand, at integer orders a: sum_k (a choose k) (1 - q)^(a - k) q^k exp(k (k - 1) / 2 z^2), Mironov et al. 2019, Section 3.3;
    then epsilon by Canonne et al. 2020, Proposition 12. Orders between the integers make a difference in the third decimal at most.
    """
    z, q, rounds, delta = 1.2, 120 / 3383, 100, 1e-5

    def at_order(a):
        moment = sum(math.comb(a, k) * (1 - q) ** (a - k) * q**k * math.exp(k * (k - 1) / (2 * z**2)) for k in range(a + 1))
        return rounds * math.log(moment) / (a - 1) + math.log(1 - 1 / a) - math.log(delta * a) / (a - 1)

    ours = epsilon(SHAKESPEARE, z, rounds, delta)
    assert ours == pytest.approx(1.986, abs=5e-4)
    assert ours <= min(at_order(a) for a in range(2, 30)) < ours + 5e-3


@pytest.mark.parametrize("z", [0.7, 1.3, 6.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-6])
def test_one_round_of_everyone_is_the_gaussian_mechanism(z, delta):
    exact = gaussian_epsilon(z, delta)
    assert epsilon(Everyone(), z, 1, delta, accountant="pld") == pytest.approx(exact, abs=1e-3)
    assert exact < epsilon(Everyone(), z, 1, delta) < 1.5 * exact + 0.1


def test_n_rounds_of_everyone_are_one_with_noise_smaller_by_the_root_of_n():
    assert epsilon(Everyone(), 6.0, 9, 1e-5) == pytest.approx(epsilon(Everyone(), 2.0, 1, 1e-5), rel=1e-9)
    assert epsilon(Everyone(), 6.0, 9, 1e-5, accountant="pld") == pytest.approx(gaussian_epsilon(2.0, 1e-5), abs=1e-3)


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_poisson_with_all_clients_is_everyone(accountant):
    assert epsilon(Poisson(7, 7), 1.7, 5, 1e-5, accountant=accountant) == pytest.approx(
        epsilon(Everyone(), 1.7, 5, 1e-5, accountant=accountant), abs=1e-3
    )


def test_pld_is_below_rdp_with_sampling_too():
    assert 1.5 < epsilon(SHAKESPEARE, 1.2, 100, 1e-5, accountant="pld") < epsilon(SHAKESPEARE, 1.2, 100, 1e-5)


def test_replacing_a_client_moves_a_sum_by_twice_the_clip():
    """With everyone in the cohort, from +C to -C against noise of z C is the Gaussian mechanism at z / 2: four rounds of adding one."""
    z, delta = 3.0, 1e-5
    assert epsilon(FixedSize(8, 8), z, 2, delta) == pytest.approx(epsilon(Everyone(), z, 4 * 2, delta), rel=1e-9)
    assert gaussian_epsilon(z / 2, delta) < epsilon(FixedSize(8, 8), z, 1, delta)


def test_the_accountant_still_takes_noise_relative_to_the_sensitivity_of_replacement():
    """If this fails, dp-accounting has begun to double the sensitivity itself, and `FixedSize` must not halve the noise any more."""
    accountant = dp_accounting.rdp.RdpAccountant([2.0, 3.0], dp_accounting.NeighboringRelation.REPLACE_ONE)
    event = dp_accounting.SampledWithoutReplacementDpEvent(5, 5, dp_accounting.GaussianDpEvent(2.0))
    assert accountant.compose(event).rdp.tolist() == [2 / 8, 3 / 8]  # alpha / (2 z^2)


@pytest.mark.parametrize(
    ("sampling", "rounds", "nodes"),
    [
        (Tree(1), 5, 5),  # a tree of one round is its own node
        (Tree(7), 7, 3),
        (Tree(8), 8, 4),  # the root over 8 is a fourth
        (Tree(7), 21 + 2, 3 * 3 + 2),
        (Tree(7), 2, 2),
        (Tree(7, max_participations=1), 21 + 2, 3),
        (Tree(7, max_participations=3), 21 + 2, 9),
        (Tree(7, max_participations=4), 21 + 2, 11),
        (Tree(7, max_participations=9), 21 + 2, 11),
    ],
)
def test_a_client_of_a_tree_is_in_so_many_nodes_each_a_gaussian_release(sampling, rounds, nodes):
    assert epsilon(sampling, 4.0, rounds, 1e-5) == pytest.approx(epsilon(Everyone(), 4.0, nodes, 1e-5), rel=1e-9)


@pytest.mark.parametrize("sampling", [SHAKESPEARE, FixedSize(120, 3383), Everyone(), Tree(10)])
def test_the_event_is_what_the_accountant_of_the_relation_composes(sampling):
    relation = dp_accounting.NeighboringRelation[sampling.relation.upper()]
    accountant = dp_accounting.rdp.RdpAccountant(neighboring_relation=relation).compose(sampling.event(3.0, 25))
    assert epsilon(sampling, 3.0, 25, 1e-5) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-12)


@pytest.mark.parametrize("sampling", [SHAKESPEARE, FixedSize(120, 3383), Everyone(), Tree(10)])
def test_without_noise_there_is_no_privacy_and_without_rounds_nothing_to_hide(sampling):
    assert epsilon(sampling, 0, 1, 1e-5) == math.inf
    assert epsilon(sampling, 0, 0, 1e-5) == epsilon(sampling, 1.0, 0, 1e-5) == 0
    assert type(epsilon(sampling, 1.0, 3, 1e-5)) is float


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_next_to_no_noise_is_next_to_no_privacy(accountant):
    assert 1e6 < epsilon(SHAKESPEARE, 1e-3, 100, 1e-5, accountant=accountant) < math.inf


def test_orders_that_do_not_converge_are_left_out_without_a_word():
    records = []
    logger, handler = logging.getLogger("absl"), logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    try:
        assert 0 < epsilon(Poisson(30, 100), 1.21, 10, 1e-5) < math.inf
        assert records == []
        dp_accounting.rdp.RdpAccountant().compose(Poisson(30, 100).event(1.21, 10))
        assert records
    finally:
        logger.removeHandler(handler)


@FEW
@given(
    cohort=st.integers(1, 60),
    more_clients=st.integers(1, 30),
    z=st.floats(0.8, 8),
    more_noise=st.floats(0.1, 3),
    rounds=st.integers(1, 200),
    more_rounds=st.integers(1, 50),
)
def test_more_rounds_less_noise_and_larger_cohorts_cost_more(cohort, more_clients, z, more_noise, rounds, more_rounds):
    sampling = Poisson(cohort, 100)
    start = epsilon(sampling, z, rounds, 1e-5)
    assert epsilon(sampling, z, rounds + more_rounds, 1e-5) >= start
    assert epsilon(sampling, z + more_noise, rounds, 1e-5) <= start
    assert epsilon(Poisson(cohort + more_clients, 100), z, rounds, 1e-5) >= start
    assert epsilon(sampling, z, rounds, 1e-4) <= start <= epsilon(Everyone(), z, rounds, 1e-5)


def test_the_same_with_cohorts_of_fixed_size():
    by_size = [epsilon(FixedSize(size, 100), 4.0, 50, 1e-5) for size in (1, 20, 60, 99, 100)]
    assert by_size == sorted(by_size) and len(set(by_size)) >= 3
    assert epsilon(FixedSize(20, 100), 4.0, 51, 1e-5) > by_size[1] > epsilon(FixedSize(20, 100), 4.5, 50, 1e-5)
    assert all(fixed > epsilon(Poisson(size, 100), 4.0, 50, 1e-5) for fixed, size in zip(by_size, (1, 20, 60, 99, 100), strict=True))


@FEW
@given(
    sampling=st.sampled_from([SHAKESPEARE, Everyone(), Tree(20), Tree(20, max_participations=2)]),
    target=st.floats(0.1, 20),
    rounds=st.integers(1, 300),
)
def test_the_noise_for_a_target_is_the_least_that_keeps_it(sampling, target, rounds):
    z = noise_multiplier(sampling, rounds, epsilon=target, delta=1e-5, tol=1e-3)
    assert epsilon(sampling, z, rounds, 1e-5) <= target < epsilon(sampling, z - 2e-3, rounds, 1e-5)


def test_the_noise_for_a_target_by_pld_and_with_cohorts_of_fixed_size():
    target = gaussian_epsilon(1.3, 1e-5)
    assert noise_multiplier(Everyone(), 1, epsilon=target, delta=1e-5, accountant="pld", tol=1e-3) == pytest.approx(1.3, abs=2e-3)
    z = noise_multiplier(FixedSize(10, 100), 5, epsilon=3.0, delta=1e-4, tol=0.1)
    assert epsilon(FixedSize(10, 100), z, 5, 1e-4) <= 3.0 < epsilon(FixedSize(10, 100), z - 0.11, 5, 1e-4)


def test_the_noise_for_a_target_survives_float32():
    z = noise_multiplier(SHAKESPEARE, 100, epsilon=2.0, delta=1e-5)
    assert float(np.float32(z)) == z


@pytest.mark.parametrize(("z", "sigma_b"), [(1.2, 1.0), (0.3, 6.0), (5.0, 2.6)])
def test_sum_and_clipped_count_together_cost_what_the_sum_alone_would(z, sigma_b):
    """The count's bits move by 1 around 1/2 each, so its own noise multiplier is sigma_b / (1/2)."""
    z_sum = split_noise_multiplier(z, sigma_b)
    assert z_sum**-2 + (2 * sigma_b) ** -2 == pytest.approx(z**-2, rel=1e-12)
    both = Ledger().spend(Everyone(), z_sum, 3).spend(Everyone(), 2 * sigma_b, 3)
    assert both.epsilon(1e-5) == pytest.approx(epsilon(Everyone(), z, 3, 1e-5), rel=1e-9)


def test_splitting_no_noise_gives_none():
    assert split_noise_multiplier(0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Poisson(120, 100), r"Poisson\.cohort_size must be in \(0, population=100\], got 120"),
        (lambda: Poisson(0, 100), r"Poisson\.cohort_size .* got 0"),
        (lambda: Poisson(math.nan, 100), r"Poisson\.cohort_size .* got nan"),
        (lambda: Poisson("12", 100), r"Poisson\.cohort_size .* got '12'"),
        (lambda: Poisson(1, 100.0), r"Poisson\.population must be an int of at least 1, got 100\.0"),
        (lambda: FixedSize(101, 100), r"FixedSize\.cohort_size must be in \[1, population=100\], got 101"),
        (lambda: FixedSize(0.5, 100), r"FixedSize\.cohort_size must be an int of at least 1, got 0\.5"),
        (lambda: FixedSize(1, 0), r"FixedSize\.population must be an int of at least 1, got 0"),
        (lambda: Tree(0), r"Tree\.rounds_per_restart must be an int of at least 1, got 0"),
        (lambda: Tree(5, max_participations=0), r"Tree\.max_participations must be an int of at least 1, got 0"),
        (lambda: epsilon(Everyone(), -1.0, 1, 1e-5), "noise_multiplier must be finite and at least 0, got -1.0"),
        (lambda: epsilon(Everyone(), math.inf, 1, 1e-5), "noise_multiplier must be finite"),
        (lambda: epsilon(Everyone(), math.nan, 1, 1e-5), "noise_multiplier must be finite"),
        (lambda: epsilon(Everyone(), 1.0, -1, 1e-5), "rounds must be an int of at least 0, got -1"),
        (lambda: epsilon(Everyone(), 1.0, 2.5, 1e-5), "rounds must be an int of at least 0, got 2.5"),
        (lambda: epsilon(Everyone(), 1.0, 1, 0.0), r"delta must be in \(0, 1\), got 0\.0"),
        (lambda: epsilon(Everyone(), 1.0, 1, 1.0), r"delta must be in \(0, 1\), got 1\.0"),
        (lambda: epsilon(Everyone(), 1.0, 1, 1e-5, accountant="moments"), 'accountant must be "rdp" or "pld", got \'moments\''),
        (lambda: epsilon(FixedSize(1, 9), 1.0, 1, 1e-5, accountant="pld"), "supports Poisson, Everyone, Matrix, got FixedSize"),
        (lambda: epsilon(Tree(9), 1.0, 1, 1e-5, accountant="pld"), 'supports Poisson, Everyone, Matrix, got Tree.* Take accountant="rdp"'),
        (lambda: noise_multiplier(Everyone(), 0, epsilon=1.0, delta=1e-5), "rounds must be an int of at least 1, got 0"),
        (lambda: noise_multiplier(Everyone(), 1, epsilon=0.0, delta=1e-5), "epsilon must be finite and above 0, got 0.0"),
        (lambda: noise_multiplier(Everyone(), 1, epsilon=math.inf, delta=1e-5), "epsilon must be finite and above 0, got inf"),
        (lambda: noise_multiplier(Everyone(), 1, epsilon=1.0, delta=1e-5, tol=0), "tol must be above 0, got 0"),
        (lambda: split_noise_multiplier(1.2, 0.6), r"clipped_count_stddev must be above noise_multiplier / 2 = 0\.6, got 0\.6"),
        (lambda: split_noise_multiplier(-1.0, 9.0), "noise_multiplier must be finite and at least 0, got -1.0"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_number_is_no_sampling():
    with pytest.raises(TypeError, match=r"sampling must be one of fl\.privacy\.Poisson, FixedSize, Everyone, Tree or Matrix, got 0\.03"):
        epsilon(0.03, 1.0, 1, 1e-5)


def test_importing_the_package_does_not_load_the_accountants():
    code = "import sys, fedloom.privacy; sys.exit('dp_accounting' in sys.modules or 'scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
