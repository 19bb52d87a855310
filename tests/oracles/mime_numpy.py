"""Mime and MimeLite with SGD and momentum on linear regression, in plain NumPy and float64, after Karimireddy et al. 2020, Algorithm 1."""

from __future__ import annotations

import numpy as np

from . import fedavg_numpy


def full_gradient(weights, batches):
    """Of the weighted mean of (x w + b - y)^2 / 2 over all rows together; zeros if there are none."""
    if not batches:
        return [np.zeros_like(v) for v in weights]
    return fedavg_numpy.gradient(weights, *(np.concatenate([batch[i] for batch in batches]) for i in range(3)))


def weighted_mean(values, counts):
    """Over clients, of lists of arrays."""
    return [sum(n * value[i] for n, value in zip(counts, values, strict=True)) / sum(counts) for i in range(len(values[0]))]


def mime(weights, cohorts, learning_rate, momentum, *, corrected):
    """Weights and momentum after every round; a cohort is a list of clients, a client a list of batches (x, y, sample_weight).

    `corrected` is Mime, otherwise it is MimeLite.
    """
    x, s = [np.array(v, np.float64) for v in weights], [np.zeros_like(np.array(v, np.float64)) for v in weights]
    for cohort in cohorts:
        counts = [sum(len(y) for _, y, _ in batches) for batches in cohort]
        c = weighted_mean([full_gradient(x, batches) for batches in cohort], counts)
        trained = []
        for batches in cohort:
            y_i = x
            for batch in batches:
                g = fedavg_numpy.gradient(y_i, *batch)
                if corrected:
                    g = [at_y - at_x + mean for at_y, at_x, mean in zip(g, fedavg_numpy.gradient(x, *batch), c, strict=True)]
                y_i = [y - learning_rate * (momentum * m + v) for y, m, v in zip(y_i, s, g, strict=True)]
            trained.append(y_i)
        x, s = weighted_mean(trained, counts), [momentum * m + v for m, v in zip(s, c, strict=True)]
        yield x, s
