"""A round as pure functions: what counts, what does not, and that everything before the end is a sum."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom import aggregators
from fedloom.core import Algorithm, ClientOutput, ClientWork, Contribution, Ratio, add_sums, close, contribute, empty_sums, root_key

KEY = root_key(0)
NAN, INF = float("nan"), float("inf")


class State(NamedTuple):
    weights: dict
    opt_state: tuple


server_optimizer = optax.sgd(1.0, momentum=0.5)


def init(weights):
    return State(weights, server_optimizer.init(weights))


def server_update(state, message, mean):
    updates, opt_state = server_optimizer.update(mean.value, state.opt_state, state.weights)
    return State(optax.apply_updates(state.weights, updates), opt_state), {}


def output(value, weight, loss=1.0):
    """A client's output, of a vector and a scalar, in which the metric counts `weight` examples."""
    value = {"a": jnp.asarray(value, jnp.float32), "b": jnp.float32(7)}
    return ClientOutput(Contribution(value, jnp.float32(weight)), {"loss": Ratio(jnp.float32(loss * weight), jnp.float32(weight))})


ALGORITHM = Algorithm(
    model=None,
    init=init,
    client=ClientWork(
        lambda message, state, key: (), lambda message, local, batch, key: local, lambda message, local: output([0.0, 0.0], 0.0)
    ),
    server_update=server_update,
)
START = init({"a": jnp.array([1.0, 2.0]), "b": jnp.float32(3)})


def sums_of(outputs, aggregator):
    total, _ = empty_sums(ALGORITHM, aggregator, START.weights, (), KEY)
    for one in outputs:
        total = add_sums(total, contribute(aggregator, (), one, KEY)[0])
    return total


def round_of(outputs, aggregator=None, state=START):
    aggregator = aggregator or aggregators.weighted_mean()
    sums = sums_of(outputs, aggregator)
    closed = close(ALGORITHM, aggregator, state, (), None, sums, KEY)
    return closed.server, sums, bool(closed.accepted)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    "spoilt",
    [output([NAN, 1.0], 2), output([1.0, INF], 2), output([-INF, 1.0], 2), output([1.0, 1.0], NAN, loss=0.5)],
    ids=["nan", "inf", "-inf", "weight"],
)
def test_a_client_that_is_not_finite_leaves_nothing_but_its_count(spoilt):
    """Its whole value becomes zeros, the finite tensor too; weight 0, metrics out; the round is that of the others."""
    sums, report = contribute(aggregators.weighted_mean(), (), spoilt, KEY)
    assert not report.finite and report.weight == 0
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves((sums.contribution, sums.metrics)))
    assert (sums.num_clients, sums.num_nonfinite_clients) == (1, 1)
    good = [output([4.0, -2.0], 1, loss=2.0), output([1.0, 1.0], 3, loss=6.0)]
    with_it, without = round_of([good[0], spoilt, good[1]]), round_of(good)
    assert_same(with_it[0], without[0])
    assert with_it[1].metrics["loss"].value() == (1 * 2 + 3 * 6) / 4
    assert (with_it[1].num_clients, with_it[1].num_nonfinite_clients) == (3, 1)
    assert with_it[2]


def test_metrics_that_are_not_finite_are_no_reason_to_leave_a_client_out():
    """The update decides, as in TFF."""
    _, sums, accepted = round_of([output([1.0, 1.0], 2, loss=INF)])
    assert accepted and sums.num_nonfinite_clients == 0 and sums.metrics["loss"].value() == INF


def test_the_weighted_mean_divides_once_by_all_weight():
    """With momentum 1/2 the second round of the same gradient g takes a step of 3/2 g."""
    outputs = [output([4.0, -2.0], 1), output([1.0, 1.0], 3)]
    mean = np.average([[4.0, -2.0], [1.0, 1.0]], axis=0, weights=[1, 3])
    first, _, _ = round_of(outputs)
    np.testing.assert_allclose(first.weights["a"], [1, 2] - mean, rtol=1e-6)
    np.testing.assert_allclose(first.weights["b"], 3 - 7, rtol=1e-6)
    second, _, _ = round_of(outputs, state=first)
    np.testing.assert_allclose(second.weights["a"], [1, 2] - 2.5 * mean, rtol=1e-6)


