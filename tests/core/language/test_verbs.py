"""The federated language while a function is traced: what fits, and what is said when it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedloom as fl
from fedloom.core.language import trace

NUMBER = jax.ShapeDtypeStruct((), jnp.float32)
PAIR = jax.ShapeDtypeStruct((2,), jnp.float32)


def traced(function, **arguments):
    """The program of a function called `it`; arguments are (place, shapes)."""
    return trace(function, "it", arguments)


def at_clients(like=NUMBER):
    return ("clients", like)


def at_server(like=NUMBER):
    return ("server", like)


def test_shapes_are_known_before_anything_runs():
    def never_run(x):
        raise AssertionError("computed")  # an abstract value gets here, no number ever does

    program = traced(lambda x: fl.core.mean(fl.core.map(lambda x: {"twice": 2 * x, "n": jnp.int32(1)}, x)), x=at_clients(PAIR))
    (mean,) = program.outputs
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in mean.like.items()} == {"twice": ((2,), jnp.float32), "n": ((), jnp.float32)}
    with pytest.raises(ValueError, match=r"fl.core.map in 'it': never_run failed on values at the clients with the shapes float32\[2\]: c"):
        traced(lambda x: fl.core.map(never_run, x), x=at_clients(PAIR))


def test_a_sum_of_booleans_or_narrow_integers_has_room():
    for dtype, expected in ((jnp.bool_, jnp.int32), (jnp.int8, jnp.int32), (jnp.uint8, jnp.uint32), (jnp.uint32, jnp.uint32)):
        program = traced(fl.core.sum, values=at_clients(jax.ShapeDtypeStruct((3,), dtype)))
        assert program.outputs[0].like.dtype == expected


def test_aggregations_that_do_not_wait_for_one_another_share_a_pass():
    def moments(x):
        mean = fl.core.mean(x)
        deviation = x - fl.core.broadcast(mean)
        return mean, fl.core.max(x), fl.core.mean(deviation * deviation), fl.core.sum(deviation)

    program = traced(moments, x=at_clients())
    assert [[node.verb for node in one.nodes] for one in program.passes] == [["mean", "max"], ["mean", "sum"]]
    assert [len(one.message) for one in program.passes] == [0, 1]


def test_what_no_result_needs_is_not_computed():
    def function(x, y):
        fl.core.sum(fl.core.map(jnp.sin, x))
        return fl.core.sum(y)

    assert [len(one.nodes) for one in traced(function, x=at_clients(), y=at_clients()).passes] == [1]


C, S, CC, IDS = at_clients(), at_server(), at_clients(PAIR), at_clients(jax.ShapeDtypeStruct((), jnp.int32))
KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("function", "places", "error", "message"),
    [
        (lambda x: fl.core.mean(x), [S], TypeError, r"mean in 'it': values must be .* clients, got one at the server, float32\[\]. Send"),
        (lambda x: fl.core.broadcast(x), [C], TypeError, r"must be a value at the server, got one at the clients, float32\[\]. Bring"),
        (lambda x: fl.core.broadcast(x), [S], TypeError, "has no clients to send to"),
        (lambda x: fl.core.broadcast("text"), [C], TypeError, "value must be a value at the server, or a tree of arrays, got 'text'"),
        (lambda x: fl.core.sum([1.0]), [C], TypeError, r"values must be a value at the clients, got \[1.0\] of type list"),
        (lambda x: fl.core.sum(fl.core.map(lambda x: (), x)), [C], ValueError, "values must hold at least one array, got none"),
        (lambda x, y: fl.core.map(jnp.add, x, y), [C, S], TypeError, "at one place, got argument at the clients, argument at the server. "),
        (lambda x, y: x + y, [C, S], TypeError, "add got one value at the clients and one at the server"),
        (lambda x: fl.core.map(jnp.add, x, 1.0), [C], TypeError, "value 2 must be placed at the clients or at the server, got 1.0 of type"),
        (lambda x: fl.core.map(x), [C], TypeError, "function must be callable, got Clients"),
        (lambda x: fl.core.map(jnp.sin), [C], TypeError, "needs at least one value, got none"),
        (lambda x, y: fl.core.map(jnp.dot, x, y[:1]), [CC, CC], TypeError, r"dot failed on values .* shapes float32\[2\], float32\[1\]: "),
        (lambda x: jnp.sin(x), [C], TypeError, "In 'it', a value with a place was handed to a function of JAX"),
        (lambda x: np.sin(x), [C], TypeError, r"a value at the clients \(float32\[\]\) was handed to a function of NumPy"),
        (lambda x: 1 if x else 2, [S], TypeError, "a value at the server .* was used as a condition"),
        (lambda x: float(x), [S], TypeError, "was turned into a number"),
        (lambda x: list(x), [CC], TypeError, "was gone through"),
        (lambda x: x.loss, [C], AttributeError, r"A value at the clients has no attribute 'loss'; it is float32\[\]"),
        (lambda x: x * 2, [at_clients({"a": NUMBER})], TypeError, r"mul got a tree of arrays \(a: float32\[\]\), and takes one array"),
        (lambda x: fl.core.mean(x, weight=x), [CC], ValueError, r"weight must be one number at each client, .* float32\[2\]"),
        (lambda x: fl.core.mean(x, weight=2.0), [C], TypeError, "weight must be a value at the clients, got 2.0 of type float"),
        (lambda x: fl.core.collect(x, 0, KEY), [C], ValueError, "at_most must be a whole number of at least 1, got 0"),
        (lambda x: fl.core.collect(x, 2, 7), [C], TypeError, r"key must be one random key at the server.*got int32\[\]"),
        (lambda x: fl.core.client_keys(x), [S], TypeError, r"key must be one random key at the server.*got float32\[\]"),
        (lambda x: fl.core.client_keys(KEY), [S], TypeError, "no argument is placed at the clients"),
        (lambda x: fl.core.select(jnp.arange(3.0), x), [C], TypeError, "indices must be an array of whole numbers, got float32"),
        (lambda x: fl.core.select(1.0, x), [IDS], ValueError, "needs a first axis to choose from"),
    ],
)  # fmt: skip
def test_errors_say_what_was_where(function, places, error, message):
    with pytest.raises(error, match=message):
        traced(function, **dict(zip("xy", places, strict=False)))


def test_verbs_belong_into_federated_functions():
    with pytest.raises(TypeError, match=r"fl.core.sum was called outside of a federated function. Call it in a function decorated"):
        fl.core.sum([1.0])


def test_a_value_of_another_call_is_refused():
    kept = []
    traced(lambda x: kept.append(x), x=at_clients())
    with pytest.raises(TypeError, match="'it' got a value in sum that belongs to another call, of 'it'"):
        traced(lambda x: fl.core.sum(kept[0]), x=at_clients())
    with pytest.raises(TypeError, match="got a value in a result that belongs"):
        traced(lambda x: kept[0], x=at_clients())


def test_parts_of_a_value_can_be_taken():
    def function(x):
        first, second = fl.core.zip(x, x["a"])
        sample = fl.core.collect(first["b"], 2, jax.random.key(0))
        return fl.core.sum(second), sample.values, -(first["b"] ** 2) / 3 - 1

    like = {"a": NUMBER, "b": PAIR}
    assert [node.like.shape for node in traced(function, x=at_clients(like)).outputs] == [(), (2, 2), (2,)]
    assert "float32[2] at the clients, by map in 'it'" in repr(traced(lambda x: x["b"], x=at_clients(like)).result)
