"""The optimizers against TFF's own trajectories, against NumPy in float64, and against what their state promises."""

import inspect
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom import optimizers

GOLDENS = Path(__file__).parents[1] / "goldens"
CASE = next(entry for entry in json.loads((GOLDENS / "cases.json").read_text())["cases"] if entry["name"] == "optimizer_trajectories")
DEFAULTS = {  # of TFF 0.87, which has none for the other rates
    "sgd": {"learning_rate": 0.01, "momentum": None},
    "adagrad": {"initial_preconditioner_value": 0.1, "epsilon": 1e-7},
    "adam": {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
    "adamw": {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "weight_decay": 0.004},
    "rmsprop": {"decay": 0.9, "epsilon": 1e-7},
    "yogi": {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-3, "initial_preconditioner_value": 1e-6},
    "adafactor": {"beta_2_decay": -0.8, "epsilon_1": 1e-30, "epsilon_2": 1e-3, "clip_threshold": 1.0, "relative_step": True},
}
NEED_WEIGHTS = {"adamw", "adafactor"}
STATIC = {"beta_1", "beta_2", "decay", "initial_preconditioner_value", "beta_2_decay", "relative_step"}


def make(name, **arguments):
    return getattr(optimizers, name)(**{"learning_rate": 0.1, **arguments})


def trajectory(optimizer, weights, gradients):
    """The weights after every step, jitted."""
    state, update, result = optimizer.init(weights), jax.jit(optimizer.update), []
    for gradient in gradients:
        updates, state = update(gradient, state, weights)
        weights = optax.apply_updates(weights, updates)
        result.append(weights)
    return result


def set_hyperparam(state, **values):
    return state._replace(hyperparams={**state.hyperparams, **{name: jnp.float32(value) for name, value in values.items()}})


# What TFF computed, and what the papers say


@pytest.mark.parametrize("index", range(len(CASE["optimizers"])), ids=lambda i: f"{i}_{CASE['optimizers'][i]['name']}")
def test_the_weights_are_those_of_tff(index, record_property):
    arguments = {key: value for key, value in CASE["optimizers"][index].items() if key in ("name", *CASE["optimizers"][index]["given"])}
    arrays, tolerance, largest = np.load(GOLDENS / CASE["file"], allow_pickle=False), CASE["float32"]["weights"], 0.0
    start = tuple(arrays[f"start/{i}"] for i in range(3))
    gradients = [tuple(arrays[f"gradients/{i}"][step] for i in range(3)) for step in range(len(arrays["gradients/0"]))]
    for step, weights in enumerate(trajectory(make(**arguments), start, gradients)):
        for i, got in enumerate(weights):
            want = arrays[f"optimizer/{index}/weights/{i}"][step + 1]
            np.testing.assert_allclose(got, want, rtol=tolerance["rtol"], atol=tolerance["atol"], err_msg=f"step {step}, weight {i}")
            largest = max(largest, float(np.max(np.abs(np.asarray(got, np.float64) - want))))
    record_property("largest_difference", largest)


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_arguments_and_defaults_are_those_of_tff(name):
    parameters = inspect.signature(getattr(optimizers, name)).parameters
    required = {} if name == "sgd" else {"learning_rate": inspect.Parameter.empty}
    assert {key: parameter.default for key, parameter in parameters.items()} == {**required, **DEFAULTS[name]}
    recorded = [spec for spec in CASE["optimizers"] if spec["name"] == name]
    for spec in recorded:
        assert all(spec[key] == value for key, value in DEFAULTS[name].items() if key not in spec["given"])


def numpy_steps(name, w, gradients, *, learning_rate, **a):
    """The rules in float64, written from the papers and TFF's table."""
    m, v, row, column = np.zeros_like(w), np.zeros_like(w), np.zeros(w.shape[:-1]), np.zeros((*w.shape[:-2], w.shape[-1]))
    v += a.get("initial_preconditioner_value", 0.0)
    for t, g in enumerate(gradients, 1):
        rate = learning_rate
        if name == "sgd":
            m = a["momentum"] * m + g
            step = m
        elif name == "adagrad":
            v = v + g**2
            step = g / np.sqrt(v + a["epsilon"])
        elif name == "rmsprop":
            v = a["decay"] * v + (1 - a["decay"]) * g**2
            step = g / (np.sqrt(v) + a["epsilon"])
        elif name == "adafactor":
            rate = min(rate, t**-0.5) if a["relative_step"] else rate
            rate = max(a["epsilon_2"], np.sqrt(np.mean(w**2))) * min(rate, t**0.5)
            beta = 1 - t ** a["beta_2_decay"]
            row = beta * row + (1 - beta) * np.mean(g**2 + a["epsilon_1"], axis=-1)
            column = beta * column + (1 - beta) * np.mean(g**2 + a["epsilon_1"], axis=-2)
            factored = np.einsum("...i,...j->...ij", row, column) / np.mean(row, axis=-1)[..., None, None]
            step = g / np.sqrt(factored)
            step = step / max(1, np.sqrt(np.mean(step**2)) / a["clip_threshold"])
        else:
            m = a["beta_1"] * m + (1 - a["beta_1"]) * g
            v = v - (1 - a["beta_2"]) * (np.sign(v - g**2) * g**2 if name == "yogi" else v - g**2)
            step = np.sqrt(1 - a["beta_2"] ** t) / (1 - a["beta_1"] ** t) * m / (np.sqrt(v) + a["epsilon"])
            step = step + a.get("weight_decay", 0.0) * w
        w = w - rate * step
        yield w


NUMBERS = {
    "learning_rate": st.floats(0.001, 3.0),
    "momentum": st.floats(0, 1),
    "decay": st.floats(0, 0.999),
    "beta_1": st.floats(0, 0.99),
    "beta_2": st.floats(0, 0.9999),
    "epsilon": st.floats(1e-4, 0.1),
    "weight_decay": st.floats(0, 0.1),
    "initial_preconditioner_value": st.floats(0.0, 1.0),
    "beta_2_decay": st.floats(-1, 0),
    "epsilon_1": st.floats(1e-6, 1e-2),
    "epsilon_2": st.floats(1e-4, 1.0),
    "clip_threshold": st.floats(0.1, 3.0),
    "relative_step": st.booleans(),
}


@pytest.mark.parametrize("name", sorted(DEFAULTS))
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_rule_is_numpys_in_float64(name, data):
    arguments = {key: data.draw(NUMBERS[key], key) for key in ["learning_rate", *DEFAULTS[name]]}
    rng = np.random.default_rng(data.draw(st.integers(0, 100), "seed"))
    w, gradients = rng.normal(size=(2, 4, 3)).astype(np.float32), rng.normal(size=(8, 2, 4, 3)).astype(np.float32)
    got = trajectory(make(name, **arguments), w, list(gradients))
    for t, want in enumerate(numpy_steps(name, w.astype(np.float64), gradients.astype(np.float64), **arguments)):
        np.testing.assert_allclose(got[t], want, rtol=1e-4, atol=1e-5 * np.max(np.abs(want)), err_msg=f"step {t}")


@pytest.mark.parametrize(("beta_1", "beta_2"), [(0.9, 0.999), (0.0, 0.5), (0.99, 0.9999), (0.5, 1 - 1e-7), (0.999, 0.0)])
@pytest.mark.parametrize("name", ["adam", "adamw", "yogi"])
def test_the_bias_correction_keeps_the_digits_of_float32_for_ten_thousand_steps(name, beta_1, beta_2):
    """With m = v = g = 1 before the step, they are 1 after it, and the step is the correction alone."""
    arguments = {"weight_decay": 0.0} if name == "adamw" else {}
    optimizer = make(name, learning_rate=1.0, beta_1=beta_1, beta_2=beta_2, epsilon=0.0, **arguments)
    one, start = jnp.float32(1), optimizer.init(jnp.float32(1))

    def correction(count):
        state = start._replace(inner_state=optax.tree.set(start.inner_state, count=count, mu=one, nu=one))
        return -optimizer.update(one, state, one)[0]

    t = np.arange(1, 10_001)
    power = {beta: -np.expm1(t * np.log(beta)) if beta else np.ones(len(t)) for beta in (beta_1, beta_2)}
    got = jax.jit(jax.vmap(correction))(jnp.arange(10_000, dtype=jnp.int32))
    np.testing.assert_allclose(got, np.sqrt(power[beta_2]) / power[beta_1], rtol=1e-6, atol=0)


def test_yogi_moves_v_by_the_gradient_alone():
    """v of 4 and g of 1: v falls by (1 - beta_2) g^2 = 0.1, and not, as in Adam, by (1 - beta_2) (v - g^2) = 0.3."""
    optimizer = make("yogi", beta_2=0.9, initial_preconditioner_value=4.0)
    _, state = optimizer.update(jnp.ones(1), optimizer.init(jnp.ones(1)))
    assert optax.tree.get(state, "nu") == pytest.approx(3.9)


# Numbers in the state


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_numbers_stand_in_the_state_and_change_the_next_update_without_a_retrace(name):
    arguments = {"momentum": 0.9} if name == "sgd" else {}
    optimizer, weights, gradients = make(name, **arguments), {"w": jnp.arange(1.0, 7.0).reshape(2, 3)}, {"w": jnp.ones((2, 3)) * 0.3}
    update = jax.jit(optimizer.update)
    start = optimizer.init(weights)
    assert start.hyperparams.keys() == {"learning_rate", *arguments, *DEFAULTS[name]} - STATIC
    first, state = update(gradients, start, weights)
    assert jax.tree.map(jax.typeof, start) == jax.tree.map(jax.typeof, state)
    for value in jax.tree.leaves(state.hyperparams):
        assert (value.shape, value.dtype, value.weak_type) == ((), jnp.float32, False)
    update(gradients, state, weights)
    for key, value in start.hyperparams.items():
        changed = set_hyperparam(start, **{key: 0.5 * value})
        again, kept = update(gradients, changed, weights)
        assert kept.hyperparams[key] == changed.hyperparams[key]
        if key == "learning_rate":
            np.testing.assert_allclose(again["w"], 0.5 * first["w"], rtol=1e-6)
    assert update._cache_size() == 1


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("sgd", "momentum", 0.5),
        *[(name, "epsilon", 0.5) for name in ("adagrad", "adam", "adamw", "rmsprop", "yogi")],
        ("adamw", "weight_decay", 0.5),
        ("adafactor", "epsilon_1", 0.5),
        ("adafactor", "epsilon_2", 3.0),
        ("adafactor", "clip_threshold", 0.2),
    ],
)
def test_a_number_set_later_acts_as_one_given_at_the_start(name, key, value):
    rng = np.random.default_rng(3)
    w, (g1, g2) = jnp.asarray(rng.normal(size=(3, 2)), jnp.float32), jnp.asarray(rng.normal(size=(2, 3, 2)), jnp.float32)
    given = {"momentum": 0.9} if name == "sgd" else {}
    before, after = make(name, **given), make(name, **{**given, key: value})
    _, state = before.update(g1, before.init(w), w)
    got, _ = before.update(g2, set_hyperparam(state, **{key: value}), w)
    want, _ = after.update(g2, set_hyperparam(state, **{key: value}), w)
    np.testing.assert_array_equal(got, want)
    assert np.all(got != before.update(g2, state, w)[0])
    np.testing.assert_array_equal(after.init(w).hyperparams[key], np.float32(value))


