"""Privacy in a run: rounds beyond the budget are refused, and so is whatever would make the guarantee empty."""

import contextlib

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import fedloom as fl
from fedloom.core import PrivacyBudgetExceeded
from fedloom.data import Batching, FederatedDataset
from fedloom.experiment._privacy_rules import check_sampling

POPULATION = 50
SAMPLING = fl.privacy.Poisson(cohort_size=5, population=POPULATION)
BUDGET = fl.privacy.Budget(epsilon=3.0, delta=1e-3, sampling=SAMPLING)
MODEL = fl.models.from_functions(lambda key: jnp.zeros(3), lambda w, x: x @ w, lambda y, p: (p - y) ** 2)


def private_mean(z=1.0):
    return fl.aggregators.dp_gaussian_fixed(z, clients_per_round=5, clip=0.1)


def process(algorithm=None, aggregator=None, privacy=BUDGET, **settings):
    algorithm = algorithm or fl.algorithms.fedavg(MODEL, fl.optimizers.sgd(0.1))
    return fl.LearningProcess(algorithm, aggregator=aggregator or private_mean(), privacy=privacy, batching=Batching(size=4), **settings)


def dataset():
    rng = np.random.default_rng(0)
    return FederatedDataset.from_dict(
        {f"c{i}": {"x": rng.normal(size=(3, 3)).astype(np.float32), "y": np.ones(3, np.float32)} for i in range(POPULATION)}
    )


def test_rounds_are_charged_until_the_budget_is_spent():
    """As many rounds as the accountant says, not one more; the state that was refused its round is still good."""
    learning, data = process(), dataset()
    sample = fl.data.poisson(data.client_ids, 5, seed=0)
    state, allowed = learning.initialize(), BUDGET.rounds(1.0)
    assert 2 < allowed < 100
    for r in range(allowed):
        state, metrics = learning.next(state, data.subset(sample(r)))
        assert metrics["epsilon"] == pytest.approx(fl.privacy.epsilon(SAMPLING, 1.0, r + 1, 1e-3), rel=1e-6)
    with pytest.raises(PrivacyBudgetExceeded, match="epsilon within 3"):
        learning.next(state, data.subset(sample(allowed)))
    assert metrics["epsilon"] <= 3.0 < fl.privacy.epsilon(SAMPLING, 1.0, allowed + 1, 1e-3)


def test_the_ledger_is_saved_with_the_state(tmp_path):
    learning, data = process(), dataset()
    state, _ = learning.next(learning.initialize(), data.subset(["c1", "c2"]))
    learning.save(state, tmp_path / "state")
    assert process().load(tmp_path / "state").ledger == state.ledger == fl.privacy.Ledger().spend(SAMPLING, 1.0)


def test_less_noise_in_mid_run_costs_more():
    learning, data = process(), dataset()
    state, _ = learning.next(learning.initialize(), data.subset(["c1"]))
    (name,) = [hparam for hparam in learning.get_hparams(state) if hparam.endswith("noise_multiplier")]
    louder, _ = learning.next(state, data.subset(["c1"]))
    quieter, _ = learning.next(learning.set_hparams(state, {name: 0.7}), data.subset(["c1"]))
    assert quieter.ledger.epsilon(1e-3) > louder.ledger.epsilon(1e-3)
    assert [entry.noise_multiplier for entry in quieter.ledger.entries] == pytest.approx([1.0, 0.7])


def test_what_clients_measured_in_training_is_not_reported():
    """Sums over clients without noise, counts of clipped clients among them."""
    _, metrics = process().next(process().initialize(), dataset().subset(["c1", "c2"]))
    assert metrics.keys() == {"accepted", "epsilon"}


def batch_norm():
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    return fl.models.from_keras(model, "mse")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"aggregator": fl.aggregators.weighted_mean()}, "without noise every round tells exactly"),
        ({"aggregator": fl.aggregators.dp_tree(1.0, 5, 0.1, restart_every=8)}, "dp_tree goes with fl.privacy.Tree"),
        ({"aggregator": fl.aggregators.dp_aggregator(0.4, 5)}, "adapts to what clients send without noise"),
        ({"client_metrics": True}, "client_metrics must be False under privacy"),
        ({"algorithm": fl.algorithms.fedavg(batch_norm(), fl.optimizers.sgd(0.1))}, "averages statistics over clients"),
        ({"algorithm": fl.algorithms.mime(MODEL, fl.optimizers.sgd(0.1))}, "asks clients twice in a round"),
    ],
    ids=["no noise", "wrong noise", "threshold", "single clients", "statistics", "prelude"],
)
def test_settings_that_void_the_guarantee_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        process(**settings)


