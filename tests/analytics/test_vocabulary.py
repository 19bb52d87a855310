import re
from collections import Counter

import numpy as np
import pytest

import fedloom as fl
from fedloom import analytics
from fedloom.analytics._vocabulary import threshold

TEXTS = {"ada": ["To be, or not", "to be?"], "bob": ["It's not to be."], "cyd": [], "dan": ["be, be"]}


def test_words_and_characters_by_how_often_they_come():
    words = analytics.vocabulary(TEXTS, "words", capacity=50)
    counts = Counter(word for texts in TEXTS.values() for text in texts for word in re.findall(r"[\w']+", text.lower()))
    assert dict(zip(words.tokens, words.scores, strict=True)) == counts
    assert words.tokens[:3] == ("be", "to", "not") and (np.diff(words.scores) <= 0).all() and "it's" in words.tokens
    characters = analytics.vocabulary(TEXTS, capacity=50)
    assert dict(zip(characters.tokens, characters.scores, strict=True)) == Counter(
        "".join(text for texts in TEXTS.values() for text in texts)
    )
    assert analytics.vocabulary(TEXTS, str.split, capacity=50, max_size=2).tokens == ("be,", "not")


def test_tokens_of_few_clients_and_long_ones_stay_out():
    found = analytics.vocabulary(TEXTS, "words", capacity=50, min_clients=2, max_bytes=3)
    assert found.tokens == ("be", "to", "not") and found.threshold == 2 and found.num_too_long == 1


def test_the_vocabulary_of_the_real_shakespeare(tff_folder):
    """The characters of 200 clients and the first words of 20, as a count over the pooled text finds them; characters serve `fl.text`."""
    train = fl.data.shakespeare("tff", path=tff_folder)[0].sample(200)
    pooled = Counter("".join(text for client in train for text in train[client]["snippets"]))
    found = analytics.vocabulary(train, column="snippets", capacity=100, max_bytes=2)
    assert dict(zip(found.tokens, found.scores, strict=True)) == pooled
    windows = train.map(fl.text.CharWindows(20, vocabulary=found.tokens))
    client = train.client_ids[0]
    text = "".join(train[client]["snippets"])
    assert fl.text.decode(windows[client]["x"][0], found.tokens) == text[:20]

    few = train.sample(20).take(20)
    pooled = Counter(word for client in few for text in few[client]["snippets"] for word in re.findall(r"\w+(?:'\w+)*", text.lower()))
    found = analytics.vocabulary(few, "words", capacity=4000)
    assert dict(zip(found.tokens, found.scores, strict=True)) == pooled


@pytest.mark.parametrize("most", [1, 5])
def test_tokens_of_one_client_alone_stay_below_the_threshold(most):
    """With t tokens of weight 1 / sqrt(t), for the worst t: above it in a share delta of 40,000 draws, within 5 standard errors."""
    sigma, delta, draws = 0.8, 0.05, 40_000
    rho = threshold(sigma, delta, most)
    rng = np.random.default_rng(0)
    shares = [(1 / np.sqrt(t) + sigma * rng.normal(size=(draws, t)) >= rho).any(1).mean() for t in range(1, most + 1)]
    assert max(shares) == pytest.approx(delta, abs=5 * np.sqrt(delta / draws))


def test_a_private_vocabulary_has_the_common_tokens_only():
    """200 clients with "a", a half of them with "b", and one word of each alone; noise 1.5, threshold 7.0."""
    data = {f"c{i}": [f"a {'b' if i % 2 else ''} own{i}"] for i in range(200)}
    settings = dict(max_per_client=3, noise_multiplier=1.5, delta=1e-3, capacity=300, seed=0)
    found = analytics.vocabulary(data, "words", **settings)
    assert found.tokens == ("a", "b")
    assert (found.scores >= found.threshold).all() and found.threshold >= threshold(1.5, 5e-4, 3)
    weights = np.array([100 / np.sqrt(2) + 100 / np.sqrt(3), 100 / np.sqrt(3)])
    assert np.abs(found.scores - weights).max() < 5 * 1.5 + 0.02
    assert found.num_too_long is None and found.privacy.noise_multiplier == 1.5
    assert found.privacy.epsilon == pytest.approx(fl.privacy.epsilon(fl.privacy.Everyone(), 1.5, 1, 5e-4, accountant="pld"))
    assert analytics.vocabulary(data, "words", max_size=1, **settings).tokens == ("a",)


def test_the_most_frequent_tokens_of_a_client_count():
    data = {f"c{i}": ["often often often rare" + str(i)] for i in range(40)}
    found = analytics.vocabulary(data, "words", max_per_client=1, capacity=50)
    assert found.tokens == ("often",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(tokens="letters"), 'tokens must be "characters", "words" or a function'),
        (dict(epsilon=1.0, delta=1e-3, seed=0), "max_per_client must be given and min_clients be 1"),
        (dict(epsilon=1.0, delta=1e-3, max_per_client=5, min_clients=2, seed=0), "got max_per_client=5 and min_clients=2"),
        (dict(epsilon=1.0, delta=0.5, max_per_client=5), "delta must be in"),
        (dict(tokens=lambda text: [f"{text} {i}" for i in range(32)], capacity=2), "capacity must hold the distinct tokens .* got 2"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        analytics.vocabulary(TEXTS, **arguments)
