"""Fused Dense and Embedding layers, and what compute="bfloat16" does to a whole model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedloom as fl
from fedloom.core import Batch
from fedloom.models import _products, _recurrent

import keras  # isort: skip  after fedloom, so that it runs on JAX

L = keras.layers
LARGE, SMALL = 256, 16  # units of a Dense layer on 128 features that is left to our products, and of one that is not


def random(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def batch_of(x, y):
    return Batch(x, y, np.ones(len(x), np.float32), np.ones(len(x), bool))


def mlp(units=LARGE, **config):
    return keras.Sequential([keras.Input((128,)), L.Dense(units, **{"activation": "relu"} | config), L.Dense(3)])


def text_model(recurrent):
    return keras.Sequential([keras.Input((None,), dtype="int32"), L.Embedding(11, 8), recurrent, L.Dense(11)])


def loss_and_gradients(model, batch):
    weights = model.weights_from(model.init(jax.random.key(3)))
    loss = lambda trainable: model.loss(trainable, weights.non_trainable, model.init_carry(), batch, jax.random.key(0))[0]  # noqa: E731
    return jax.jit(jax.value_and_grad(loss))(weights.trainable)


def without_swaps(monkeypatch, build):
    """What `build` makes with layers that are Keras' own."""
    with monkeypatch.context() as plain:
        plain.setattr("fedloom.models._clone.FUSED", {})
        plain.setattr("fedloom.models._clone._convolution.FUSED", {})
        plain.setattr(_products, "_LARGE", 10**9)
        return build()


@pytest.fixture
def multiplied(monkeypatch):
    """The shapes of the products that models leave to us."""
    shapes = []
    original = _products.matmul
    record = lambda a, b: shapes.append((a.shape, b.shape)) or original(a, b)  # noqa: E731
    monkeypatch.setattr(_products, "matmul", record)
    monkeypatch.setattr(_recurrent, "matmul", record)
    return shapes


@pytest.mark.parametrize("config", [{}, {"use_bias": False}, {"activation": "gelu"}])
def test_a_large_dense_layer_has_the_numbers_of_keras(config, monkeypatch, multiplied):
    keras_model = mlp(**config)
    batch = batch_of(random(7, 128), random(7, 3))
    build = lambda: loss_and_gradients(fl.models.from_keras(keras_model, "mse"), batch)  # noqa: E731
    want = without_swaps(monkeypatch, build)
    assert not multiplied
    got = build()
    assert multiplied == [((7, 128), (128, LARGE))]
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5), got, want)


def test_small_dense_layers_are_left_to_be_vectorized(multiplied):
    loss_and_gradients(fl.models.from_keras(mlp(SMALL), "mse"), batch_of(random(7, 128), random(7, 3)))
    assert not multiplied


@pytest.mark.parametrize("units", [SMALL, LARGE])
def test_bfloat16_rounds_what_dense_layers_multiply(units):
    keras_model = mlp(units)
    model = fl.models.from_keras(keras_model, "mse", compute="bfloat16")
    batch = batch_of(random(7, 128), random(7, 3))
    (w1, b1, w2, b2), rounded = (
        (np.asarray(w) for w in keras_model.get_weights()),
        lambda x: np.float64(jnp.asarray(x).astype(jnp.bfloat16)),
    )
    hidden = np.maximum(rounded(batch.x) @ rounded(w1) + b1, 0).astype(np.float32)
    want = np.mean((rounded(hidden) @ rounded(w2) + b2 - batch.y) ** 2)
    weights = model.weights_from(keras_model)
    loss, _ = model.loss(weights.trainable, weights.non_trainable, (), batch, jax.random.key(0))
    np.testing.assert_allclose(loss, want, rtol=1e-4)
    exact = fl.models.from_keras(keras_model, "mse")
    assert abs(loss / exact.loss(weights.trainable, weights.non_trainable, (), batch, jax.random.key(0))[0] - 1) > 1e-5


@pytest.mark.parametrize("layer", [L.GRU, L.LSTM])
def test_bfloat16_in_a_recurrent_model_is_near_float32(layer):
    """Every gradient within what rounding to 8 bits explains, and none the same."""
    keras_model = text_model(layer(24, return_sequences=True))
    ids = np.random.default_rng(0).integers(11, size=(2, 4, 9))
    batch, loss = batch_of(*ids), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    results = [loss_and_gradients(fl.models.from_keras(keras_model, loss, compute=kind), batch)[1] for kind in ("float32", "bfloat16")]
    for exact, rounded in zip(*map(jax.tree.leaves, results), strict=True):
        difference = np.linalg.norm(exact - rounded) / np.linalg.norm(exact)
        assert 1e-5 < difference < 2e-2


@pytest.mark.parametrize(("layer", "gates"), [(L.GRU, 3), (L.LSTM, 4)])
def test_few_ids_are_multiplied_once_each(layer, gates, monkeypatch, multiplied):
    """W x + b of the 11 rows of the table rather than of 12 tokens; numbers and gradients as in Keras, in both directions."""
    keras_model = text_model(L.Bidirectional(layer(6, return_sequences=True)))
    ids = np.random.default_rng(0).integers(11, size=(2, 3, 4))
    batch, loss = batch_of(*ids), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    build = lambda: loss_and_gradients(fl.models.from_keras(keras_model, loss), batch)  # noqa: E731
    want = without_swaps(monkeypatch, build)
    assert not multiplied
    got = build()
    assert multiplied == [((11, 8), (8, 6 * gates))] * 2
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-6), got, want)


@pytest.mark.parametrize("ids", [[[0, -1, 3]] * 5, [[0, 11, 3]] * 5], ids=["below 0", "beyond the table"])
def test_ids_that_are_none_do_what_they_do_in_keras(ids, monkeypatch):
    keras_model = text_model(L.GRU(6, return_sequences=True))
    batch = batch_of(np.array(ids), np.zeros((5, 3), int))
    build = lambda: loss_and_gradients(fl.models.from_keras(keras_model, "sparse_categorical_crossentropy"), batch)[0]  # noqa: E731
    np.testing.assert_allclose(build(), without_swaps(monkeypatch, build), rtol=1e-5)


def test_compute_is_checked():
    with pytest.raises(ValueError, match='compute must be "float32" or "bfloat16", got \'float16\''):
        fl.models.from_keras(mlp(), "mse", compute="float16")
    with pytest.raises(ValueError, match='compute="bfloat16" needs a Sequential or Functional model with a Dense layer'):
        fl.models.from_keras(
            keras.Sequential([keras.Input((4, 4, 1)), L.GlobalMaxPooling2D(), L.BatchNormalization()]), "mse", compute="bfloat16"
        )
