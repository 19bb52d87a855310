"""The LSTM kernel: the numbers and gradients of the equations, natively and in JAX, whatever the sizes, threads and instruction set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_kernels import INSTRUCTION_SETS, assert_close, needs_library, reference

from fedloom.kernels import _native, lstm_sequence, operands, set_threads

sizes = st.tuples(st.integers(1, 4), st.integers(1, 11), st.integers(1, 70))  # time, batch, units


def problem(time, batch, units, seed=0):
    """Arguments of `lstm_sequence`: all but the mask, and a mask in which every row has a 0 and a 1 if there is time for both."""
    rng = np.random.default_rng(seed)
    shapes = (time, batch, 4 * units), (batch, units), (batch, units), (units, 4 * units)
    arguments = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    arguments[3] /= np.sqrt(units)
    mask = (rng.random((time, batch)) < 0.6).astype(np.float32)
    mask[0], mask[-1] = mask[-1], 1 - mask[-1]
    return arguments, mask


def plain(x, h0, c0, kernel, mask=None):
    """The equations, differentiated by JAX."""

    def step(state, inputs):
        (h, c), (x_t, used) = state, inputs
        i, f, candidate, o = jnp.split(x_t + h @ kernel, 4, axis=-1)
        new_c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(candidate)
        new_h = jax.nn.sigmoid(o) * jnp.tanh(new_c)
        state = jnp.where(used, new_h, h), jnp.where(used, new_c, c)
        return state, state[0]

    used = jnp.ones(x.shape[:2], bool) if mask is None else jnp.asarray(mask) > 0
    (_, c), hidden = jax.lax.scan(step, (h0, c0), (x, used[..., None]))
    return hidden, c


def with_gradients(sequence, mask=None, kind="float32"):
    """Outputs and gradients of a function in which every output has a weight of its own."""

    def weighed(*arguments):
        with operands(kind):
            hidden, cell = out = sequence(*arguments, mask)
        weights = jnp.cos(jnp.arange(hidden.size)).reshape(hidden.shape)
        return (weights * hidden).sum() + (jnp.sin(cell) * weights[0]).sum(), out

    return jax.value_and_grad(weighed, argnums=(0, 1, 2, 3), has_aux=True)


@pytest.mark.parametrize("masked", [False, True])
@settings(max_examples=4, deadline=None)
@given(sizes, st.integers(0, 99))
def test_numbers_and_gradients_are_those_of_the_equations(masked, size, seed):
    arguments, mask = problem(*size, seed)
    if not masked:
        mask = None
    got = jax.jit(with_gradients(lstm_sequence, mask))(*arguments)
    assert_close(got, jax.jit(with_gradients(plain, mask))(*arguments))


@pytest.mark.parametrize("masked", [False, True])
@settings(max_examples=2, deadline=None)
@given(sizes)
def test_the_reference_in_jax_has_the_numbers_of_the_equations(masked, size):
    arguments, mask = problem(*size)
    if not masked:
        mask = None
    assert_close(reference(with_gradients(lstm_sequence, mask), *arguments), jax.jit(with_gradients(plain, mask))(*arguments))


@needs_library
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [(3, 1, 1), (3, 7, 17), (2, 9, 64), (2, 4, 133)], ids=str)
def test_every_instruction_set_and_number_of_threads(settings_of_kernels, name, kind, size):
    """The numbers of the reference up to rounding, and the same bits from any number of threads."""
    if not _native.use_instruction_set(name):
        pytest.skip(f"this machine or build has no {name}")
    arguments, mask = problem(*size)
    function = with_gradients(lstm_sequence, mask, kind)
    run, results = jax.jit(function), []
    for threads in (1, 2, 3, 5):
        set_threads(threads)
        results.append(run(*arguments))
    # A number near the middle of two of bfloat16 may be rounded to either, after other roundings before.
    assert_close(results[0], reference(function, *arguments), 2e-5 if kind == "float32" else 5e-3)
    for other in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, results[0])


def test_bfloat16_rounds_state_and_kernel_in_the_product():
    """One step from a state, with everything else in float64."""
    (x, h0, c0, kernel), _ = problem(1, 3, 40)
    with operands("bfloat16"):
        hidden, cell = lstm_sequence(x, h0, c0, kernel)
    state, weights = (np.float64(jnp.asarray(a).astype(jnp.bfloat16)) for a in (h0, kernel))
    i, f, candidate, o = np.split(x[0] + state @ weights, 4, axis=-1)
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    want = f * c0 + i * np.tanh(candidate)
    np.testing.assert_allclose(cell, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(hidden[0], o * np.tanh(want), rtol=1e-5, atol=1e-6)
    assert np.abs(cell - lstm_sequence(x, h0, c0, kernel)[1]).max() > 1e-4


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("run", [lambda function, *arguments: jax.jit(function)(*arguments), reference], ids=["native", "reference"])
@settings(max_examples=3, deadline=None)
@given(sizes, st.integers(0, 99))
def test_inputs_by_id_are_the_rows_that_the_ids_name(masked, run, size, seed):
    """Numbers and gradients, of the rows too, which several steps share."""
    time, batch, units = size
    (_, *rest), mask = problem(*size, seed)
    rng = np.random.default_rng(seed)
    rows, ids = rng.normal(size=(5, 4 * units)).astype(np.float32), rng.integers(5, size=(time, batch))
    if not masked:
        mask = None
    by_id = lambda x, h0, c0, kernel, mask: lstm_sequence(x, h0, c0, kernel, mask, ids)  # noqa: E731
    looked_up = lambda x, h0, c0, kernel, mask: plain(x[ids], h0, c0, kernel, mask)  # noqa: E731
    assert_close(run(with_gradients(by_id, mask), rows, *rest), jax.jit(with_gradients(looked_up, mask))(rows, *rest))


def test_under_vmap_it_is_one_after_the_other():
    cases = [problem(3, 2, 5, seed)[0] for seed in range(3)]
    mask = problem(3, 2, 5)[1]
    together = jax.jit(jax.vmap(with_gradients(lstm_sequence, mask)))(*map(jnp.stack, zip(*cases, strict=True)))
    for i, case in enumerate(cases):
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], together), jax.jit(with_gradients(lstm_sequence, mask))(*case))


def test_a_held_step_changes_nothing_and_is_passed_by():
    """With steps 1 and 3 held, the rest is the sequence without them, in outputs and gradients, whatever these steps hold."""
    (x, *rest), _ = problem(5, 3, 20)
    mask = np.array([1, 0, 1, 0, 1], np.float32)[:, None] * np.ones((1, 3), np.float32)
    used, unused = np.array([0, 2, 4]), np.array([1, 3])
    x[unused] = np.nan

    def last(hidden, cell):
        return (hidden[-1] ** 2).sum() + jnp.sin(cell).sum()

    held, shortened = lambda *a: last(*lstm_sequence(*a, mask)), lambda *a: last(*lstm_sequence(*a))
    hidden, _ = lstm_sequence(x, *rest, mask)
    np.testing.assert_array_equal(hidden[used], lstm_sequence(x[used], *rest)[0])
    np.testing.assert_array_equal(hidden[unused], hidden[unused - 1])
    dx, *others = jax.grad(held, argnums=(0, 1, 2, 3))(x, *rest)
    dx_short, *others_short = jax.grad(shortened, argnums=(0, 1, 2, 3))(x[used], *rest)
    np.testing.assert_array_equal(dx[unused], 0)
    assert_close((dx[used], others), (dx_short, others_short), 1e-6)


def test_with_every_step_held_the_first_states_come_back():
    (x, h0, c0, kernel), _ = problem(3, 2, 17)
    hidden, cell = lstm_sequence(x, h0, c0, kernel, np.zeros((3, 2), np.float32))
    np.testing.assert_array_equal(hidden, np.stack([h0] * 3))
    np.testing.assert_array_equal(cell, c0)


def test_nan_goes_through():
    """From the row and the step in which it is, to all later states of that row and to no other row."""
    (x, *rest), _ = problem(4, 3, 33)
    x[1, 2, 5] = np.nan
    hidden, _ = lstm_sequence(x, *rest)
    bad = np.isnan(hidden).any(-1)
    np.testing.assert_array_equal(bad, np.array([[0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]], bool))
    assert np.isnan(hidden[2:, 2]).all()


def test_saturated_gates_are_exact():
    """Inputs so large that all gates are 0 or 1: with i = 1, f = 1, o = 1 and a candidate of 1 the cell counts steps."""
    x = np.full((3, 2, 4 * 18), 1e4, np.float32)
    zeros = np.zeros((2, 18), np.float32)
    hidden, cell = lstm_sequence(x, zeros, zeros, np.zeros((18, 4 * 18), np.float32))
    np.testing.assert_allclose(cell, 3, rtol=1e-6)
    np.testing.assert_allclose(hidden, np.tanh([[[1.0]], [[2.0]], [[3.0]]]) * np.ones((3, 2, 18)), rtol=1e-6)


def test_the_inputs_share_is_kept_where_it_is_needed_again():
    """The kernel writes the gates over it."""
    arguments, _ = problem(3, 4, 20)

    def twice(x, *rest):
        hidden, _ = lstm_sequence(2 * x, *rest)
        return hidden, 2 * x, lstm_sequence(2 * x, *rest)[0]

    first, x, second = jax.jit(twice)(*arguments)
    np.testing.assert_array_equal(x, 2 * arguments[0])
    np.testing.assert_array_equal(first, second)


@needs_library
@pytest.mark.parametrize("wrong", range(5))
def test_shapes_that_do_not_fit_are_refused(wrong):
    (x, *rest), mask = problem(3, 4, 20)
    arguments = [x, *rest, mask]
    arguments[wrong] = arguments[wrong][..., :-1]
    arguments.insert(1, np.zeros((0, 0), np.int32))
    results = [_native.float32(*x.shape), *[_native.float32(3, 4, 20)] * 2]
    with pytest.raises(Exception, match="shapes of lstm_forward do not fit together"):
        jax.block_until_ready(_native.call("lstm_forward", results, *arguments, bfloat16=False))
