"""Federated functions on executors: the same as NumPy on pooled values, whoever runs them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedloom as fl

RNG = np.random.default_rng(0)
VALUES = {f"client {i}": RNG.normal(size=3).astype(np.float32) for i in range(20)}
POOLED = np.stack(list(VALUES.values()))


def moments(values: fl.core.Clients, key):
    """Two passes, every aggregation, and something at the clients."""
    mean = fl.core.mean(values)
    deviation = values - fl.core.broadcast(mean)
    return {
        "mean": mean,
        "sum": fl.core.sum(values),
        "min": fl.core.min(values),
        "max": fl.core.max(values),
        "variance": fl.core.mean(deviation * deviation),
        "deviation": deviation,
        "sample": fl.core.collect(values, 4, key),
        "noise": fl.core.map(lambda key: jax.random.normal(key, (2,)), fl.core.client_keys(key)),
        "constant": "as it is",
    }


@pytest.fixture(scope="module")
def found():
    return {name: fl.federated(moments, executor=name)(VALUES, jax.random.key(0)) for name in ("local", "debug")}


def test_pooled_values_say_the_same(found):
    result = found["local"]
    expected = {"mean": POOLED.mean(0), "sum": POOLED.sum(0), "min": POOLED.min(0), "max": POOLED.max(0), "variance": POOLED.var(0)}
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, rtol=1e-5, atol=1e-6)
    for client, deviation in result["deviation"].items():
        np.testing.assert_allclose(deviation, VALUES[client] - POOLED.mean(0), rtol=1e-5, atol=1e-6)
    assert result["constant"] == "as it is"


def test_executors_and_the_function_as_one_of_jax_agree(found):
    as_jax = jax.jit(lambda key: {k: v for k, v in fl.federated(moments)(VALUES, key).items() if k != "constant"})(jax.random.key(0))
    for name, expected in as_jax.items():
        for result in (found["local"][name], found["debug"][name]):
            result = np.stack(list(result.values())) if isinstance(result, dict) else result
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), result, jax.device_get(expected))


def test_noise_is_each_clients_own(found):
    assert len({tuple(noise) for noise in found["local"]["noise"].values()}) == len(VALUES)


def test_a_sample_has_different_clients_in_their_order(found):
    values, present = found["local"]["sample"]
    assert present.all()
    places = [int(np.flatnonzero((value == POOLED).all(1))[0]) for value in values]
    assert places == sorted(set(places))


def test_every_client_is_as_likely_to_be_collected():
    """1,000 draws of 2 out of 8: each is in 250 on average, standard deviation sqrt(1000 * 1/4 * 3/4) = 13.7; within 4.5 of these."""
    draw = jax.jit(jax.vmap(lambda key: fl.federated(lambda x, key: fl.core.collect(x, 2, key), clients="x")(list(range(8)), key).values))
    counts = np.bincount(np.asarray(draw(jax.random.split(jax.random.key(1), 1000))).ravel(), minlength=8)
    assert counts.sum() == 2000 and np.abs(counts - 250).max() < 4.5 * 13.7


def test_a_sample_of_more_than_there_are_says_who_is_there():
    values, present = fl.federated(lambda x, key: fl.core.collect(x, 5, key), clients="x")([3, 1, 2], jax.random.key(0))
    assert values.tolist() == [3, 1, 2, 0, 0] and present.tolist() == [True, True, True, False, False]


def test_integers_add_up_modulo_two_to_the_32():
    total = fl.federated(fl.core.sum, clients="values")([np.uint32(2**32 - 1), np.uint32(3)])
    assert total == 2 and total.dtype == np.uint32


def test_weights_weigh():
    mean = fl.federated(lambda x, n: fl.core.mean(x, weight=n), clients=("x", "n"))
    assert mean({"a": 1.0, "b": 4.0}, {"b": 2, "a": 1}) == 3
    assert np.isnan(mean([1.0], [0.0]))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(-1000, 1000), min_size=1, max_size=2), min_size=1, max_size=30))
def test_clients_of_unequal_size(values):
    """Shapes are the client's own; what it contributes is not."""
    arrays = [np.asarray(own, np.float32) for own in values]
    total, count = UNEQUAL(arrays)
    assert (total, count) == (sum(map(sum, values)), sum(map(len, values)))


UNEQUAL = fl.federated(
    lambda x: (fl.core.sum(fl.core.map(jnp.sum, x)), fl.core.sum(fl.core.map(lambda own: jnp.int32(own.shape[0]), x))), clients="x"
)


def test_rows_that_clients_ask_for():
    table = {"embedding": np.arange(8.0).reshape(4, 2)}
    select = fl.federated(fl.core.select, clients="indices")
    got = select(table, {"a": [2, 0], "b": [3, 1]})
    np.testing.assert_array_equal(got["a"]["embedding"], [[4, 5], [0, 1]])
    np.testing.assert_array_equal(got["b"]["embedding"], [[6, 7], [2, 3]])
    with pytest.raises(fl.ClientFailure, match="Client 'b' .* gives NaN"):
        select(table, {"a": [2, 0], "b": [3, 4]})


def test_a_dataset_is_read_once_a_pass_and_client_by_client():
    reads = []

    def read(client):
        reads.append(client)
        return {"x": np.full(3, len(client), np.float32)}

    data = fl.data.FederatedDataset({client: 3 for client in ("a", "bb", "ccc")}, read)
    spread = fl.federated(lambda own: fl.core.mean((own["x"] - fl.core.broadcast(fl.core.mean(own["x"]))) ** 2), clients="own")
    np.testing.assert_allclose(spread(data), [2 / 3] * 3, rtol=1e-6)
    assert reads == ["a", "bb", "ccc", "bb", "ccc"]  # the first is read for its shapes, and kept