def test_numbers_may_be_traced():
    """A sweep over rates and momenta is one compiled function."""

    def step(rate, momentum):
        optimizer = optimizers.sgd(rate, momentum)
        _, state = optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
        return optimizer.update(jnp.ones(2), state)[0]

    got = jax.jit(jax.vmap(step))(jnp.array([0.1, 0.2]), jnp.array([0.5, 1.0]))
    np.testing.assert_allclose(got, -np.array([[0.15] * 2, [0.4] * 2]), rtol=1e-6)
    with pytest.raises(TypeError, match="beta_1 must be a plain number, got .*Pass a Python float."):
        jax.jit(lambda beta: optimizers.adam(0.1, beta).init(jnp.ones(2)))(0.9)


def test_numbers_come_in_any_kind():
    for rate in (1, np.float32(1), np.float64(1), np.int32(1), np.ones(()), jnp.float32(1), jnp.asarray(1)):
        rate_of_state = optimizers.sgd(rate).init(jnp.ones(2)).hyperparams["learning_rate"]
        assert (rate_of_state, rate_of_state.dtype, rate_of_state.weak_type) == (1, jnp.float32, False)


RATES = np.array([0.5, 0.25, 2.0], np.float32)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (lambda step: jnp.asarray(RATES)[step], RATES),
        (optax.linear_schedule(1.0, 0.0, 4), [1.0, 0.75, 0.5]),
        (lambda step: 2, [2, 2, 2]),
        (lambda step: 1 / (1 + step), [1, 1 / 2, 1 / 3]),
    ],
)
def test_the_rate_may_be_a_function_of_the_step(schedule, rates):
    optimizer = optimizers.sgd(schedule)
    update, start = jax.jit(optimizer.update), optimizer.init(jnp.ones(2))
    state = start
    for rate in rates:
        updates, state = update(jnp.array([1.0, -3.0]), state)
        np.testing.assert_allclose(updates, [-rate, 3 * rate], rtol=1e-6)
        np.testing.assert_allclose(state.hyperparams["learning_rate"], rate, rtol=1e-6)
    assert jax.tree.map(jax.typeof, start) == jax.tree.map(jax.typeof, state)
    assert update._cache_size() == 1
    np.testing.assert_allclose(update(jnp.ones(2), set_hyperparam(start, learning_rate=7.0))[0], [-rates[0]] * 2, rtol=1e-6)


