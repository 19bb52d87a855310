"""A centralized table is cut into clients with no row lost, by the seed alone, and with the skew that the papers describe."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.data import partition, partitioners
from fedloom.data.partitioners import (
    PARTITIONERS,
    Shares,
    by_column,
    dirichlet,
    dirichlet_sizes,
    iid,
    lognormal_sizes,
    mixture,
    pathological,
    power_law_sizes,
    shards,
)

every = pytest.mark.parametrize("name", PARTITIONERS)
NEEDS_LABELS = [name for name, partitioner in PARTITIONERS.items() if not name.endswith("sizes") and name != "iid"]
RANDOM = [name for name in PARTITIONERS if name != "by_column"]


def table(labels):
    labels = np.asarray(labels)
    return {"row": np.arange(len(labels)), "y": labels, "image": np.zeros((len(labels), 2, 2)) + np.arange(len(labels))[:, None, None]}


def cut(columns, partitioner, num_clients, seed=0):
    """The rows of each client."""
    data = partition(columns, partitioner, num_clients=num_clients, seed=seed)
    return [data[client]["row"] for client in data]


def clients_of(name, number):
    return None if name == "by_column" else number


def label_counts(labels, rows, num_labels):
    return np.array([np.bincount(labels[own], minlength=num_labels) for own in rows])


# What all of them promise


@every
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=12, max_size=80), st.integers(2, 6), st.integers(0, 2**32))
def test_every_row_has_one_client_and_its_columns_stay_together(name, labels, number, seed):
    labels = [0, 1, 2, 3, *labels]
    data = partition(table(labels), PARTITIONERS[name], num_clients=clients_of(name, number), seed=seed)
    assert len(data) == (4 if name == "by_column" else number)
    assert np.array_equal(np.sort(np.concatenate([data[client]["row"] for client in data])), np.arange(len(labels)))
    for client in data:
        own = data[client]
        assert len(own["row"]) == data.sizes[client]
        assert own["y"].tolist() == [labels[i] for i in own["row"]]
        assert own["image"].shape == (len(own["row"]), 2, 2) and (own["image"] == own["row"][:, None, None]).all()


@pytest.mark.parametrize("name", RANDOM)
def test_the_seed_decides(name):
    """Of 200 rows in 7 clients; two seeds that agree by chance would be a wonder."""
    columns = table(np.arange(200) % 5)
    first, again, other = (cut(columns, PARTITIONERS[name], 7, seed) for seed in (1, 1, 2))
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))


@pytest.mark.parametrize("name", RANDOM)
def test_a_client_has_its_rows_in_random_order(name):
    """Or `split` would hold out one label where the table is sorted. Spearman's rho of place and row over clients of about 200 rows has
    the standard deviation 1/sqrt(199); 5 sigma."""
    columns = table(np.repeat(np.arange(4), 500))
    for own in cut(columns, PARTITIONERS[name], 10):
        if len(own) > 20:
            rho = np.corrcoef(np.arange(len(own)), np.argsort(np.argsort(own)))[0, 1]
            assert abs(rho) < 5 / np.sqrt(len(own) - 1)


@every
def test_a_data_set_can_be_pickled_and_read_twice(name):
    data = partition(table(np.arange(40) % 4), PARTITIONERS[name], num_clients=clients_of(name, 3))
    copy = pickle.loads(pickle.dumps(data))
    assert list(copy) == list(data)
    for client in data:
        np.testing.assert_array_equal(copy[client]["row"], data[client]["row"])


@pytest.mark.parametrize("name", [name for name in PARTITIONERS if name != "pathological"])  # whose two labels would not be everything
def test_one_client_may_have_everything(name):
    labels = np.zeros(9, int) if name == "by_column" else np.arange(9) % 4
    (own,) = cut(table(labels), PARTITIONERS[name], 1)
    assert sorted(own) == list(range(9))


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("number", [0, -1, 2.5, True])
def test_a_number_of_clients_that_is_none_is_refused(name, number):
    with pytest.raises(ValueError, match=r"num_clients must be a whole number of at least 1, got"):
        cut(table(np.arange(40) % 4), PARTITIONERS[name], number)


@pytest.mark.parametrize("name", RANDOM)
def test_more_clients_than_rows_are_refused_and_so_is_no_number(name):
    with pytest.raises(ValueError, match=r"num_clients must be at most \d+: there are 4 rows"):
        cut(table([0, 1, 2, 3]), PARTITIONERS[name], 5)
    with pytest.raises(ValueError, match="num_clients must be given"):
        cut(table([0, 1, 2, 3]), PARTITIONERS[name], None)


@pytest.mark.parametrize("name", NEEDS_LABELS)
def test_a_missing_or_a_wide_column_is_named(name):
    with pytest.raises(ValueError, match=r"(label|column) must name a column, got 'y'. There are 'row', 'label'"):
        cut({"row": np.arange(8), "label": np.arange(8)}, PARTITIONERS[name], 2)
    with pytest.raises(ValueError, match=r"one value per row, got 'y', whose rows have shape \(4,\).*argmax"):
        cut({"row": np.arange(8), "y": np.zeros((8, 4))}, PARTITIONERS[name], 2)


# partition


def test_ids_are_numbers_of_one_width_that_sort_in_order():
    data = partition({"x": np.arange(101)}, iid(), num_clients=101)
    assert list(data) == sorted(data) == [f"{i:03d}" for i in range(101)]
    assert list(partition({"x": np.arange(10)}, iid(), num_clients=10)) == list("0123456789")


def test_the_table_is_held_and_not_copied():
    columns = {"x": np.zeros(10)}
    data = partition(columns, iid(), num_clients=2)
    columns["x"][:] = 1
    assert (data["0"]["x"] == 1).all()
    data["0"]["x"][:] = 2
    assert (columns["x"] == 1).all(), "what a client gets is its own"


def test_text_columns_and_lists_are_columns():
    data = partition({"x": np.array(["a", "bc", "d"], object), "y": [1, 2, 3]}, by_column("y"))
    assert data["2"]["x"].tolist() == ["bc"] and data["2"]["x"].dtype == object


@pytest.mark.parametrize(
    ("columns", "got"),
    [({}, "no columns"), ({"x": [1, 2], "y": [1]}, "'x': 2, 'y': 1"), ({"x": []}, "'x': 0"), ({"x": 5}, "'x': 0")],
)
def test_columns_that_make_no_table_are_refused(columns, got):
    with pytest.raises(ValueError, match=f"columns must be equally long, with one row at least, got .*{got}"):
        partition(columns, iid(), num_clients=1)


def test_a_partitioner_is_any_function():
    data = partition({"x": np.arange(6)}, lambda columns, number, rng: [[5, 0], np.array([2]), []], num_clients=3)
    assert [data[client]["x"].tolist() for client in data] == [[5, 0], [2], []]


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        ([[0], [1]], ValueError, "num_clients=3 clients.*got 2"),
        ([[0], [1], [6]], ValueError, "rows from 0 to 5, got 0 to 6"),
        ([[0], [1], [-1]], ValueError, "rows from 0 to 5, got -1 to 1"),
        ([[0], [1], [0.5]], TypeError, "row numbers.*float64"),
        ([[0], [1], np.ones(6, bool)], TypeError, r"row numbers.*bool \(6,\) for client 2.*flatnonzero"),
        ([[0], [1], [[2]]], TypeError, r"\(1, 1\) for client 2"),
    ],
)
def test_what_a_partitioner_gives_is_checked(parts, error, words):
    with pytest.raises(error, match=words):
        partition({"x": np.arange(6)}, lambda columns, number, rng: parts, num_clients=3)


def test_shares_read_like_a_list():
    shares = Shares(np.array([4, 3, 9]), np.array([2, 0, 1]))
    assert len(shares) == 3 and [part.tolist() for part in shares] == [[4, 3], [], [9]]
    assert shares[-1].tolist() == [9] and [part.tolist() for part in shares[:2]] == [[4, 3], []]
    with pytest.raises(IndexError):
        shares[3]


# Each one


def test_iid_clients_are_equally_large_and_alike():
    """Pearson's statistic of labels by client has (N - 1)(K - 1) degrees of freedom, 49 * 9, and twice that as its variance; 5 sigma."""
    labels = np.random.default_rng(0).choice(10, 10_007, p=np.arange(1, 11) / 55)
    rows = cut(table(labels), iid(), 50)
    assert sorted(map(len, rows), reverse=True) == list(map(len, rows)) == [201] * 7 + [200] * 43
    assert abs(pearson(label_counts(labels, rows, 10)) - 441) < 5 * np.sqrt(2 * 441)


