"""What was spent adds up over any run, survives storage, and stays within the budget to the round."""

import math
import time

import dp_accounting
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.core import PrivacyBudgetExceeded
from fedloom.privacy import Budget, Everyone, FixedSize, Ledger, LedgerEntry, Poisson, Tree, epsilon

SAMPLING = Poisson(cohort_size=120, population=3383)
FEW = settings(max_examples=12, deadline=None, derandomize=True)


def budget(epsilon=2.0, delta=1e-5, sampling=SAMPLING, **rest):
    return Budget(epsilon=epsilon, delta=delta, sampling=sampling, **rest)


def test_a_new_ledger_is_empty_and_spending_leaves_the_old_one_alone():
    empty = Ledger()
    spent = empty.spend(SAMPLING, 1.2)
    assert empty == Ledger() and empty.epsilon(1e-5) == 0 and empty.epsilon(1e-5, "pld") == 0
    assert spent.entries == ((SAMPLING, 1.2, 1),)


def test_only_equal_neighbours_are_merged():
    """Order is kept, as a tree begins anew when anything has changed."""
    other = Poisson(60, 3383)
    ledger = (
        Ledger().spend(SAMPLING, 1.2).spend(SAMPLING, 1.2, 4).spend(SAMPLING, 1.5).spend(SAMPLING, 1.2).spend(other, 1.2).spend(other, 1.2)
    )
    assert ledger.entries == ((SAMPLING, 1.2, 5), (SAMPLING, 1.5, 1), (SAMPLING, 1.2, 1), (other, 1.2, 2))
    assert ledger == Ledger(tuple(LedgerEntry(*entry) for entry in ledger.entries)) and hash(ledger) == hash(Ledger(ledger.entries))


@FEW
@given(rounds=st.lists(st.integers(1, 40), min_size=1, max_size=5), sampling=st.sampled_from([SAMPLING, Everyone(), Tree(9)]))
def test_rounds_spent_one_by_one_cost_what_they_cost_at_once(rounds, sampling):
    ledger = Ledger()
    for n in rounds:
        ledger = ledger.spend(sampling, 2.5, n)
    assert ledger == Ledger().spend(sampling, 2.5, sum(rounds))
    assert ledger.epsilon(1e-5) == epsilon(sampling, 2.5, sum(rounds), 1e-5)


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_gaussian_releases_of_different_noise_add_in_inverse_squares(accountant):
    """3, 4, 5: 1 / 15^2 + 1 / 20^2 = 1 / 12^2."""
    ledger = Ledger().spend(Everyone(), 1.5, 2).spend(Everyone(), 2.0, 2)
    assert ledger.epsilon(1e-5, accountant) == pytest.approx(epsilon(Everyone(), 1.2, 2, 1e-5, accountant=accountant), abs=1e-3)


@pytest.mark.parametrize(("accountant", "make"), [("rdp", dp_accounting.rdp.RdpAccountant), ("pld", dp_accounting.pld.PLDAccountant)])
def test_sampled_releases_of_different_noise_and_rate_compose_as_their_events(accountant, make):
    entries = [(SAMPLING, 1.2, 7), (Poisson(30.5, 3383), 0.9, 11), (SAMPLING, 1.4, 2)]
    ledger, reference = Ledger(), make()
    for sampling, z, rounds in entries:
        ledger = ledger.spend(sampling, z, rounds)
        event = dp_accounting.PoissonSampledDpEvent(sampling.cohort_size / sampling.population, dp_accounting.GaussianDpEvent(z))
        reference.compose(dp_accounting.SelfComposedDpEvent(event, rounds))
    assert ledger.epsilon(1e-5, accountant) == pytest.approx(reference.get_epsilon(1e-5), rel=1e-9)


def test_a_change_of_noise_starts_a_new_tree():
    """5 rounds of a tree over 8 are in 3 nodes, the 3 after the change in 2 more, though 8 rounds without a change are in 4."""
    sampling = Tree(8)
    changed = Ledger().spend(sampling, 4.0, 5).spend(sampling, 4.0 + 1e-12, 3)
    assert changed.epsilon(1e-5) == pytest.approx(epsilon(Everyone(), 4.0, 5, 1e-5), rel=1e-9)
    assert Ledger().spend(sampling, 4.0, 8).epsilon(1e-5) == pytest.approx(epsilon(Everyone(), 4.0, 4, 1e-5), rel=1e-9)


def test_one_round_without_noise_gives_everything_away():
    assert Ledger().spend(SAMPLING, 1.2, 5).spend(SAMPLING, 0).epsilon(1e-5) == math.inf


@FEW
@given(
    entries=st.lists(
        st.tuples(
            st.sampled_from([SAMPLING, Poisson(0.1 + 0.2, 10), Everyone()]), st.floats(0, 1e6, allow_subnormal=False), st.integers(1, 10**6)
        ),
        max_size=4,
    )
)
def test_a_ledger_comes_back_from_json_to_the_bit(entries):
    ledger = Ledger()
    for entry in entries:
        ledger = ledger.spend(*entry)
    assert Ledger.from_json(ledger.to_json()) == ledger
    assert Ledger.from_json(ledger.to_json()).to_json() == ledger.to_json()


