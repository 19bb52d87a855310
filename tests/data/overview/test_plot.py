"""`plot` draws the numbers that are in the data, and draws whatever data there are."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from fedloom.data import FederatedDataset, partition, partitioners, plot
from fedloom.data.overview._plot import _alike, _equal_ratio, _equal_width


def with_labels(clients, name="dataset"):
    return FederatedDataset.from_dict({f"c{i}": {"y": labels} for i, labels in enumerate(clients)}, name=name)


def bars(axes):
    """(smallest size, first size beyond, clients) of each bar."""
    return [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_height()) for bar in axes.patches]


def test_bars_and_curves_are_those_of_the_sizes():
    sizes = [0, 0, 1, 1, 1, 4, 13]
    figure = plot(FederatedDataset({str(i): size for i, size in enumerate(sizes)}, lambda client: {}))
    histogram, curves = figure.axes
    for low, beyond, height in bars(histogram):
        assert height == sum(low <= size < beyond for size in sizes if size)
    assert sum(height for _, _, height in bars(histogram)) == 5
    assert histogram.get_title() == "without 2 empty clients"
    clients, examples = (dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in curves.lines)
    assert [clients[size] for size in (1, 4, 13)] == pytest.approx([5 / 7, 6 / 7, 1])
    assert [examples[size] for size in (1, 4, 13)] == pytest.approx([3 / 20, 7 / 20, 1])
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "log"]


@given(st.integers(1, 10**6), st.integers(0, 10**7))
@settings(max_examples=100, deadline=None)
def test_bars_hold_whole_sizes_and_leave_none_out(low, more):
    high = low + more
    for borders in (_equal_ratio(low, high), _equal_width(low, high)):
        assert borders[0] <= low and high < borders[-1] and len(borders) <= 20
        firsts = np.ceil(borders)
        assert (np.diff(firsts) >= 1).all(), "at least one size fits into each"
    assert len(set(np.diff(_equal_width(low, high)))) == 1


def test_similar_sizes_are_on_a_linear_axis_and_equal_ones_in_the_middle_of_it():
    figure = plot(with_labels([[0] * 60] * 5))
    low, high = figure.axes[0].get_xlim()
    assert figure.axes[0].get_xscale() == "linear" and low < 60 < high and (low + high) / 2 == 60
    assert [height for _, _, height in bars(figure.axes[0]) if height] == [5]


def test_the_map_has_each_clients_shares_with_alike_clients_together():
    figure = plot(with_labels([[1, 1, 1, 0], [0, 0], [], [1], [0, 0, 1, 1, 0]]))
    image = figure.axes[2].images[0].get_array()
    np.testing.assert_allclose(image, [[1, 3 / 5, 0, 1 / 4], [0, 2 / 5, 1, 3 / 4]])
    assert figure.axes[2].get_xlabel() == "4 of 5 clients, a column each", "one has no label"
    assert [tick.get_text() for tick in figure.axes[2].get_yticklabels()] == ["0", "1"]
    assert figure.axes[2].get_ylabel() == "label (column y)"


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_the_order_of_clients_is_a_staircase(seed, clients, labels):
    shares = np.random.default_rng(seed).dirichlet([0.3] * labels, clients)
    order = _alike(shares)
    assert sorted(order) == list(range(clients))
    assert (np.diff(shares[order].argmax(1)) >= 0).all()


def test_many_labels_are_the_most_frequent_and_few_are_named():
    figure = plot(with_labels([[k] * (2 + (k < 100)) for k in range(120)] + [list(range(120))]), label="y", max_clients=121)
    axes = figure.axes[2]
    shares = axes.images[0].get_array()
    assert shares.shape == (100, 121)
    assert (shares.sum(0) == 0).tolist() == [False] * 101 + [True] * 20, "clients with nothing but rarer labels stand last"
    assert axes.get_ylabel() == "label (column y, the 100 most frequent)"
    assert len(axes.get_yticklabels()) <= 20


def test_only_sizes_without_labels_and_an_error_for_a_wrong_name():
    data = FederatedDataset.from_dict({"ada": {"x": [[1.0, 2.0]]}})
    assert len(plot(data).axes) == 2
    with pytest.raises(ValueError, match="label must name a column of the data, got 'y'"):
        plot(data, label="y")
    with pytest.raises(ValueError, match="max_clients must be at least 1, got 0"):
        plot(data, max_clients=0)


def test_the_seed_draws_the_clients():
    data = with_labels([[i] for i in range(50)])
    rows = [[tick.get_text() for tick in plot(data, max_clients=5, seed=seed).axes[2].get_yticklabels()] for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2] and len(rows[0]) == 5


def pixels(figure, tmp_path):
    from matplotlib.image import imread

    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "figure.png")
    return imread(tmp_path / "figure.png")


@pytest.mark.parametrize(
    "data",
    [
        with_labels([]),
        with_labels([[], []]),
        with_labels([[0]]),
        with_labels([["$\\frac{$", "a\nb", "\x1b[31m"], ["$x^2$"]], name="$\\undefined_ \x07"),
        FederatedDataset({"a": 10**9, "b": 1}, lambda client: {}),
    ],
    ids=["no clients", "no examples", "one example", "text that is no formula", "sizes far apart"],
)
def test_anything_is_drawn(data, tmp_path):
    assert pixels(plot(data), tmp_path).shape[1] == 1_440


def test_partitions_look_as_skewed_as_they_are():
    """Of 10 labels a client has a tenth each if IID; with shards of one label, two have everything."""
    table = {"label": np.repeat(np.arange(10), 200)}
    even = plot(partition(table, partitioners.iid(), num_clients=20))
    skewed = plot(partition(table, partitioners.shards("label", per_client=2), num_clients=20))
    assert even.axes[2].images[0].get_array().max() < 0.3
    assert ((skewed.axes[2].images[0].get_array() > 0).sum(0) <= 2).all()


def test_nothing_of_pyplot_is_left_behind():
    """No global state, no backend that needs a display: pyplot is never loaded."""
    code = (
        "import sys; from fedloom.data import FederatedDataset, plot; "
        "assert 'matplotlib' not in sys.modules; "
        "plot(FederatedDataset.from_dict({'a': {'y': [0, 1]}})).savefig('/dev/null', format='png'); "
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
