import numpy as np
import pytest

import fedloom as fl
from fedloom import analytics

OF_NUMBERS = {
    "statistics": analytics.statistics,
    "histogram": lambda data, **own: analytics.histogram(data, [0, 1, 2], **own),
    "hierarchical_histogram": lambda data, **own: analytics.hierarchical_histogram(data, 0, 2, 2, **own),
    "quantiles": lambda data, **own: analytics.quantiles(data, 0.5, **own),
}
OF_STRINGS = {
    "heavy_hitters": lambda data, **own: analytics.heavy_hitters(data, capacity=20, **own),
    "vocabulary": lambda data, **own: analytics.vocabulary(data, capacity=20, **own),
}
ALL = {**OF_NUMBERS, **OF_STRINGS, "count_distinct": lambda data, **own: analytics.count_distinct(data, precision=10, **own)}


@pytest.mark.parametrize("analyse", ALL.values(), ids=ALL)
def test_what_is_no_mapping_of_clients_is_refused(analyse):
    with pytest.raises(ValueError, match="data must have at least one client, got none"):
        analyse({})
    with pytest.raises(TypeError, match="data must be a mapping from client id .* got list"):
        analyse([[1.0], [2.0]])


@pytest.mark.parametrize("analyse", ALL.values(), ids=ALL)
def test_a_wrong_column_is_named(analyse):
    data = fl.data.FederatedDataset.from_dict({"ada": {"x": [1.0], "name": ["Ada"]}})
    with pytest.raises(ValueError, match=r"column must be one of \['name', 'x'\], which client 'ada' has, got 'y'"):
        analyse(data, column="y")
    with pytest.raises(ValueError, match="got None"):
        analyse(data)
    with pytest.raises(ValueError, match="column must be None where clients have values"):
        analyse({"ada": [1.0]}, column="x")


@pytest.mark.parametrize("analyse", OF_NUMBERS.values(), ids=OF_NUMBERS)
def test_what_is_no_finite_number_is_named_with_its_client(analyse):
    with pytest.raises(fl.ClientFailure, match="'bob' .*values must be finite numbers, got nan at position 1"):
        analyse({"ada": [1.0], "bob": [1.0, np.nan]})
    with pytest.raises(fl.ClientFailure, match="'bob' .*values must be numbers, got 'two' of type str"):
        analyse({"ada": [1.0], "bob": ["two"]})


@pytest.mark.parametrize("analyse", OF_STRINGS.values(), ids=OF_STRINGS)
def test_what_is_no_string_is_named_with_its_client(analyse):
    with pytest.raises(fl.ClientFailure, match="'bob' .*values must be strings, got 3.0 of type float at position 1"):
        analyse({"ada": ["a"], "bob": ["b", 3.0]})
    with pytest.raises(fl.ClientFailure, match="'ada' .*values must be a list of strings, got 'a' of type str"):
        analyse({"ada": "a"})


def test_numbers_beyond_float32_are_refused():
    for analyse in (OF_NUMBERS["statistics"], OF_NUMBERS["quantiles"]):
        with pytest.raises(fl.ClientFailure, match="at most 3.4e38 in magnitude, as they become float32, got 1e\\+39"):
            analyse({"ada": [1.0, 1e39]})


def test_a_column_of_a_data_set_and_values_are_the_same():
    data = fl.data.FederatedDataset.from_dict({"ada": {"x": [1.0, 2.0]}, "bob": {"x": [6.0]}})
    assert analytics.mean(data, column="x") == analytics.mean(data) == analytics.mean({"ada": [1.0, 2.0], "bob": [6.0]}) == 3.0


def test_clients_are_read_one_at_a_time():
    """Of 1,000 clients no more than a few are held at once."""
    alive, most = set(), 0

    class Values(list):
        def __del__(self):
            alive.discard(id(self))

    def read(client):
        nonlocal most
        own = Values([0.5])
        alive.add(id(own))
        most = max(most, len(alive))
        return {"x": own}

    data = fl.data.FederatedDataset({str(i): 1 for i in range(1000)}, read)
    assert analytics.histogram(data, [0, 1, 2]).counts.tolist() == [1000, 0]
    assert 0 < most < 200