@pytest.mark.parametrize("sampling", [FixedSize(3, 9), Tree(9), Tree(9, max_participations=2)])
def test_every_sampling_comes_back_from_json(sampling):
    ledger = Ledger().spend(sampling, 1.1, 3)
    assert Ledger.from_json(ledger.to_json()).entries == ((sampling, 1.1, 3),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{}",
        '{"entries": 3}',
        '{"entries": [{}]}',
        '{"entries": [{"sampling": {"kind": "Lottery"}, "noise_multiplier": 1, "rounds": 1}]}',
        '{"entries": [{"sampling": {"kind": "Everyone", "extra": 1}, "noise_multiplier": 1, "rounds": 1}]}',
        '{"entries": [{"sampling": {"kind": "Poisson", "cohort_size": 9, "population": 3}, "noise_multiplier": 1, "rounds": 1}]}',
        '{"entries": [{"sampling": {"kind": "Everyone"}, "noise_multiplier": "1", "rounds": 1}]}',
        '{"entries": [{"sampling": {"kind": "Everyone"}, "noise_multiplier": 1, "rounds": 0}]}',
        '{"entries": [{"sampling": {"kind": "Everyone"}, "noise_multiplier": NaN, "rounds": 1}]}',
    ],
)
def test_text_that_is_no_ledger_is_refused(text):
    with pytest.raises(ValueError, match=r"must be what Ledger\.to_json writes"):
        Ledger.from_json(text)


def test_relations_do_not_mix():
    with pytest.raises(ValueError, match="one neighbouring relation, got add_or_remove_one and replace_one"):
        Ledger().spend(SAMPLING, 1.2).spend(FixedSize(120, 3383), 1.2)
    with pytest.raises(ValueError, match="one neighbouring relation"):
        budget().rounds(1.2, spent=Ledger().spend(Tree(8), 1.2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Ledger().spend(SAMPLING, -1.0), "noise_multiplier must be finite and at least 0, got -1.0"),
        (lambda: Ledger().spend(SAMPLING, 1.0, 0), "rounds must be an int of at least 1, got 0"),
        (lambda: Ledger().spend(SAMPLING, 1.0).epsilon(1.5), r"delta must be in \(0, 1\), got 1\.5"),
        (lambda: Ledger().spend(Tree(8), 1.0).epsilon(1e-5, "pld"), "supports Poisson, Everyone, Matrix, got Tree"),
        (lambda: budget(epsilon=0), r"Budget\.epsilon must be finite and above 0, got 0"),
        (lambda: budget(epsilon=math.nan), r"Budget\.epsilon must be finite"),
        (lambda: budget(delta=0), r"delta must be in \(0, 1\), got 0"),
        (lambda: budget(delta=1 / 3383), r"Budget\.delta must be below 1 / population = 0\.000296, got .*one client, drawn at random"),
        (lambda: budget(delta=0.2, sampling=FixedSize(2, 5)), r"Budget\.delta must be below 1 / population = 0\.2, got 0\.2"),
        (lambda: budget(sampling=FixedSize(2, 5), accountant="pld"), "supports Poisson, Everyone, Matrix, got FixedSize"),
        (lambda: budget().check(Ledger(), -1.0), "noise_multiplier must be finite"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "limits",
    [
        budget(),
        budget(sampling=FixedSize(120, 3383)),
        budget(sampling=Everyone()),
        budget(epsilon=6.0, sampling=Tree(8)),
        budget(sampling=Everyone(), accountant="pld"),
    ],
)
def test_a_budget_lets_so_many_rounds_pass_and_refuses_the_next(limits):
    z = 1.2 if limits.sampling == SAMPLING else 5.0
    fitting = limits.rounds(z)
    assert fitting > 1
    spent = Ledger().spend(limits.sampling, z, fitting - 1)
    limits.check(spent, z)
    spent = spent.spend(limits.sampling, z)
    now, after = (epsilon(limits.sampling, z, n, limits.delta, accountant=limits.accountant) for n in (fitting, fitting + 1))
    assert now <= limits.epsilon < after
    with pytest.raises(PrivacyBudgetExceeded) as error:
        limits.check(spent, z)
    assert (error.value.epsilon_spent, error.value.epsilon_next, error.value.epsilon_budget) == (now, after, limits.epsilon)


@FEW
@given(before=st.lists(st.tuples(st.floats(0.9, 3), st.integers(1, 30)), max_size=3), z=st.floats(0.9, 3))
def test_rounds_left_after_any_run_are_the_most_that_fit(before, z):
    limits, spent = budget(), Ledger()
    for earlier in before:
        spent = spent.spend(SAMPLING, *earlier)
    left = limits.rounds(z, spent)
    if left:
        assert spent.spend(SAMPLING, z, left).epsilon(1e-5) <= 2.0
    assert spent.spend(SAMPLING, z, left + 1).epsilon(1e-5) > 2.0


def test_rounds_of_one_run_are_counted_down():
    limits = budget()
    fitting = limits.rounds(1.2)
    assert [limits.rounds(1.2, Ledger().spend(SAMPLING, 1.2, n)) for n in (1, fitting - 1, fitting, fitting + 5)] == [fitting - 1, 1, 0, 0]


def test_no_noise_fits_no_budget_and_the_refusal_says_what_to_do():
    assert budget().rounds(0) == 0
    with pytest.raises(PrivacyBudgetExceeded, match=r"within 2 at delta=1e-05, but would bring it from 0\.0000 to inf.* Stop here, or"):
        budget().check(Ledger(), 0)


def test_trees_that_a_client_is_in_once_cost_the_same_however_many():
    assert budget(sampling=Tree(8, max_participations=1)).rounds(10.0) == 10**9


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_a_check_in_every_round_is_cheap(accountant):
    """Far below the 20 ms that a round can spare, after the first, which computes the limit."""
    limits, spent = budget(accountant=accountant, sampling=Everyone()), Ledger()
    limits.check(spent, 9.0)
    start = time.perf_counter()
    for _ in range(10):
        limits.check(spent, 9.0)
        spent = spent.spend(Everyone(), 9.0)
    assert time.perf_counter() - start < 10 * 0.02
