"""`describe` says what is there, whatever is there, and nothing of the data reaches a terminal as a command."""

import datetime
import json
import math
import re
from fractions import Fraction
from itertools import pairwise, product

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.data import FederatedDataset, describe, load
from fedloom.data.overview._describe import size_steps
from fedloom.data.overview._labels import LabelCounts
from fedloom.data.overview._shorten import printable, shorten

from_dict = FederatedDataset.from_dict


def objects(*values):
    column = np.empty(len(values), object)
    column[:] = values
    return column


def of_sizes(sizes):
    """A data set of which nothing can be read."""
    return FederatedDataset({f"c{i}": size for i, size in enumerate(sizes)}, lambda client: {})


def with_labels(*clients):
    return from_dict({f"c{i}": {"y": labels} for i, labels in enumerate(clients)})


# sizes


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50))
def test_sizes_are_numpys_over_all_clients(sizes):
    found = describe(of_sizes(sizes), max_clients=1).sizes
    assert list(found.quantiles) == ["min", "5%", "25%", "50%", "75%", "95%", "max"]
    np.testing.assert_allclose(list(found.quantiles.values()), np.quantile(sizes, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]))
    assert found.mean == pytest.approx(np.mean(sizes)) and found.std == pytest.approx(np.std(sizes))
    assert found.empty == sizes.count(0)
    largest = sorted(sizes, reverse=True)[: -(-len(sizes) // 10)]
    assert found.top_tenth == pytest.approx(sum(largest) / sum(sizes) if sum(sizes) else 0)


@given(st.lists(st.integers(0, 10**4), min_size=1, max_size=12).filter(any))
def test_gini_is_half_the_relative_mean_difference(sizes):
    """The definition of Gini 1912, over all pairs."""
    n = len(sizes)
    difference = sum(abs(a - b) for a, b in product(sizes, sizes)) / n**2
    assert describe(of_sizes(sizes)).sizes.gini == pytest.approx(difference / (2 * sum(sizes) / n), abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_gini_in_closed_form(n):
    assert describe(of_sizes([5] * n)).sizes.gini == pytest.approx(0, abs=1e-12)
    assert describe(of_sizes([0] * (n - 1) + [9])).sizes.gini == pytest.approx((n - 1) / n)
    assert describe(of_sizes(range(1, n + 1))).sizes.gini == pytest.approx((n - 1) / (3 * n), abs=1e-12)


@given(st.lists(st.one_of(st.integers(0, 20), st.integers(0, 10**12)), max_size=40))
def test_the_histogram_has_every_client_that_is_not_empty_once(sizes):
    found = describe(of_sizes(sizes))
    steps = found.sizes.histogram if found.sizes else ()
    for low, high, count in steps:
        assert count == sum(low <= size <= high for size in sizes)
    assert sum(count for _, _, count in steps) == sum(size > 0 for size in sizes)
    assert len(steps) <= 15
    assert all(high + 1 == low for (_, high, _), (low, _, _) in pairwise(steps))


@pytest.mark.parametrize(
    ("low", "high", "borders"),
    [
        (7, 7, [7, 8]),
        (1, 5, [1, 2, 3, 4, 5, 6]),
        (1, 300, [1, 2, 5, 10, 20, 50, 100, 200, 500]),
        (30, 1_000, [20, 50, 100, 200, 500, 1_000, 2_000]),
        (1, 10**7, [10**i for i in range(9)]),
    ],
)
def test_steps_of_sizes_are_round(low, high, borders):
    assert size_steps(low, high) == borders


# columns


def column_of(*clients):
    (column,) = describe(from_dict({f"c{i}": {"x": values} for i, values in enumerate(clients)})).columns
    return column


def test_columns_are_described_over_all_clients():
    column = column_of(np.array([[3, 9]], np.uint8), np.array([[1, 7], [8, 2]], np.uint8))
    assert (column.types, column.shape, column.low, column.high, column.missing) == (("uint8",), (2,), 1, 9, 0)


@pytest.mark.parametrize(
    ("values", "types", "shape", "low", "high", "unit", "missing"),
    [
        ([1.5, math.nan, -math.inf], ("float64",), (), -math.inf, 1.5, "", 1),
        ([math.nan], ("float64",), (), None, None, "", 1),
        ([True, False], ("bool",), (), False, True, "", 0),
        (np.array(["a", "caf\u00e9"]), ("str",), (), 1, 4, "characters", 0),
        (objects("", "abc", None), ("str",), (), 0, 3, "characters", 1),
        (objects(b"\x00\x01"), ("bytes",), (), 2, 2, "bytes", 0),
        (objects(np.arange(3), np.arange(5)), ("int64",), (None,), 0, 4, "", 0),
        (objects(np.zeros((2, 3)), np.zeros((4, 3))), ("float64",), (None, 3), 0, 0, "", 0),
        (objects(np.zeros(2), np.zeros((2, 2))), ("float64",), None, 0, 0, "", 0),
        (objects(1, "a", math.nan), ("int", "str"), (), None, None, "mixed", 1),
        (objects([1], {}), ("dict", "list"), (), None, None, "mixed", 0),
        (objects(4, 2.5), ("float", "int"), (), 2.5, 4, "", 0),
        (np.array(["2020-02-01", "NaT"], "datetime64[D]"), ("datetime64[D]",), (), *[np.datetime64("2020-02-01")] * 2, "", 1),
        ([1 + 2j], ("complex128",), (), None, None, "", 0),
    ],
)
def test_a_column_of_any_kind(values, types, shape, low, high, unit, missing):
    column = column_of(values)
    assert (column.types, column.shape, column.unit, column.missing) == (types, shape, unit, missing)
    assert (column.low, column.high) == (low, high)


@pytest.mark.parametrize(
    ("one", "other", "types", "shape", "span"),
    [
        ([1], [2.5], ("float64", "int64"), (), (1, 2.5)),
        ([[1, 2]], [[1, 2, 3]], ("int64",), (None,), (1, 3)),
        ([[1, 2]], [3], ("int64",), None, (1, 3)),
        ([1], ["a"], ("int64", "str"), (), (None, None)),
        ([math.nan], ["abc"], ("float64", "str"), (), (3, 3)),
        (np.array([1], "timedelta64[h]"), np.array([30], "timedelta64[m]"), ("timedelta64[h]", "timedelta64[m]"), (), (30, 60)),
        (np.array([1], "timedelta64[h]"), [5], ("int64", "timedelta64[h]"), (), (None, None)),
    ],
)
def test_clients_that_differ(one, other, types, shape, span):
    for clients in ((one, other), (other, one), ([], one, other)):
        column = column_of(*clients)
        assert (column.types, column.shape) == (types, shape)
        assert tuple(end / np.timedelta64(1, "m") if isinstance(end, np.timedelta64) else end for end in (column.low, column.high)) == span


def test_ranges_that_cannot_be_compared_stay_none():
    assert column_of([1], ["a"], [2]).low is column_of([2], [3], ["a"]).high is None


def test_what_is_odd_is_said():
    data = from_dict({"ada": {"x": [1], "y": [0]}, "bob": {"x": [2, 3]}, "cid": {"z": []}})
    assert describe(data).notes == ("Column 'y' is missing in 1 of 2 clients.",)
    mapped = data.map(lambda columns: {name: np.repeat(values, 3) for name, values in columns.items()})
    found = describe(mapped)
    assert (found.examples, found.examples_read) == (3, 9)
    assert "hold 9 examples, not 3: sizes are those of the source" in found.notes[0]
    unequal = FederatedDataset({"ada": 2}, lambda client: {"x": [1, 2], "y": [1]})
    assert describe(unequal).notes == ("The columns of client 'ada' differ in length: {'x': 2, 'y': 1}.",)


# labels


def test_label_skew_by_hand():
    """p_1 = (1, 0), p_2 = (1/4, 3/4), q = (3/6, 3/6): distances 1/2 and 1/4; a single client has none."""
    found = describe(with_labels(["a", "a"], ["a", "b", "b", "b"], [])).labels
    assert (found.column, found.clients, found.counts) == ("y", 2, {"a": 3, "b": 3})
    assert found.distance == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert (found.per_client["min"], found.per_client["50%"], found.per_client["max"]) == (1, 1.5, 2)
    assert describe(with_labels([1, 2, 2])).labels.distance == pytest.approx(0)


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=9), min_size=1, max_size=6))
def test_distances_are_half_the_sum_of_absolute_differences(clients):
    pooled = [label for client in clients for label in client]
    counts = LabelCounts("y", [{label: client.count(label) for label in client} for client in clients])
    for client, distance, different in zip(clients, counts.distances(), counts.different, strict=True):
        exact = sum(abs(Fraction(client.count(k), len(client)) - Fraction(pooled.count(k), len(pooled))) for k in range(5)) / 2
        assert distance == pytest.approx(float(exact), abs=1e-12)
        assert different == len(set(client))
    np.testing.assert_allclose(counts.shares().sum(1), 1)
    assert counts.total.tolist() == [pooled.count(label) for label in counts.labels]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_the_distance_at_random_is_the_expectation_over_all_draws(frequencies, size):
    """Every sequence of labels that a client could draw, with its probability."""
    total = sum(frequencies)
    q = [Fraction(frequency, total) for frequency in frequencies]
    expected = sum(
        math.prod(q[k] for k in draw) * sum(abs(Fraction(draw.count(k), size) - q[k]) for k in range(len(q))) / 2
        for draw in product(range(len(q)), repeat=size)
    )
    # A client of that size and one that makes up the frequencies.
    counts = LabelCounts("y", [dict(enumerate(frequencies))])
    counts.sizes = np.array([size])
    np.testing.assert_allclose(counts.distances_at_random(), [float(expected)], rtol=1e-9, atol=1e-12)