def test_statistics_that_stay_at_home_are_no_reason():
    keep = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    assert process(fl.algorithms.fedavg(fl.models.from_keras(keep, "mse", non_trainable="keep"), fl.optimizers.sgd(0.1)))


def test_a_weighted_mean_cannot_be_made_private():
    """The weight multiplies what was clipped, so one client with much data exceeds the clip; refused when the chain is made."""
    with pytest.raises(ValueError, match="weight"):
        fl.aggregators.chain(fl.aggregators.clipping(0.1), fl.aggregators.weighted_mean(), fl.aggregators.gaussian_noise(0.1))


@pytest.mark.parametrize(
    ("sampling", "cohort_size", "accounted"),
    [
        ("uniform", 5, SAMPLING),
        ("tff", 5, SAMPLING),
        ("poisson", 6, SAMPLING),
        ("poisson", 5, fl.privacy.FixedSize(cohort_size=5, population=POPULATION)),
        ("uniform", 5, fl.privacy.FixedSize(cohort_size=5, population=1000)),
        ("weighted", 5, fl.privacy.FixedSize(cohort_size=5, population=POPULATION)),
        ("cyclic", 5, fl.privacy.FixedSize(cohort_size=5, population=POPULATION)),
        ("cyclic", 5, SAMPLING),
    ],
)
def test_a_run_that_draws_otherwise_than_is_accounted_for_is_refused(sampling, cohort_size, accounted):
    learning = process(privacy=fl.privacy.Budget(epsilon=3.0, delta=1e-4, sampling=accounted))
    with pytest.raises(ValueError, match="sampling must be that of the run"):
        fl.train(learning, dataset(), cohort_size=cohort_size, rounds=1, sampling=sampling, progress=False)


IDS = dataset().client_ids
FIXED_SIZE, MATRIX = fl.privacy.FixedSize(5, POPULATION), fl.privacy.Matrix(rounds=4, min_separation=10)
AVAILABLE = fl.data.available(fl.data.Devices(num_clients=POPULATION), IDS, np.full(POPULATION, 3), 5)
IN_TURN = fl.data.cyclic(IDS, 5, reshuffle=False)  # 50 // 5 rounds apart


@pytest.mark.parametrize(
    ("sample", "accounted", "agree"),
    [
        (fl.data.uniform(IDS, 5), FIXED_SIZE, True),
        (fl.data.uniform_tff(IDS, 5), FIXED_SIZE, True),
        (fl.data.uniform_tff(IDS, 5, replace=True), FIXED_SIZE, False),
        (fl.data.uniform(IDS, 5), SAMPLING, False),
        (fl.data.poisson(IDS, 5), SAMPLING, True),
        (fl.data.poisson(IDS[:40], 5), SAMPLING, False),
        (fl.data.fixed(IDS[:5]), FIXED_SIZE, False),
        (fl.data.weighted(IDS, np.ones(POPULATION), 5), FIXED_SIZE, False),
        (IN_TURN, FIXED_SIZE, False),
        (AVAILABLE, FIXED_SIZE, False),
        (AVAILABLE, SAMPLING, False),
        (AVAILABLE, MATRIX, False),
        (AVAILABLE, fl.privacy.Everyone(), True),
        (fl.data.weighted(IDS, np.ones(POPULATION), 5), fl.privacy.Everyone(), True),
        (IN_TURN, MATRIX, True),
        (fl.data.cyclic(IDS, 6, reshuffle=False), MATRIX, False),
        (fl.data.cyclic(IDS, 5), MATRIX, False),
        (fl.data.uniform(IDS, 5), fl.privacy.Matrix(rounds=4, min_separation=1), True),
        (fl.data.uniform(IDS, 5), fl.privacy.Matrix(rounds=4, min_separation=1, max_participations=3), False),
        (fl.data.uniform(IDS, 5), fl.privacy.Matrix(rounds=4, min_separation=1, max_participations=4), True),
        (IN_TURN, fl.privacy.Tree(rounds_per_restart=10), True),
        (IN_TURN, fl.privacy.Tree(rounds_per_restart=11), False),
        (fl.data.uniform(IDS, 5), fl.privacy.Tree(rounds_per_restart=10), False),
        (lambda round_number: ["c1"], SAMPLING, True),
    ],
)
def test_a_sampler_of_ours_is_held_to_what_is_accounted_for(sample, accounted, agree):
    """By its scheme and numbers; under a tree or a matrix by how soon a client may come back, in 4 rounds here."""
    with contextlib.nullcontext() if agree else pytest.raises(ValueError, match="sampling must be that of the run"):
        check_sampling(accounted, sample, rounds=4)


