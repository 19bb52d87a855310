"""The GRU kernel: the numbers and gradients of the equations, natively and in JAX, whatever the sizes, threads and instruction set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_kernels import INSTRUCTION_SETS, assert_close, needs_library, reference

from fedloom.kernels import _native, gru_sequence, operands, set_threads

WORDS = 9

sizes = st.tuples(st.integers(1, 4), st.integers(1, 11), st.integers(1, 70))  # time, batch, units


def problem(time, batch, units, seed=0):
    """Arguments of `gru_sequence`, with an input for every step, and for every word with the ids of words."""
    rng = np.random.default_rng(seed)
    shapes = (time, batch, 3 * units), (batch, units), (units, 3 * units), (3 * units,)
    x, h0, kernel, bias = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    words = rng.normal(size=(WORDS, 3 * units)).astype(np.float32)
    return (x, h0, kernel / np.sqrt(units), bias), words, rng.integers(WORDS, size=(time, batch))


def plain(x, h0, kernel, bias, reset_after, ids=None):
    """The equations, differentiated by JAX."""
    units = h0.shape[1]

    def step(h, x_t):
        xz, xr, xh = jnp.split(x_t, 3, axis=-1)
        if reset_after:
            iz, ir, ih = jnp.split(h @ kernel + bias, 3, axis=-1)
            z, r = jax.nn.sigmoid(xz + iz), jax.nn.sigmoid(xr + ir)
            candidate = jnp.tanh(xh + r * ih)
        else:
            iz, ir = jnp.split(h @ kernel[:, : 2 * units], 2, axis=-1)
            z, r = jax.nn.sigmoid(xz + iz), jax.nn.sigmoid(xr + ir)
            candidate = jnp.tanh(xh + (r * h) @ kernel[:, 2 * units :])
        h = z * h + (1 - z) * candidate
        return h, h

    return jax.lax.scan(step, h0, x if ids is None else x[ids])[1]


def with_gradients(sequence, reset_after, ids=None, kind="float32"):
    """Outputs and gradients of a function in which every output has a weight of its own."""

    def weighed(*arguments):
        with operands(kind):
            hidden = sequence(*arguments, reset_after, ids)
        return (jnp.cos(jnp.arange(hidden.size)).reshape(hidden.shape) * hidden).sum(), hidden

    return jax.value_and_grad(weighed, argnums=(0, 1, 2, 3), has_aux=True)


@pytest.mark.parametrize("reset_after", [False, True])
@pytest.mark.parametrize("by_id", [False, True])
@settings(max_examples=3, deadline=None)
@given(sizes, st.integers(0, 99))
def test_numbers_and_gradients_are_those_of_the_equations(reset_after, by_id, size, seed):
    arguments, words, ids = problem(*size, seed)
    if by_id:
        arguments = (words, *arguments[1:])
    ids = ids if by_id else None
    got = jax.jit(with_gradients(gru_sequence, reset_after, ids))(*arguments)
    assert_close(got, jax.jit(with_gradients(plain, reset_after, ids))(*arguments))


@pytest.mark.parametrize("reset_after", [False, True])
@pytest.mark.parametrize("by_id", [False, True])
def test_the_reference_in_jax_has_the_numbers_of_the_equations(reset_after, by_id):
    arguments, words, ids = problem(4, 3, 21)
    if by_id:
        arguments = (words, *arguments[1:])
    ids = ids if by_id else None
    assert_close(
        reference(with_gradients(gru_sequence, reset_after, ids), *arguments), jax.jit(with_gradients(plain, reset_after, ids))(*arguments)
    )


@needs_library
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("reset_after", [False, True])
def test_every_instruction_set_and_number_of_threads(settings_of_kernels, name, kind, reset_after):
    """The numbers of the reference up to rounding, and the same bits from any number of threads."""
    if not _native.use_instruction_set(name):
        pytest.skip(f"this machine or build has no {name}")
    for size, by_id in [((3, 1, 1), False), ((3, 7, 17), True), ((2, 9, 133), False)]:
        arguments, words, ids = problem(*size)
        if by_id:
            arguments = (words, *arguments[1:])
        function = with_gradients(gru_sequence, reset_after, ids if by_id else None, kind)
        run, results = jax.jit(function), []
        for threads in (1, 2, 5):
            set_threads(threads)
            results.append(run(*arguments))
        # A number near the middle of two of bfloat16 may be rounded to either, after other roundings before.
        assert_close(results[0], reference(function, *arguments), 2e-5 if kind == "float32" else 5e-3)
        for other in results[1:]:
            jax.tree.map(np.testing.assert_array_equal, other, results[0])


def test_bfloat16_rounds_state_and_kernel_in_the_product():
    """One step from a state: the candidate is tanh(x + r (round(h) round(W) + b)), in which all else is float32."""
    (x, h0, kernel, bias), _, _ = problem(1, 3, 40)
    with operands("bfloat16"):
        got = gru_sequence(x, h0, kernel, bias, True)
    state, weights = (np.float64(jnp.asarray(a).astype(jnp.bfloat16)) for a in (h0, kernel))
    inner = state @ weights + bias
    z, r = (1 / (1 + np.exp(-(x[0] + inner)[:, part * 40 :][:, :40])) for part in (0, 1))
    candidate = np.tanh(x[0, :, 80:] + r * inner[:, 80:])
    np.testing.assert_allclose(got[0], z * h0 + (1 - z) * candidate, rtol=1e-5, atol=1e-6)
    assert np.abs(got - gru_sequence(x, h0, kernel, bias, True)).max() > 1e-4


@pytest.mark.parametrize("reset_after", [False, True])
def test_under_vmap_it_is_one_after_the_other(reset_after):
    cases = [problem(3, 2, 5, seed)[0] for seed in range(3)]
    together = jax.jit(jax.vmap(with_gradients(gru_sequence, reset_after)))(*map(jnp.stack, zip(*cases, strict=True)))
    for i, case in enumerate(cases):
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], together), jax.jit(with_gradients(gru_sequence, reset_after))(*case))


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_nan_goes_through_in_its_row_and_from_its_step_on(kind):
    (x, h0, kernel, bias), _, _ = problem(4, 3, 20)
    x[1, 2, 7] = np.nan  # of the update gate
    with operands(kind):
        hidden = np.asarray(gru_sequence(x, h0, kernel, bias, True))
    assert np.isfinite(hidden[:, :2]).all()
    assert np.isfinite(hidden[0]).all()
    assert np.isnan(hidden[1, 2]).sum() == 1
    assert np.isnan(hidden[2:, 2]).all()


@pytest.mark.parametrize("reset_after", [False, True])
def test_gates_far_from_zero_are_open_or_shut(reset_after):
    (x, h0, kernel, bias), _, _ = problem(1, 2, 18)
    shut = x.copy()
    shut[..., :18] = 500  # z = 1: the state stays
    np.testing.assert_array_equal(gru_sequence(shut, h0, kernel, bias, reset_after)[0], h0)
    opened = x.copy()
    opened[..., :18], opened[..., 36:] = -500, 500  # z = 0 and a candidate of 1
    np.testing.assert_array_equal(gru_sequence(opened, h0, kernel, bias, reset_after)[0], np.ones_like(h0))
