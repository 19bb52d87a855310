"""The plan of a run: what follows from sizes must be exact; what is timed must only be sane."""

import jax.numpy as jnp
import numpy as np
import pytest
from contracts.lines import line_clients, line_model

import fedloom as fl
from fedloom.experiment import plan

SIZES = [3, 9, 4, 6, 20]
BATCHES = [1, 3, 1, 2, 5]  # of 4


def dataset():
    return fl.data.FederatedDataset.from_dict(line_clients(SIZES))


def make_process(**settings):
    return fl.LearningProcess(fl.algorithms.fedavg(line_model(), fl.optimizers.sgd(0.1)), batching=fl.data.Batching(size=4), **settings)


def test_what_follows_from_sizes_is_exact():
    found = plan(make_process(), dataset(), cohort_size=3, rounds=7, evaluate=dataset(), evaluate_every=3)
    assert (found.clients, found.cohort_size, found.rounds, found.held_out_clients) == (5, 3, 7, 5)
    assert found.evaluations == 4  # rounds 0, 3, 6 and 7
    assert (found.parameters, found.model_bytes, found.bytes_up) == (4, 16, 3 * 16)
    assert found.bytes_down == 3 * (16 + 4)  # the rate too
    assert found.batches_per_client == np.mean(BATCHES)
    assert (found.epsilon, found.delta) == (None, None)


def test_what_is_timed_adds_up():
    found = plan(make_process(), dataset(), cohort_size=3, rounds=7, evaluate=dataset(), evaluate_every=3)
    assert 0 < found.batch_seconds < found.round_seconds < 10 and found.memory_bytes > 50e6
    parts = found.compile_seconds + 7 * found.round_seconds + 4 * found.evaluation_seconds
    assert found.total_seconds == pytest.approx(parts)


@pytest.mark.parametrize("kind", ["Poisson", "FixedSize"])
def test_the_cost_in_privacy_is_that_of_all_rounds_and_the_trial_spends_nothing(kind):
    sampling = getattr(fl.privacy, kind)(3, 5)
    process = make_process(
        aggregator=fl.aggregators.dp_gaussian_fixed(2.0, 3, 0.5), privacy=fl.privacy.Budget(epsilon=50.0, delta=1e-3, sampling=sampling)
    )
    found = plan(process, dataset(), cohort_size=3, rounds=7)
    assert found.epsilon == pytest.approx(fl.privacy.epsilon(sampling, 2.0, 7, 1e-3)) and found.delta == 1e-3


def test_what_does_not_fit_is_found():
    wide = fl.data.FederatedDataset.from_dict({"ada": {"x": np.ones((4, 7), np.float32), "y": np.ones(4, np.float32)}})
    with pytest.raises(fl.ClientFailure, match="'ada'.*step 0"):
        plan(make_process(), wide, cohort_size=1, rounds=1)
    dropping = fl.LearningProcess(
        fl.algorithms.fedavg(line_model(), fl.optimizers.sgd(0.1)), batching=fl.data.Batching(size=50, remainder="drop")
    )
    with pytest.raises(ValueError, match="None of 5 clients looked at has a batch"):
        plan(dropping, dataset(), cohort_size=1, rounds=1)
    model = fl.models.from_functions(lambda key: jnp.zeros(3), lambda w, x: x @ w, lambda y, p: (y - p) ** 2)
    with pytest.raises(ValueError, match="needs a process with `batching`"):
        plan(fl.LearningProcess(fl.algorithms.fedavg(model, fl.optimizers.sgd(0.1))), dataset(), cohort_size=1, rounds=1)