def test_the_distance_at_random_does_not_overflow_with_large_clients():
    """For large n, X is normal: E|X - n q| = sqrt(2 n q (1 - q) / pi), here twice half of it over n; the error is of order 1 / n."""
    n = 10**8
    counts = LabelCounts("y", [{0: n, 1: n}])
    np.testing.assert_allclose(counts.distances_at_random(), [math.sqrt(1 / (2 * math.pi * 2 * n))], rtol=1e-5)


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"label": ["a", "b"]}, "label"),
        ({"label": [3, 4], "y": [1, 2]}, "y"),
        ({"label": [3, 4], "y": [0.5, 2]}, "label"),
        ({"y": [[1], [2]]}, "y"),
        ({"y": objects("a", None)}, "y"),
        ({"y": np.array([b"a", b"b"])}, "y"),
        ({"y": [True, False]}, "y"),
        ({"y": [[1, 2], [2, 3]]}, None),
        ({"y": objects([1], {})}, None),
        ({"y": objects(np.arange(2), np.arange(3))}, None),
        ({"y": np.array(["2020-01-01", "NaT"], "datetime64[ns]")}, None),
        ({"y": objects(np.datetime64(1, "ns"), 10**5000)}, None),
        ({"target": [1, 2]}, None),
        ({"y": [], "label": []}, None),
    ],
)
def test_labels_are_found_where_they_usually_are(columns, found):
    labels = describe(from_dict({"ada": columns})).labels
    assert (labels and labels.column) == found


