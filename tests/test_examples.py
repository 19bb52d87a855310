"""The examples: each runs as its docstring says, and computes what algebra says it must."""

import importlib.util
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    """The example as a fresh module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_a_test_for_every_example():
    assert {file.stem for file in EXAMPLES.glob("*.py")} == {"learned_client_rate", "local_newton", "temperatures"}


def test_temperatures(capsys):
    runpy.run_path(str(EXAMPLES / "temperatures.py"), run_name="__main__")
    assert capsys.readouterr().out.split("\n") == ["Hello, World!", "69.53333", "0.6666667", ""]


def test_a_newton_round_solves_a_quadratic_problem(monkeypatch):
    """With f_i(w) = (w - c_i)' A (w - c_i) / 2, every client's direction is w - mean c: one round ends at the mean of the c_i."""
    newton = example("local_newton")
    a = np.array([[2.0, 0.5], [0.5, 1.0]], np.float32)
    monkeypatch.setattr(newton, "loss", lambda w, data: (w - data["c"]) @ a @ (w - data["c"]) / 2)
    centres = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]], np.float32)
    weights, before = newton.newton_round(np.zeros(2, np.float32), [{"c": c} for c in centres])
    np.testing.assert_allclose(weights, centres.mean(0), rtol=1e-5)
    np.testing.assert_allclose(before, np.mean([c @ a @ c / 2 for c in centres]), rtol=1e-6)


def test_newton_rounds_reach_the_optimum_of_all_data(capsys):
    """Found with Hessians of all data by Newton's method as it stands in textbooks."""
    newton = runpy.run_path(str(EXAMPLES / "local_newton.py"), run_name="__main__")
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    pooled = {name: np.concatenate([own[name] for own in newton["clients"]().values()]) for name in ("x", "y")}
    w = np.zeros(10, np.float32)
    for _ in range(6):
        w = w - np.linalg.solve(jax.hessian(newton["loss"])(w, pooled), jax.grad(newton["loss"])(w, pooled))
    best = float(newton["loss"](w, pooled))
    assert losses == sorted(losses, reverse=True) and losses[-1] - best < 1e-3 * (losses[0] - best)


def test_the_gradient_of_a_clients_rate_is_that_of_differences():
    rate = example("learned_client_rate")
    data, weights = rate.clients(), np.zeros(3, np.float32)
    slope = jax.grad(rate.loss_after_rounds)(jnp.float32(0.1), weights, data)
    # Outside of JAX's transformations it is the engine that runs it.
    above, below = (float(rate.loss_after_rounds(0.1 + h, weights, data)) for h in (1e-2, -1e-2))
    np.testing.assert_allclose(slope, (above - below) / 2e-2, rtol=1e-2)


def test_a_learned_rate_is_better():
    history = example("learned_client_rate").learn()
    assert history[-1][1] < 0.45 * history[0][1]
