"""A two-phase algorithm: a global gradient first, then every client's own Newton direction for it (GIANT, Wang et al. 2018, algorithm 1).

What goes beyond "train and average": a round is two exchanges with the clients, and the second works with what the first brought together.
"""

import jax
import jax.numpy as jnp
import numpy as np

import fedloom as fl


def loss(weights, data):
    """Regularized logistic regression on one client's examples: x float32 (n, d), y float32 (n,) of -1 and 1."""
    return jnp.mean(jnp.log1p(jnp.exp(-data["y"] * (data["x"] @ weights)))) + 5e-3 * weights @ weights


def newton_direction(weights, gradient, data):
    """H^-1 g with the client's own Hessian, by conjugate gradients."""

    def times_hessian(vector):
        return jax.jvp(lambda w: jax.grad(loss)(w, data), (weights,), (vector,))[1]

    return jax.scipy.sparse.linalg.cg(times_hessian, gradient, maxiter=50)[0]


@fl.federated
def newton_round(weights, data: fl.core.Clients):
    """One round: the weights after it, and the loss before."""
    here = fl.core.broadcast(weights)
    value, gradient = fl.core.map(jax.value_and_grad(loss), here, data)
    gradient = fl.core.mean(gradient)  # phase 1
    direction = fl.core.map(newton_direction, here, fl.core.broadcast(gradient), data)
    return weights - fl.core.mean(direction), fl.core.mean(value)  # phase 2


def clients(number=8, examples=200, features=10, seed=0):
    """Labels by a hidden linear rule, with noise; inputs on other scales at every client."""
    rng = np.random.default_rng(seed)
    rule, data = rng.normal(size=features), {}
    for i in range(number):
        x = rng.normal(size=(examples, features)) * rng.uniform(0.5, 2, features)
        y = np.sign(x @ rule + rng.normal(size=examples))
        data[f"client {i}"] = {"x": x.astype(np.float32), "y": y.astype(np.float32)}
    return data


if __name__ == "__main__":
    weights, data = np.zeros(10, np.float32), clients()
    for number in range(1, 7):
        weights, before = newton_round(weights, data)
        print(f"round {number}: loss before it {before:.6f}")
