"""What every source of data promises, whatever its form: the same clients, each read anew, anywhere, with the sizes that were said."""

import pickle

import numpy as np
import pytest
from data.every_source import SOURCES, X

from fedloom.data import load


@pytest.fixture(params=SOURCES)
def data(request, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "here"
    folder.mkdir()
    return load(SOURCES[request.param](folder))


def values(examples):
    return np.ravel(examples["x"]).tolist()


def test_ids_are_text_and_sizes_are_those_of_what_is_read(data):
    assert sorted(data.client_ids) == sorted(data) == sorted(data.sizes) == sorted(X)
    assert all(type(client) is str for client in data.client_ids)
    assert data.size_array().dtype == np.int64 and data.size_array().tolist() == [data.sizes[client] for client in data]
    for client, columns in data.items():
        assert {len(column) for column in columns.values()} == {data.sizes[client]} == {len(X[client])}


def test_columns_are_arrays_of_one_dtype_and_the_same_at_every_look_up(data):
    for client in data:
        first, second = data[client], data[client]
        assert first.keys() == second.keys() and all(isinstance(column, np.ndarray) for column in first.values())
        assert values(first) == values(second) == X[client]
    assert len({columns["x"].dtype for columns in data.values()}) == len({columns["x"].shape[1:] for columns in data.values()}) == 1


def test_another_process_reads_the_same(data):
    sent = pickle.loads(pickle.dumps(data))
    assert list(sent) == list(data) and {client: values(sent[client]) for client in sent} == X


def test_it_can_be_cut_mapped_and_kept(data, tmp_path):
    kept = data.map(lambda columns: {"x": columns["x"] * 2}).filter_sizes(at_least=2).save(tmp_path / "kept")
    assert {client: values(kept[client]) for client in kept} == {"ada": [2, 4]}
    first, last = data.split(0.5)
    assert {client: values(first[client]) + values(last[client]) for client in data} == X


def test_an_unknown_client_is_an_error_that_names_it(data):
    with pytest.raises(KeyError, match="has no client 'adda'.*'ada'"):
        data["adda"]
    with pytest.raises(KeyError, match="'adda'"):
        data.subset(["ada", "adda"])
