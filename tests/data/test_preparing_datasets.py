"""filter, take, concat, cache, splits by clients: lazily, and with the sizes that are known."""

import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.data import FederatedDataset
from fedloom.data._client_cache import ClientCache


def numbers(**clients):
    return FederatedDataset.from_dict({client: {"x": np.arange(n), "y": -np.arange(n)} for client, n in clients.items()}, name="numbers")


class Reader:
    """Reads n numbers for client "n", and counts."""

    def __init__(self):
        self.calls = []

    def __call__(self, client):
        self.calls.append(client)
        return {"x": np.arange(int(client))}


def test_filter_keeps_what_is_chosen_in_all_columns():
    data = numbers(ada=5, bob=0).filter(lambda columns: columns["x"] % 2 == 0)
    assert data["ada"]["x"].tolist() == [0, 2, 4] and data["ada"]["y"].tolist() == [0, -2, -4]
    assert len(data["bob"]["x"]) == 0 and data.sizes["ada"] == 5, "sizes are those of the source"


@pytest.mark.parametrize("kept", [[1, 0, 1], [True, False], True])
def test_filter_wants_a_boolean_per_example(kept):
    with pytest.raises(ValueError, match=r"one boolean per example of client 'ada', shape \(3,\)"):
        numbers(ada=3).filter(lambda columns: kept)["ada"]


@given(st.lists(st.integers(0, 9), max_size=5), st.integers(0, 12))
def test_take_gives_the_first_ones(counts, count):
    data = numbers(**{f"c{i}": n for i, n in enumerate(counts)}).take(count)
    assert [len(data[client]["x"]) for client in data] == data.size_array().tolist() == [min(n, count) for n in counts]
    assert all(data[client]["y"].tolist() == [-i for i in range(data.sizes[client])] for client in data)
    with pytest.raises(ValueError, match="count must be at least 0"):
        data.take(-1)


def test_concat_joins_clients_and_examples_in_order():
    first, second = numbers(bob=2, ada=1), numbers(cy=1, bob=3)
    both = first.concat(second, numbers())
    assert both.client_ids == ("bob", "ada", "cy") and dict(both.sizes) == {"bob": 5, "ada": 1, "cy": 1}
    assert both["bob"]["x"].tolist() == [0, 1, 0, 1, 2] and both["cy"]["y"].tolist() == [0]
    assert both.subset(["cy", "bob"]).sizes == {"cy": 1, "bob": 5}
    with pytest.raises(KeyError, match="dan"):
        both["dan"]


def test_concat_of_other_columns_names_client_and_data_sets():
    other = FederatedDataset.from_dict({"ada": {"z": [1]}}, name="other")
    both = numbers(ada=1, bob=1).concat(other)
    assert both["bob"]["x"].tolist() == [0]
    with pytest.raises(ValueError, match=r"'ada' must have the same columns .* \['x', 'y'\] in numbers and \['z'\] in other"):
        both["ada"]


@given(st.integers(1, 40), st.floats(0.01, 0.99), st.integers(0, 9))
def test_clients_are_split_at_random_and_none_is_lost(count, share, seed):
    data = numbers(**{f"c{i:02d}": i for i in range(count)})
    rest, held = data.split_clients(share, seed=seed)
    assert sorted([*rest, *held]) == list(data) and list(rest) == sorted(rest) and list(held) == sorted(held)
    assert len(rest) >= 1 and abs(len(held) - count * share) <= 1
    assert data.split_clients(share, seed=seed)[1].client_ids == held.client_ids


def test_another_seed_splits_otherwise():
    data = numbers(**{f"c{i:02d}": i for i in range(40)})
    assert len({data.split_clients(0.5, seed=seed)[0].client_ids for seed in range(5)}) == 5
    with pytest.raises(ValueError, match="share must lie between 0 and 1"):
        data.split_clients(1.0)


