"""FedNova (Wang et al. 2020, section 4) on linear regression, in plain NumPy and float64, with the closed forms of |a_i|_1."""

import numpy as np
from oracles.fedavg_numpy import gradient


def norm(tau, rho=0.0, eta_mu=0.0):
    """|a_i|_1 of tau steps with momentum rho, or with a proximal term of eta * mu; not both."""
    if rho:
        return (tau - rho * (1 - rho**tau) / (1 - rho)) / (1 - rho)
    return (1 - (1 - eta_mu) ** tau) / eta_mu if eta_mu else float(tau)


def coefficients(tau, rho, eta_mu):
    """a_i of any local SGD, by its definition: what x - y_i over eta becomes if all gradients are 0 but one, which is 1."""
    a = []
    for k in range(tau):
        away = u = 0.0
        for j in range(tau):
            u = rho * u + (j == k) - eta_mu * away
            away += u
        a.append(away)
    return np.array(a)


def fednova(x, cohorts, eta, server_rate, rho, mu, weigh):
    """(x, tau_eff) after every round; `weigh` takes a client's batches."""
    x = [np.array(v, np.float64) for v in x]
    for cohort in cohorts:
        present = [batches for batches in cohort.values() if batches]
        p = np.array([weigh(batches) for batches in present])
        p = p / p.sum()
        norms = np.array([norm(len(batches), rho, eta * mu) for batches in present])
        tau_eff = float(p @ norms)
        step = [0 * v for v in x]
        for p_i, norm_i, batches in zip(p, norms, present, strict=True):
            y, u = x, [0 * v for v in x]
            for batch in batches:
                u = [rho * m + g + mu * (v - xs) for m, g, v, xs in zip(u, gradient(y, *batch), y, x, strict=True)]
                y = [v - eta * m for v, m in zip(y, u, strict=True)]
            step = [s + tau_eff * p_i * (xs - v) / norm_i for s, xs, v in zip(step, x, y, strict=True)]
        x = [v - server_rate * s for v, s in zip(x, step, strict=True)]
        yield x, tau_eff
