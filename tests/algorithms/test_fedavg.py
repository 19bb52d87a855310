"""FedAvg against algebra on quadratics, and against a NumPy oracle on linear regression."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles import fedavg_numpy

import fedloom as fl

CENTRES = {"ada": [3.0, -1.0], "bob": [-2.0, 0.5], "cy": [10.0, 7.0]}
SIZES = {"ada": 1, "bob": 4, "cy": 2}
START = np.array([0.5, -4.0], np.float32)


def quadratic_model():
    """A weight x in the plane with loss |x - c|^2 / 2; an example is its centre c."""
    return fl.models.from_functions(lambda key: jnp.zeros(2), lambda x, c: x - c, lambda y, error: (error**2).sum(-1) / 2)


def clients(names=("ada", "bob", "cy"), sizes=SIZES, steps=1, weight=None):
    """Clients whose every batch holds the same centre `sizes` times."""
    made = {}
    for name in names:
        batch = [np.tile(np.float32(CENTRES[name]), (sizes[name], 1)), np.zeros(sizes[name], np.float32)]
        made[name] = [(*batch, np.full(sizes[name], weight[name], np.float32)) if weight else tuple(batch)] * steps
    return made


def run(cohorts, *args, start=START, **kwargs):
    process = fl.LearningProcess(fl.algorithms.fedavg(quadratic_model(), *args, **kwargs))
    state = process.initialize(start)
    for cohort in cohorts:
        state, metrics = process.next(state, cohort)
    return np.asarray(process.get_weights(state).trainable), metrics


def mean_centre(weights, names=("ada", "bob", "cy")):
    return np.average([CENTRES[n] for n in names], axis=0, weights=[weights[n] for n in names])


@pytest.mark.parametrize("steps", [1, 5])
def test_local_steps_move_to_the_weighted_mean_of_the_centres(steps):
    """A step contracts x - c by (1 - a), so after K steps the mean model is m + (1 - a)^K (x - m), m the mean of centres."""
    got, metrics = run([clients(steps=steps)], optax.sgd(0.1))
    centre = mean_centre(SIZES)
    np.testing.assert_allclose(got, centre + 0.9**steps * (START - centre), rtol=1e-5)
    assert metrics["num_examples"] == 7 * steps and metrics["num_batches"] == 3 * steps


def test_the_loss_is_that_of_each_batch_before_its_step():
    """On one client the loss falls by (1 - a)^2 a step; reported is the mean over the steps."""
    _, metrics = run([clients(["ada"], steps=3)], optax.sgd(0.1))
    first = ((START - CENTRES["ada"]) ** 2).sum() / 2
    assert metrics["loss"] == pytest.approx(first * (1 + 0.9**2 + 0.9**4) / 3, rel=1e-5)


def test_the_server_optimizer_gets_weights_before_minus_after():
    """Server sgd(s) with momentum b: x1 = x0 - s g0, x2 = x1 - s (g1 + b g0), where g is a (x - c)."""
    a, s, b = 0.1, 0.5, 0.8
    got, _ = run([clients(), clients(["cy", "bob"])], optax.sgd(a), optax.sgd(s, momentum=b))
    g0 = a * (START - mean_centre(SIZES))
    x1 = START - s * g0
    g1 = a * (x1 - mean_centre(SIZES, ["bob", "cy"]))
    np.testing.assert_allclose(got, x1 - s * (g1 + b * g0), rtol=1e-5)


def test_the_client_optimizer_starts_fresh_every_round():
    """With momentum, two rounds of one step are two plain steps: nothing is left from the first."""
    got, _ = run([clients(["ada"])] * 2, optax.sgd(0.1, momentum=0.9))
    np.testing.assert_allclose(got, CENTRES["ada"] + 0.9**2 * (START - CENTRES["ada"]), rtol=1e-5)


TOKENS = {"ada": 2.5, "bob": 0.25, "cy": 1.0}  # per example
WEIGHTS = {
    "num_examples": SIZES,
    "uniform": dict.fromkeys(SIZES, 1),
    "tokens": {name: SIZES[name] * TOKENS[name] for name in SIZES},
    lambda sums: sums["num_examples"] ** 2: {name: n**2 for name, n in SIZES.items()},
    lambda sums: jnp.where(sums["num_examples"] > 1, 1, 0): {"ada": 0, "bob": 1, "cy": 1},
}


@pytest.mark.parametrize(("client_weight", "weights"), WEIGHTS.items(), ids=["num_examples", "uniform", "tokens", "squared", "integer"])
def test_client_weights(client_weight, weights):
    got, metrics = run([clients(weight=TOKENS)], optax.sgd(0.1), client_weight=client_weight)
    np.testing.assert_allclose(got, START + 0.1 * (mean_centre(weights) - START), rtol=1e-5)
    assert metrics["num_tokens"] == sum(WEIGHTS["tokens"].values()) and metrics["num_examples"] == 7


def test_uniform_weights_skip_clients_without_examples():
    """An empty client has learned nothing, so it must not hold the others back, as it does in an unweighted mean."""
    cohort = clients(["ada", "cy"]) | {"empty": []}
    got, metrics = run([cohort], optax.sgd(0.1), client_weight="uniform")
    centre = np.mean([CENTRES["ada"], CENTRES["cy"]], axis=0)
    np.testing.assert_allclose(got, START + 0.1 * (centre - START), rtol=1e-5)
    assert metrics["num_clients"] == 3


def test_a_round_without_data_changes_nothing_and_says_so():
    got, metrics = run([clients(), {"empty": []}], optax.sgd(0.1), optax.sgd(1.0, momentum=0.9))
    np.testing.assert_array_equal(got, run([clients()], optax.sgd(0.1), optax.sgd(1.0, momentum=0.9))[0])
    assert metrics["accepted"] == 0 and metrics["loss"] == metrics["num_examples"] == 0


def test_padding_counts_nowhere():
    """Two batches of 2 for 3 examples: 3 examples count in weight and loss, and a second step on the last example alone is taken."""
    process = fl.LearningProcess(fl.algorithms.fedavg(quadratic_model(), optax.sgd(0.1)), batching=fl.data.Batching(size=2, shuffle=False))
    centres = np.array([[1.0, 2.0], [5.0, -2.0], [9.0, 3.0]], np.float32)
    state, metrics = process.next(process.initialize(START), {"ada": {"x": centres, "y": np.zeros(3)}})
    middle = START + 0.1 * (centres[:2].mean(0) - START)
    np.testing.assert_allclose(process.get_weights(state).trainable, middle + 0.1 * (centres[2] - middle), rtol=1e-5)
    losses = [((x - c) ** 2).sum() / 2 for x, c in zip((START, START, middle), centres, strict=True)]
    assert metrics["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert (metrics["num_examples"], metrics["num_batches"], metrics["num_tokens"]) == (3, 2, 3)


def test_a_single_client_trains_as_if_alone():
    """FedAvg of one client with server sgd(1) is that client's own training, here Adam on optax."""
    optimizer = optax.adam(0.3)
    got, _ = run([clients(["bob"], steps=4)], optimizer)
    x, opt_state = jnp.asarray(START), optimizer.init(jnp.asarray(START))
    for _ in range(4):
        updates, opt_state = optimizer.update(x - jnp.array(CENTRES["bob"]), opt_state, x)
        x = optax.apply_updates(x, updates)
    np.testing.assert_allclose(got, x, rtol=1e-5)