def test_the_unweighted_mean_counts_every_client():
    """n clients with v: the mean is the sum over n, whatever their weights; empty and zeroed ones are in n with value 0."""
    empty = ClientOutput(Contribution({"a": jnp.zeros(2), "b": jnp.float32(0)}, jnp.float32(0)), output([0, 0], 0).metrics)
    outputs = [output([4.0, -2.0], 1), output([1.0, 1.0], 300), empty, output([NAN, 0.0], 5)]
    state, sums, accepted = round_of(outputs, aggregators.unweighted_mean())
    np.testing.assert_allclose(state.weights["a"], [1 - 5 / 4, 2 + 1 / 4], rtol=1e-6)
    np.testing.assert_allclose(state.weights["b"], 3 - 14 / 4, rtol=1e-6)
    assert accepted and sums.contribution.weight == 4


def after_one_round():
    """A state whose optimizer remembers something."""
    return round_of([output([4.0, -2.0], 1)])[0]


@pytest.mark.parametrize(
    "outputs",
    [[], [output([0.0, 0.0], 0)], [output([5.0, 5.0], 0), output([1.0, 1.0], 0)], [output([NAN, 0.0], 1), output([0.0, INF], 1)]],
    ids=["no client", "no weight", "values without weight", "all spoilt"],
)
def test_without_any_weight_everything_stays(outputs):
    """Weights and optimizer state: momentum alone must not move a model on which nobody trained."""
    before = after_one_round()
    after, _, accepted = round_of(outputs, state=before)
    assert not accepted
    assert_same(after, before)


def test_a_mean_that_is_not_finite_changes_nothing():
    """Each client is finite, their sum overflows."""
    before = after_one_round()
    after, sums, accepted = round_of([output([3e38, 0.0], 1), output([3e38, 0.0], 1)], state=before)
    assert not accepted and sums.num_nonfinite_clients == 0 and np.isinf(sums.contribution.value["a"][0])
    assert_same(after, before)


def test_the_state_of_the_aggregator_goes_on_even_if_the_round_is_rejected():
    """As TFF's: thresholds follow the norms seen, and noise that was drawn is used up. Only what is not finite is not taken over."""

    def decode(state, total, key):
        return aggregators.weighted_mean().decode((), total, key)[0], state + jnp.where(total.tally > 2, jnp.nan, 1.0), {}

    counting = aggregators.weighted_mean()._replace(
        init=lambda value: jnp.float32(0),
        encode=lambda state, contribution, key: contribution._replace(tally=jnp.float32(1)),
        decode=decode,
    )

    def state_after(outputs):
        return float(close(ALGORITHM, counting, START, jnp.float32(5), None, sums_of(outputs, counting), KEY).aggregator)

    assert state_after([output([1.0, 1.0], 1)]) == 6
    assert state_after([output([NAN, 1.0], 1)]) == 6
    assert state_after([output([1.0, 1.0], 1)] * 3) == 5


def test_a_rejected_round_is_rejected_under_jit_too():
    sums = sums_of([output([NAN, 1.0], 1)], aggregators.weighted_mean())
    closed = jax.jit(lambda sums: close(ALGORITHM, aggregators.weighted_mean(), START, (), None, sums, KEY))(sums)
    assert not closed.accepted
    assert_same(closed.server, START)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 9)), min_size=1, max_size=12), st.data())
def test_sums_over_any_blocks_in_any_order_are_the_same(clients, data):
    """On small whole numbers float32 adds without rounding, so equality is exact."""
    outputs = [output([a, b], weight) for a, b, weight in clients]
    aggregator = aggregators.weighted_mean()
    whole = sums_of(outputs, aggregator)
    shuffled = data.draw(st.permutations(outputs))
    cut = data.draw(st.integers(0, len(outputs)))
    left, right = sums_of(shuffled[:cut], aggregator), sums_of(shuffled[cut:], aggregator)
    assert_same(add_sums(left, right), whole)
    assert_same(add_sums(right, left), whole)


def test_empty_sums_are_the_neutral_element_and_cost_no_client_work():
    aggregator = aggregators.weighted_mean()
    one, _ = contribute(aggregator, (), output([1.5, 2.5], 3), KEY)
    nothing, _ = empty_sums(ALGORITHM, aggregator, START.weights, (), KEY)
    assert_same(add_sums(nothing, one), one)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), nothing) == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), one)


def test_a_ratio_adds_up_before_it_divides():
    total = jax.tree.map(lambda a, b: a + b, Ratio(6.0, 3.0), Ratio(1.0, 4.0))
    assert total.value() == 1.0, "not the mean of 2 and 1/4"
    assert isinstance(Ratio(jnp.float32(6), jnp.float32(4)).value(), float)


def test_a_ratio_of_nothing_is_0_as_in_tff():
    assert Ratio(0.0, 0.0).value() == 0.0
    assert Ratio(jnp.float32(0), jnp.float32(0)).value() == 0.0
