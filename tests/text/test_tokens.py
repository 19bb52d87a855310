"""Windows of tokens, with a real tokenizer of Hugging Face's `tokenizers` trained here, and with plain functions."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import fedloom as fl
from fedloom.text import TokenWindows

LINES = [
    "Shall I compare thee to a summer's day?",
    "Thou art more lovely and more temperate:",
    "Rough winds do shake the darling buds of May,",
    "And summer's lease hath all too short a date.",
    "",
    "Naïve café — 世界",
]


@pytest.fixture(scope="module")
def tokenizer():
    """Byte pairs, so that any text comes back as it was."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(LINES * 3, trainer)
    return tokenizer


def ids_in(columns):
    """The ids that the windows were cut from, padding left out: a piece of n ids has n - 1 targets."""
    pieces = np.concatenate([columns["x"], columns["y"][:, -1:]], axis=1)
    counts = columns["sample_weight"].sum(axis=1).astype(int) + 1
    return [int(i) for piece, count in zip(pieces, counts, strict=True) for i in piece[:count]]


@pytest.mark.parametrize("length", [1, 7, 500])
def test_windows_decode_to_the_texts(tokenizer, length):
    end = tokenizer.token_to_id("<end>")
    columns = TokenWindows(tokenizer, length, separator=end, pad=end)({"text": np.array(LINES, object)})
    ids = ids_in(columns)
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<end>".join(LINES)
    assert len(ids) < len("".join(LINES).encode()), "it merges"
    assert columns["x"].dtype == columns["y"].dtype == np.int32


def test_a_data_set_of_tokens_makes_batches(tokenizer):
    """What `map` gives is what `Batching` takes, after a trip through pickle too."""
    windows = pickle.loads(pickle.dumps(TokenWindows(tokenizer, 4, column="lines")))
    data = fl.data.FederatedDataset.from_dict({"will": {"lines": np.array(LINES, object)}, "mute": {"lines": np.array([], object)}})
    prepared = data.map(windows)
    batches = list(fl.data.Batching(size=2, shuffle=False).batches(prepared["will"], client="will"))
    np.testing.assert_array_equal(np.concatenate([batch.x for batch in batches])[: len(prepared["will"]["x"])], prepared["will"]["x"])
    assert prepared["mute"]["x"].shape == (0, 4)
    assert tokenizer.decode(ids_in(prepared["will"])) == "".join(LINES)


def test_special_tokens_that_the_tokenizer_adds_are_kept(tokenizer):
    marked = pickle.loads(pickle.dumps(tokenizer))
    marked.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 0)])
    ids = ids_in(TokenWindows(marked, 5)({"text": LINES}))
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<end>".join([*LINES, ""])


@given(
    st.lists(st.lists(st.integers(0, 99), max_size=9), max_size=5),
    st.integers(1, 6),
    st.none() | st.just(100),
    st.sampled_from(["pad", "drop"]),
)
def test_windows_are_those_of_the_definition(client, length, separator, remainder):
    """Texts are "4 8 15"; the oracle joins and slices lists."""
    columns = TokenWindows(lambda text: [int(word) for word in text.split()], length, remainder, separator, pad=101)(
        {"text": [" ".join(map(str, ids)) for ids in client]}
    )
    stream = []
    for i, ids in enumerate(client):
        stream += ([separator] if i and separator is not None else []) + ids
    pieces = [stream[start : start + length + 1] for start in range(0, len(stream), length + 1)]
    if remainder == "drop":
        pieces = [piece for piece in pieces if len(piece) == length + 1]
        assert columns.keys() == {"x", "y"}
    else:
        weights = [[float(place < len(piece)) for place in range(1, length + 1)] for piece in pieces]
        assert columns["sample_weight"].tolist() == weights
        pieces = [piece + [101] * (length + 1 - len(piece)) for piece in pieces]
    assert columns["x"].tolist() == [piece[:-1] for piece in pieces]
    assert columns["y"].tolist() == [piece[1:] for piece in pieces]
    assert columns["x"].shape == columns["y"].shape == (len(pieces), length)


@pytest.mark.parametrize(
    "returned", [3, [[1]], [1.0], [-1], [2**31], ["a"], [None], [[1], [2, 3]], {"input_ids": [1]}, np.array([2**63], np.uint64)]
)
def test_what_are_no_ids_is_refused(returned):
    with pytest.raises(ValueError, match=r"must give a list of ids, .* for the text 'abc'.*pass its method `encode`"):
        TokenWindows(lambda text: returned, 4)({"text": ["abc"]})


def test_a_tokenizer_that_loses_texts_is_refused():
    class Lossy:
        def encode_batch(self, input):
            return []

    with pytest.raises(ValueError, match="ids for each of 2 texts, got 0"):
        TokenWindows(Lossy(), 4)({"text": ["a", "b"]})


def test_settings_that_change_a_clients_text_are_refused(tokenizer):
    for switch, message in (("enable_truncation", r"must not have truncation .*no_truncation\(\)"), ("enable_padding", "padding")):
        changed = pickle.loads(pickle.dumps(tokenizer))
        getattr(changed, switch)(*[8] * (switch == "enable_truncation"))
        with pytest.raises(ValueError, match=message):
            TokenWindows(changed, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"length": 0}, ValueError, "TokenWindows.length must be a whole number of at least 1, got 0"),
        ({"remainder": "keep"}, ValueError, "TokenWindows.remainder must be"),
        ({"separator": "<end>"}, ValueError, "separator must be the id of a token, .*got '<end>'.*token_to_id"),
        ({"pad": None}, ValueError, "pad must be the id of a token, .*got None"),
        ({"pad": -100}, ValueError, "pad must be the id of a token, .*got -100"),
        ({"tokenizer": "gpt2"}, TypeError, r"must be a tokenizers.Tokenizer or a function .*got str.*from_file"),
    ],
)
def test_bad_settings_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        TokenWindows(**{"tokenizer": str.split, "length": 3, **arguments})


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match=r"TokenWindows needs the column 'text', got \['snippets'\]. Name yours with `column=`"):
        TokenWindows(str.split, 3)({"snippets": ["a"]})
