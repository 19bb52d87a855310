"""Fused recurrent layers have Keras' numbers, forwards and backwards; RNN state goes where it is told and nowhere else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedloom as fl
from fedloom.core import Batch
from fedloom.models import _recurrent
from fedloom.models._recurrent import FusedGRU

import keras  # isort: skip  after fedloom, so that it runs on JAX


@pytest.fixture(autouse=True)
def seeded():
    seed(0)


def seed(value):
    global rng
    rng = np.random.default_rng(value)


def random(*shape):
    return rng.normal(size=shape).astype(np.float32)


@pytest.fixture
def fused(monkeypatch):
    """The calls of the fused kernel."""
    calls, original = [], _recurrent.gru_sequence
    monkeypatch.setattr(_recurrent, "gru_sequence", lambda *args: calls.append(args) or original(*args))
    return calls


def layers(units, features, **config):
    """Keras' GRU and the fused one with the same random weights, biases too."""
    pair = keras.layers.GRU(units, **config), FusedGRU(units, **config)
    for layer in pair:
        layer.build((2 if layer.stateful else None, None, features))
    values = [0.7 * random(*w.shape) for w in pair[0].weights]
    for layer in pair:
        layer.set_weights(values)
    return pair


def outputs_and_gradients(layer, x, h0=None, mask=None):
    """Outputs, and the gradients of a nonlinear function of all of them, w.r.t. inputs, every weight and the initial state."""
    given = [x, [w.value for w in layer.trainable_variables], h0]

    def call(x, weights, h0):
        out, _ = layer.stateless_call(
            weights, [v.value for v in layer.non_trainable_variables], x, mask=mask, initial_state=None if h0 is None else [h0]
        )
        return sum((jnp.sin(part + i) ** 2).sum() for i, part in enumerate(jax.tree.leaves(out))), out

    return jax.jit(jax.grad(call, argnums=(0, 1) if h0 is None else (0, 1, 2), has_aux=True))(*given)


def assert_same(pair, *args, **kwargs):
    want, got = (outputs_and_gradients(layer, *args, **kwargs) for layer in pair)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5), got, want)
    assert all(np.abs(gradient).max() > 0 for gradient in jax.tree.leaves(got[0])), "or nothing was compared"


@pytest.mark.parametrize("reset_after", [True, False])
@settings(max_examples=3, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.booleans(), st.integers(0, 99))
def test_outputs_and_gradients_are_those_of_keras(reset_after, batch, time, features, units, sequences, seed_):
    seed(seed_)
    pair = layers(units, features, reset_after=reset_after, return_sequences=sequences)
    assert_same(pair, random(batch, time, features), random(batch, units))


@pytest.mark.parametrize("config", [{}, {"return_state": True}, {"return_state": True, "return_sequences": True}], ids=str)
@pytest.mark.parametrize("reset_after", [True, False])
def test_last_outputs_and_states_are_those_of_keras(reset_after, config, fused):
    assert_same(layers(4, 3, reset_after=reset_after, **config), random(2, 5, 3))
    assert fused


@pytest.mark.parametrize(
    "config",
    [{"use_bias": False}, {"activation": "relu"}, {"recurrent_activation": "hard_sigmoid"}, {"go_backwards": True}, {"unroll": True}],
    ids=str,
)
def test_what_is_not_fused_runs_as_in_keras(config, fused):
    assert_same(layers(4, 3, return_sequences=True, **config), random(2, 5, 3), random(2, 4))
    assert not fused


def test_masked_steps_are_those_of_keras(fused):
    """A masked step keeps the state and repeats the output before it; padding before, between and after."""
    mask = np.array([[True, True, True, False, False], [False, True, False, True, True]])
    assert_same(layers(4, 3, return_sequences=True), random(2, 5, 3), random(2, 4), mask=mask)
    assert not fused


def test_a_long_sequence_stays_close():
    """Rounding does not pile up over 300 steps."""
    pair = layers(8, 3, return_sequences=True)
    x = random(2, 300, 3)
    np.testing.assert_allclose(pair[1](x), pair[0](x), atol=1e-5)


def test_the_fused_layer_has_the_weights_of_keras():
    pair = layers(4, 3)
    assert [(w.name, w.shape) for w in pair[0].weights] == [(w.name, w.shape) for w in pair[1].weights]
    assert pair[1].get_config() == {**pair[0].get_config(), "name": pair[1].name}


