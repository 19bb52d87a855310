"""FedAvg on linear regression with squared error, in plain NumPy and float64: an oracle that shares no code with fedloom."""

from __future__ import annotations

import numpy as np


def gradient(weights, x, y, sample_weight):
    """Of the weighted mean of (x w + b - y)^2 / 2, over w and b."""
    w, b = weights
    error = sample_weight * (x @ w + b - y) / sample_weight.sum()
    return [x.T @ error, error.sum()]


def loss(weights, x, y, sample_weight):
    """The weighted mean of (x w + b - y)^2 / 2."""
    w, b = weights
    return float((sample_weight * (x @ w + b - y) ** 2).sum() / sample_weight.sum() / 2)


def local_training(weights, batches, learning_rate):
    """SGD over the batches (x, y, sample_weight) in order.

    Returns:
        Weights before minus after, the summed loss, the summed sample weight, and the number of examples.
    """
    local, total, tokens, examples = [np.array(v, np.float64) for v in weights], 0.0, 0.0, 0
    for x, y, sample_weight in batches:
        total += loss(local, x, y, sample_weight) * sample_weight.sum()
        tokens += sample_weight.sum()
        examples += len(y)
        local = [v - learning_rate * g for v, g in zip(local, gradient(local, x, y, sample_weight), strict=True)]
    return [before - after for before, after in zip(weights, local, strict=True)], total, tokens, examples


def fedavg(weights, cohorts, learning_rate, server_learning_rate=1.0, server_momentum=0.0, client_weight="num_examples"):
    """Weights and metrics after every round; a cohort is a list of clients, a client a list of batches."""
    weights = [np.array(v, np.float64) for v in weights]
    momentum = [np.zeros_like(v) for v in weights]
    for cohort in cohorts:
        results = [local_training(weights, batches, learning_rate) for batches in cohort]
        scale = {
            "num_examples": [r[3] for r in results],
            "tokens": [r[2] for r in results],
            "uniform": [float(r[3] > 0) for r in results],
        }[client_weight]
        mean = [sum(s * r[0][i] for s, r in zip(scale, results, strict=True)) / sum(scale) for i in range(len(weights))]
        momentum = [server_momentum * m + g for m, g in zip(momentum, mean, strict=True)]
        weights = [v - server_learning_rate * m for v, m in zip(weights, momentum, strict=True)]
        yield (
            weights,
            {
                "loss": sum(r[1] for r in results) / sum(r[2] for r in results),
                "num_tokens": sum(r[2] for r in results),
                "num_examples": sum(r[3] for r in results),
                "num_batches": sum(len(batches) for batches in cohort),
            },
        )