def test_too_many_different_values_are_no_labels_unless_they_are_asked_for():
    data = with_labels(range(1_000), range(500, 1_001))
    assert describe(data).labels is None
    assert len(describe(data, label="y").labels.counts) == 1_001
    assert describe(data, label="y", max_clients=1).labels.clients == 1
    assert len(describe(with_labels(range(1_000))).labels.counts) == 1_000


def test_a_label_column_that_is_none_is_an_error_that_says_what_there_is():
    data = from_dict({"ada": {"x": [[1, 2]], "when": [0.5]}, "bob": {"x": [[1, 2]], "when": [math.nan]}})
    assert describe(data, label="when").labels.counts == {0.5: 1}
    with pytest.raises(ValueError, match="label must name a column of the data, got 'w'. The columns are 'x', 'when'"):
        describe(data, label="w")
    with pytest.raises(ValueError, match=r"'x' of client 'ada' holds int64 of shape \(1, 2\). Name another"):
        describe(data, label="x")


def test_labels_of_several_types_come_in_order():
    found = describe(with_labels(objects("b", 2, "a"), [10, 1], np.array([b"z"]))).labels
    assert list(found.counts) == [1, 2, 10, "a", "b", b"z"]


# what is read


def test_at_most_max_clients_are_read_and_the_seed_says_which():
    reads = []

    def read(client):
        reads.append(client)
        return {"x": np.zeros(3)}

    data = FederatedDataset({f"{i:03d}": 3 * (i % 2) for i in range(100)}, read)
    found = describe(data, max_clients=10, samples=2, seed=1)
    first = list(reads)
    assert len(set(first)) == len(first) == found.clients_read == 10 and first == sorted(first)
    assert found.examples == 150 and "read: 10 of 100 clients" in str(found)
    assert len(found.samples) == 2 and {sample.client for sample in found.samples} <= set(first)
    assert all(int(sample.client) % 2 and len(sample.examples) == 2 for sample in found.samples), "those that are not empty"
    reads.clear()
    describe(data, max_clients=10, seed=1)
    assert reads == first
    reads.clear()
    describe(data, max_clients=10, seed=2)
    assert reads != first