def test_a_stateful_layer_goes_on_where_it_stopped():
    """Two halves of a sequence give the whole; after a reset, the first half again."""
    config = {"return_sequences": True, "stateful": True}
    for layer in layers(4, 3, **config):
        x = random(2, 6, 3)
        stateless = FusedGRU(4, return_sequences=True)
        stateless.build((None, None, 3))
        stateless.set_weights(layer.get_weights())
        halves = [layer(x[:, :2]), layer(x[:, 2:])]
        np.testing.assert_allclose(np.concatenate(halves, axis=1), stateless(x), atol=1e-6)
        layer.reset_state()
        np.testing.assert_allclose(layer(x[:, :2]), halves[0], atol=1e-6)


# Models

VOCABULARY, ROWS, TIME = 6, 2, 3


def text_model(kind="GRU", *, batch=ROWS, time=TIME, stateful=False, functional=False):
    inputs = keras.Input(batch_shape=(batch, time), dtype="int32")
    parts = [
        keras.layers.Embedding(VOCABULARY, 3),
        getattr(keras.layers, kind)(4, return_sequences=True, stateful=stateful),
        keras.layers.Dense(VOCABULARY),
    ]
    out = inputs
    for part in parts if functional else []:
        out = part(out)
    model = keras.Model(inputs, out) if functional else keras.Sequential([inputs, *parts])
    model.set_weights([random(*w.shape) for w in model.weights])
    return model


def from_keras(model, **options):
    made = fl.models.from_keras(model, keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    return made._replace(loss=jax.jit(made.loss), evaluate=jax.jit(made.evaluate))


def ids(*shape):
    return rng.integers(0, VOCABULARY, shape)


def batch_of(text):
    return Batch(text[:, :-1], text[:, 1:], np.ones(len(text), np.float32), np.ones(len(text), np.float32))


def rnn_states(model):
    return [np.asarray(state) for layer in model.layers if getattr(layer, "states", None) for state in layer.states]


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "SimpleRNN"])
def test_the_loss_is_that_of_the_keras_model(kind, functional, fused):
    model = text_model(kind, batch=None, functional=functional)
    ours, text = from_keras(model), ids(3, TIME + 1)
    value, _ = ours.loss(*ours.weights_from(model), (), batch_of(text), jax.random.key(0))
    assert bool(fused) == (kind == "GRU")
    want = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(text[:, 1:], model(text[:, :-1]))
    assert float(value) == pytest.approx(float(want), rel=1e-5)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_a_carried_state_makes_batches_one_sequence(kind):
    """Three batches of 3 characters are one of 9: the losses of the parts have the mean of the whole, in training and evaluation."""
    model = text_model(kind, stateful=True)
    carrying = from_keras(model, rnn_state="carry")
    weights = carrying.weights_from(model)
    text = ids(ROWS, 3 * TIME + 1)
    carry_train = carry_evaluate = carrying.init_carry()
    losses, evaluated = [], []
    for i in range(3):
        part = batch_of(text[:, TIME * i : TIME * (i + 1) + 1])
        value, (_, _, carry_train) = carrying.loss(*weights, carry_train, part, jax.random.key(i))
        sums, carry_evaluate = carrying.evaluate(weights, carry_evaluate, part)
        losses.append(float(value))
        evaluated.append(sums["loss"].value())
    # The same weights, built for whole sequences.
    long = text_model(kind, time=3 * TIME)
    long.set_weights(model.get_weights())
    whole = from_keras(long)
    value, _ = whole.loss(*weights, (), batch_of(text), jax.random.key(0))
    assert np.mean(losses) == pytest.approx(float(value), rel=1e-5)
    assert np.mean(evaluated) == pytest.approx(float(value), rel=1e-5)
    resets = from_keras(model)  # "reset"
    restarted = [float(resets.loss(*weights, (), batch_of(text[:, TIME * i : TIME * (i + 1) + 1]), jax.random.key(0))[0]) for i in range(3)]
    assert restarted[0] == pytest.approx(losses[0], rel=1e-5)
    assert not np.allclose(restarted[1:], losses[1:], rtol=1e-4)


@pytest.mark.parametrize("rnn_state", ["reset", "carry"])
def test_no_state_goes_from_client_to_client_from_call_to_call_or_into_the_users_model(rnn_state):
    """With client learning rate 0 a client's loss shows its start state; the model comes with a state of its own, which must not matter."""
    model = text_model(stateful=True)
    model(ids(ROWS, TIME))  # leaves a state behind
    states, weights = rnn_states(model), model.get_weights()
    assert np.abs(states[0]).max() > 0
    process = fl.LearningProcess(fl.algorithms.fedavg(from_keras(model, rnn_state=rnn_state), optax.sgd(0.0)))
    texts = dict(zip("abc", ids(3, ROWS, 2 * TIME + 1), strict=True))
    clients = {name: [(text[:, i : i + TIME], text[:, i + 1 : i + 1 + TIME]) for i in (0, TIME)] for name, text in texts.items()}
    state = process.initialize(model)
    alone = [process.next(state, {name: clients[name]})[1]["loss"] for name in "abc"]
    together = process.next(state, clients)[1]["loss"]
    assert together == pytest.approx(np.mean(alone), rel=1e-5)
    evaluated = [process.evaluate(state, some)["loss"] for some in (clients, [clients["c"], clients["a"], clients["b"]], clients)]
    assert evaluated == pytest.approx([together] * 3, rel=1e-5)
    np.testing.assert_array_equal(rnn_states(model)[0], states[0])
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)


