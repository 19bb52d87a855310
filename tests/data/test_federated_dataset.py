"""FederatedDataset reads nothing before it is asked, and says what is wrong with a client by name."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.data import FederatedDataset


class Reader:
    """Reads clients "c0", "c1", ..., and keeps the order in which it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, client):
        self.calls.append(client)
        return {"x": np.full(2, int(client[1:]))}


@pytest.fixture
def reader():
    return Reader()


@pytest.fixture
def dataset(reader):
    return FederatedDataset({f"c{i}": 10 * i for i in (3, 1, 2)}, reader, name="numbers")


def test_sizes_ids_and_everything_but_a_look_up_read_nothing(dataset, reader):
    mapped = dataset.map(lambda examples: {"x": examples["x"] + 1})
    chosen = mapped.subset(["c2", "c3"])
    large = chosen.filter_sizes(at_least=25)
    assert dict(dataset.sizes) == {"c3": 30, "c1": 10, "c2": 20}
    assert dict(large.sizes) == {"c3": 30}
    assert len(chosen) == 2 and list(mapped) == ["c3", "c1", "c2"] and "c1" in mapped and "c1" not in chosen
    assert repr(dataset) == "<FederatedDataset numbers: 3 clients, 60 examples>"
    assert reader.calls == []


def test_map_runs_per_client_and_per_look_up(dataset, reader):
    """A map sees one client's columns as a whole, later maps see what earlier ones made, and nothing is kept."""
    seen = []

    def double(examples):
        seen.append(examples["x"].tolist())
        return {"x": 2 * examples["x"], "y": examples["x"]}

    mapped = dataset.map(double).map(lambda examples: {"z": examples["x"] + examples["y"]})
    assert seen == reader.calls == []
    np.testing.assert_array_equal(mapped["c2"]["z"], [6, 6])
    assert (seen, reader.calls) == ([[2, 2]], ["c2"])
    mapped["c2"]
    assert reader.calls == ["c2", "c2"]
    assert mapped.sizes == dataset.sizes, "sizes stay those of the source"
    assert dataset["c2"].keys() == {"x"}, "the source is as it was"


def test_what_fails_in_a_map_says_with_which_client(dataset):
    with pytest.raises(KeyError, match="z") as caught:
        dataset.map(lambda examples: examples["z"])["c2"]
    assert caught.value.__notes__ == ["(with the examples of client 'c2')"]


def test_client_ids_keep_the_order_given(dataset):
    assert dataset.client_ids == tuple(dataset) == tuple(dataset.sizes) == ("c3", "c1", "c2")


def test_subset_keeps_the_order_asked_for(dataset, reader):
    chosen = dataset.subset(iter(["c2", "c3"]))
    assert chosen.client_ids == ("c2", "c3")
    assert dict(chosen.sizes) == {"c2": 20, "c3": 30}
    assert chosen["c3"]["x"].tolist() == [3, 3]
    with pytest.raises(KeyError, match="c1"):
        chosen["c1"]


def test_filter_sizes_includes_its_limit(dataset):
    assert dataset.filter_sizes(at_least=20).client_ids == ("c3", "c2")
    assert dataset.filter_sizes(at_least=31).client_ids == ()


@pytest.mark.parametrize("look_up", [lambda data: data["KNIG"], lambda data: data.subset(["KING", "KNIG"])], ids=["item", "subset"])
def test_an_unknown_client_is_an_error_that_suggests_near_ones(look_up):
    dataset = FederatedDataset.from_dict({name: {"x": [0]} for name in ("KING", "QUEEN", "KINGS")}, name="plays")
    with pytest.raises(KeyError) as caught:
        look_up(dataset)
    message = str(caught.value)
    assert "plays has no client 'KNIG'" in message and "3 clients" in message
    assert re.search("such as .*'KING'", message) and "QUEEN" not in message


def test_an_unknown_client_that_resembles_none_is_an_error_without_suggestions():
    with pytest.raises(KeyError) as caught:
        FederatedDataset.from_dict({"KING": {"x": [0]}})["zzz"]
    assert "such as" not in str(caught.value)


def test_from_dict_makes_arrays_and_counts_examples():
    dataset = FederatedDataset.from_dict({"ada": {"x": [[1.0, 2.0]] * 3, "y": range(3)}, "bob": {"x": [], "y": []}})
    assert dict(dataset.sizes) == {"ada": 3, "bob": 0}
    assert dataset["ada"]["x"].shape == (3, 2)
    np.testing.assert_array_equal(dataset["ada"]["y"], [0, 1, 2])


@pytest.mark.parametrize(("columns", "got"), [({"x": [1, 2], "y": [1]}, "'x': 2, 'y': 1"), ({}, "no columns")])
def test_unequal_columns_are_an_error_that_names_the_client(columns, got):
    with pytest.raises(ValueError, match=f"'bob' must be equally long, got .*{got}"):
        FederatedDataset.from_dict({"ada": {"x": [1]}, "bob": columns})


def test_sizes_cannot_be_changed(dataset):
    with pytest.raises(TypeError):
        dataset.sizes["c1"] = 5


def test_sample_is_a_function_of_the_seed_and_keeps_the_order():
    data = FederatedDataset.from_dict({str(i): {"x": [i]} for i in range(20)})
    assert data.sample(5, seed=1).client_ids == data.sample(5, seed=1).client_ids != data.sample(5, seed=2).client_ids
    assert list(map(int, data.sample(5).client_ids)) == sorted(map(int, data.sample(5).client_ids))
    assert data.sample(20).client_ids == data.client_ids
    for size in (0, 21):
        with pytest.raises(ValueError, match=r"size must be in \[1, 20\]"):
            data.sample(size)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.floats(0.01, 0.99))
def test_split_takes_the_end_of_every_client_and_loses_nothing(counts, share):
    data = FederatedDataset.from_dict({str(i): {"x": np.arange(n), "y": -np.arange(n)} for i, n in enumerate(counts)})
    first, last = data.split(share)
    assert first.client_ids == last.client_ids == data.client_ids
    for client, n in zip(data, counts, strict=True):
        for column in "xy":
            np.testing.assert_array_equal(np.concatenate([first[client][column], last[client][column]]), data[client][column])
        assert (len(first[client]["x"]), len(last[client]["x"])) == (first.sizes[client], last.sizes[client])
        assert n == 0 or first.sizes[client] >= 1
        assert abs(last.sizes[client] - n * share) <= 1


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_outside_0_and_1_is_refused(share):
    with pytest.raises(ValueError, match="share must lie between 0 and 1"):
        FederatedDataset.from_dict({"a": {"x": [1]}}).split(share)
