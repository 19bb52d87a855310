"""Models with recurrent layers: fused ones are swapped in, and RNN state goes where it is told and nowhere else."""

import jax
import numpy as np
import optax
import pytest

import fedloom as fl
from fedloom.core import Batch

import keras  # isort: skip  after fedloom, so that it runs on JAX


@pytest.fixture(autouse=True)
def seeded():
    seed(0)


def seed(value):
    global rng
    rng = np.random.default_rng(value)


def random(*shape):
    return rng.normal(size=shape).astype(np.float32)


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
    assert bool(fused) == (kind in ("GRU", "LSTM"))
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
