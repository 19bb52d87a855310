"""SCAFFOLD (Karimireddy et al. 2020, Algorithm 1, option II) on linear regression, in plain NumPy and float64."""

import numpy as np
from oracles.fedavg_numpy import gradient


def scaffold(x, cohorts, eta_l, eta_g, population, weigh):
    """(x, c, {client: c_i}) after every round; `weigh` takes a client's batches."""
    x = [np.array(v, np.float64) for v in x]
    c = [np.zeros_like(v) for v in x]
    own = {}
    for cohort in cohorts:
        delta_y, delta_c, total = [0 * v for v in x], [0 * v for v in x], 0.0
        for name, batches in cohort.items():
            c_i = own.setdefault(name, [np.zeros_like(v) for v in x])
            if not batches:
                continue
            y = x
            for batch in batches:
                y = [v - eta_l * (g - ci + cs) for v, g, ci, cs in zip(y, gradient(y, *batch), c_i, c, strict=True)]
            new = [ci - cs + (xs - v) / (len(batches) * eta_l) for ci, cs, xs, v in zip(c_i, c, x, y, strict=True)]
            weight = weigh(batches)
            delta_y = [d + weight * (v - xs) for d, v, xs in zip(delta_y, y, x, strict=True)]
            delta_c = [d + weight * (n - ci) for d, n, ci in zip(delta_c, new, c_i, strict=True)]
            total += weight
            own[name] = new
        x = [v + eta_g * d / total for v, d in zip(x, delta_y, strict=True)]
        c = [v + total / population * (d / total) for v, d in zip(c, delta_c, strict=True)]
        yield x, c, dict(own)
