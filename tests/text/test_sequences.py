"""TFF's preparation of Shakespeare: against its definition, and by the counts of TFF's real files."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedloom as fl
from fedloom.text import TUTORIAL_VOCAB, ShakespeareSequences

PAD, UNKNOWN, BOS, EOS = 0, 87, 88, 89


def rows_by_definition(snippets, size):
    """TFF's `char_prediction_preprocessing`, one byte after the other."""
    ids = {character.encode(): i + 1 for i, character in enumerate(TUTORIAL_VOCAB)}
    rows = []
    for snippet in snippets:
        marked = [BOS, *(ids.get(bytes([byte]), UNKNOWN) for byte in snippet), EOS]
        marked += [PAD] * (-len(marked) % size)
        rows += [marked[start : start + size] for start in range(0, len(marked), size)]
    return rows


@given(st.lists(st.text("abc\n é世🙂\x00", max_size=20).map(str.encode) | st.binary(max_size=9), max_size=6), st.integers(1, 9))
def test_rows_are_those_of_the_definition(snippets, length):
    columns = ShakespeareSequences(length)({"snippets": snippets})
    rows = rows_by_definition(snippets, length + 1)
    assert columns["x"].tolist() == [row[:-1] for row in rows]
    assert columns["y"].tolist() == [row[1:] for row in rows]
    assert columns["sample_weight"].tolist() == [[float(target != PAD) for target in row[1:]] for row in rows]
    assert {name: (column.dtype, column.shape) for name, column in columns.items()} == {
        "x": (np.int32, (len(rows), length)),
        "y": (np.int32, (len(rows), length)),
        "sample_weight": (np.float32, (len(rows), length)),
    }


@given(st.lists(st.text(max_size=12), max_size=5))
def test_text_and_its_utf_8_are_the_same(snippets):
    prepare = ShakespeareSequences(7)
    texts, encoded = (prepare({"snippets": column}) for column in (np.array(snippets, object), [s.encode() for s in snippets]))
    for name in texts:
        np.testing.assert_array_equal(texts[name], encoded[name])


@given(st.lists(st.text("ab", max_size=12), max_size=5), st.integers(1, 5))
def test_without_eos_the_weights_count_characters(snippets, length):
    """A character is a target unless it is the first of a row; so is EOS with the default, and only EOS makes the difference."""
    with_eos, without = (ShakespeareSequences(length, weigh_eos=weigh)({"snippets": snippets}) for weigh in (True, False))
    np.testing.assert_array_equal(with_eos["sample_weight"] - without["sample_weight"], with_eos["y"] == EOS)
    firsts = sum(len(range(length + 1, len(s) + 1, length + 1)) for s in snippets)  # BOS has place 0, the characters 1 to len(s)
    assert without["sample_weight"].sum() == sum(map(len, snippets)) - firsts


def test_an_example_by_hand():
    """The second snippet fills a row, so that its EOS starts another, which has no target and is kept nevertheless."""
    columns = ShakespeareSequences(4)({"snippets": ["abc", "a~ d", ""]})
    assert columns["x"].tolist() == [[BOS, 64, 42, 21], [BOS, 64, UNKNOWN, 14], [EOS, 0, 0, 0], [BOS, EOS, 0, 0]]
    assert columns["y"].tolist() == [[64, 42, 21, EOS], [64, UNKNOWN, 14, 1], [0, 0, 0, 0], [EOS, 0, 0, 0]]
    assert columns["sample_weight"].sum(axis=1).tolist() == [4, 4, 0, 1]


def test_the_counts_of_the_real_files(tff_folder):
    """Those that TFF's own code gives for its files; 2,353,667 is all but the first id of each row, and no padding."""
    for dataset, sequences, targets in zip(fl.data.shakespeare("tff", path=tff_folder), (37_784, 5_490), (2_353_667, 338_974), strict=True):
        prepared = dataset.map(ShakespeareSequences(80))
        weights = [prepared[client]["sample_weight"] for client in prepared]
        assert len(weights) == 715
        assert sum(map(len, weights)) == sequences
        assert sum(int(weight.sum()) for weight in weights) == targets


def test_the_ids_are_as_many_as_the_class_says():
    """Every byte there is, and all four marks."""
    columns = ShakespeareSequences(300)({"snippets": [bytes(range(256)), b"a"]})
    assert np.unique(np.concatenate([columns["x"], columns["y"]])).tolist() == list(range(ShakespeareSequences.num_ids))
    marks = (ShakespeareSequences.PAD, ShakespeareSequences.UNKNOWN, ShakespeareSequences.BOS, ShakespeareSequences.EOS)
    assert marks == (PAD, UNKNOWN, BOS, EOS)


def test_it_travels_to_workers():
    prepare = ShakespeareSequences(5, weigh_eos=False, column="lines")
    assert pickle.loads(pickle.dumps(prepare)) == prepare


def test_bad_settings_and_columns_are_named():
    with pytest.raises(ValueError, match=r"ShakespeareSequences.length must be a whole number of at least 1, got 80.5"):
        ShakespeareSequences(80.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"ShakespeareSequences needs the column 'snippets', got \['text'\]. Name yours with `column=`"):
        ShakespeareSequences()({"text": ["a"]})
    with pytest.raises(ValueError, match="must be text, got 3 of type int"):
        ShakespeareSequences()({"snippets": ["a", 3]})
