"""Agnostic FedAvg against its equations in NumPy, against the minimax point of two quadratics, and in its limits."""

import numpy as np
import pytest
import quadratics
from quadratics import START, A, C, N, clients, mixed_clients, run

import fedloom as fl
from fedloom.algorithms import agnostic, fedavg

RATE = 0.1
SGD = fl.optimizers.sgd(RATE)


def by_curvature(batch):
    """Two domains; those of ada on one side, of bob and cy on the other."""
    return (batch.y > 1).astype(int)


def one_domain(batch):
    return (0 * batch.y).astype(int)


def process():
    return quadratics.process_of(agnostic, SGD, num_domains=2, domain=by_curvature, domain_learning_rate=0.1, window=2)


class Oracle:
    """Rounds of the algorithm in float64, with the equations of the module and two domains."""

    def __init__(self, gamma):
        self.w, self.lam, self.window, self.gamma = START, np.full(2, 0.5), [], gamma

    def round(self, cohort):
        seen = sum(self.window, np.zeros(2))
        share = np.where(seen > 0, seen / max(seen.sum(), 1), 0.5)
        alpha = self.lam / share
        moved, betas, L, N = np.zeros(2), 0.0, np.zeros(2), np.zeros(2)
        for batches in cohort.values():
            rows = [[np.float64(part) for part in (batch.x, batch.y, batch.sample_weight * batch.real)] for batch in batches]
            for c, a, s in rows:
                for d in range(2):
                    mine = s * ((a > 1) == d)
                    L[d] += (mine * a * ((self.w - c) ** 2).sum(-1) / 2).sum()
                    N[d] += mine.sum()
            beta = sum((alpha[(a > 1).astype(int)] * s).sum() for _, a, s in rows)
            total = sum(s.sum() for _, _, s in rows)
            w = self.w
            for c, a, s in rows:
                scaled = alpha[(a > 1).astype(int)] * s
                w = w - RATE * (total / (s.sum() * beta)) * ((scaled * a)[:, None] * (w - c)).sum(0)
            moved, betas = moved + beta * (w - self.w), betas + beta
        self.w = self.w + moved / betas
        self.lam = self.lam * np.exp(self.gamma * L / N)
        self.lam /= self.lam.sum()
        self.window = [*self.window, N][-2:]
        return L / N, N


def test_rounds_are_those_of_the_equations():
    """With both domains in one batch, sample weights, padding, a client without data, and a window of two rounds; gamma is settable."""
    oracle, got = Oracle(gamma=0.3), process()
    state = got.set_hparams(got.initialize(np.float32(START)), {"domain_learning_rate": 0.3})
    for seed in range(4):
        cohort = mixed_clients(np.random.default_rng(seed), count=2 + seed)
        state, metrics = got.next(state, cohort)
        losses, examples = oracle.round(cohort)
        np.testing.assert_allclose(got.get_weights(state).trainable, oracle.w, rtol=1e-4)
        np.testing.assert_allclose(metrics["server"]["domain_weights"], oracle.lam, rtol=1e-4)
        np.testing.assert_allclose(metrics["server"]["domain_losses"], losses, rtol=1e-4)
        np.testing.assert_allclose(metrics["server"]["domain_examples"], examples, rtol=1e-5)


def test_one_domain_is_fedavg():
    cohorts = [mixed_clients(np.random.default_rng(seed)) for seed in range(3)]
    want, want_metrics = run(quadratics.process_of(fedavg, SGD, client_weight="tokens"), cohorts)
    alone = quadratics.process_of(agnostic, SGD, num_domains=1, domain=one_domain, domain_learning_rate=0.5)
    got, metrics = run(alone, cohorts)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    for name in ("loss", "num_examples", "num_tokens", "num_batches"):
        assert metrics[name] == pytest.approx(want_metrics[name], rel=1e-6)
    assert metrics["server"]["domain_weights"] == [1.0]


PAIR = clients(["ada", "cy"])  # one client, and one step, per domain, so that clients do not drift
a, c = A[[0, 2]], C[[0, 2]]


def worst(x):
    return (a * ((x - c) ** 2).sum(-1) / 2).max()


