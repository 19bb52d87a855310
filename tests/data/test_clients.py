"""A ClientTable behaves as the dict it stands for."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.data import _clients
from fedloom.data._clients import ClientTable, joined

POPULATIONS = st.dictionaries(st.text(max_size=6), st.integers(0, 2**40), max_size=30)


@given(POPULATIONS, st.lists(st.text(max_size=6), max_size=5))
def test_it_maps_ids_to_sizes_in_their_order(expected, others):
    table = ClientTable.from_arrays(pa.array(list(expected), pa.string()), np.array(list(expected.values()), np.int64))
    assert list(table) == list(table.ids) == list(expected) and dict(table) == expected and len(table) == len(expected)
    assert [table.ids[i] for i in range(-len(expected), len(expected))] == 2 * list(expected)
    assert table.ids[1:3] == tuple(expected)[1:3] and table.ids == tuple(expected) and table.ids == list(expected)
    for client in [*expected, *others]:
        assert (client in table) == (client in expected) == (client in table.ids)
        assert table.get(client) == expected.get(client)


@given(POPULATIONS, st.randoms(use_true_random=False))
def test_taking_some_gives_the_table_of_those(expected, random):
    ids = list(expected)
    table = ClientTable.from_arrays(ids, np.array(list(expected.values()), np.int64))
    chosen = random.sample(range(len(ids)), random.randint(0, len(ids)))
    part = table.take(np.array(chosen, np.int64))
    assert dict(part) == {ids[i]: expected[ids[i]] for i in chosen} and list(part) == [ids[i] for i in chosen]
    assert all(part[client] == expected[client] for client in part)


@pytest.mark.parametrize("few", [0, 100])
def test_positions_one_by_one_and_all_at_once(monkeypatch, few):
    monkeypatch.setattr(_clients, "_FEW", few)
    table = ClientTable.from_arrays(["c", "a", "b"], np.arange(3))
    assert table.positions(["b", "c"]).tolist() == [2, 0]
    with pytest.raises(KeyError, match="zz"):
        table.positions(["b", "zz"])


@settings(max_examples=30)
@given(st.lists(POPULATIONS, min_size=1, max_size=3))
def test_joining_adds_the_sizes_of_clients_in_several_parts(parts):
    expected = {}
    for part in parts:
        for client, size in part.items():
            expected[client] = expected.get(client, 0) + size
    mixed = [
        ClientTable.from_arrays(list(part), np.array(list(part.values()), np.int64)) if i % 2 else part for i, part in enumerate(parts)
    ]
    assert list(joined(mixed).items()) == list(expected.items())


def test_an_id_that_comes_twice_is_named():
    with pytest.raises(ValueError, match="distinct, got 'b' twice"):
        ClientTable.from_arrays(["b", "a", "b"], np.arange(3))


def test_what_is_no_string_is_no_client():
    table = ClientTable.from_arrays(["1"], np.array([1]))
    assert 1 not in table and None not in table
    with pytest.raises(KeyError):
        table[1]