def test_the_carry_has_no_gradient():
    """Back-propagation ends at the border of a batch, as in Keras and TFF."""
    model = text_model(stateful=True)
    ours, text = from_keras(model, rnn_state="carry"), ids(ROWS, 2 * TIME + 1)
    weights = ours.weights_from(model)
    first, second = batch_of(text[:, : TIME + 1]), batch_of(text[:, TIME:])

    def both(trainable):
        carry = ours.loss(trainable, weights.non_trainable, ours.init_carry(), first, jax.random.key(0))[1][2]
        return ours.loss(trainable, weights.non_trainable, carry, second, jax.random.key(0))[0]

    carry = ours.loss(*weights, ours.init_carry(), first, jax.random.key(0))[1][2]
    want = jax.grad(lambda trainable: ours.loss(trainable, weights.non_trainable, carry, second, jax.random.key(0))[0])(weights.trainable)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=1e-6), jax.grad(both)(weights.trainable), want)


def test_carry_needs_a_fixed_batch_size_and_batches_in_order():
    with pytest.raises(ValueError, match=r'rnn_state="carry" needs a model with a fixed batch size.*with_batch_size'):
        from_keras(text_model(batch=None), rnn_state="carry")
    with pytest.raises(ValueError, match="rnn_state must be .*, got 'keep'"):
        from_keras(text_model(), rnn_state="keep")
    algorithm = fl.algorithms.fedavg(from_keras(text_model(), rnn_state="carry"), optax.sgd(0.1))
    with pytest.raises(ValueError, match="shuffle must be False"):
        fl.LearningProcess(algorithm, batching=fl.data.Batching(size=ROWS))


@pytest.mark.parametrize("functional", [False, True])
def test_with_batch_size_keeps_the_weights_and_computes_the_same(functional):
    model = text_model(batch=None, functional=functional)
    text = ids(5, TIME)
    copy = fl.models.with_batch_size(model, 5)
    assert copy.inputs[0].shape == (5, TIME) and model.inputs[0].shape == (None, TIME)
    for got, want in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(copy(text), model(text), atol=1e-6)
    copy.set_weights([0 * w for w in copy.get_weights()])
    assert any(w.any() for w in model.get_weights()), "a copy of its own"
    assert not copy.compiled


def test_with_batch_size_turns_state_on_and_off():
    text = ids(1, TIME)
    model = text_model(batch=None)
    keeping = fl.models.with_batch_size(model, 1, stateful=True)
    first, second = keeping(text), keeping(text)
    np.testing.assert_allclose(first, model(text), atol=1e-6)
    assert not np.allclose(second, first, atol=1e-4)
    larger = fl.models.with_batch_size(keeping, 4)  # still stateful, from zeros
    np.testing.assert_allclose(larger(np.repeat(text, 4, axis=0))[2:3], first, atol=1e-6)
    assert larger.layers[1].stateful
    for forgetting in (fl.models.with_batch_size(keeping, None, stateful=False), fl.models.with_batch_size(keeping, 1, stateful=False)):
        np.testing.assert_allclose(forgetting(text), first, atol=1e-6)
        np.testing.assert_allclose(forgetting(text), first, atol=1e-6)


def test_with_batch_size_says_what_it_cannot_do():
    with pytest.raises(ValueError, match="at least 1, or None for any, got 0"):
        fl.models.with_batch_size(text_model(), 0)
    with pytest.raises(ValueError, match="need a fixed batch_size, got None"):
        fl.models.with_batch_size(text_model(stateful=True), None)
    with pytest.raises(ValueError, match="need a fixed batch_size, got None"):
        fl.models.with_batch_size(text_model(), None, stateful=True)

    class Subclassed(keras.Model):
        pass

    with pytest.raises(TypeError, match="Sequential or Functional to be rebuilt, got Subclassed"):
        fl.models.with_batch_size(Subclassed(), 1)


def test_a_subclassed_recurrent_model_is_refused():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.gru = keras.layers.GRU(2)

        def call(self, x):
            return self.gru(x)

    model = Subclassed()
    model(random(1, 2, 3))
    with pytest.raises(ValueError, match="has recurrent layers, so it must be Sequential or Functional, got Subclassed"):
        fl.models.from_keras(model, "mse")