def test_it_goes_to_the_minimax_point():
    """Of two quadratics it is where their losses are equal: c_0 + t (c_1 - c_0), t = sqrt(a_1) / (sqrt(a_0) + sqrt(a_1)).

    There lambda balances the gradients: lambda_0 sqrt(a_0) = lambda_1 sqrt(a_1). The equations lead there, and the process stays there.
    """
    oracle, root = Oracle(gamma=0.005), np.sqrt(a)
    for _ in range(400):
        oracle.round(PAIR)
    np.testing.assert_allclose(oracle.w, c[0] + root[1] / root.sum() * (c[1] - c[0]), rtol=1e-6)
    np.testing.assert_allclose(oracle.lam, root[::-1] / root.sum(), rtol=1e-6)
    got = process()
    state = got.set_hparams(got.initialize(np.float32(oracle.w)), {"domain_learning_rate": 0.005})
    state = state._replace(server=state.server._replace(log_lambda=np.float32(np.log(oracle.lam)), window=np.float32(oracle.window)))
    state, metrics = got.next(state, PAIR)
    np.testing.assert_allclose(got.get_weights(state).trainable, oracle.w, rtol=1e-5)
    np.testing.assert_allclose(metrics["server"]["domain_weights"], oracle.lam, rtol=1e-4)


def test_the_worst_domain_gains_where_fedavg_has_settled_for_its_loss():
    """From the optimum of FedAvg, at which it stays; lambda stays in the simplex."""
    settled = np.average(c, axis=0, weights=a * N[[0, 2]])
    np.testing.assert_allclose(run(quadratics.process_of(fedavg, SGD), [PAIR], start=settled)[0], settled, rtol=1e-5)
    got = process()
    state = got.set_hparams(got.initialize(np.float32(settled)), {"domain_learning_rate": 0.005})
    for _ in range(20):
        state, metrics = got.next(state, PAIR)
        assert sum(metrics["server"]["domain_weights"]) == pytest.approx(1, rel=1e-5)
    assert worst(np.asarray(got.get_weights(state).trainable)) < 0.75 * worst(settled)


def test_a_domain_without_examples_keeps_its_weight():
    """Its loss is not known, so the others share what they had: alone, all of it."""
    _, metrics = run(process(), [clients(), clients(["ada"])], domain_learning_rate=0.05)
    _, before = run(process(), [clients()], domain_learning_rate=0.05)
    np.testing.assert_allclose(metrics["server"]["domain_weights"], before["server"]["domain_weights"], rtol=1e-5)
    assert before["server"]["domain_weights"][1] > 0.6 and metrics["server"]["domain_losses"][1] == 0


def test_a_domain_whose_weight_became_tiny_can_come_back():
    """Below exp(-200) it is 0 in float32, but its logarithm is kept. In between, cy alone moves the model away from domain 0."""
    got = process()
    state = got.initialize(np.float32(C[0]))  # no loss in domain 0
    weights = []
    for gamma, names in [(0.8, ["ada", "cy"]), *[(0.0, ["cy"])] * 8, (20.0, ["ada", "cy"])]:
        state, metrics = got.next(got.set_hparams(state, {"domain_learning_rate": gamma}), clients(names))
        weights.append(metrics["server"]["domain_weights"][0])
    assert weights[0] == 0 and weights[-1] > 0.99


def test_an_unknown_domain_counts_as_a_client_that_is_not_finite():
    three = quadratics.process_of(agnostic, SGD, num_domains=2, domain=lambda batch: 2 * by_curvature(batch), domain_learning_rate=0.1)
    got, metrics = run(three, [clients(["ada", "bob"])])
    assert metrics["num_nonfinite_clients"] == 1
    np.testing.assert_allclose(got, run(process(), [clients(["ada"])])[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"num_domains": 0}, "num_domains must be a whole"), ({"window": 1.5}, "window must be"), ({"domain_learning_rate": -1}, "got -1")],
)
def test_bad_arguments_are_errors_that_name_them(bad, message):
    good = {"num_domains": 2, "domain": by_curvature, "domain_learning_rate": 0.1}
    with pytest.raises(ValueError, match=message):
        agnostic(quadratics.model(), SGD, **good | bad)
