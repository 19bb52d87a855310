"""Convolutions and pooling: the numbers and gradients of JAX's own, natively and by reference, whatever the sizes, threads and vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax
from native_kernels import INSTRUCTION_SETS, needs_library, reference

from fedloom.kernels import _native, conv2d, max_pool2d, native, set_threads

sides = st.tuples(st.integers(1, 17), st.integers(1, 17))
small = st.tuples(st.integers(1, 4), st.integers(1, 4))
widths = st.sampled_from([1, 3, 15, 16, 17, 33, 40])


def random(*shape):
    return np.random.default_rng(len(shape) + sum(shape)).normal(size=shape).astype(np.float32)


def problem(images=2, sides=(7, 6), channels=3, window=(3, 2), filters=17):
    """Arguments of `conv2d`; the kernel such that outputs are of size 1."""
    kernel = random(*window, channels, filters) / np.sqrt(np.prod(window) * channels, dtype=np.float32)
    return random(images, *sides, channels), kernel, random(filters)


def plain(x, kernel, bias, strides=(1, 1), padding="valid", relu=False):
    """What JAX computes and differentiates by itself."""
    y = lax.conv_general_dilated(x, kernel, strides, padding.upper(), dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias
    return jax.nn.relu(y) if relu else y


def with_gradients(function):
    """Outputs and gradients of a function of arrays, in which every output has a weight of its own."""

    def weighed(*arguments):
        y = function(*arguments)
        return (jnp.cos(jnp.arange(y.size)).reshape(y.shape) * jnp.sin(y)).sum(), y

    return lambda *arguments: jax.value_and_grad(weighed, argnums=tuple(range(len(arguments))), has_aux=True)(*arguments)


def assert_close(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=2e-5, atol=2e-5 * max(1, np.abs(w).max(initial=0)))


def fits(sides, window, padding):
    return padding == "same" or (window[0] <= sides[0] and window[1] <= sides[1])


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 3), sides, widths, small, widths, small, st.sampled_from(["valid", "same"]), st.booleans())
def test_numbers_and_gradients_are_those_of_jax(images, sides, channels, window, filters, strides, padding, relu):
    assume(fits(sides, window, padding))
    arguments = problem(images, sides, channels, window, filters)
    want = jax.jit(with_gradients(lambda *a: plain(*a, strides, padding, relu)))(*arguments)
    assert_close(jax.jit(with_gradients(lambda *a: conv2d(*a, strides, padding, relu)))(*arguments), want)
    assert_close(reference(with_gradients(lambda *a: conv2d(*a, strides, padding, relu)), *arguments), want)


CASES = {
    "first layer": (problem(3, (28, 28), 1, (3, 3), 32), {"relu": True}),
    "second layer": (problem(3, (26, 26), 32, (3, 3), 64), {"relu": True}),
    "strides and zeros around": (problem(2, (15, 12), 5, (5, 3), 40), {"strides": (2, 3), "padding": "same", "relu": True}),
    "windows of one": (problem(2, (5, 5), 33, (1, 1), 62), {"strides": (2, 2)}),
    "one number": (problem(1, (1, 1), 1, (3, 3), 1), {"padding": "same"}),
}


@needs_library
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_every_instruction_set_computes_the_same(instruction_set, case, settings_of_kernels):
    if not _native.use_instruction_set(instruction_set):
        pytest.skip("this machine or build has it not")
    arguments, options = CASES[case]
    got = jax.jit(with_gradients(lambda *a: conv2d(*a, **options)))(*arguments)
    assert_close(got, jax.jit(with_gradients(lambda *a: plain(*a, **options)))(*arguments))


@needs_library
@pytest.mark.parametrize("case", CASES)
def test_bits_do_not_depend_on_the_number_of_threads(case, settings_of_kernels):
    arguments, options = CASES[case]
    run = jax.jit(with_gradients(lambda *a: conv2d(*a, **options)))
    results = []
    for threads in (1, 2, 5):
        set_threads(threads)
        results.append(jax.tree.leaves(run(*arguments)))
    for one, two, five in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, five)


def test_clients_side_by_side_are_clients_one_by_one():
    """Under `vmap`, weights differ from lane to lane too."""
    lanes = [problem(), tuple(2 * part for part in problem())]
    stacked = [np.stack(parts) for parts in zip(*lanes, strict=True)]
    run = with_gradients(lambda *a: conv2d(*a, relu=True))
    together = jax.jit(jax.vmap(run))(*stacked)
    for i, lane in enumerate(lanes):
        assert_close(jax.tree.map(lambda part, i=i: part[i], together), run(*lane))


@pytest.mark.parametrize("arguments", [problem(images=0), problem(sides=(2, 5))], ids=["no images", "a window larger than the image"])
def test_nothing_in_gives_nothing_out_and_gradients_of_zero(arguments):
    (_, y), gradients = jax.jit(with_gradients(conv2d))(*arguments)
    assert y.shape == plain(*arguments).shape and not y.size
    assert [g.shape for g in gradients] == [a.shape for a in arguments] and not any(np.any(g) for g in gradients)


def test_in_a_loop_it_computes_the_same():
    x, kernel, bias = problem()
    want = jax.jit(with_gradients(plain))(x, kernel, bias)

    def body(_, total):
        return jax.tree.map(jnp.add, total, with_gradients(conv2d)(x, kernel, bias))

    total = jax.jit(lambda: lax.fori_loop(0, 3, body, jax.tree.map(jnp.zeros_like, want)))()
    assert_close(total, jax.tree.map(lambda part: 3 * part, want))


@pytest.mark.parametrize("relu", [False, True])
def test_nan_goes_through(relu):
    x, kernel, bias = problem()
    x[0, 3, 2, 1] = np.nan
    got = np.isnan(conv2d(x, kernel, bias, relu=relu))
    np.testing.assert_array_equal(got, np.isnan(plain(x, kernel, bias, relu=relu)))
    assert got.any() and not got.all()


def test_other_precisions_run_on_the_reference():
    x, kernel, bias = (jnp.asarray(part, jnp.bfloat16) for part in problem())
    got = conv2d(x, kernel, bias)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got.astype(np.float32), plain(x, kernel, bias).astype(np.float32))


def test_the_references_gradients_for_other_devices_are_those_of_jax(monkeypatch):
    """What a GPU would run, run here."""
    monkeypatch.setattr(_native, "_library", None)
    monkeypatch.setattr(lax, "platform_dependent", lambda *arguments, cpu, default: default(*arguments))
    arguments, options = CASES["strides and zeros around"]
    assert_close(with_gradients(lambda *a: conv2d(*a, **options))(*arguments), with_gradients(lambda *a: plain(*a, **options))(*arguments))


def test_gradients_of_inputs_that_nobody_wants_are_not_computed():
    x, kernel, bias = problem()
    program = jax.jit(jax.grad(lambda kernel: conv2d(x, kernel, bias).sum())).lower(kernel).compile().as_text()
    assert native().missing or ("conv_weight_gradient" in program and "conv_input_gradient" not in program)


@needs_library
def test_a_kernel_refuses_shapes_that_do_not_fit():
    x, kernel, bias = problem()
    options = {"strides": np.array([1, 1]), "padding": np.array([0, 0]), "relu": False}
    with pytest.raises(Exception, match="shapes of conv_forward do not fit together"):
        jax.block_until_ready(_native.call("conv_forward", _native.float32(2, 5, 5, 17), x, kernel, bias[:-1], **options))


def plain_pool(x, window):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *window, 1), "VALID")


@settings(max_examples=4, deadline=None)
@given(st.integers(1, 3), sides, widths, small)
def test_pooling_has_the_numbers_and_gradients_of_jax(images, sides, channels, window):
    """Of whole numbers, so that windows have several largest ones; the first gets the gradient."""
    assume(fits(sides, window, "valid"))
    x = np.round(random(images, *sides, channels))
    want = jax.jit(with_gradients(lambda x: plain_pool(x, window)))(x)
    for got in (
        jax.jit(with_gradients(lambda x: max_pool2d(x, window)))(x),
        reference(with_gradients(lambda x: max_pool2d(x, window)), x),
    ):
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-6), got[1], want[1])
        np.testing.assert_array_equal(got[0][1], want[0][1])


def test_the_first_of_two_largest_gets_the_gradient():
    x = np.array([[1.0, 3.0], [3.0, 2.0]], np.float32).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda x: max_pool2d(x, (2, 2)).sum())(x)
    np.testing.assert_array_equal(gradient.reshape(2, 2), [[0, 1], [0, 0]])


@needs_library
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_pooling_is_the_same_for_every_instruction_set_and_number_of_threads(instruction_set, settings_of_kernels):
    if not _native.use_instruction_set(instruction_set):
        pytest.skip("this machine or build has it not")
    x = random(3, 9, 7, 19)
    run = jax.jit(with_gradients(lambda x: max_pool2d(x, (2, 3))))
    want = jax.jit(with_gradients(lambda x: plain_pool(x, (2, 3))))(x)
    for threads in (1, 2, 5):
        set_threads(threads)
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-6), run(x)[1], want[1])


@pytest.mark.parametrize("place", [(0, 0), (1, 1)])
def test_nan_goes_through_pooling(place):
    x = np.ones((1, 4, 4, 2), np.float32)
    x[0, *place, 1] = np.nan
    np.testing.assert_array_equal(max_pool2d(x, (2, 2)), plain_pool(x, (2, 2)))
    assert np.isnan(max_pool2d(x, (2, 2))).sum() == 1
