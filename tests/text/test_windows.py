import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedloom as fl
from fedloom.text import CharWindows, decode, encode


@given(st.lists(st.text(alphabet="abc \n", max_size=30), max_size=6), st.integers(1, 9))
def test_padded_windows_hold_every_character_once(snippets, length):
    """Joined again, the pieces give the text; each piece of n characters has n - 1 targets."""
    text = "".join(snippets)
    columns = CharWindows(length)({"snippets": snippets})
    pieces = np.concatenate([columns["x"], columns["y"][:, -1:]], axis=1)
    assert decode(pieces.ravel()[: len(text)]) == text
    assert len(pieces) == -(-len(text) // (length + 1))
    assert columns["sample_weight"].sum() == sum(max(0, min(length + 1, len(text) - i * (length + 1)) - 1) for i in range(len(pieces)))
    np.testing.assert_array_equal(columns["x"][:, 1:], columns["y"][:, :-1])


@given(st.text(alphabet="abc", max_size=60), st.integers(1, 9))
def test_dropping_keeps_the_whole_windows_only(text, length):
    dropped, padded = (CharWindows(length, remainder=r)({"snippets": [text]}) for r in ("drop", "pad"))
    whole = len(text) // (length + 1)
    assert dropped.keys() == {"x", "y"}
    for name in "xy":
        np.testing.assert_array_equal(dropped[name], padded[name][:whole])


def test_the_counts_of_the_real_training_split(tff_folder):
    """TFF's own files: with `drop` what the tutorial's preparation leaves of them, with `pad` everything."""
    train, _ = fl.data.shakespeare("tff", path=tff_folder)
    dropped = [len(train.map(CharWindows(100, remainder="drop"))[client]["x"]) for client in train]
    assert sum(dropped) == 23_010
    assert sum(n // 8 for n in dropped) == 2_629
    assert sum(n >= 8 for n in dropped) == 380
    padded = [train.map(CharWindows(100))[client]["sample_weight"] for client in train]
    assert sum(len(weight) for weight in padded) == 23_720
    assert sum(int(weight.sum()) for weight in padded) == 2_335_595


def test_bytes_are_read_as_utf_8():
    assert CharWindows(2)({"snippets": [b"abc"]})["x"].tolist() == [encode("ab").tolist()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0}, "length must be a whole number of at least 1, got 0"),
        ({"remainder": "keep"}, "remainder must be"),
        ({"vocabulary": ("a", "a")}, "each once"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CharWindows(**arguments)


def test_a_missing_column_and_a_snippet_that_is_no_text_are_named():
    with pytest.raises(ValueError, match="needs the column 'snippets', got \\['lines'\\]"):
        CharWindows()({"lines": ["a"]})
    with pytest.raises(ValueError, match="must be text, got nan"):
        CharWindows()({"snippets": [float("nan")]})
