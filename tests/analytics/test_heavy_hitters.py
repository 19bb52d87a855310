import functools
from collections import Counter

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom import analytics
from fedloom.analytics._iblt import Table, sketch

TABLE = Table(capacity=12, max_bytes=8, seed=0)
sketched = jax.jit(functools.partial(sketch, num_cells=TABLE.shape[0]))
WORDS = st.text(max_size=8).filter(lambda word: len(word.encode(errors="surrogatepass")) <= 8)
CLIENTS = st.lists(st.dictionaries(WORDS, st.integers(1, 5), max_size=6), min_size=1, max_size=5)


def sum_of(clients, table=TABLE):
    return np.sum([sketched(table.entries(client)) for client in clients], axis=0, dtype=np.uint32)


@given(CLIENTS)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_table_below_capacity_is_read_exactly(clients):
    """Any strings of up to 8 bytes, with zeros in them or empty."""
    clients = [{word: n for word, n in client.items() if word in set().union(*clients[:2]) or i < 2} for i, client in enumerate(clients)]
    found = TABLE.decode(sum_of(clients))
    weights = sum(map(Counter, clients), Counter())
    have = Counter(word for client in clients for word in client)
    assert found.pairs_left == 0
    assert found.strings == sorted(weights, key=lambda word: word.encode(errors="surrogatepass"))
    assert dict(zip(found.strings, found.weights.tolist(), strict=True)) == weights
    assert dict(zip(found.strings, found.clients.tolist(), strict=True)) == have


@given(st.integers(1, 300), st.integers(0, 5))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_above_capacity_what_is_missing_is_counted(strings, seed):
    """What is read is right, and with what is left it makes up all pairs of a client and a string."""
    clients = [{f"{(37 * i + j) % strings}": 1 for i in range(10)} for j in range(0, strings, 5)]
    pairs = Counter(word for client in clients for word in client)
    table = Table(12, 8, seed)
    found = table.decode(sum_of(clients, table))
    assert all(pairs[word] == n for word, n in zip(found.strings, found.clients.tolist(), strict=True))
    assert found.clients.sum() + found.pairs_left == pairs.total()


def test_a_table_a_hundred_times_too_small_shows_next_to_nothing():
    found = TABLE.decode(sum_of([{f"{client} {i}": 1 for i in range(12)} for client in range(100)]))
    assert found.pairs_left > 1150


DATA = {"ada": ["to", "be", "to"], "bob": ["be", "or", "longer than 16 bytes", "longer than 16 bytes"], "cyd": [], "dan": ["or", "be"]}


def test_heavy_hitters_are_counted_exactly():
    found = analytics.heavy_hitters(DATA, capacity=12)
    assert found.strings == ("be", "or", "to")  # by clients, then by how often
    assert found.clients.tolist() == [3, 2, 1] and found.counts.tolist() == [3, 2, 2]
    assert (found.num_too_long, found.num_not_decoded, found.num_below_min_clients) == (2, 0, 0)


def test_bytes_are_read_as_utf_8():
    found = analytics.heavy_hitters({"ada": [b"to", "f\u00fcr".encode()], "bob": np.array(["f\u00fcr"])}, capacity=12)
    assert found.strings == ("f\u00fcr", "to")


def test_strings_of_few_clients_are_not_given_out():
    found = analytics.heavy_hitters(DATA, capacity=12, min_clients=2)
    assert found.strings == ("be", "or") and found.num_below_min_clients == 1
    assert analytics.heavy_hitters(DATA, capacity=12, min_clients=2, max_size=1).strings == ("be",)


def test_a_client_counts_for_a_few_strings_only():
    found = analytics.heavy_hitters({"ada": [f"{i}" for i in range(9)] * 2}, capacity=12, max_per_client=4)
    assert len(found.strings) == 4 and found.counts.tolist() == [2] * 4


def test_the_seed_changes_hashes_and_not_the_answer():
    answers = [analytics.heavy_hitters(DATA, capacity=12, seed=seed, executor=executor) for seed, executor in ((0, "local"), (7, "debug"))]
    assert answers[0].strings == answers[1].strings
    places = [Table(12, 8, seed).entries({"be": 1})["cells"][0].tolist() for seed in (0, 7)]
    assert places[0] != places[1]


def test_hashes_are_the_same_in_every_process():
    """blake2b of "be", with the salt of seed 0, in words of 32 bits: two checksums, then a place for each subtable."""
    import hashlib

    salt = hashlib.blake2b(b"0", digest_size=16).digest()
    words = np.frombuffer(hashlib.blake2b(b"be", digest_size=24, salt=salt, person=b"fedloom.iblt").digest(), "<u4")
    entry = TABLE.entries({"be": 1})
    np.testing.assert_array_equal(entry["fields"][0, -2:], words[:2])
    per = TABLE.cells_per_subtable
    np.testing.assert_array_equal(entry["cells"][0], [i * per + int(word) % per for i, word in enumerate(words[2:])])


@pytest.mark.parametrize("name", ["min_clients", "max_size", "capacity", "max_bytes", "max_per_client"])
def test_bad_settings_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        analytics.heavy_hitters(DATA, **{name: 0})