@pytest.mark.parametrize("name", ["examples", None, 3])
def test_an_unknown_client_weight_is_an_error_that_lists_the_known_ones(name):
    with pytest.raises(ValueError, match=rf"client_weight must be one of \['num_examples', 'tokens', 'uniform'\].*got {name!r}"):
        fl.algorithms.fedavg(quadratic_model(), optax.sgd(0.1), client_weight=name)


@pytest.mark.parametrize("optimizer", ["sgd", 0.1])
def test_a_model_without_keras_takes_optax_optimizers_only(optimizer):
    with pytest.raises(TypeError, match="optax"):
        fl.algorithms.fedavg(quadratic_model(), optimizer)


@pytest.mark.parametrize("name", ["loss", "num_examples"])
def test_a_metric_cannot_take_the_place_of_the_loss_or_a_count(name):
    with pytest.raises(ValueError, match=f"names .*{name}"):
        fl.models.from_functions(lambda key: jnp.zeros(2), lambda x, c: x - c, lambda y, e: e.sum(-1), {name: lambda y, e: 0 * e.sum(-1)})


def random_cohorts(rng, rounds):
    """Clients of other numbers and sizes of batches in every round, some of them empty, with sample weights."""
    w = np.array([1.0, -2.0, 0.5])

    def batch():
        x = rng.normal(size=(int(rng.integers(1, 5)), 3))
        return tuple(v.astype(np.float32) for v in (x, x @ w + 0.3 + rng.normal(size=len(x)), rng.uniform(0.5, 2, len(x))))

    return [[[batch() for _ in range(int(rng.integers(0, 4)))] for _ in range(3)] + [[batch()]] for _ in range(rounds)]


@pytest.mark.parametrize("client_weight", ["num_examples", "uniform", "tokens"])
def test_rounds_of_linear_regression_agree_with_the_oracle(client_weight):
    """Weights to 1e-5 in float32 against float64, over rounds with a server momentum."""
    cohorts = random_cohorts(np.random.default_rng(4), rounds=4)
    start = [np.array([0.1, 0.2, -0.3], np.float32), np.float32(0.4)]
    model = fl.models.from_functions(
        lambda key: [jnp.zeros(3), jnp.zeros(())], lambda p, x: x @ p[0] + p[1], lambda y, prediction: (prediction - y) ** 2 / 2
    )
    process = fl.LearningProcess(fl.algorithms.fedavg(model, optax.sgd(0.1), optax.sgd(0.7, momentum=0.6), client_weight=client_weight))
    state = process.initialize(start)
    oracle = fedavg_numpy.fedavg(start, cohorts, 0.1, 0.7, 0.6, client_weight)
    for cohort, (want, want_metrics) in zip(cohorts, oracle, strict=True):
        state, metrics = process.next(state, cohort)
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6), process.get_weights(state).trainable, want)
        for name, value in want_metrics.items():
            assert metrics[name] == pytest.approx(value, rel=1e-5), name
        assert metrics["accepted"] == 1