# Weights of any kind


TREES = {
    "array": lambda a, b: a,
    "tuple": lambda a, b: (a, b),
    "list": lambda a, b: [a, b],
    "dict": lambda a, b: {"kernel": a, "bias": b},
    "nested": lambda a, b: {"layers": [(a,), {"bias": b}], "none": None},
    "empty": lambda a, b: (),
}


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_any_tree_of_weights_is_kept(name, tree):
    weights = TREES[tree](jnp.ones((2, 3)), jnp.ones(3))
    gradients = TREES[tree](jnp.full((2, 3), 0.5), jnp.full(3, -0.5))
    optimizer = make(name)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        updates, _ = optimizer.update(gradients, optimizer.init(weights), weights)
    assert jax.tree.map(jax.typeof, updates) == jax.tree.map(jax.typeof, weights)
    assert all(np.all(u * g < 0) for u, g in zip(jax.tree.leaves(updates), jax.tree.leaves(gradients), strict=True))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_half_precision_is_computed_in_float32(name, dtype):
    optimizer = make(name, learning_rate=0.05)
    rng = np.random.default_rng(5)
    w, g = (jnp.asarray(rng.normal(size=(3, 2)), dtype) for _ in range(2))
    wide = [x.astype(jnp.float32) for x in (w, g)]
    state, wide_state = optimizer.init(w), optimizer.init(wide[0])
    for _ in range(3):
        updates, state = optimizer.update(g, state, w)
        want, wide_state = optimizer.update(wide[1], wide_state, wide[0])
        assert updates.dtype == dtype
        np.testing.assert_array_equal(updates, want.astype(dtype))
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(wide_state), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def test_adafactor_keeps_rows_and_columns_only():
    state = make("adafactor").init([jnp.ones((2, 50, 70)), jnp.ones(9), jnp.ones(())])
    sizes = [x.shape for x in jax.tree.leaves(state.inner_state.moments)]
    assert sizes == [(2, 50), (2, 70), (9,), ()]


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_only_some_rules_need_the_weights(name):
    optimizer = make(name)
    state = optimizer.init(jnp.ones(2))
    if name in NEED_WEIGHTS:
        with pytest.raises(ValueError, match="but you are not passing `params`|Call update\\(gradients, state, weights\\)"):
            optimizer.update(jnp.ones(2), state)
    else:
        optimizer.update(jnp.ones(2), state)


