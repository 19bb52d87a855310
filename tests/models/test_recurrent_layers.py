"""Fused recurrent layers have the numbers of Keras' own, forwards and backwards, in every configuration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.models._clone import rebuild
from fedloom.models._recurrent import FusedGRU, FusedLSTM

import keras  # isort: skip  after fedloom, so that it runs on JAX

KINDS = {"GRU": (keras.layers.GRU, FusedGRU, {}), "LSTM": (keras.layers.LSTM, FusedLSTM, {})}
KINDS["GRU, reset before"] = (*KINDS["GRU"][:2], {"reset_after": False})

every_kind = pytest.mark.parametrize("kind", KINDS)

# Padding before, between and after; a row without any, and one of nothing else.
MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)


@pytest.fixture(autouse=True)
def seeded():
    seed(0)


def seed(value):
    global rng
    rng = np.random.default_rng(value)


def random(*shape):
    return rng.normal(size=shape).astype(np.float32)


def layers(kind, units, features, rows=2, **config):
    """Keras' layer and the fused one with the same random weights, biases too."""
    plain, fused, more = KINDS[kind]
    pair = plain(units, **more | config), fused(units, **more | config)
    for layer in pair:
        layer.build((rows if layer.stateful else None, None, features))
    values = [0.7 * random(*w.shape) for w in pair[0].weights]
    for layer in pair:
        layer.set_weights(values)
    return pair


def copy_weights(source, target):
    for new, old in zip(target.trainable_weights, source.trainable_weights, strict=True):
        new.assign(old)


def states(kind, rows, units):
    return [random(rows, units) for _ in range(2 if kind == "LSTM" else 1)]


def frozen_of(layer):
    return [variable.value for variable in layer.non_trainable_variables]


def outputs_and_gradients(layer, x, initial=None, mask=None):
    """Outputs, and the gradients of a nonlinear function of them w.r.t. inputs, every weight and the initial state."""
    given, frozen = [x, [w.value for w in layer.trainable_variables], initial], frozen_of(layer)

    def call(x, weights, initial):
        out, _ = layer.stateless_call(weights, frozen, x, mask=mask, initial_state=initial)
        return sum((jnp.sin(part + i) ** 2).sum() for i, part in enumerate(jax.tree.leaves(out))), out

    return jax.jit(jax.grad(call, argnums=(0, 1) if initial is None else (0, 1, 2), has_aux=True))(*given)


def assert_same(pair, *args, **kwargs):
    want, got = (outputs_and_gradients(layer, *args, **kwargs) for layer in pair)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5), got, want)
    assert all(np.abs(gradient).max() > 0 for gradient in jax.tree.leaves(got[0])), "or nothing was compared"


flags = st.fixed_dictionaries({name: st.booleans() for name in ("return_sequences", "return_state", "go_backwards", "use_bias")})


@every_kind
@settings(max_examples=2, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(1, 20), flags, st.integers(0, 99))
def test_outputs_and_gradients_are_those_of_keras(kind, rows, time, features, units, config, seed_):
    seed(seed_)
    assert_same(layers(kind, units, features, **config), random(rows, time, features), states(kind, rows, units))


@every_kind
@settings(max_examples=2, deadline=None)
@given(flags, st.booleans(), st.booleans(), st.integers(0, 99))
def test_masked_steps_are_those_of_keras(kind, config, zero_output, padded, seed_):
    """A masked step keeps the state, and repeats the output before it or gives zeros; before the first other step, the initial state."""
    seed(seed_)
    mask = MASK if padded else rng.random((5, 7)) < 0.6
    pair = layers(kind, 4, 3, zero_output_for_mask=zero_output, **config)
    assert_same(pair, random(*mask.shape, 3), states(kind, 5, 4), mask=mask)


@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "masked"])
@pytest.mark.parametrize("config", [{}, {"return_state": True}, {"go_backwards": True}, {"use_bias": False}, {"stateful": True}], ids=str)
@every_kind
def test_standard_configurations_are_fused(kind, config, mask, fused):
    _, layer = layers(kind, 4, 3, rows=5, **config)
    weights = [weight.value for weight in layer.trainable_variables]
    jax.eval_shape(lambda x: layer.stateless_call(weights, frozen_of(layer), x, mask=mask), random(5, 5, 3))
    assert len(fused) == 1


@pytest.mark.parametrize("config", [{"activation": "relu"}, {"recurrent_activation": "hard_sigmoid"}, {"unroll": True}], ids=str)
@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_what_is_not_fused_runs_as_in_keras(kind, config, fused):
    assert_same(layers(kind, 4, 3, return_sequences=True, **config), random(2, 5, 3), states(kind, 2, 4))
    assert not fused


