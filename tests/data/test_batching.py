"""Batches hold every example as often as they should, whatever the sizes; padding is real data without weight."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedloom.core import Batch
from fedloom.data import Batching, as_batch, pooled_batches

counts = st.integers(0, 23)
sizes = st.integers(1, 9)
epochs = st.integers(1, 3)


def columns(count, start=0, weights=False):
    """Examples that say who they are: y is the example's number."""
    y = np.arange(start, start + count)
    return {"x": np.stack([y, -y], axis=-1).astype(np.float32), "y": y} | ({"sample_weight": y + 0.5} if weights else {})


def batches(count, *, client="ada", seed=0, round_number=0, weights=False, **settings):
    return list(Batching(**settings).batches(columns(count, weights=weights), client=client, seed=seed, round_number=round_number))


def real_rows(batch_list):
    return [int(y) for batch in batch_list for y, real in zip(batch.y, batch.real, strict=True) if real]


@settings(max_examples=60, deadline=None)
@given(counts, sizes, epochs, st.booleans(), st.integers(0, 5))
def test_padded_batches_hold_every_example_once_per_epoch(count, size, epochs, shuffle, seed):
    made = batches(count, size=size, epochs=epochs, shuffle=shuffle, seed=seed, weights=True)
    per_epoch = -(-count // size)
    assert len(made) == epochs * per_epoch
    for epoch in range(epochs):
        rows = real_rows(made[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert sorted(rows) == list(range(count))
        assert shuffle or rows == list(range(count))


@settings(max_examples=60, deadline=None)
@given(counts, sizes, st.booleans())
@example(1, 9, True)
def test_padding_repeats_real_rows_of_its_batch_and_has_real_0(count, size, shuffle):
    for batch in batches(count, size=size, shuffle=shuffle, weights=True):
        assert batch.x.shape == (size, 2) and batch.y.shape == batch.real.shape == batch.sample_weight.shape == (size,)
        assert batch.real.dtype == batch.sample_weight.dtype == np.float32
        number = int(batch.real.sum())
        assert number >= 1 and batch.real.tolist() == [1.0] * number + [0.0] * (size - number), "real rows come first"
        assert set(batch.y) == set(batch.y[:number])
        np.testing.assert_array_equal(batch.x, np.stack([batch.y, -batch.y], axis=-1), "a row's columns stay together")
        np.testing.assert_array_equal(batch.sample_weight, batch.y + 0.5)


def test_examples_without_weights_weigh_1():
    assert all((batch.sample_weight == 1).all() for batch in batches(5, size=2))


@settings(max_examples=40, deadline=None)
@given(counts, sizes, epochs, st.booleans())
def test_drop_leaves_out_what_does_not_fill_a_batch_in_every_epoch(count, size, epochs, shuffle):
    made = batches(count, size=size, epochs=epochs, shuffle=shuffle, remainder="drop")
    assert len(made) == epochs * (count // size)
    assert all(batch.real.all() for batch in made)
    if not shuffle:
        assert real_rows(made) == list(range(count // size * size)) * epochs


@settings(max_examples=60, deadline=None)
@given(counts, sizes, epochs, st.integers(1, 12), st.sampled_from(["pad", "drop"]), st.booleans())
def test_max_batches_takes_the_first_of_all_epochs_together(count, size, epochs, limit, remainder, shuffle):
    common = {"size": size, "epochs": epochs, "remainder": remainder, "shuffle": shuffle}
    limited, unlimited = batches(count, max_batches=limit, **common), batches(count, **common)
    assert len(limited) == min(limit, len(unlimited))
    for got, want in zip(limited, unlimited, strict=False):
        np.testing.assert_array_equal(got.y, want.y)


def test_batches_are_made_one_by_one():
    """A caller that needs only the first few of very many pays for those."""
    made = Batching(size=1, epochs=10**9).batches(columns(2), client="ada")
    assert len(list(itertools.islice(made, 3))) == 3


def order(**changed):
    return tuple(real_rows(batches(20, size=4, **changed)))


def test_the_order_is_a_function_of_seed_round_and_client():
    """Of 20! orders, two by chance the same would be a wonder: they are the same only if all three are, and differ over epochs."""
    variants = [{"seed": s, "round_number": r, "client": c} for s in (0, 1) for r in (0, 1) for c in ("ada", "bob", "")]
    orders = [order(**variant) for variant in variants]
    assert len(set(orders)) == len(variants)
    assert orders == [order(**variant) for variant in variants]
    assert tuple(range(20)) not in orders
    two_epochs = order(epochs=2)
    assert two_epochs[:20] == order() and two_epochs[20:] != order()


@settings(max_examples=30, deadline=None)
@given(counts, sizes, sizes)
def test_the_order_does_not_depend_on_the_size_of_batches(count, size, other):
    assert real_rows(batches(count, size=size)) == real_rows(batches(count, size=other))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 7), max_size=6), sizes, st.booleans())
def test_pooled_batches_are_those_of_the_clients_joined(client_sizes, size, weights):
    starts = np.cumsum([0, *client_sizes])
    clients = [(f"c{i}", columns(n, start, weights)) for i, (n, start) in enumerate(zip(client_sizes, starts[:-1], strict=True))]
    got = list(pooled_batches(iter(clients), size))
    want = batches(int(starts[-1]), size=size, shuffle=False, weights=weights)
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        for name in Batch._fields:
            np.testing.assert_array_equal(getattr(g, name), getattr(w, name), name)


def test_pooled_batches_read_clients_only_as_far_as_needed():
    read = []

    def clients():
        for i in range(10):
            read.append(i)
            yield f"c{i}", columns(3)

    assert read == []
    next(pooled_batches(clients(), 4))
    assert read == [0, 1]


def test_pooled_batches_need_the_same_columns_everywhere():
    with pytest.raises(ValueError, match=r"'bob'.*sample_weight"):
        list(pooled_batches([("ada", columns(3)), ("bob", columns(3, weights=True))], 2))


@pytest.mark.parametrize("size", [0, -1])
def test_pooled_batches_of_no_size_are_an_error(size):
    with pytest.raises(ValueError, match=f"at least 1, got {size}"):
        list(pooled_batches([("ada", columns(3))], size))


def test_columns_may_be_lists_or_jax_arrays():
    (batch,) = Batching(size=2, shuffle=False).batches({"x": [[1.0], [2.0]], "y": jnp.asarray([3, 4])}, client="ada")
    assert isinstance(batch.x, np.ndarray) and isinstance(batch.y, np.ndarray)
    assert (batch.x.tolist(), batch.y.tolist()) == ([[1.0], [2.0]], [3, 4])


@pytest.mark.parametrize("names", [["y"], ["x", "y", "z"], ["snippets"]])
def test_other_columns_are_an_error_that_names_the_client_and_what_to_do(names):
    with pytest.raises(ValueError, match=r"'ada' must have the columns x and y.*map"):
        list(Batching(size=2).batches({name: np.arange(3) for name in names}, client="ada"))


def test_examples_may_have_no_labels():
    """As for k-means; y is then an empty tree, which any loss that reads it fails on."""
    made = [*Batching(size=2, shuffle=False).batches({"x": np.arange(3)}, client="ada"), *pooled_batches([("ada", {"x": np.arange(3)})], 2)]
    made.append(as_batch({"x": np.arange(2), "sample_weight": [1.0, 0.5]}))
    assert [batch.x.tolist() for batch in made] == [[0, 1], [2, 2]] * 2 + [[0, 1]]
    assert [batch.real.tolist() for batch in made] == [[1, 1], [1, 0]] * 2 + [[1, 1]]
    assert all(batch.y == {} for batch in made)


def test_unequal_columns_are_an_error_that_names_the_client():
    with pytest.raises(ValueError, match="'ada' must be equally long"):
        list(Batching(size=2).batches({"x": np.arange(3), "y": np.arange(2)}, client="ada"))


@pytest.mark.parametrize(
    "bad",
    [{"size": 0}, {"size": -3}, {"size": None}, {"size": 2.5}, {"epochs": 0}, {"epochs": None}, {"max_batches": 0}, {"remainder": "keep"}],
    ids=str,
)
def test_a_bad_argument_is_an_error_that_names_it_when_the_object_is_built(bad):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=rf"Batching\.{name} must .*{value}"):
        Batching(**{"size": 4} | bad)


def test_no_max_batches_and_numpy_integers_are_good_arguments():
    assert Batching(size=np.int64(4), max_batches=None).size == 4


class TestAsBatch:
    x, y, weight = np.ones((3, 2), np.float32), np.arange(3), np.array([0.5, 0.0, 2.0])

    @pytest.mark.parametrize("form", [tuple, list, lambda parts: dict(zip(("x", "y", "sample_weight"), parts, strict=False))])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_forms(self, form, weighted):
        batch = as_batch(form((self.x, self.y, self.weight) if weighted else (self.x, self.y)))
        np.testing.assert_array_equal(batch.x, self.x)
        np.testing.assert_array_equal(batch.y, self.y)
        np.testing.assert_array_equal(batch.sample_weight, self.weight if weighted else np.ones(3))
        assert batch.real.tolist() == [1, 1, 1]
        assert batch.real.dtype == batch.sample_weight.dtype == np.float32

    def test_a_weight_of_none_is_no_weight(self):
        """As Keras' own data adapters give it."""
        assert as_batch((self.x, self.y, None)).sample_weight.tolist() == [1, 1, 1]

    def test_inputs_by_name_and_other_array_types(self):
        batch = as_batch(({"a": jnp.ones((3, 1)), "b": [1, 2, 3]}, [0, 1, 2]))
        assert isinstance(batch.x["a"], np.ndarray) and batch.x["b"].tolist() == [1, 2, 3] and batch.y.tolist() == [0, 1, 2]

    def test_weights_per_token(self):
        weight = np.arange(6.0).reshape(3, 2)
        np.testing.assert_array_equal(as_batch((self.x, np.zeros((3, 2)), weight)).sample_weight, weight)

    def test_a_batch_is_taken_as_it_is(self):
        batch = Batch(self.x, self.y, self.weight, np.array([1.0, 1.0, 0.0]))
        assert as_batch(batch) is batch

    @pytest.mark.parametrize("raw", [np.ones(3), "xy", (np.ones(3),), (1, 2, 3, 4), {"y": [1]}, {"x": [1], "y": [1], "z": [1]}], ids=str)
    def test_anything_else_is_an_error(self, raw):
        with pytest.raises(TypeError, match=r"must be \(x, y\), \(x, y, sample_weight\) or a dict"):
            as_batch(raw)

    @pytest.mark.parametrize("raw", [(x, y[:2]), (x[:2], y), (x, y, weight[:1]), ({"a": x, "b": x[:1]}, y)])
    def test_different_numbers_of_rows_are_an_error(self, raw):
        with pytest.raises(ValueError, match="equally many rows"):
            as_batch(raw)
