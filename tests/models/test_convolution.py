"""Fused convolutions and pooling have Keras' numbers, forwards and backwards, alone and in a model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedloom as fl
from fedloom.core import Batch
from fedloom.models import _convolution
from fedloom.models._convolution import FusedConv2D, FusedMaxPooling2D

import keras  # isort: skip  after fedloom, so that it runs on JAX

L = keras.layers


def random(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.fixture
def fused(monkeypatch):
    """The names of the kernels that are called."""
    calls = []
    for name in ("conv2d", "max_pool2d"):
        original = getattr(_convolution, name)
        monkeypatch.setattr(_convolution, name, lambda *args, name=name, original=original: calls.append(name) or original(*args))
    return calls


def convolutions(channels=3, **config):
    """Keras' Conv2D and the fused one with the same random weights, biases too."""
    pair = L.Conv2D(5, **config), FusedConv2D(5, **config)
    for layer in pair:
        layer.build((None, None, None, channels))
    values = [random(*w.shape) / np.sqrt(w.shape[0]) for w in pair[0].weights]
    for layer in pair:
        layer.set_weights(values)
    return pair


def outputs_and_gradients(layer, x):
    def call(x, weights):
        out, _ = layer.stateless_call(weights, [], x)
        return (jnp.sin(out) * jnp.cos(jnp.arange(out.size)).reshape(out.shape)).sum(), out

    return jax.jit(jax.value_and_grad(call, argnums=(0, 1), has_aux=True))(x, [w.value for w in layer.trainable_variables])


def assert_same(pair, x):
    want, got = (outputs_and_gradients(layer, x) for layer in pair)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5 * max(1, np.abs(w).max())), got, want)
    assert all(np.abs(gradient).max() > 0 for gradient in jax.tree.leaves(got[1])), "or nothing was compared"


@settings(max_examples=3, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.sampled_from(["valid", "same"]),
    st.sampled_from(["relu", None, "tanh"]),
    st.booleans(),
)
def test_outputs_and_gradients_are_those_of_keras(kernel_size, strides, padding, activation, use_bias):
    config = {"kernel_size": kernel_size, "strides": strides, "padding": padding, "activation": activation, "use_bias": use_bias}
    assert_same(convolutions(**config), random(2, 7, 6, 3))


@pytest.mark.parametrize(
    "config",
    [{"dilation_rate": 2}, {"groups": 3, "filters": 6}, {"dtype": "bfloat16"}],
    ids=str,
)
def test_what_is_not_fused_runs_as_in_keras(config, fused):
    filters = config.pop("filters", 5)
    pair = L.Conv2D(filters, 3, **config), FusedConv2D(filters, 3, **config)
    x = random(2, 7, 6, 3)
    for layer in pair:
        layer.build(x.shape)
    pair[1].set_weights(pair[0].get_weights())
    np.testing.assert_array_equal(*(np.asarray(layer(x), np.float32) for layer in pair))
    assert not fused


@pytest.mark.parametrize(
    ("config", "is_fused"),
    [
        ({"pool_size": 2}, True),
        ({"pool_size": (2, 3)}, True),
        ({"pool_size": 2, "strides": 1}, False),
        ({"pool_size": 3, "padding": "same"}, False),
    ],
    ids=str,
)
def test_pooling_is_that_of_keras(config, is_fused, fused):
    """Of whole numbers, so that some windows have several largest ones."""
    assert_same((L.MaxPooling2D(**config), FusedMaxPooling2D(**config)), np.round(random(2, 7, 6, 3)))
    assert bool(fused) == is_fused


def test_the_fused_layer_has_the_weights_and_configuration_of_keras():
    pair = convolutions(kernel_size=3, strides=2)
    assert [(w.name, w.shape) for w in pair[0].weights] == [(w.name, w.shape) for w in pair[1].weights]
    assert pair[1].get_config() == {**pair[0].get_config(), "name": pair[1].name}


# Models


def layers(activation="relu"):
    return [
        L.Conv2D(4, 3, activation=activation, kernel_regularizer="l2"),
        L.BatchNormalization(),
        L.MaxPooling2D(),
        L.Dropout(0.5),
        L.Flatten(),
        L.Dense(3),
    ]


def image_model(*, functional=False, extra=(), activation="relu"):
    inputs, parts = keras.Input((8, 8, 1)), [*extra, *layers(activation)]
    out = inputs
    for part in parts if functional else []:
        out = part(out)
    model = keras.Model(inputs, out) if functional else keras.Sequential([inputs, *parts])
    model.set_weights([np.abs(random(*w.shape)) for w in model.weights])
    return model


def from_keras(model):
    return fl.models.from_keras(model, keras.losses.SparseCategoricalCrossentropy(from_logits=True))


BATCH = Batch(random(4, 8, 8, 1), np.array([0, 1, 2, 1]), np.ones(4, np.float32), np.ones(4, np.float32))


def train_step(model, weights):
    return jax.jit(jax.value_and_grad(model.loss, has_aux=True))(*weights, (), BATCH, jax.random.key(0))


@pytest.mark.parametrize("functional", [False, True])
def test_a_model_trains_as_without_fused_layers(functional, fused, monkeypatch):
    """Loss, metrics, gradients, statistics and dropout."""
    model = image_model(functional=functional)
    ours = from_keras(model)
    got = train_step(ours, ours.weights_from(model))
    assert set(fused) == {"conv2d", "max_pool2d"}
    monkeypatch.setattr("fedloom.models._clone.FUSED", {})
    plain = from_keras(model)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5), got, train_step(plain, plain.weights_from(model)))


class Doubled(keras.layers.Layer):
    """A layer of the user's own."""

    def call(self, x):
        return 2 * x


def test_layers_that_might_not_come_back_from_their_configuration_leave_the_model_as_it_is(fused):
    normalization = L.Normalization(axis=None, mean=None)
    normalization.adapt(3 + 2 * random(50, 8, 8, 1))
    for model in (
        image_model(extra=[Doubled()]),
        image_model(activation=lambda x: jnp.maximum(x, 0.1 * x)),
        keras.Sequential([keras.Input((8, 8, 1)), normalization, *layers()]),
    ):
        ours = from_keras(model)
        weights = ours.weights_from(model)
        got, want = ours.evaluate(weights, (), BATCH)[0]["loss"].value(), model(BATCH.x)
        want = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(BATCH.y, want)
        assert got == pytest.approx(float(want), rel=1e-5)
    assert not fused