# Errors


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        *[
            (
                name,
                {"learning_rate": value},
                ValueError,
                "learning_rate must be a finite number >= 0 or a function of the step, got .* Pass",
            )
            for name in sorted(DEFAULTS)
            for value in (-0.1, float("nan"), float("inf"), np.float32(-1), jnp.float32(-1))
        ],
        ("sgd", {"learning_rate": "0.1"}, TypeError, "learning_rate must be a plain number, got '0.1'"),
        ("sgd", {"learning_rate": True}, TypeError, "learning_rate must be a plain number, got True"),
        ("sgd", {"learning_rate": np.ones(2)}, TypeError, "learning_rate must be a plain number, got array"),
        ("sgd", {"momentum": 1.1}, ValueError, r"momentum must be in \[0, 1\], got 1.1. Pass one such as 0.9."),
        ("sgd", {"momentum": -0.1}, ValueError, "momentum must be"),
        ("rmsprop", {"decay": 1.0}, ValueError, r"decay must be in \[0, 1\), got 1.0. Pass one such as 0.9."),
        *[
            (name, {beta: value}, ValueError, rf"{beta} must be in \[0, 1\), got {value}. Pass one such as")
            for name in ("adam", "adamw", "yogi")
            for beta in ("beta_1", "beta_2")
            for value in (-0.1, 1, float("nan"))
        ],
        *[
            (name, {"epsilon": -1e-7}, ValueError, "epsilon must be a finite number >= 0, got -1e-07. Pass a positive one")
            for name in ("adagrad", "adam", "adamw", "rmsprop", "yogi")
        ],
        ("adamw", {"weight_decay": -0.1}, ValueError, "weight_decay must be a finite number >= 0, got -0.1"),
        ("adagrad", {"initial_preconditioner_value": -1.0}, ValueError, "initial_preconditioner_value must be"),
        ("yogi", {"initial_preconditioner_value": float("inf")}, ValueError, "initial_preconditioner_value must be"),
        ("adafactor", {"beta_2_decay": 0.8}, ValueError, r"beta_2_decay must be in \[-inf, 0\], got 0.8. Pass one such as -0.8."),
        ("adafactor", {"epsilon_1": -1.0}, ValueError, "epsilon_1 must be a finite number >= 0"),
        ("adafactor", {"epsilon_2": -1.0}, ValueError, "epsilon_2 must be a finite number >= 0"),
        ("adafactor", {"clip_threshold": 0}, ValueError, "clip_threshold must be > 0, got 0. Pass one such as 1.0"),
    ],
)
def test_a_wrong_argument_is_named(name, arguments, error, message):
    with pytest.raises(error, match=message):
        make(name, **arguments)


def test_there_is_no_default_rate_but_for_sgd():
    optimizers.sgd()
    for name in sorted(DEFAULTS.keys() - {"sgd"}):
        with pytest.raises(TypeError, match="learning_rate"):
            getattr(optimizers, name)()