def pearson(counts):
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
    return ((counts - expected) ** 2 / expected).sum()


@given(st.integers(1, 5), st.integers(2, 8), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_shards_are_pieces_of_the_sorted_table(per_client, number, seed):
    """Every client has `per_client` runs of the table sorted by label; here labels are as long as shards, so that runs are labels."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(number * per_client), 3))
    for own in cut(table(labels), shards("y", per_client), number, seed):
        assert np.unique(labels[own], return_counts=True)[1].tolist() == [3] * per_client


def test_shards_as_on_mnist_leave_two_labels_to_most():
    """McMahan et al.: 60,000 images, 10 labels, 100 clients, 200 shards of 300. With labels of equal size no shard has two labels."""
    labels = np.arange(60_000) % 10
    counts = label_counts(labels, cut(table(labels), shards("y"), 100), 10)
    assert (counts.sum(1) == 600).all() and set(counts.flat) <= {0, 300, 600}
    assert 80 <= ((counts > 0).sum(1) == 2).sum() < 100  # of 99.5 - 9.5 = 90 expected, sigma about 3


def test_rows_of_one_label_are_dealt_at_random():
    """With one label, shards are what iid gives: of the first 500 rows a client of 500 has 250, sigma 8 (hypergeometric); 5 sigma."""
    first = cut(table(np.zeros(1000)), shards("y", 1), 2)[0]
    assert abs((first < 500).sum() - 250) < 5 * 8


def test_shards_must_have_a_row_each():
    with pytest.raises(ValueError, match="num_clients must be at most 2: there are 10 rows, and a client needs at least 4; got 3"):
        cut(table(np.arange(10)), shards("y", 4), 3)


@given(st.integers(2, 9), st.integers(1, 30), st.data())
@settings(max_examples=40, deadline=None)
def test_pathological_clients_know_k_labels_and_share_them_equally(num_labels, number, data):
    k = data.draw(st.integers(-(-num_labels // number), num_labels))
    labels = np.arange(num_labels * 60) % num_labels  # 60 of each, enough for every owner
    counts = label_counts(labels, cut(table(labels), pathological("y", k), number, data.draw(st.integers(0, 99))), num_labels)
    assert ((counts > 0).sum(1) == k).all()
    for column in counts.T:
        owned = column[column > 0]
        assert owned.sum() == 60 and owned.max() - owned.min() <= 1


def test_pathological_labels_are_drawn_evenly():
    """Each client has each label with probability k/K = 0.3; over 2,000 clients sigma is below sqrt(0.3 * 0.7 / 2000); 5 sigma."""
    labels = np.arange(10_000 * 2) % 10
    has = label_counts(labels, cut(table(labels), pathological("y", 3), 2000), 10) > 0
    assert np.abs(has.mean(0) - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / 2000)
    together = (has[:, :1] & has[:, 1:]).mean(0)  # two given labels: (3 * 2) / (10 * 9)
    assert np.abs(together - 1 / 15).max() < 5 * np.sqrt(1 / 15 * 14 / 15 / 2000)


@pytest.mark.parametrize(("k", "number", "bounds"), [(1, 2, r"\[2, 4\]"), (5, 9, r"\[1, 4\]")])
def test_pathological_refuses_labels_that_find_no_client_or_are_not_there(k, number, bounds):
    with pytest.raises(ValueError, match=rf"labels_per_client must be in {bounds}.*4 labels for {number} clients, got {k}"):
        cut(table(np.arange(40) % 4), pathological("y", k), number)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 10.0])
def test_dirichlet_per_client_has_the_moments_of_the_distribution(alpha):
    """q ~ Dir(alpha p): with m rows from q, Var(count / m) = p (1 - p) / (alpha + 1) + p (1 - p) / m * alpha / (alpha + 1).

    Over 3,000 clients and 5 labels. The sample variance of a label's share has sigma below 4 % (its fourth moment is at most that of a
    coin of probability p); 4 of these, and 3 % for the last clients, which get what is left. alpha per label instead of in all, or half
    of it, are off by 30 % at least.
    """
    p, m, number = np.array([0.1, 0.15, 0.2, 0.25, 0.3]), 50, 3000
    labels = np.repeat(np.arange(5), (p * m * number).astype(int))
    shares = label_counts(labels, cut(table(labels), dirichlet("y", alpha), number), 5) / m
    assert (shares.sum(1) == pytest.approx(1)) and len(shares) == number
    expected = p * (1 - p) * (1 + alpha / m) / (alpha + 1)
    np.testing.assert_allclose(shares.var(0), expected, rtol=0.19)


def test_dirichlet_per_client_is_exact_until_a_label_runs_out():
    """Half of the clients of a small alpha have one label only, although others got leftovers."""
    labels = np.arange(10_000) % 10
    counts = label_counts(labels, cut(table(labels), dirichlet("y", 1e-3), 100), 10)
    assert (counts.sum(1) == 100).all()
    assert ((counts > 0).sum(1) == 1).sum() >= 50


def test_leftovers_go_to_clients_in_random_places():
    """The last to be filled know more labels than they asked for, but they are not the last ids.

    The mean place of the 15 of 500 clients that know most has sigma 500 / sqrt(12 * 15) = 37; 5 sigma. In the order of ids, it would be
    about 490 instead of 250.
    """
    labels = np.arange(50_000) % 10
    known = (label_counts(labels, cut(table(labels), dirichlet("y", 0.05), 500), 10) > 0).sum(1)
    assert abs(np.argsort(known)[-15:].mean() - 249.5) < 5 * 37.3


@pytest.mark.parametrize("alpha", [0.2, 5.0])
def test_dirichlet_per_label_has_the_moments_of_the_distribution(alpha):
    """p_k ~ Dir_N(alpha): E sum_j p_kj^2 = (alpha + 1) / (N alpha + 1). Over 400 labels of 2,000 rows for N = 20; 5 sigma of their mean.

    Shares are rounded to rows, which adds at most 2 / 2000 to a sum of squares.
    """
    number, num_labels, each = 20, 400, 2000
    labels = np.arange(num_labels * each) % num_labels
    counts = label_counts(labels, cut(table(labels), dirichlet("y", alpha, per="label"), number), num_labels)
    squares = ((counts / each) ** 2).sum(0)
    assert abs(squares.mean() - (alpha + 1) / (number * alpha + 1)) < 5 * squares.std() / np.sqrt(num_labels) + 1e-3
    shares = counts.mean(1) / each  # of every client, over labels: 1/N on average
    assert np.abs(shares - 1 / number).max() < 5 * np.sqrt((1 / number) * (1 - 1 / number) / (number * alpha + 1) / num_labels) + 1e-3


def test_dirichlet_with_a_large_alpha_makes_clients_alike():
    """Per client, Pearson's statistic of a client's labels is that of 200 free draws, chi squared with 9 degrees of freedom: its median
    over 50 clients is 8.34 with sigma 0.75; 5 sigma. (Not its mean: the last clients get what is left.) Per label, labels are cut in equal
    parts: within one row."""
    labels = np.random.default_rng(0).choice(10, 10_000, p=np.arange(1, 11) / 55)
    counts = label_counts(labels, cut(table(labels), dirichlet("y", 1e9), 50), 10)
    assert (counts.sum(1) == 200).all()
    expected = np.bincount(labels) / 50
    assert abs(np.median(((counts - expected) ** 2 / expected).sum(1)) - 8.34) < 5 * 0.75
    stratified = label_counts(labels, cut(table(labels), dirichlet("y", 1e9, per="label"), 50), 10)
    assert np.abs(stratified - expected).max() < 1.01


def test_dirichlet_keeps_to_min_examples_or_says_that_it_could_not():
    columns = table(np.arange(400) % 4)
    assert min(map(len, cut(columns, dirichlet("y", 0.5, per="label"), 10, seed=3))) < 15
    for seed in range(5):
        assert min(map(len, cut(columns, dirichlet("y", 0.5, per="label", min_examples=15), 10, seed=seed))) >= 15
    with pytest.raises(ValueError, match=r"min_examples=40 did not hold in any of 100 draws, of which the best left some client with \d+"):
        cut(columns, dirichlet("y", 0.01, per="label", min_examples=40), 10)
    with pytest.raises(ValueError, match="a client needs at least 41"):
        cut(columns, dirichlet("y", 0.5, min_examples=41), 10)


@pytest.mark.parametrize("make", [lambda a: dirichlet("y", a), lambda a: dirichlet("y", a, per="label"), dirichlet_sizes])
def test_any_alpha_in_range_works_and_no_other(make):
    for alpha in (1e-9, 1e-4, 1e9):
        assert sum(map(len, cut(table(np.arange(100) % 3), make(alpha), 8))) == 100
    for alpha in (0, -1, 1e10, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"alpha must be in \[1e-9, 1e9\], got"):
            make(alpha)


def sizes_of(partitioner, rows, number, seed=0):
    return partition({"x": np.zeros(rows)}, partitioner, num_clients=number, seed=seed).size_array()


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.5])
def test_power_law_sizes_follow_the_law(exponent):
    """Every size within one row of its part; which client is how large is random."""
    sizes = sizes_of(power_law_sizes(exponent, min_examples=3), 100_000, 200)
    parts = np.arange(1, 201) ** -exponent
    np.testing.assert_allclose(np.sort(sizes)[::-1], 3 + (100_000 - 600) * parts / parts.sum(), atol=1)
    if exponent:
        assert len({int(sizes_of(power_law_sizes(exponent), 100_000, 200, seed).argmax()) for seed in range(5)}) > 1


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_lognormal_sizes_have_the_sigma_asked_for(sigma):
    """Over 1,000 clients; the sample standard deviation of logarithms has sigma / sqrt(2000); 5 of these, and 0.02 for rounding to rows."""
    sizes = sizes_of(lognormal_sizes(sigma), 5_000_000, 1000)
    assert abs(np.log(sizes).std() - sigma) < 5 * sigma / np.sqrt(2000) + 0.02


@pytest.mark.parametrize("alpha", [0.1, 2.0])
def test_dirichlet_sizes_have_the_moments_of_the_distribution(alpha):
    """E sum q^2 = (alpha + 1) / (N alpha + 1), over 200 seeds; 5 sigma of their mean, and 2 % for one row to everybody."""
    squares = [((sizes_of(dirichlet_sizes(alpha), 5000, 20, seed) / 5000) ** 2).sum() for seed in range(200)]
    expected = (alpha + 1) / (20 * alpha + 1)
    assert abs(np.mean(squares) - expected) < 5 * np.std(squares) / np.sqrt(200) + 0.02 * expected


@pytest.mark.parametrize("make", [power_law_sizes, lognormal_sizes, dirichlet_sizes])
def test_sizes_keep_to_min_examples(make):
    for least in (0, 1, 7, 10):
        sizes = sizes_of(make(3.0, min_examples=least), 1000, 100)
        assert sizes.sum() == 1000 and sizes.min() >= least
    with pytest.raises(ValueError, match="num_clients must be at most 90: .* at least 11"):
        sizes_of(make(3.0, min_examples=11), 1000, 100)
    with pytest.raises(ValueError, match="min_examples must be a whole number of at least 0"):
        make(1.0, min_examples=-1)


@pytest.mark.parametrize(("make", "name"), [(power_law_sizes, "exponent"), (lognormal_sizes, "sigma")])
def test_a_law_out_of_range_is_refused(make, name):
    for value in (-0.1, 101, float("nan")):
        with pytest.raises(ValueError, match=rf"{name} must be in \[0, 100\], got"):
            make(value)


@pytest.mark.parametrize("partitioner", [power_law_sizes(0), lognormal_sizes(0), dirichlet_sizes(1e9)], ids=["power", "log", "dirichlet"])
def test_a_law_without_spread_gives_equal_sizes(partitioner):
    assert set(sizes_of(partitioner, 1000, 8)) == {125}


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (np.array(["b", "a", "b"], object), ["a", "b"]),
        (np.array(["b", "a", "b"]), ["a", "b"]),
        (np.array([b"b", b"a", b"b"], object), ["a", "b"]),
        (np.array([b"b", b"a", b"b"]), ["a", "b"]),
        (np.array([10, 9, 10], np.uint8), ["10", "9"]),
        (np.array([True, False, True]), ["False", "True"]),
        (np.array(["2020-01-02", "2019-12-31", "2020-01-02"], "datetime64[D]"), ["2019-12-31", "2020-01-02"]),
        (np.array(["o'a/é\n", "007", "o'a/é\n"], object), ["007", "o'a/é\n"]),
    ],
    ids=["text", "U", "bytes", "S", "numbers", "booleans", "dates", "odd text"],
)
def test_by_column_names_clients_by_value_in_the_order_of_text(values, ids):
    columns = {"row": np.arange(3), "user": values}
    data = partition(columns, by_column("user"))
    assert list(data) == ids == sorted(ids)
    rows = {client: data[client]["row"].tolist() for client in data}
    assert sorted(map(tuple, rows.values())) == [(0, 2), (1,)]
    for client, own in rows.items():
        value = values[own[0]]
        assert client == (value.decode() if isinstance(value, bytes) else str(value))
    assert list(partition(columns, by_column("user"), num_clients=2)) == ids


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array(["a", None], object), "'user' must all be text, got NoneType, str"),
        (np.array(["a", 1], object), "must all be text, got int, str"),
        (np.array([b"a", "a"], object), "must all be text, got bytes, str"),
        (np.array([1.0, np.nan]), "must be text, whole numbers.* got float64"),
        (np.array(["2020-01-01", "NaT"], "datetime64[D]"), "none missing, got datetime64"),
        (np.array([b"\xff", b"a"], object), "'user' must be text, or bytes in UTF-8"),
        (np.array(["\ud800", "a"], object), "'user' must be text, or bytes in UTF-8"),
    ],
)
def test_by_column_refuses_what_names_no_client(values, words):
    with pytest.raises(ValueError, match=words):
        partition({"user": values}, by_column("user"))


def test_by_column_refuses_another_number_of_clients():
    with pytest.raises(ValueError, match="num_clients must be left out for by_column.*or be 3, .*; got 4"):
        cut(table([0, 1, 2, 2]), by_column("y"), 4)


@given(st.floats(0, 1), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_a_mixture_keeps_sizes_ids_and_the_share_that_is_not_iid(share, seed):
    labels = np.repeat(np.arange(5), [100, 60, 30, 7, 3])
    data = partition(table(labels), mixture(share, by_column("y")), seed=seed)
    assert dict(data.sizes) == {"0": 100, "1": 60, "2": 30, "3": 7, "4": 3}
    for client, size in data.sizes.items():
        own = (data[client]["y"] == int(client)).sum()
        assert own >= size - round(share * size), "no more is given up than the share"
    if share == 0:
        assert all((data[client]["y"] == int(client)).all() for client in data)


def test_a_mixture_is_as_similar_as_it_says():
    """s of the rows come from the whole: a client of one of 10 labels keeps 1 - s + s / 10 of it, where sigma is below
    sqrt(s / 10 / 1000) for 1,000 rows; 5 sigma. With s = 1 it is iid."""
    labels = np.arange(10_000) % 10
    for share in (0.0, 0.3, 0.8, 1.0):
        counts = label_counts(labels, cut(table(labels), mixture(share, shards("y", 1)), 10), 10)
        own = counts.max(1) if share < 0.9 else counts[:, 0]
        assert np.abs(own / 1000 - (1 - share if share < 0.9 else 0) - share / 10).max() <= 5 * np.sqrt(share / 10 / 1000)


def test_a_mixture_of_a_function_of_ones_own():
    data = partition(table(np.arange(6)), mixture(1.0, lambda columns, number, rng: [[0, 1, 2, 3], [4, 5]]), num_clients=2)
    assert data.size_array().tolist() == [4, 2]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: shards("y", 0), "per_client must be a whole number of at least 1, got 0"),
        (lambda: pathological("y", 0), "labels_per_client must be a whole number of at least 1, got 0"),
        (lambda: dirichlet("y", 1, min_examples=1.5), "min_examples must be a whole number of at least 0, got 1.5"),
        (lambda: dirichlet("y", 1, per="row"), 'per must be "client" or "label", got \'row\''),
        (lambda: mixture(1.5, iid()), r"share must be in \[0, 1\], got 1.5"),
        (lambda: mixture(float("nan"), iid()), r"share must be in \[0, 1\], got nan"),
    ],
)
def test_a_bad_argument_is_refused_when_the_partitioner_is_made(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_labels_of_several_kinds_are_refused():
    with pytest.raises(ValueError, match="labels in column 'y' must be of one kind"):
        cut({"row": np.arange(3), "y": np.array(["a", 1, None], object)}, shards("y", 1), 2)


def test_text_labels_are_labels():
    labels = np.array(["cat", "dog"] * 10, object)
    assert {frozenset(labels[own]) for own in cut({"row": np.arange(20), "y": labels}, shards("y", 1), 2)} == {
        frozenset({"cat"}),
        frozenset({"dog"}),
    }


def test_the_registry_is_what_the_package_offers():
    makers = {name for name in partitioners.__all__ if name[0].islower()}
    assert {name.split()[0] for name in PARTITIONERS} == makers
