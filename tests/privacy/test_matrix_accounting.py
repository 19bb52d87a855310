"""A banded matrix costs what one Gaussian release does, for as many rounds as it is for."""

import math

import dp_accounting
import pytest
import scipy.optimize
import scipy.stats

from fedloom.core import PrivacyBudgetExceeded
from fedloom.privacy import Budget, Everyone, Ledger, Matrix, Tree, epsilon, noise_multiplier

MATRIX = Matrix(rounds=16, min_separation=4)


def gaussian_epsilon(z, delta):
    """Balle & Wang 2018, Theorem 8: delta = Phi(1 / 2z - epsilon z) - e^epsilon Phi(-1 / 2z - epsilon z)."""
    cdf = scipy.stats.norm.cdf
    return scipy.optimize.brentq(lambda e: cdf(1 / (2 * z) - e * z) - math.exp(e) * cdf(-1 / (2 * z) - e * z) - delta, 0, 50)


@pytest.mark.parametrize("z", [0.8, 3.0])
def test_any_number_of_its_rounds_cost_one_gaussian_release(z):
    exact = gaussian_epsilon(z, 1e-5)
    for rounds in (1, 7, 16):
        assert epsilon(MATRIX, z, rounds, 1e-5) == epsilon(Everyone(), z, 1, 1e-5)
        assert exact <= epsilon(MATRIX, z, rounds, 1e-5, accountant="pld") < 1.001 * exact
        assert exact < epsilon(MATRIX, z, rounds, 1e-5) < 1.2 * exact
    assert epsilon(MATRIX, z, 0, 1e-5) == 0
    assert epsilon(MATRIX, z, 17, 1e-5) == epsilon(MATRIX, 0.0, 1, 1e-5) == math.inf


def test_its_event_is_for_an_accountant_of_its_relation():
    accountant = dp_accounting.rdp.RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_SPECIAL)
    assert accountant.compose(MATRIX.event(2.0, 9)).get_epsilon(1e-5) == pytest.approx(epsilon(MATRIX, 2.0, 9, 1e-5), rel=1e-9)
    assert MATRIX.relation == Tree(4).relation == "replace_special"


def test_a_ledger_counts_rounds_of_one_matrix_once():
    ledger = Ledger()
    for _ in range(16):
        ledger = ledger.spend(MATRIX, 2.5)
        assert ledger.epsilon(1e-5) == epsilon(Everyone(), 2.5, 1, 1e-5)
    assert ledger.entries == ((MATRIX, 2.5, 16),) and Ledger.from_json(ledger.to_json()) == ledger
    assert ledger.spend(MATRIX, 2.5).epsilon(1e-5) == math.inf


def test_another_matrix_adds_another_release():
    """3, 4, 5: 1 / 15^2 + 1 / 20^2 = 1 / 12^2."""
    for other in (MATRIX, Matrix(8, 2)):
        assert Ledger().spend(MATRIX, 1.5, 16).spend(other, 2.0, 3).epsilon(1e-5) == pytest.approx(
            epsilon(Everyone(), 1.2, 1, 1e-5), rel=1e-9
        )
    with_tree = Ledger().spend(MATRIX, 1.5, 16).spend(Tree(1), 2.0)
    assert with_tree.epsilon(1e-5) == pytest.approx(epsilon(Everyone(), 1.2, 1, 1e-5), rel=1e-9)


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_a_budget_lets_all_its_rounds_pass_or_none(accountant):
    z = noise_multiplier(MATRIX, 16, epsilon=2.0, delta=1e-5, accountant=accountant)
    budget = Budget(epsilon=2.0, delta=1e-5, sampling=MATRIX, accountant=accountant)
    assert budget.rounds(z) == 16 and budget.rounds(0.99 * z) == 0
    assert [budget.rounds(z, Ledger().spend(MATRIX, z, n)) for n in (1, 15, 16)] == [15, 1, 0]
    with pytest.raises(PrivacyBudgetExceeded) as error:
        budget.check(Ledger().spend(MATRIX, z, 16), z)
    assert 1.99 < error.value.epsilon_spent <= 2.0 and error.value.epsilon_next == math.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Matrix(0, 4), r"Matrix\.rounds must be an int of at least 1, got 0"),
        (lambda: Matrix(16, 0), r"Matrix\.min_separation must be an int"),
        (lambda: Matrix(16, 4, 1.5), r"Matrix\.max_participations must be an int of at least 1, got 1\.5"),
        (lambda: noise_multiplier(MATRIX, 17, epsilon=1.0, delta=1e-5), "rounds must be at most the 16 that the matrix is for, got 17"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
