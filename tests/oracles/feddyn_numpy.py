"""FedDyn (Acar et al. 2021, Algorithm 1) in plain NumPy and float64, for any way to solve the local problem."""

import numpy as np


def feddyn(theta, cohorts, solve, alpha, population, weigh):
    """(theta, h, {client: g_k}) after every round.

    Args:
        theta: The start, a list of arrays.
        cohorts: Dicts from client to data; a client without data takes no part.
        solve: (client's data, theta^t, g_k) -> theta_k.
        alpha: Strength of the regularizer.
        population: m.
        weigh: Of a client's data.
    """
    theta = [np.array(v, np.float64) for v in theta]
    h = [np.zeros_like(v) for v in theta]
    own = {}
    for cohort in cohorts:
        found = {}
        for name, data in cohort.items():
            g_k = own.setdefault(name, [np.zeros_like(v) for v in theta])
            if data:
                found[name] = solve(data, theta, g_k)
                own[name] = [g - alpha * (v - t) for g, v, t in zip(g_k, found[name], theta, strict=True)]
        weight = {name: weigh(cohort[name]) for name in found}
        total = sum(weight.values())
        for i, t in enumerate(theta):
            h[i] = h[i] - alpha / population * sum(weight[n] * (found[n][i] - t) for n in found)
        theta = [sum(weight[n] * found[n][i] for n in found) / total - h[i] / alpha for i in range(len(theta))]
        yield theta, list(h), dict(own)