def test_sizes_between_two_bounds():
    data = numbers(a=0, b=3, c=5, d=9)
    assert data.filter_sizes(at_least=3, at_most=5).client_ids == ("b", "c")
    assert data.filter_sizes().client_ids == data.client_ids
    assert numbers().filter_sizes(at_least=1).client_ids == ()


def test_a_cached_client_is_read_once():
    reader = Reader()
    data = FederatedDataset({"3": 3, "5": 5}, reader).map(lambda columns: {"x": 2 * columns["x"]}).cache()
    for _ in range(3):
        assert data["3"]["x"].tolist() == [0, 2, 4] and len(data.subset(["5"])["5"]["x"]) == 5
    assert reader.calls == ["3", "5"]
    with pytest.raises(ValueError, match="read-only"):
        data["3"]["x"][0] = 7


def test_a_cache_leaves_the_callers_arrays_writable():
    mine = np.arange(3)
    data = FederatedDataset({"a": 3}, lambda client: {"x": mine}).cache()
    assert not data["a"]["x"].flags.writeable and mine.flags.writeable


def test_the_client_not_used_for_the_longest_time_goes_first():
    reader = Reader()
    cache = ClientCache(reader, max_bytes=8 * 10)
    for client in ("4", "5", "4", "6", "4", "5", "99", "99"):  # 6 drops 5, which is read again; 99 never fits
        cache(client)
    assert reader.calls == ["4", "5", "6", "5", "99", "99"]


def test_a_cache_counts_text_and_pickles_without_its_content():
    cache = ClientCache(_long_text, max_bytes=1000)
    cache("a")
    assert not cache._kept
    cache = ClientCache(_long_text, max_bytes=10**6)
    cache("a")
    assert cache._kept and len(pickle.dumps(cache)) < 500 and pickle.loads(pickle.dumps(cache))("a")["x"][0] == 2000 * "a"
    with pytest.raises(ValueError, match="max_bytes must be at least 0"):
        numbers(a=1).cache(-1)


def _long_text(client):
    return {"x": np.array([2000 * client], object)}


def test_a_cache_is_safe_in_threads():
    cache = ClientCache(Reader(), max_bytes=8 * 30)
    wrong = []

    def look_up(seed):
        for client in np.random.default_rng(seed).integers(1, 20, 400):
            if len(cache(str(client))["x"]) != client:
                wrong.append(client)

    threads = [threading.Thread(target=look_up, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and cache._bytes == sum(size for _, size in cache._kept.values()) <= 240


def test_from_function_counts_and_reads_anew():
    reader = Reader()
    data = FederatedDataset.from_function(reader, ["3", "1"])
    assert dict(data.sizes) == {"3": 3, "1": 1} and data["3"]["x"].tolist() == [0, 1, 2]
    assert reader.calls == ["3", "1", "3"]
    assert FederatedDataset.from_function(lambda client: {"x": [1, 2]}, ["a"])["a"]["x"].dtype == int
    with pytest.raises(ValueError, match="got '1' twice"):
        FederatedDataset.from_function(reader, ["1", "1"])


@pytest.mark.parametrize("ids", [{1: 1}, {"1": 1, 1: 2}, {None: 1}, {b"1": 1}])
def test_ids_of_mixed_types_are_refused(ids):
    with pytest.raises(TypeError, match="Client ids of numbers must be strings"):
        FederatedDataset(ids, Reader(), name="numbers")


def test_prepared_data_can_be_sent_to_another_process():
    data = FederatedDataset({"3": 3}, _count).map(_doubled).take(2).split(0.4)[1].concat(FederatedDataset({"3": 1}, _count)).cache()
    assert pickle.loads(pickle.dumps(data))["3"]["x"].tolist() == data["3"]["x"].tolist() == [2, 0, 1, 2]


def _count(client):
    return {"x": np.arange(int(client))}


def _doubled(columns):
    return {"x": 2 * columns["x"]}
