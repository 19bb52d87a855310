"""Integers that add up modulo 2^m: the sum is right whatever the order, the masks and the number of times it wraps around."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts.lines import assert_close, line_clients, line_model, padded

import fedloom as fl
from fedloom.aggregators import chain, fixed_mean, secure_encoding, weighted_mean
from fedloom.core import Contribution

KEY = jax.random.key(0)


def encoded(aggregator, values):
    """What each of these clients sends."""
    state = aggregator.init(values[0])
    return [aggregator.encode(state, Contribution(value, jnp.float32(1)), KEY) for value in values]


def decoded(aggregator, sent):
    total = jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *sent)
    return aggregator.decode(aggregator.init(total.value), total, KEY)


def random_values(count, bound, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {"w": jnp.asarray(rng.uniform(-bound, bound, (4, 5)), jnp.float32), "b": jnp.float32(rng.uniform(-bound, bound))}
        for _ in range(count)
    ]


@pytest.mark.parametrize(("bits", "modulus_bits"), [(16, 32), (8, 12), (2, 6), (24, 32)])
def test_the_sum_is_that_of_the_rounded_values(bits, modulus_bits):
    """In integers it is exact, and so off by at most n bound / (2^bits - 2); only the last division rounds to float32."""
    bound, n = 1.5, 11
    aggregator = secure_encoding(bound, max_clients=16, bits=bits, modulus_bits=modulus_bits)
    values = random_values(n, bound)
    sent = encoded(aggregator, values)
    got, _, measured = decoded(aggregator, sent)
    largest = 2 ** (bits - 1) - 1
    for name in ("w", "b"):
        assert all(one.value[name].dtype == jnp.uint32 and int(one.value[name].max()) < 2**modulus_bits for one in sent)
        assert got.value[name].dtype == jnp.float32
        integers = sum(np.round(np.asarray(v[name]) / np.float32(bound) * np.float32(largest)).astype(np.int64) for v in values)
        np.testing.assert_allclose(got.value[name], integers * (bound / largest), rtol=1e-6)
        exact = sum(np.asarray(v[name], np.float64) for v in values)
        assert np.abs(got.value[name] - exact).max() <= n * bound / (2**bits - 2) * 1.001 + 1e-6 * n * bound
    assert got.weight == n and measured["clipped_elements"] == 0


def test_masks_that_cancel_change_nothing_but_what_each_client_shows():
    """Every two clients share a random number, which one adds and the other takes away modulo 2^32 (Bonawitz et al. 2017)."""
    aggregator = secure_encoding(1.0, max_clients=6)
    plain = [one.value["w"] for one in encoded(aggregator, random_values(6, 1.0))]
    masked = list(plain)
    for i, j in itertools.combinations(range(6), 2):
        mask = jax.random.bits(jax.random.fold_in(jax.random.fold_in(KEY, i), j), (4, 5), jnp.uint32)
        masked[i], masked[j] = masked[i] + mask, masked[j] - mask
    for a, b in zip(plain, masked, strict=True):
        assert (a != b).all()
    np.testing.assert_array_equal(sum(masked[1:], masked[0]), sum(plain[1:], plain[0]))


def test_the_order_of_addition_changes_no_bit():
    sent = [one.value["w"] for one in encoded(secure_encoding(1.0, max_clients=64), random_values(64, 1.0))]
    forward, backward = sum(sent[1:], sent[0]), sum(sent[-2::-1], sent[-1])
    halves = sum(sent[1:32], sent[0]) + sum(sent[33:], sent[32])
    np.testing.assert_array_equal(forward, backward)
    np.testing.assert_array_equal(forward, halves)


@pytest.mark.parametrize(("bits", "modulus_bits", "clients"), [(16, 20, 16), (16, 32, 40), (4, 6, 4)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_extremes_come_back(bits, modulus_bits, clients, sign):
    """All clients at one end of the range: negative numbers wrap around at every addition, and m bits are just enough."""
    aggregator = secure_encoding(0.25, max_clients=clients, bits=bits, modulus_bits=modulus_bits)
    sent = encoded(aggregator, [jnp.full(3, sign * 0.25)] * clients)
    if sign < 0:
        assert sum(int(one.value[0]) for one in sent) > 2**modulus_bits, "as integers without a modulus they are far off"
    np.testing.assert_allclose(decoded(aggregator, sent)[0].value, sign * 0.25 * clients, rtol=1e-6)


def test_elements_beyond_the_bound_are_cut_off_and_counted_and_zeros_stay():
    aggregator = secure_encoding(2.0, max_clients=2)
    total, _, measured = decoded(aggregator, encoded(aggregator, [jnp.array([5.0, 0.0, -2.0, -1e30]), jnp.array([0.0, 0.0, 1.0, -3.0])]))
    np.testing.assert_allclose(total.value, [2.0, 0.0, -1.0, -4.0], atol=2 * 2.0 / (2**16 - 2))
    assert total.value[1] == 0 and measured["clipped_elements"] == 3


def test_a_round_with_too_many_clients_is_no_number():
    """Rather than a sum that has wrapped around unnoticed; a process rejects such a round."""
    aggregator = secure_encoding(1.0, max_clients=2, bits=2, modulus_bits=3)
    assert np.isfinite(decoded(aggregator, encoded(aggregator, [jnp.ones(2)] * 2))[0].value).all()
    assert np.isnan(decoded(aggregator, encoded(aggregator, [jnp.ones(2)] * 3))[0].value).all()


def test_bytes_of_integers():
    value = {"w": jnp.zeros((4, 5)), "b": jnp.zeros(())}
    assert secure_encoding(1.0, max_clients=4).bytes_up(value) == 21 * 4
    assert secure_encoding(1.0, max_clients=4, bits=8, modulus_bits=10).bytes_up(value) == 27, "210 bits"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_clients": 2**16 + 1}, "modulus_bits must hold the sum of max_clients=65537 integers of 16 bits, which takes 33, got 32"),
        ({"max_clients": 5, "bits": 8, "modulus_bits": 10}, "which takes 11, got 10. Lower bits to 7 or less"),
        ({"max_clients": 4, "bits": 25}, "bits of secure_encoding must be a whole number from 2 to 24, got 25"),
        ({"max_clients": 4, "bits": 1}, "got 1"),
        ({"max_clients": 4, "modulus_bits": 64}, "modulus_bits of secure_encoding must be a whole number from 2 to 32, got 64"),
        ({"max_clients": 0}, "max_clients of secure_encoding must be a whole number of at least 1, got 0"),
        ({"max_clients": 4, "bound": 0.0}, "bound of secure_encoding must be finite and above 0, got 0.0"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        secure_encoding(**{"bound": 1.0, **arguments})


def test_the_sum_of_as_many_as_fit_is_allowed():
    assert secure_encoding(1.0, max_clients=2**16).name == "secure_encoding"
    assert secure_encoding(1.0, max_clients=4, bits=8, modulus_bits=10).name == "secure_encoding"


def process_of(aggregator, executor="local"):
    return fl.LearningProcess(
        fl.algorithms.fedavg(line_model(), fl.optimizers.sgd(0.1)), aggregator=aggregator, batching=padded, executor=executor
    )


@pytest.mark.parametrize("executor", ["local", "debug"])
def test_rounds_are_nearly_those_of_floats(executor):
    """Over ten clients, and so more than one partial sum. Their sum is off by n bound / (2^24 - 2), and divided by all 36 examples."""
    clients = line_clients([3, 0, 9, 4, 2, 5, 1, 4, 6, 2])
    after = []
    for stages in ([weighted_mean()], [weighted_mean(), secure_encoding(40.0, max_clients=64, bits=24)]):
        process = process_of(chain(*stages), executor)
        state = process.initialize()
        for _ in range(2):
            state, metrics = process.next(state, clients)
        after.append(process.get_weights(state))
        assert metrics["accepted"] == 1
    assert_close(after[0], after[1], rtol=1e-5, atol=1e-5)
    assert metrics["aggregator"]["secure_encoding"]["clipped_elements"] == 0
    assert metrics["bytes_up"] == 10 * 4 * 4


def test_the_bound_can_be_changed_between_rounds():
    process = process_of(chain(fixed_mean(3), secure_encoding(40.0, max_clients=8)))
    state = process.initialize()
    (name,) = [name for name in process.get_hparams(state) if name.endswith("bound")]
    clients = line_clients([3, 4, 5])
    assert process.next(state, clients)[1]["aggregator"]["secure_encoding"]["clipped_elements"] == 0
    tight, metrics = process.next(process.set_hparams(state, {name: 1e-6}), clients)
    assert metrics["aggregator"]["secure_encoding"]["clipped_elements"] == 12
    assert_close(process.get_weights(tight), process.get_weights(state), atol=2e-6)


def test_too_many_clients_reject_a_round():
    process = process_of(chain(fixed_mean(3), secure_encoding(40.0, max_clients=2)))
    state = process.initialize()
    after, metrics = process.next(state, line_clients([3, 4, 5]))
    assert metrics["accepted"] == 0
    assert_close(process.get_weights(after), process.get_weights(state), rtol=0, atol=0)