@pytest.mark.parametrize(("arguments", "name"), [({"max_clients": 0}, "max_clients"), ({"samples": -1}, "samples")])
def test_bounds_out_of_range_are_refused(arguments, name):
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        describe(with_labels([1]), **arguments)


@pytest.mark.parametrize("data", [from_dict({}), from_dict({"ada": {"y": []}})], ids=["no clients", "no examples"])
def test_nothing_is_described_too(data):
    found = describe(data)
    assert (found.clients, found.examples, found.labels, found.samples) == (len(data), 0, None, ())
    assert str(found).startswith(f"dataset: {len(data)} client") and "0 examples" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)
    assert describe(data, label="y").labels is None


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5), st.dates(), st.complex_numbers(),
    st.decimals(), st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=1), st.none(), max_size=1), st.builds(object),
    st.sampled_from([np.datetime64("NaT"), np.timedelta64(1, "s"), np.float16(2), np.zeros((2, 0)), np.array(None), 10**5000]),
)  # fmt: skip
columns = st.one_of(
    st.lists(scalars, max_size=4).map(lambda values: objects(*values)),
    st.lists(scalars, max_size=3),
    st.sampled_from(["f2", "f8", "i1", "u8", "c8", "M8[s]", "m8[D]", "S3", "U2", "?", "V2", "i4,f4"]).flatmap(
        lambda dtype: st.sampled_from([(0,), (2,), (2, 1), (2, 0), (1, 2, 3), ()]).map(lambda shape: np.zeros(shape, dtype))
    ),
)


@given(st.lists(st.dictionaries(st.sampled_from(["x", "y", "label", "\x1b[2J", "[red]"]), columns, max_size=3), max_size=4))
@settings(max_examples=200, deadline=None)
def test_no_columns_whatever_make_it_fail(clients):
    names = [f"c{i}\x07\u202e" for i in range(len(clients))]
    data = FederatedDataset(dict.fromkeys(names, 2), lambda client: clients[names.index(client)], name="\x1b]0;title\x07")
    found = describe(data)
    assert all(line.isprintable() for line in str(found).splitlines())
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.columns == () or {column.name for column in found.columns} <= {name for client in clients for name in client}


# text that is safe


EVIL = "\x1b[31mred\x1b[0m \x1b]8;;http://x\x07 [bold]b[/bold] \r\n\t\x9b2J \u202egnirts \u2028 \ud800 \x00 :smile:"


