"""The clients' learning rate learned by gradient descent through federated averaging: differentiation through communication.

Two rounds of FedAvg are one federated function of the rate. JAX differentiates it as it stands, broadcasts and means included, so the rate
can follow the gradient of the loss after those rounds, as in meta-learning (Finn et al. 2017; Li et al. 2017, Meta-SGD, learn rates so).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fedloom as fl

LOCAL_STEPS, ROUNDS = 4, 2


def loss(weights, data):
    """Half the mean squared error of a linear model on one client's examples: x (n, d), y (n,)."""
    return jnp.mean((data["x"] @ weights - data["y"]) ** 2) / 2


def local_training(weights, rate, data):
    """Gradient descent on one client's data."""
    return jax.lax.fori_loop(0, LOCAL_STEPS, lambda _, w: w - rate * jax.grad(loss)(w, data), weights)


@fl.federated
def loss_after_rounds(rate, weights, data: fl.core.Clients):
    """The mean loss over the clients after some rounds of FedAvg with this rate on the clients."""
    rate = fl.core.broadcast(rate)
    for _ in range(ROUNDS):
        weights = fl.core.mean(fl.core.map(local_training, fl.core.broadcast(weights), rate, data))
    return fl.core.mean(fl.core.map(loss, fl.core.broadcast(weights), data))


def clients(number=5, examples=20, features=3, seed=0):
    """Linear regression with another true rule at every client."""
    rng = np.random.default_rng(seed)
    shared, data = rng.normal(size=features), {}
    for i in range(number):
        x = rng.normal(size=(examples, features))
        data[f"client {i}"] = {"x": x.astype(np.float32), "y": (x @ (shared + 0.3 * rng.normal(size=features))).astype(np.float32)}
    return data


def learn(log_rate=-4.0, steps=16):
    """The rate and the loss at each step of Adam on the logarithm of the rate."""
    weights, data, adam = np.zeros(3, np.float32), clients(), optax.adam(0.2)
    value_and_gradient = jax.jit(jax.value_and_grad(lambda log_rate: loss_after_rounds(jnp.exp(log_rate), weights, data)))
    log_rate, history = jnp.float32(log_rate), []
    state = adam.init(log_rate)
    for _ in range(steps):
        value, gradient = value_and_gradient(log_rate)
        history.append((float(jnp.exp(log_rate)), float(value)))
        update, state = adam.update(gradient, state)
        log_rate = optax.apply_updates(log_rate, update)
    return history


if __name__ == "__main__":
    for step, (rate, value) in enumerate(learn()):
        print(f"step {step:2}: client rate {rate:.4f}, loss after {ROUNDS} rounds {value:.5f}")