@every_kind
def test_masked_inputs_can_be_anything(kind):
    """NaN at masked positions is in no output and no gradient: both are those with zeros there."""
    _, layer = layers(kind, 4, 3, return_sequences=True)
    x = random(5, 5, 3)
    zeros, nan = (np.where(MASK[..., None], x, filling).astype(np.float32) for filling in (0, np.nan))
    jax.tree.map(
        np.testing.assert_array_equal,
        outputs_and_gradients(layer, nan, mask=jnp.asarray(MASK)),
        outputs_and_gradients(layer, zeros, mask=jnp.asarray(MASK)),
    )


@every_kind
def test_masked_steps_are_held_exactly(kind):
    _, layer = layers(kind, 20, 3, return_sequences=True)
    initial = states(kind, 5, 20)
    out = np.asarray(layer(1e3 * random(5, 5, 3), initial_state=initial, mask=jnp.asarray(MASK)))
    before = np.concatenate([initial[0][:, None], out[:, :-1]], axis=1)
    np.testing.assert_array_equal(out[~MASK], before[~MASK])


def test_a_mask_may_have_a_value_for_each_feature():
    """A step is masked where all of them are 0, as in Keras."""
    mask = np.repeat(MASK[..., None], 3, axis=-1)
    mask[0, :, 1] = False
    assert_same(layers("GRU", 4, 3, return_sequences=True), random(5, 5, 3), mask=mask)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_a_long_sequence_stays_close(kind):
    """Rounding does not pile up over 300 steps."""
    pair = layers(kind, 8, 3, return_sequences=True)
    x = random(2, 300, 3)
    np.testing.assert_allclose(pair[1](x), pair[0](x), atol=1e-5)


@every_kind
def test_the_fused_layer_has_the_weights_of_keras(kind):
    pair = layers(kind, 4, 3)
    assert [(w.name, w.shape) for w in pair[0].weights] == [(w.name, w.shape) for w in pair[1].weights]
    assert pair[1].get_config() == {**pair[0].get_config(), "name": pair[1].name}


@every_kind
def test_a_stateful_layer_goes_on_where_it_stopped(kind):
    """Two halves of a sequence give the whole; after a reset, the first half again."""
    x = random(2, 6, 3)
    _, layer = layers(kind, 4, 3, return_sequences=True, stateful=True)
    _, stateless = layers(kind, 4, 3, return_sequences=True)
    copy_weights(layer, stateless)
    halves = [layer(x[:, :2]), layer(x[:, 2:])]
    np.testing.assert_allclose(np.concatenate(halves, axis=1), stateless(x), atol=1e-6)
    layer.reset_state()
    np.testing.assert_allclose(layer(x[:, :2]), halves[0], atol=1e-6)


# Whole models


def bidirectional_model(kind, rows=None, **config):
    plain, _, more = KINDS[kind]
    config = more | config
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(rows, 5), dtype="int32"),
            keras.layers.Embedding(7, 3, mask_zero=True),
            keras.layers.Bidirectional(plain(4, return_sequences=True, **config), merge_mode="sum"),
            keras.layers.Bidirectional(plain(4, **config), backward_layer=plain(4, go_backwards=True, use_bias=False, **config)),
            keras.layers.Dense(2),
        ]
    )
    for weight in model.trainable_weights:
        weight.assign(random(*weight.shape))
    return model


def rebuilt(model, batch_size=None, stateful=None):
    copy = rebuild(model, batch_size, stateful=stateful, fused=True)
    copy_weights(model, copy)
    return copy


@every_kind
def test_both_directions_of_a_bidirectional_layer_are_fused(kind, fused):
    """Outputs and gradients of a whole model, under a mask that comes from its embedding."""
    model = bidirectional_model(kind)
    x = rng.integers(1, 7, MASK.shape) * MASK

    def outputs_and_gradients(model):
        def loss(weights):
            out, _ = model.stateless_call(weights, frozen_of(model), x)
            return (out**2).sum(), out

        return jax.jit(jax.grad(loss, has_aux=True))([w.value for w in model.trainable_variables])

    want = outputs_and_gradients(model)
    assert not fused
    got = outputs_and_gradients(rebuilt(model))
    assert len(fused) == 4
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5), got, want)


def test_a_rebuilt_bidirectional_layer_keeps_or_loses_its_state():
    model = bidirectional_model("LSTM", rows=2, stateful=True)
    x = rng.integers(1, 7, (2, 5))
    keeping, forgetting = rebuilt(model, 2), rebuilt(model, stateful=False)
    first, second = np.asarray(model(x)), np.asarray(model(x))
    assert not np.allclose(second, first, atol=1e-4)
    for copy, want in ((keeping, (first, second)), (forgetting, (first, first))):
        for expected in want:
            np.testing.assert_allclose(copy(x), expected, atol=1e-5)
