"""Clipping, zeroing and the quantiles that they follow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedloom as fl
from fedloom.core import Contribution, ModelWeights, hyperparameters, with_hyperparameters

agg = fl.aggregators
KEY = jax.random.key(0)


def run(aggregator, state, values, weights=None):
    """One round: (aggregate, next state, measurements). With no values, the sums over no client."""
    weights = [1.0] * len(values) if weights is None else weights
    sent = [
        aggregator.encode(state, Contribution(v, jnp.float32(w)), KEY)._replace(memory=()) for v, w in zip(values, weights, strict=True)
    ]
    return aggregator.decode(state, functools.reduce(functools.partial(jax.tree.map, jnp.add), sent), KEY)


def update(*numbers):
    """An update of two arrays and an empty list; norms are over all of it."""
    numbers = jnp.asarray(numbers, jnp.float32)
    return ModelWeights({"w": numbers[:2].reshape(2, 1), "b": numbers[2]}, [])


def numbers_of(value):
    return np.concatenate([np.ravel(value.trainable["w"]), np.ravel(value.trainable["b"])])


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_what_is_above_the_threshold_is_scaled_down_to_it_and_the_rest_left_alone(norm):
    v = np.array([3.0, -4.0, 12.0], np.float32)  # norms 19, 13, 12
    size = np.linalg.norm(v, {"l1": 1, "l2": 2, "linf": np.inf}[norm])
    for threshold, factor, clipped in [(size / 4, 0.25, 1), (size, 1, 0), (size * 1.5, 1, 0)]:
        stage = agg.clipping(float(threshold), norm)
        total, _, measured = run(stage, stage.init(update(*v)), [update(*v)])
        np.testing.assert_allclose(numbers_of(total.value), factor * v, rtol=1e-6)
        assert (measured["threshold"], measured["clipped_count"]) == (np.float32(threshold), clipped)
        if not clipped:
            np.testing.assert_array_equal(numbers_of(total.value), v)


@pytest.mark.parametrize(("norm", "kept"), [("l1", [8.9, 1]), ("l2", [8.9, 1]), ("linf", [8.9, 7])])
def test_a_zeroed_client_keeps_its_weight(norm, kept):
    """Of (8, 0, .5) and (-7, 7, 0) with weights 1 and 3 the L1 norms are 8.5 and 14, the L2 norms 8.02 and 9.9, the largest 8 and 7."""
    threshold = kept[0] if norm != "linf" else 7.5
    aggregator = agg.chain(agg.zeroing(threshold, norm), agg.weighted_mean())
    a, b = np.array([8, 0, 0.5]), np.array([-7, 7, 0])
    total, _, measured = run(aggregator, aggregator.init(update(*a)), [update(*a), update(*b)], [1.0, 3.0])
    np.testing.assert_allclose(numbers_of(total.value), a / 4 if norm != "linf" else 3 * b / 4, rtol=1e-6)
    assert total.weight == 4 and measured["zeroing"]["zeroed_count"] == 1


@pytest.mark.parametrize("limit", [agg.clipping(1.0), agg.zeroing(1.0, "l2")])
def test_a_norm_beyond_float32_leaves_zeros(limit):
    """The squares of 1e30 overflow; a client must not get through like that."""
    total, _, _ = run(limit, limit.init(update(1, 2, 3)), [update(1e30, -1e30, 1.0)])
    np.testing.assert_array_equal(numbers_of(total.value), 0)


def test_arrays_of_16_bits_stay_so_and_are_measured_in_32():
    """257 squares of 1 are 256 in bfloat16, and so the norm 16 rather than 16.03."""
    stage = agg.clipping(16.01)
    value = [jnp.ones(257, jnp.bfloat16)]
    total, _, measured = run(stage, stage.init(value), [value])
    assert measured["clipped_count"] == 1 and total.value[0].dtype == jnp.bfloat16


def test_a_fixed_threshold_is_a_hyperparameter():
    aggregator = agg.chain(agg.zeroing(9.0), agg.clipping(2.0), agg.weighted_mean())
    state = aggregator.init(update(0, 0, 0))
    assert hyperparameters({"aggregator": state}) == {"aggregator.zeroing.threshold": 9, "aggregator.clipping.threshold": 2}
    state = with_hyperparameters(state, {"clipping.threshold": 1.0})
    total, _, measured = run(aggregator, state, [update(0, 3, 4)])
    np.testing.assert_allclose(numbers_of(total.value), [0, 0.6, 0.8], rtol=1e-6)
    assert measured["clipping"]["threshold"] == 1


def test_an_adaptive_threshold_is_estimated_with_c_and_applied_as_a_multiple_of_it():
    """C = 4 is compared with the norms, 2C + 1 = 9 applied: of 3, 4, 5, 10 two are below C, and only one is zeroed."""
    stage = agg.zeroing(agg.quantile(4.0, target=0.9, learning_rate=0.5, multiplier=2.0, increment=1.0), "l2")
    state = stage.init(update(0, 0, 0))
    total, state, measured = run(stage, state, [update(0, 3, 0), update(0, 0, 4), update(5, 0, 0), update(0, 0, 10)])
    np.testing.assert_allclose(numbers_of(total.value), [5, 3, 4])
    assert {k: float(v) for k, v in measured.items()} == {"threshold": 9, "zeroed_count": 1, "share_below": 0.5}
    np.testing.assert_allclose(state["estimate"], 4 * np.exp(0.5 * (0.9 - 0.5)), rtol=1e-6)


def test_an_arithmetic_estimate_settles_at_the_quantile():
    """Norms 1, ..., 10 with target 0.75: 7 at or below C < 8, 8 from there, so C comes to rest within a step of 8."""
    stage = agg.clipping(agg.quantile(1.0, target=0.75, learning_rate=0.2, geometric=False))
    state, values = stage.init(update(0, 0, 0)), [update(0, 0, i) for i in range(1, 11)]
    decode = jax.jit(lambda state: run(stage, state, values)[1])
    for _ in range(200):
        state = decode(state)
    assert abs(state["estimate"] - 8) <= 0.2 * 0.25


def test_without_clients_an_estimate_stays():
    stage = agg.clipping(agg.quantile(3.0, target=0.5, learning_rate=0.2))
    state = stage.init(update(0, 0, 0))
    nobody = jax.tree.map(jnp.zeros_like, stage.encode(state, Contribution(update(1, 2, 3), jnp.float32(1)), KEY))
    total, after, measured = stage.decode(state, nobody, KEY)
    assert after == state and measured["clipped_count"] == 0 and not numbers_of(total.value).any()


def test_what_is_zeroed_counts_in_the_clipping_after_it_with_norm_0():
    aggregator = agg.robust_aggregator()
    state = aggregator.init(update(0, 0, 0))
    _, state, measured = run(aggregator, state, [update(0, 0, 22), update(0, 0, 0.5)], [2.0, 1.0])  # above 2 x 10 + 1
    assert measured["zeroing"]["zeroed_count"] == 1 and measured["clipping"] == {"threshold": 1, "clipped_count": 0, "share_below": 1}
    np.testing.assert_allclose(state["clipping"]["estimate"], np.exp(-0.2 * (1 - 0.8)), rtol=1e-6)


def test_the_robust_aggregator_has_the_stages_that_are_asked_for():
    value = update(0, 0, 0)
    for zeroing, clipping in [(True, False), (False, True), (False, False)]:
        aggregator = agg.robust_aggregator(zeroing, clipping)
        assert list(aggregator.init(value)) == ["zeroing"] * zeroing + ["clipping"] * clipping + ["mean"]
    total, *_ = run(
        agg.robust_aggregator(weighted=False), agg.robust_aggregator().init(value), [update(0.5, 0, 0), update(0, 0, 0)], [3.0, 0.0]
    )
    np.testing.assert_allclose(numbers_of(total.value), [0.25, 0, 0])


def test_bounds_on_the_l2_norm():
    value = update(0, 0, 0)

    def bound(stage, before):
        after = stage.bound(stage.init(value), before)
        return None if after is None else float(after)

    assert bound(agg.clipping(2.0), None) == 2 and bound(agg.clipping(2.0), 1.0) == 1 and bound(agg.clipping(2.0), 3.0) == 2
    assert bound(agg.clipping(2.0, "l1"), None) == 2  # |v|_2 <= |v|_1
    assert bound(agg.clipping(2.0, "linf"), None) is None and bound(agg.zeroing(2.0), 3.0) == 3
    assert bound(agg.clipping(agg.quantile(1.0, 0.5, 0.2)), 3.0) is None  # follows exact norms, so it hides nothing


@pytest.mark.parametrize(
    "name",
    ["clipping", "dp_aggregator", "dp_gaussian_adaptive", "dp_gaussian_fixed", "dp_tree", "gaussian_noise", "robust_aggregator", "zeroing"],
)
def test_a_state_keeps_its_types_so_that_nothing_is_traced_again(name):
    aggregator = agg.AGGREGATORS[name]()
    state = aggregator.init(jax.eval_shape(lambda: update(1, 2, 3)))  # shapes are enough
    traced = 0

    @jax.jit
    def round_(state, values):
        nonlocal traced
        traced += 1
        return run(aggregator, state, values)[:2]

    for _ in range(3):
        total, state = round_(state, [update(1, 2, 3), update(0, 0, 0)])
    assert traced == 1
    assert jax.tree.structure(total.value) == jax.tree.structure(update(1, 2, 3)) and total.weight.shape == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: agg.clipping(0.0), "threshold of clipping must be finite and above 0, got 0.0"),
        (lambda: agg.zeroing(float("nan")), "threshold of zeroing"),
        (lambda: agg.clipping(1.0, "l3"), 'norm of clipping must be "l1"'),
        (lambda: agg.quantile(1.0, target=1.0, learning_rate=0.2), "target of a quantile must be in (0, 1), got 1.0"),
        (lambda: agg.quantile(0.0, target=0.5, learning_rate=0.2), "initial of a quantile"),
        (lambda: agg.quantile(float("inf"), target=0.5, learning_rate=0.2, geometric=False), "initial of a quantile"),
        (lambda: agg.quantile(1.0, target=0.5, learning_rate=0), "learning_rate of a quantile"),
        (lambda: agg.quantile(1.0, target=0.5, learning_rate=1, multiplier=-1), "multiplier of a quantile"),
        (lambda: agg.quantile(1.0, target=0.5, learning_rate=1, increment=-1), "increment of a quantile"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)
