"""What every registered aggregator promises. To join, add it to `fl.aggregators.AGGREGATORS`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts.lines import Compilations, assert_close, assert_identical, line_clients, line_model, padded

import fedloom as fl
from fedloom.core import Contribution

every_aggregator = pytest.mark.parametrize("name", fl.aggregators.AGGREGATORS)
VALUE = {"w": jnp.array([[0.5, -2.0, 0.25], [3.0, 0.0, -0.125]], jnp.float32), "b": jnp.float32(0.75), "none": []}


def make(name):
    return fl.aggregators.AGGREGATORS[name]()


@functools.cache
def process_of(name, executor="local"):
    algorithm = fl.algorithms.fedavg(line_model(), fl.optimizers.sgd(0.1))
    return fl.LearningProcess(algorithm, aggregator=make(name), batching=padded, executor=executor)


def run(process, cohorts, state=None):
    state = process.initialize() if state is None else state
    for cohort in cohorts:
        state, metrics = process.next(state, cohort)
    return state.server, state.aggregator, dict(state.clients), metrics


def random_on_clients(name):
    """Whether what a client sends depends on its key, and so on its place in the cohort."""
    aggregator = make(name)
    contribution = Contribution(VALUE, jnp.float32(1), memory=aggregator.init_client(VALUE))
    traced = jax.make_jaxpr(lambda key: aggregator.encode(aggregator.init(VALUE), contribution, key))(jax.random.key(0))
    return "random_bits" in str(traced)


@every_aggregator
def test_local_is_debug_compiled(name):
    cohorts = [line_clients([3, 5, 0, 2, 1]), line_clients([1, 1, 2, 1, 1], seed=1)]  # Krum wants five
    assert_close(run(process_of(name), cohorts), run(process_of(name, "debug"), cohorts), rtol=1e-4, atol=1e-5)


@every_aggregator
def test_the_order_of_clients_does_not_matter(name):
    if random_on_clients(name):
        pytest.skip("it draws random numbers on the client, by the client's place")
    clients = line_clients([3, 1, 9, 4, 0, 1, 5])
    other = dict(reversed(clients.items()))
    assert_close(run(process_of(name), [clients] * 2), run(process_of(name), [other] * 2), rtol=1e-4, atol=1e-5)


@every_aggregator
def test_the_state_keeps_its_types_and_the_value_its_tree(name):
    aggregator = make(name)
    state = aggregator.init(VALUE)
    memory = aggregator.init_client(VALUE)
    sent = aggregator.encode(state, Contribution(VALUE, jnp.float32(2), memory=memory), jax.random.key(1))
    kind = functools.partial(jax.tree.map, lambda leaf: (jnp.shape(leaf), jnp.asarray(leaf).dtype))
    assert kind(sent.memory) == kind(memory)
    total = sent._replace(memory=())
    if aggregator.reduce == "stack":
        total = jax.tree.map(lambda leaf: jnp.stack([leaf] * 7), total)
    aggregate, after, measurements = aggregator.decode(state, total, jax.random.key(2))
    assert kind(after) == kind(state)
    assert kind(aggregate.value) == kind(VALUE)
    assert aggregate.weight.shape == ()
    assert all(np.asarray(leaf).dtype.kind in "fiu" for leaf in jax.tree.leaves(measurements))


@every_aggregator
def test_init_takes_shapes(name):
    """The engine knows shapes only."""
    shapes = jax.eval_shape(lambda: VALUE)
    aggregator = make(name)
    assert_identical(aggregator.init(shapes), aggregator.init(VALUE))
    assert_identical(aggregator.init_client(shapes), aggregator.init_client(VALUE))
    if aggregator.bytes_up:
        assert 0 < aggregator.bytes_up(shapes) == aggregator.bytes_up(VALUE)


@every_aggregator
@pytest.mark.parametrize("clients", [{}, line_clients([0] * 5)], ids=["nobody", "empty"])
def test_a_round_without_data_leaves_the_weights_finite(name, clients):
    process = process_of(name)
    before, _ = process.next(process.initialize(), line_clients([3, 2, 4, 1, 6, 2, 2]))
    after, _ = process.next(before, clients)
    assert np.isfinite(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(process.get_weights(after))])).all()


@every_aggregator
def test_the_second_round_and_other_hyperparameters_compile_nothing(name):
    process = process_of(name)
    state = process.initialize()
    clients = line_clients([3, 0, 9, 2, 2, 5, 1])
    for _ in range(2):
        state, _ = process.next(state, clients)
    with Compilations() as later:
        for _ in range(2):
            state = process.set_hparams(state, {k: 0.9 * v for k, v in process.get_hparams(state).items()})
            state, _ = process.next(state, clients)
    assert later.count == 0


@every_aggregator
def test_going_on_from_a_saved_state_gives_the_same_bits(name, tmp_path):
    process = process_of(name)
    middle = process.next(process.initialize(), line_clients([3, 9, 1, 2, 2, 2, 2]))[0]
    process.save(middle, tmp_path / "state")
    cohorts = [line_clients([3, 9, 2, 4, 4, 4, 4], seed=2)] * 2
    assert_identical(run(process, cohorts, process.load(tmp_path / "state")), run(process, cohorts, middle))


LIMITS = {  # nothing is limited, left out, rounded or noised; with which mean it then agrees
    "clipping": (lambda: fl.aggregators.chain(fl.aggregators.clipping(1e6), fl.aggregators.weighted_mean()), "weighted_mean"),
    "zeroing": (lambda: fl.aggregators.chain(fl.aggregators.zeroing(1e6), fl.aggregators.weighted_mean()), "weighted_mean"),
    "top_k": (lambda: fl.aggregators.chain(fl.aggregators.top_k(1.0), fl.aggregators.weighted_mean()), "weighted_mean"),
    "low_rank": (lambda: fl.aggregators.chain(fl.aggregators.low_rank(3), fl.aggregators.weighted_mean()), "weighted_mean"),
    "trimmed_mean": (lambda: fl.aggregators.trimmed_mean(0.0), "unweighted_mean"),
    "dp_gaussian_fixed": (lambda: fl.aggregators.dp_gaussian_fixed(0.0, clients_per_round=5, clip=1e6), "unweighted_mean"),
    "dp_tree": (lambda: fl.aggregators.dp_tree(0.0, clients_per_round=5, clip=1e6), "unweighted_mean"),
    "dp_matrix": (lambda: fl.aggregators.dp_matrix(0.0, 5, 1e6, rounds=16, bands=4), "unweighted_mean"),
    "fixed_mean": (lambda: fl.aggregators.fixed_mean(5), "unweighted_mean"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_in_the_limit_it_is_the_mean(name):
    make_limit, mean = LIMITS[name]
    cohorts = [line_clients([3, 5, 1, 2, 1]), line_clients([1, 4, 2, 1, 1], seed=1)]
    learning = fl.LearningProcess(process_of(mean).algorithm, aggregator=make_limit(), batching=padded)
    assert_close(run(learning, cohorts)[0], run(process_of(mean), cohorts)[0], rtol=1e-5, atol=1e-6)
