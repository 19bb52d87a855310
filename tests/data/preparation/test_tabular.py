"""Tables to x and y: against the definition, a row at a time, and what is refused."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.data import FederatedDataset, Tabular, moments

CITIES = ("Bonn", "Ulm", "Köln")
SMOKES = (0, 1)


def column(values):
    found = np.empty(len(values), object)
    found[:] = values
    return found


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.sampled_from([*CITIES, "Rom", None]), st.sampled_from(SMOKES)), max_size=6),
    st.booleans(),
)
def test_x_is_the_features_in_their_order(rows, one_hot):
    prepare = Tabular(
        features=("city", "age", "smokes"),
        label=None,
        categories={"city": CITIES, "smokes": SMOKES},
        one_hot=one_hot,
        allow_unknown=True,
        mean={"age": 40},
        std={"age": 8},
    )
    ages, cities, smokes = ([row[i] for row in rows] for i in range(3))
    x = prepare({"age": np.array(ages, float), "city": column(cities), "smokes": np.array(smokes, int)})["x"]
    for row, (age, city, smoke) in zip(x, rows, strict=True):
        if one_hot:
            expected = [*(float(city == known) for known in CITIES), (age - 40) / 8, *(float(smoke == known) for known in SMOKES)]
        else:
            expected = [CITIES.index(city) if city in CITIES else 3, (age - 40) / 8, SMOKES.index(smoke)]
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-6)
    assert x.shape == (len(rows), 6 if one_hot else 3)
    assert x.dtype == np.float32


def test_a_column_of_vectors_is_as_many_features():
    prepare = Tabular(features=("where", "flag"), label=None, mean={"where": (1, 2)}, std={"where": (1, 4)})
    columns = {"where": np.array([[1, 2], [3, 6]]), "flag": np.array([True, False])}
    assert prepare(columns)["x"].tolist() == [[0, 0, 1], [2, 1, 0]]
    assert prepare({name: values[:0] for name, values in columns.items()})["x"].shape == (0, 3)


def test_large_numbers_are_standardized_before_they_lose_digits():
    """Seconds since 1970 differ by less than float32 can tell apart."""
    prepare = Tabular(features=("time",), label=None, mean={"time": 1.7e9})
    assert prepare({"time": np.array([1_700_000_001, 1_700_000_003])})["x"].ravel().tolist() == [1, 3]


@pytest.mark.parametrize(
    ("labels", "classes", "expected", "dtype"),
    [
        (np.array([3, 0]), (), [3, 0], np.int32),
        (np.array([True, False]), (), [1, 0], np.int32),
        (np.array([0.5, -2.0]), (), [0.5, -2.0], np.float32),
        (column(["no", "yes"]), ("yes", "no"), [1, 0], np.int32),
        (np.array([-1, 1]), (-1, 1), [0, 1], np.int32),
        (np.array([2.0, 1.0]), (1, 2), [1, 0], np.int32),
    ],
)
def test_y_is_a_class_or_a_number(labels, classes, expected, dtype):
    y = Tabular(features=("a",), label="target", classes=classes)({"a": np.zeros(2), "target": labels})["y"]
    assert y.tolist() == expected and y.dtype == dtype


def test_standardized_over_all_clients():
    """What `moments` gives is what `Tabular` takes, through pickle too."""
    rng = np.random.default_rng(1)
    clients = {
        str(i): {"a": rng.normal(5, 3, size), "b": rng.uniform(-9, 0, (size, 2)), "y": rng.normal(size=size)}
        for i, size in enumerate((4, 0, 9))
    }
    data = FederatedDataset.from_dict(clients)
    mean, std = moments(data, ("a", "b"))
    prepare = pickle.loads(pickle.dumps(Tabular(features=("a", "b"), label="y", mean=mean, std=std)))
    assert prepare == Tabular(features=("a", "b"), label="y", mean={"a": float(mean["a"]), "b": tuple(mean["b"])}, std=std)
    x = np.concatenate([columns["x"] for columns in data.map(prepare).values()])
    np.testing.assert_allclose(x.mean(axis=0), np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(x.std(axis=0), np.ones(3), rtol=1e-5)


def test_weights_of_examples_are_kept():
    assert Tabular(features=("a",), label=None)({"a": [1, 2], "sample_weight": [3.0, 0.0]})["sample_weight"].tolist() == [3, 0]


TABLE = {"age": np.array([1.0, 2.0]), "city": column(["Bonn", "Ulm"]), "y": np.array([0, 1])}


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ({"features": ("age", "size")}, {}, r"Tabular needs the column 'size', got \['age', 'city', 'y'\].*`features=`"),
        ({"label": "sick"}, {}, r"Tabular needs the column 'sick'.*`label=`"),
        ({"features": ("city",)}, {}, r"'city' must be numbers of shape .*got object of shape \(2,\).*`categories=`"),
        ({}, {"age": np.zeros((2, 1, 1))}, r"got float64 of shape \(2, 1, 1\)"),
        ({}, {"age": np.array([1, np.nan])}, r"'age' must be finite and within float32, got nan in row 1 \(1 of 2 rows are not\).*Fill in"),
        ({}, {"age": np.array([1e39, 0])}, r"within float32, got 1e\+39 in row 0"),
        ({"mean": {"age": (1, 2)}}, {}, r"Tabular.mean\['age'\] must be one number or 1, one per column of x, got 2 numbers"),
        ({"features": ("city",), "categories": {"city": ("Bonn",)}}, {}, r"listed in `categories\['city'\]` only, got 'Ulm' in row 1"),
        ({"features": ("age",), "categories": {"age": (1,)}}, {"age": np.ones((2, 2))}, r"one value per example, got the shape \(2, 2\)"),
        (
            {"features": ("city",), "categories": {"city": ("Bonn",)}},
            {"city": column([["Bonn"], 1])},
            "one value per example: .*unhashable",
        ),
        ({"features": ("age", "b")}, {"b": np.zeros(3)}, "must be equally long, got {'age': 2, 'b': 3}"),
        ({}, {"y": np.array([0, np.nan])}, "The label column 'y' must be finite"),
        ({}, {"y": column(["no", "yes"])}, r"The label column 'y' must have one whole number per example, got object.*`classes=`"),
    ],
)
def test_bad_columns_are_named(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        Tabular(**{"features": ("age",), "label": "y", **settings})({**TABLE, **changes})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": ()}, r"Tabular.features must list columns, at least one and each once, got \(\)"),
        ({"features": "age"}, "Tabular.features must list columns"),
        ({"features": ("age", "age")}, "each once"),
        ({"features": ("age", "y")}, "must not hold the label, got 'y'"),
        ({"categories": {"town": ("a",)}}, r"Tabular.categories must be about features, that is some of \['age', 'city'\], got \['town'\]"),
        ({"categories": {"city": ("a", "a")}}, r"Tabular.categories\['city'\] must list values, each once"),
        (
            {"categories": {"city": ("a",)}, "std": {"city": 1}},
            r"about features without categories, that is some of \['age'\], got \['city'\]",
        ),
        (
            {"std": {"age": 0}},
            r"Tabular.std\['age'\] must be one number .* above 0 \(for what never varies, give 1, or leave it out\), got 0",
        ),
        ({"mean": {"age": "old"}}, r"Tabular.mean\['age'\] must be one number .*got 'old'"),
        ({"classes": "yn"}, "Tabular.classes must list values"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Tabular(**{"features": ("age", "city"), "label": "y", **settings})
