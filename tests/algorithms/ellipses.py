"""Clients whose loss is sum_j a_j (x_j - c_j)^2 / 2 in the plane, so that all there is to know of their training has a closed form."""

import jax.numpy as jnp
import numpy as np

import fedloom as fl

NAMES = ("ada", "bob", "cy")
CURVATURE = {"ada": np.array([1.0, 0.5]), "bob": np.array([0.25, 2.0]), "cy": np.array([2.5, 1.0])}  # a
CENTRE = {"ada": np.array([3.0, -1.0]), "bob": np.array([-2.0, 0.5]), "cy": np.array([10.0, 7.0])}  # c
START = np.array([0.5, -4.0], np.float32)


def model():
    """An example is a client's a and c, one after the other."""

    def value(x, example):
        return (example[:, :2] * (x - example[:, 2:]) ** 2).sum(-1) / 2

    return fl.models.from_functions(lambda key: jnp.zeros(2), value, lambda y, value: value)


def clients(steps, names=NAMES):
    """Clients by name with as many batches, a number or by client; a batch has one example."""
    steps = steps if isinstance(steps, dict) else dict.fromkeys(NAMES, steps)
    return {name: [(np.float32([[*CURVATURE[name], *CENTRE[name]]]), np.zeros(1, np.float32))] * steps[name] for name in names}


def gradient(name, x):
    return CURVATURE[name] * (x - CENTRE[name])


def descend(name, x, rate, steps):
    """Where plain gradient descent arrives: every step contracts x - c by 1 - rate * a."""
    return CENTRE[name] + (1 - rate * CURVATURE[name]) ** steps * (x - CENTRE[name])


def weighted_centre(weight):
    """The x with sum_i weight_i (x - c_i) = 0, where a weight may differ by coordinate."""
    return sum(weight[n] * CENTRE[n] for n in NAMES) / sum(weight[n] for n in NAMES)


def optimum():
    """Of the mean of the clients' losses."""
    return weighted_centre(CURVATURE)


def run(algorithm, cohorts, **kwargs):
    """The process and its state after rounds with these cohorts."""
    process = fl.LearningProcess(algorithm, **kwargs)
    state = process.initialize(START)
    for cohort in cohorts:
        state, _ = process.next(state, cohort)
    return process, state


def weights(process, state):
    return np.asarray(process.get_weights(state).trainable)
