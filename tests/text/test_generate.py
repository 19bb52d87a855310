import numpy as np
import pytest
from golden_cases import keras

import fedloom as fl
from fedloom.text import TUTORIAL_VOCAB, encode, generate


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return fl.models.char_gru(embedding=8, units=16)


def test_greedy_text_is_what_keras_predicts_on_the_whole_text_so_far(model):
    """The state carried from character to character loses nothing against running Keras' own model on everything again."""
    text = generate(model, "To be", length=6, temperature=0)
    so_far = "To be"
    for _ in range(6):
        logits = model.predict(encode(so_far)[None], verbose=0)[0, -1]
        so_far += TUTORIAL_VOCAB[int(np.argmax(logits))]
    assert text == so_far


def test_the_seed_decides_the_text(model):
    a, b, other = (generate(model, "O", length=40, seed=seed) for seed in (1, 1, 2))
    assert a == b != other
    assert len(a) == 41 and a.startswith("O")


def test_draws_follow_the_softmax_at_the_temperature():
    """A model that ignores its input: 4,000 draws of each frequency lie within 5 sigma of the softmax at temperature 0.5."""
    vocabulary = tuple("ab")
    constant = fl.models.char_gru(2, embedding=2, units=2)
    constant.set_weights([np.zeros_like(w) for w in constant.get_weights()[:-1]] + [np.array([0.0, 0.5], np.float32)])
    text = generate(constant, "a", length=4000, temperature=0.5, seed=0, vocabulary=vocabulary)
    p = 1 / (1 + np.exp(-0.5 / 0.5))
    assert abs(text[1:].count("b") / 4000 - p) < 5 * np.sqrt(p * (1 - p) / 4000)


def test_the_model_is_not_changed_and_a_stateful_one_of_another_batch_size_serves_too(model):
    stateful = fl.models.with_batch_size(model, 8, stateful=True)
    before = [np.array(w) for w in stateful.get_weights()]
    assert generate(stateful, "Ay", length=10, seed=4) == generate(model, "Ay", length=10, seed=4)
    gru = stateful.get_layer("gru")
    assert not np.any(gru.states[0].numpy())
    for w, kept in zip(stateful.get_weights(), before, strict=True):
        np.testing.assert_array_equal(w, kept)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ""}, "at least one character"),
        ({"prompt": "caf\u00e9 \u2192"}, "outside the vocabulary: '\u00e9', '\u2192'"),
        ({"prompt": "a", "temperature": -1.0}, "temperature must be"),
        ({"prompt": "a", "temperature": float("nan")}, "temperature must be"),
        ({"prompt": "a", "length": -1}, "length must be"),
        ({"prompt": "a", "vocabulary": tuple("abc")}, r"logits of shape \(batch, time, 3\)"),
    ],
)
def test_bad_arguments_are_named(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(model, **arguments)


def test_a_model_without_recurrent_layers_is_refused():
    dense = keras.Sequential([keras.Input((None,), dtype="int32"), keras.layers.Embedding(86, 4), keras.layers.Dense(86)])
    with pytest.raises(ValueError, match="no recurrent layer"):
        generate(dense, "a")
