"""What cannot be right is refused with its numbers, before the work or at its first sight, not many rounds later."""

import jax.numpy as jnp
import numpy as np
import pytest

import fedloom as fl
from fedloom import aggregators as agg
from fedloom.core import ClientFailure
from fedloom.data import Batching, FederatedDataset
from fedloom.experiment import _memory

SIZE = 1000
MODEL = fl.models.from_functions(lambda key: jnp.zeros(SIZE), lambda w, x: x * w.sum(), lambda y, p: (p - y) ** 2)


def process(**settings):
    algorithm = settings.pop("algorithm", None) or fl.algorithms.fedavg(MODEL, fl.optimizers.sgd(0.1))
    return fl.LearningProcess(algorithm, batching=Batching(size=2), **settings)


def clients(count, **columns):
    return {f"c{i}": {"x": np.ones(2, np.float32), "y": np.ones(2, np.float32), **columns} for i in range(count)}


@pytest.mark.parametrize("aggregator", [agg.median(), agg.chain(agg.clipping(1.0), agg.krum(1))])
def test_updates_that_do_not_fit_in_memory_together_are_refused_before_training(aggregator, monkeypatch):
    """Three copies of 5 clients with 1,000 float32 are 60 kB."""
    learning = process(aggregator=aggregator)
    state = learning.initialize()
    monkeypatch.setattr(_memory, "available_bytes", lambda: 59_999)
    with pytest.raises(ValueError, match=r"all 5 clients of a round at once: about 60 kB for 3 copies of 4 kB each, and 60 kB are free"):
        learning.next(state, clients(5))
    with pytest.raises(ValueError, match="all 5 clients of a round at once"):
        fl.train(learning, FederatedDataset.from_dict(clients(9)), cohort_size=5, rounds=100, progress=False)
    monkeypatch.setattr(_memory, "available_bytes", lambda: 60_000)
    learning.next(state, clients(5))


def test_sums_need_no_more_memory_for_more_clients(monkeypatch):
    monkeypatch.setattr(_memory, "available_bytes", lambda: 10)
    learning = process()
    learning.next(learning.initialize(), clients(5))


def test_the_system_says_how_much_memory_is_free():
    available = _memory.available_bytes()
    assert available is None or available > 2**20


def test_negative_sample_weights_are_refused_with_the_client_that_has_them():
    learning = process()
    with pytest.raises(ClientFailure, match=r"'c0'.*sample_weight of client 'c0' must be >= 0, got -1.0"):
        learning.next(learning.initialize(), clients(1, sample_weight=np.array([1.0, -1.0])))
    with pytest.raises(ClientFailure, match=r"sample_weight must be >= 0, got -2.0"):
        learning.next(learning.initialize(), {"c0": [(np.ones(1), np.ones(1), np.array([-2.0]))]})


def test_a_negative_client_weight_is_refused():
    learning = process(algorithm=fl.algorithms.fedavg(MODEL, fl.optimizers.sgd(0.1), client_weight=lambda sums: -sums["num_examples"]))
    with pytest.raises(ValueError, match="weight was negative"):
        learning.next(learning.initialize(), clients(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: agg.quantile(1.0, target=1.0, learning_rate=0.2),
        lambda: agg.quantile(1.0, target=0.0, learning_rate=0.2),
        lambda: agg.dp_gaussian_adaptive(0.1, 10, target_unclipped_quantile=1.5),
        lambda: agg.trimmed_mean(0.5),
        lambda: agg.chain(),
        lambda: agg.chain(agg.median(), agg.clipping(1.0)),
        lambda: agg.chain(agg.secure_encoding(1.0, max_clients=4), agg.weighted_mean()),
        lambda: agg.chain(agg.fixed_mean(4), agg.gaussian_noise(1.0)),
        lambda: agg.chain(*[agg.clipping(1.0), agg.fixed_mean(4), *[agg.gaussian_noise(1.0)] * 2]),
        lambda: agg.weighted_mean(when_empty="nan"),
    ],
    ids=["1.0", "0.0", "1.5", "trims all", "nothing", "median first", "integers first", "no clip", "two noises", "empty"],
)
def test_aggregators_that_cannot_be_right_are_refused_when_they_are_made(make):
    with pytest.raises(ValueError):
        make()


def test_a_mean_of_nothing_is_0_if_asked_and_momentum_goes_on():
    """TFF's `no_nan_division`: two rounds, the second without data; with momentum 1/2 it takes half the step of the first."""
    algorithm = fl.algorithms.fedavg(
        fl.models.from_functions(lambda key: jnp.zeros(()), lambda w, x: w * x, lambda y, p: (y - p) ** 2 / 2),
        fl.optimizers.sgd(0.5),
        fl.optimizers.sgd(1.0, momentum=0.5),
    )
    data = [{"ada": [(np.ones(1, np.float32), np.ones(1, np.float32))]}, {"ada": []}]
    for aggregator, accepted, want in ((agg.weighted_mean(), 0, 0.5), (agg.weighted_mean("zero"), 1, 0.75)):
        learning = fl.LearningProcess(algorithm, aggregator=aggregator)
        state = learning.initialize()
        for cohort in data:
            state, metrics = learning.next(state, cohort)
        assert (metrics["accepted"], float(learning.get_weights(state).trainable)) == (accepted, want)


def test_measured_reports_what_passes_and_changes_nothing():
    """Of two updates of norm 3 and 4 (one element each): mean 3.5, deviation 0.5; the weighted mean of 1 and 3 examples is 3.75."""
    model = fl.models.from_functions(lambda key: jnp.zeros(()), lambda w, x: w * x, lambda y, p: y * p)
    learning = fl.LearningProcess(
        fl.algorithms.fedavg(model, fl.optimizers.sgd(1.0)),
        aggregator=agg.chain(agg.measured(), agg.weighted_mean()),
    )
    ones = np.ones(3, np.float32)
    _, metrics = learning.next(learning.initialize(), {"a": [(ones[:1], 3 * ones[:1])], "b": [(ones, 4 * ones)]})
    got = metrics["aggregator"]["measured"]
    want = {"client_norm_mean": 3.5, "client_norm_std": 0.5, "server_norm": 3.75, "server_max": 3.75, "server_min": 3.75}
    assert got == pytest.approx(want, rel=1e-5)