def test_a_private_run_refuses_devices_unless_any_sampling_is_accounted_for():
    """And then tells nothing of them: counts of clients without noise are no part of what is accounted for."""
    with pytest.raises(ValueError, match="the run draws available cohorts of 5 from 50 clients"):
        fl.train(process(), dataset(), cohort_size=5, rounds=1, sampling=AVAILABLE, progress=False)
    everyone = process(privacy=fl.privacy.Budget(epsilon=30.0, delta=1e-3, sampling=fl.privacy.Everyone()))
    row = fl.train(everyone, dataset(), cohort_size=5, rounds=1, sampling=AVAILABLE, progress=False).history[-1]
    assert row["epsilon"] > 0 and not row.keys() & AVAILABLE.round(0).metrics().keys()


def test_a_run_that_draws_as_accounted_goes_on(tmp_path):
    """With what little there is to show: the epsilon spent, also in the curve."""
    folder = tmp_path / "run"
    result = fl.train(process(), dataset(), cohort_size=5, rounds=2, sampling="poisson", run_dir=folder)
    assert 0 < result.history[-1]["epsilon"] < 3
    assert (folder / "curve.png").stat().st_size > 1000
    assert "epsilon" in (folder / "metrics.csv").read_text().splitlines()[0]
    fixed_size = fl.privacy.Budget(epsilon=30.0, delta=1e-3, sampling=fl.privacy.FixedSize(5, POPULATION))
    assert fl.train(process(privacy=fixed_size), dataset(), cohort_size=5, rounds=1, progress=False).state.ledger.entries


def test_a_round_of_another_size_than_accounted_is_refused():
    learning = process(privacy=fl.privacy.Budget(epsilon=30.0, delta=1e-3, sampling=fl.privacy.FixedSize(5, POPULATION)))
    with pytest.raises(ValueError, match="exactly the 5 clients"):
        learning.next(learning.initialize(), dataset().subset(["c1"]))


def test_a_tree_begins_anew_as_often_as_accounted_for():
    budget = fl.privacy.Budget(epsilon=30.0, delta=1e-3, sampling=fl.privacy.Tree(rounds_per_restart=4))
    with pytest.raises(ValueError, match="new tree every 8 rounds"):
        process(privacy=budget, aggregator=fl.aggregators.dp_tree(1.0, 5, 0.1, restart_every=8))
    learning = process(privacy=budget, aggregator=fl.aggregators.dp_tree(1.0, 5, 0.1, restart_every=4))
    _, metrics = learning.next(learning.initialize(), dataset().subset(["c1", "c2"]))
    assert metrics["num_clients"] == 2, "how many come is no secret if they are not drawn"


def test_a_matrix_is_accounted_for_as_one_release():
    """As many rounds as the matrix has cost what the first does, and then nothing is left."""
    budget = fl.privacy.Budget(epsilon=30.0, delta=1e-3, sampling=fl.privacy.Matrix(rounds=2, min_separation=1))
    aggregator = fl.aggregators.dp_matrix(1.0, 5, 0.1, rounds=2, bands=1)
    with pytest.raises(ValueError, match="must go with the noise in use, got Poisson for noise of the kind 'matrix'"):
        process(aggregator=aggregator)
    learning, cohort = process(privacy=budget, aggregator=aggregator), dataset().subset(["c1", "c2"])
    state, first = learning.next(learning.initialize(), cohort)
    state, second = learning.next(state, cohort)
    assert first["epsilon"] == second["epsilon"]
    with pytest.raises(PrivacyBudgetExceeded):
        learning.next(state, cohort)
