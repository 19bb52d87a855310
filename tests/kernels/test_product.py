"""Products of matrices: exact where numbers allow it, in every layout, block, instruction set and number of threads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_kernels import INSTRUCTION_SETS, needs_library

from fedloom.kernels import _native, matmul, native, operands, set_threads
from fedloom.kernels._matmul import product

KINDS = ["float32", "bfloat16"]
BEYOND_BLOCKS = [(2050, 5, 3), (9, 100, 1027), (3, 17, 2049)]  # rows, columns, depth; blocks have 2048 rows and 1024 steps


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request):
    """Each of those that are here; puts the best one and the number of threads back."""
    before = native()
    if not _native.use_instruction_set(request.param):
        pytest.skip(f"this machine or build has no {request.param}")
    yield request.param
    set_threads(before.threads)
    _native.use_instruction_set(before.instruction_set)


def integers(*shape, seed=0):
    """Numbers whose products and sums are exact, also rounded to bfloat16."""
    return np.random.default_rng(seed).integers(-9, 10, size=shape).astype(np.float32)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rounded(x):
    """To bfloat16, ties to even, by the arithmetic of float64: 8 significant bits."""
    fraction, exponent = np.frexp(np.float64(x))
    return np.ldexp(np.rint(fraction * 256), exponent - 8).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1, 1), (8, 48, 7), (13, 50, 9), (21, 200, 33), *BEYOND_BLOCKS], ids=str)
def test_whole_numbers_are_multiplied_exactly(instruction_set, kind, size):
    rows, columns, depth = size
    left, right = integers(rows, depth), integers(depth, columns, seed=1)
    for threads in (1, 2, 5):
        set_threads(threads)
        for flip_left, flip_right in np.ndindex(2, 2):
            got = product(
                jnp.asarray(left.T if flip_left else left),
                jnp.asarray(right.T if flip_right else right),
                kind,
                left_transposed=bool(flip_left),
                right_transposed=bool(flip_right),
            )
            np.testing.assert_array_equal(got, left @ right)


@settings(max_examples=12, deadline=None)
@given(st.tuples(*[st.integers(1, 70)] * 3), st.sampled_from(KINDS), st.integers(0, 9))
def test_a_head_stands_before_the_left_side(size, kind, head_rows):
    rows, columns, depth = size
    head_rows = min(head_rows, depth)
    left, right = integers(depth, rows), integers(depth, columns, seed=1)
    head, rest = left[:head_rows], np.concatenate([left[head_rows:], integers(2, rows, seed=2)])  # two rows more than are used
    got = product(jnp.asarray(rest), jnp.asarray(right), kind, left_transposed=True, head=jnp.asarray(head))
    np.testing.assert_array_equal(got, left.T @ right)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_do_not_depend_on_the_number_of_threads(instruction_set, kind):
    left, right = jnp.asarray(normal(45, 1100)), jnp.asarray(normal(1100, 75, seed=1))
    results = []
    for threads in (1, 2, 3):
        set_threads(threads)
        results.append(np.asarray(product(left, right, kind)))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_bfloat16_rounds_what_is_multiplied_and_nothing_else(instruction_set):
    left, right = normal(19, 65), normal(65, 37, seed=1)
    want = rounded(left).astype(np.float64) @ rounded(right)
    got = product(jnp.asarray(left), jnp.asarray(right), "bfloat16")
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-5)
    assert np.abs(got - left @ right).max() > 1e-3  # it did round


def test_bfloat16_rounds_to_the_nearest_and_ties_to_even(instruction_set):
    step = 2.0**-7  # between neighbours from 1 on
    numbers = np.float32([1 + step / 2, 1 + 3 * step / 2, 1 + step / 2 + 2**-20, -1 - step / 2, 3e38, np.inf, 1.5, 2**-100])
    want = np.float32([1, 1 + 2 * step, 1 + step, -1, rounded(3e38), np.inf, 1.5, 2**-100])
    np.testing.assert_array_equal(product(jnp.asarray(numbers[:, None]), jnp.ones((1, 1)), "bfloat16")[:, 0], want)
    np.testing.assert_array_equal(product(jnp.ones((1, 1)), jnp.asarray(numbers[None]), "bfloat16")[0], want)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_stays_in_its_row(instruction_set, kind):
    left = normal(11, 30)
    left[4, 17] = np.nan
    got = np.asarray(product(jnp.asarray(left), jnp.asarray(normal(30, 50, seed=1)), kind))
    assert np.isnan(got[4]).all()
    assert np.isfinite(np.delete(got, 4, axis=0)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_native_and_reference_agree(kind, monkeypatch):
    left, right = jnp.asarray(normal(33, 130)), jnp.asarray(normal(130, 40, seed=1))
    with_library = product(left, right, kind)
    monkeypatch.setattr(_native, "_library", None)
    np.testing.assert_allclose(with_library, product(left, right, kind), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0)], ids=str)
def test_nothing_times_something(shape):
    rows, depth, columns = shape
    np.testing.assert_array_equal(matmul(jnp.ones((rows, depth)), jnp.ones((depth, columns))), np.zeros((rows, columns)))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_products(kind):
    """d(a b) = g b^T and a^T g, with g as rounded as everything else."""
    a, b, g = (normal(*shape, seed=i) for i, shape in enumerate([(2, 3, 20), (20, 6), (2, 3, 6)]))

    def weighed(a, b):
        with operands(kind):
            return (matmul(a, b) * g).sum()

    da, db = jax.jit(jax.grad(weighed, argnums=(0, 1)))(a, b)
    if kind == "bfloat16":
        a, b, g = rounded(a), rounded(b), rounded(g)
    np.testing.assert_allclose(da, g @ b.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(db, a.reshape(-1, 20).T @ g.reshape(-1, 6), rtol=1e-5, atol=1e-5)


def test_under_vmap():
    a, b = integers(4, 5, 6), integers(4, 6, 3, seed=1)
    np.testing.assert_array_equal(jax.jit(jax.vmap(matmul))(a, b), a @ b)
    np.testing.assert_array_equal(jax.vmap(matmul, in_axes=(0, None))(a, b[0]), a @ b[0])


def test_operands_hold_inside_only():
    a = jnp.full((1, 1), 1 + 2.0**-9)  # rounds to 1
    with operands("bfloat16"):
        assert matmul(a, a) == 1
        with operands("float32"):
            assert matmul(a, a) > 1
    assert matmul(a, a) > 1


@needs_library
def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(Exception, match="shapes of matmul do not fit together"):
        jax.block_until_ready(
            _native.call(
                "matmul",
                _native.float32(2, 3),
                *(jnp.zeros((0, 0)), jnp.ones((2, 4)), jnp.ones((5, 3))),
                left_transposed=False,
                right_transposed=False,
                bfloat16=False,
            )
        )
