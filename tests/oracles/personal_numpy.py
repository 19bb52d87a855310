"""Ditto (Li et al. 2021) and APFL (Deng et al. 2020) on linear regression with plain SGD, in plain NumPy and float64."""

import numpy as np
from oracles.fedavg_numpy import gradient


def _step(weights, rate, direction):
    return [v - rate * d for v, d in zip(weights, direction, strict=True)]


def ditto(received, v, batches, rate, lam):
    """A client's v_k after a round in which it received these weights."""
    for batch in batches:
        v = _step(v, rate, [g + lam * (x - w) for g, x, w in zip(gradient(v, *batch), v, received, strict=True)])
    return v


def apfl(received, v, alpha, batches, rate, personal_rate, alpha_rate):
    """A client's v_i and alpha_i after a round in which it received these weights."""
    w = received
    for batch in batches:
        at_mixture = gradient(mix(alpha, v, w), *batch)
        slope = sum(float(np.sum((x - y) * g)) for x, y, g in zip(v, w, at_mixture, strict=True))
        w, v = _step(w, rate, gradient(w, *batch)), _step(v, personal_rate, [alpha * g for g in at_mixture])
        alpha = float(np.clip(alpha - alpha_rate * slope, 0, 1))
    return v, alpha


def mix(alpha, v, w):
    return [alpha * x + (1 - alpha) * y for x, y in zip(v, w, strict=True)]