def test_escape_sequences_stay_in_the_data():
    """In every place where text of the data is shown: names, ids, columns, types, labels, values, notes."""
    strange = type("\x1b[5mKind", (), {})()
    data = FederatedDataset(
        {EVIL: 2, "other": 1},
        lambda client: (
            {EVIL: objects(EVIL, strange), "y": objects(EVIL, "b"), "z": objects(EVIL.encode("utf-8", "replace"), np.array([EVIL, EVIL]))}
            if client == EVIL
            else {"y": ["b", "c"], "z": [1]}
        ),
        name=EVIL,
    )
    found = describe(data)
    assert len(found.notes) >= 2 and len(found.samples) == 2
    for section in found.sections():
        for text in [section.title, *section.lines, *(cell for row in section.table for cell in row), *(bar[0] for bar in section.bars)]:
            assert text.isprintable(), text
    assert all(line.isprintable() for line in str(found).splitlines())
    assert r"\x1b[31mred\x1b[0m" in str(found)
    assert found.name == EVIL and found.samples[0].client in (EVIL, "other"), "as they are in the data"


@given(st.text(st.characters(), max_size=60), st.integers(2, 40))
def test_printable_text_is_short_and_loses_nothing_that_fits(text, limit):
    shown = printable(text, limit)
    assert shown.isprintable() and len(shown) <= limit
    whole = printable(text, 10**6)
    escape = r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|[nrt\\])"
    assert re.sub(escape, lambda found: found[0].encode().decode("unicode_escape"), whole) == text
    assert shown == whole or (shown.endswith("\u2026") and whole.startswith(shown[:-1]))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("abc", "'abc'"),
        ("a" * 61, f"'{'a' * 59}\u2026' (61 characters)"),
        ("ends in \u2026", "'ends in \u2026'"),
        ("back\\slash", r"'back\\slash'"),
        (b"\x00\xff", r"b'\x00\xff'"),
        (b"a" * 20, f"b'{'a' * 15}'\u2026 (20 bytes)"),
        (np.arange(3), "[0, 1, 2]"),
        (np.arange(1_234), "[0, 1, 2, 3, 4, 5, \u2026 1,234 in all]"),
        (np.array([[1, 2], [3, 4]], np.uint8), "2 x 2 uint8, 1 to 4"),
        (np.full((2, 2), math.nan), "2 x 2 float64"),
        (np.array(["a", "b"]), "['a', 'b']"),
        (objects(np.arange(3), "x"), "[3 int64, 'x']"),
        (np.float32(0.1), "0.1"),
        (-1234567, "-1234567"),
        (10**5000, "an integer of 16610 bits"),
        (None, "None"),
        (np.bool_(True), "True"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (np.datetime64("2020-01-02"), "2020-01-02"),
        ([1, 2], "a list of 2"),
        (object(), "<object>"),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_values_in_short(value, text):
    assert shorten(value) == text


def test_an_array_that_holds_itself_is_no_abyss():
    array = objects(None)
    array[0] = array
    assert shorten(array) == "[1 object]"


def test_samples_share_a_line_where_they_are_short():
    found = describe(from_dict({"ada": {"x": [1, 2, 3], "text": ["a" * 30, "b" * 30, "c"]}}))
    assert found.sections()[-1].table[1:] == [("ada (3)", "x", "1, 2"), ("", "text", f"'{'a' * 30}'"), ("", "", f"'{'b' * 30}'")]


def test_tffs_shakespeare(tff_folder):
    """Clients, examples and the one column as TFF documents them; the quantiles are numpy's of the file's own counts."""
    file = tff_folder / "shakespeare_train.h5"
    with h5py.File(file) as root:
        sizes = [len(client["snippets"]) for client in root["examples"].values()]
    found = describe(load(file), max_clients=20)
    assert (found.clients, found.examples, found.clients_read) == (715, 16_068, 20)
    assert found.sizes.quantiles["50%"] == np.median(sizes)
    (column,) = found.columns
    assert (column.name, column.types, column.shape, column.unit) == ("snippets", ("str",), (), "characters")
    assert found.labels is None and "Labels" not in str(found)