def test_functions_within_functions():
    @fl.federated
    def variance(values: fl.core.Clients, about=0.0):
        deviation = values - fl.core.broadcast(about)
        return fl.core.mean(deviation * deviation)

    @fl.federated
    def both(values: fl.core.Clients):
        return variance(values), variance(values, about=fl.core.mean(values))

    np.testing.assert_allclose(both([1.0, 2.0, 3.0]), [14 / 3, 2 / 3], rtol=1e-6)
    with pytest.raises(TypeError, match="'variance' in 'wrong': argument 'values' must be a value at the clients, got one at the server"):
        fl.federated(_named("wrong", lambda x: variance(fl.core.sum(x))), clients="x")([1.0])


def _named(name, function):
    function.__name__ = name
    return function


def test_shapes_that_were_seen_before_are_not_traced_again():
    traced = []

    @fl.federated
    def total(x: fl.core.Clients):
        traced.append(1)
        return fl.core.sum(x)

    assert [total([1.0, 2.0]), total({"a": 4.0}), total([[1.0]]).tolist()] == [3, 4, [1.0]]
    assert len(traced) == 2


def test_a_derivative_goes_through_broadcast_and_mean():
    """d/da of mean_i (a x_i - y_i)^2 is 2 mean_i x_i (a x_i - y_i)."""
    error = fl.federated(lambda a, x, y: fl.core.mean((fl.core.broadcast(a) * x - y) ** 2), clients=("x", "y"))
    x, y = [1.0, 2.0, 4.0], [2.0, 2.0, 1.0]
    np.testing.assert_allclose(jax.grad(error)(3.0, x, y), 2 * np.mean([a * (3 * a - b) for a, b in zip(x, y, strict=True)]), rtol=1e-6)
    of_data = jax.grad(error, argnums=1)(3.0, x, y)
    np.testing.assert_allclose(of_data, [2 / 3 * 3 * (3 * a - b) for a, b in zip(x, y, strict=True)], rtol=1e-6)


BAD = fl.ClientFailure
BROKEN = fl.data.FederatedDataset({"a": 1}, lambda name: 1 / 0)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([], ValueError, "'total' was called without clients: x must hold at least one"),
        (
            3.0,
            TypeError,
            "argument 'x' is at the clients, so it must be a mapping from client id to a value, or a list of .* got float",
        ),
        (["a"], BAD, "Client '0' failed in 'total' at stage 'data': TypeError: values must be numbers, got 'a' of dtype"),
        ([1, 2.5], BAD, "Client '1' failed in 'total' at stage 'data': .* has float32 where the first client has int32"),
        ([1.0, {"a": 1.0}], BAD, "Client '1' .* argument 'x' is built as .*'a'.*, where the first client's is built as"),
        ({"a": 1.0, "b": (1.0,)}, BAD, "Client 'b' .* 'x' is built as"),
        (
            {"a": np.ones(1), "b": np.ones(2)},
            BAD,
            r"Client 'b' .* to fl.core.sum has the shapes float32\[2\], where the first .*32\[1\]",
        ),
        ({"a": 1.0, "b": np.nan, "c": np.inf}, BAD, "Client 'b' .* it gives NaN or infinity to fl.core.sum, as 2 of 3 clients do"),
        (BROKEN, BAD, "Client 'a' failed in 'total' at stage 'data': ZeroDivision"),
    ],
)
@pytest.mark.parametrize("executor", ["local", "debug"])
def test_bad_clients_are_named(x, error, message, executor):
    total = fl.federated(_named("total", lambda x: fl.core.sum(x)), clients="x", executor=executor)
    with pytest.raises(error, match=message):
        total(x)


def test_bad_arguments():
    mean = fl.federated(_named("mean", lambda x, y: fl.core.mean(x)), clients=("x", "y"))
    with pytest.raises(ValueError, match=r"arguments 'x' and 'y' .* same clients, got 2 clients \('a', 'b'\) and 1 clients by place"):
        mean({"a": 1.0, "b": 2.0}, [1.0])
    with pytest.raises(ValueError, match=r"clients must name arguments of 'mean', which has x, y; got z"):
        fl.federated(mean.function, clients="z")
    with pytest.raises(TypeError, match=r"argument 'x' is at the server, and got a FederatedDataset. Place it at the clients: `x: fl.core"):
        fl.federated(lambda x: x)(fl.data.FederatedDataset({"a": 1}, lambda name: {}))
    with pytest.raises(TypeError, match="argument 'x' must be a tree of arrays, got 'text' of type str"):
        fl.federated(lambda x: x)("text")
    with pytest.raises(TypeError, match=r"takes \*args, and a federated function needs a name"):
        fl.federated(lambda *args: args)
    with pytest.raises(TypeError, match="takes a function, got int"):
        fl.federated(3)
    with pytest.raises(ValueError, match="needs the same shapes at every client: 'b' has x: float32"):
        jax.grad(fl.federated(lambda a, x: fl.core.mean(fl.core.map(jnp.sum, x)) * a, clients="x"))(1.0, {"a": np.ones(1), "b": np.ones(2)})
    with pytest.raises(ValueError, match="executor must be one of"):
        fl.federated(lambda: 1, executor="cluster")
