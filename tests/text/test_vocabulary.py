import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedloom.text import TUTORIAL_VOCAB, decode, encode


def test_the_vocabulary_is_the_tutorials():
    """86 characters; a handful of ids as TFF's tutorial numbers them."""
    assert len(TUTORIAL_VOCAB) == len(set(TUTORIAL_VOCAB)) == 86
    assert {c: TUTORIAL_VOCAB.index(c) for c in "d@ \na5\r"} == {"d": 0, "@": 6, " ": 13, "\n": 62, "a": 63, "5": 83, "\r": 85}


@given(st.text(alphabet=TUTORIAL_VOCAB))
def test_decode_is_the_inverse_of_encode(text):
    assert decode(encode(text)) == text


@given(
    st.text(st.characters(codec=None)), st.lists(st.characters(codec=None), max_size=5, unique=True).map(tuple) | st.just(TUTORIAL_VOCAB)
)
def test_an_id_is_a_characters_place_in_the_vocabulary_and_0_outside(text, vocabulary):
    """For any character there is: zero bytes, emoji, halves of surrogate pairs."""
    for chosen in (text, text + "".join(vocabulary)):
        ids = encode(chosen, vocabulary)
        assert ids.tolist() == [vocabulary.index(c) if c in vocabulary else 0 for c in chosen]
        assert ids.dtype == np.int32
