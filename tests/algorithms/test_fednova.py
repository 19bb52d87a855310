"""FedNova against FedAvg, closed forms on quadratics and linear losses, and a NumPy oracle."""

import jax.numpy as jnp
import numpy as np
import pytest
from algorithms import ellipses, regression
from algorithms.ellipses import CENTRE, CURVATURE, NAMES, START, clients, run, weights
from contracts.lines import assert_close
from oracles import fednova_numpy

import fedloom as fl
from fedloom import optimizers
from fedloom.algorithms import fedavg, fednova

STEPS = {"ada": 6, "bob": 3, "cy": 1}


def test_with_equally_many_plain_steps_it_is_fedavg():
    server = optimizers.sgd(0.8, momentum=0.5)
    cohorts = [clients(4), clients(2, ["cy", "ada"]), clients(3)]
    want = weights(*run(fedavg(ellipses.model(), optimizers.sgd(0.2), server), cohorts))
    np.testing.assert_allclose(weights(*run(fednova(ellipses.model(), 0.2, server), cohorts)), want, rtol=1e-5)


def test_it_ends_near_the_optimum_where_fedavg_favours_clients_with_many_steps():
    """tau steps pull x to c_i by s_i = 1 - (1 - eta a_i)^tau_i, which tends to eta tau_i a_i: FedAvg ends at the mean of the c_i with the
    weights s_i, FedNova at that with s_i / tau_i, which for small eta is the optimum."""
    eta = 0.02
    cohorts = [clients(STEPS)] * 100
    pull = {n: 1 - (1 - eta * CURVATURE[n]) ** STEPS[n] for n in NAMES}
    ends = {
        "fedavg": ellipses.weighted_centre(pull),
        "fednova": ellipses.weighted_centre({n: pull[n] / STEPS[n] for n in NAMES}),
    }
    uniform = {"client_weight": "uniform"}
    got = weights(*run(fednova(ellipses.model(), eta, optimizers.sgd(2.0), **uniform), cohorts))
    np.testing.assert_allclose(got, ends["fednova"], rtol=1e-4)
    fedavg_got = weights(*run(fedavg(ellipses.model(), optimizers.sgd(eta), optimizers.sgd(2.0), **uniform), cohorts))
    np.testing.assert_allclose(fedavg_got, ends["fedavg"], rtol=1e-4)
    bias = {name: np.abs(end - ellipses.optimum()).max() for name, end in ends.items()}
    assert bias["fedavg"] > 2 and bias["fednova"] < 0.1 * bias["fedavg"]


@pytest.mark.parametrize(("rho", "mu"), [(0.0, 0.0), (0.8, 0.0), (0.0, 1.5), (0.6, 0.9)])
def test_with_constant_gradients_every_client_counts_as_its_weight_says(rho, mu):
    """On losses <c_i, x> all gradients are c_i, so x - y_i = eta |a_i|_1 c_i and the round is x - tau_eff eta mean of c_i."""
    linear = fl.models.from_functions(lambda key: jnp.zeros(2), lambda x, example: example[:, 2:] @ x, lambda y, value: value)
    eta = 0.1
    algorithm = fednova(linear, eta, momentum=rho, proximal_strength=mu, client_weight="uniform")
    process = fl.LearningProcess(algorithm)
    state, metrics = process.next(process.initialize(START), clients(STEPS))
    a = {name: fednova_numpy.coefficients(STEPS[name], rho, eta * mu) for name in NAMES}
    assert all((one > 0).all() for one in a.values()), "or their sum is no 1-norm"
    tau_eff = np.mean([a[name].sum() for name in NAMES])
    assert metrics["server"]["tau_eff"] == pytest.approx(tau_eff, rel=1e-5)
    mean = np.mean([CENTRE[name] for name in NAMES], axis=0)
    np.testing.assert_allclose(weights(process, state), START - tau_eff * eta * mean, rtol=1e-5)


@pytest.mark.parametrize("tau", [1, 2, 7])
@pytest.mark.parametrize(("rho", "eta_mu"), [(0.0, 0.0), (0.8, 0.0), (0.0, 0.15)])
def test_the_closed_forms_of_the_paper_are_the_sums_of_the_coefficients(tau, rho, eta_mu):
    assert fednova_numpy.norm(tau, rho, eta_mu) == pytest.approx(fednova_numpy.coefficients(tau, rho, eta_mu).sum())


@pytest.mark.parametrize(("rho", "mu"), [(0.7, 0.0), (0.0, 1.2)])
def test_rounds_of_linear_regression_agree_with_the_oracle(rho, mu):
    cohorts = regression.cohorts(4)
    process = fl.LearningProcess(fednova(regression.model(), 0.1, optimizers.sgd(0.7)))
    state = process.set_hparams(process.initialize(regression.START), {"momentum": rho, "proximal_strength": mu})
    oracle = fednova_numpy.fednova(regression.START, cohorts, 0.1, 0.7, rho, mu, regression.num_examples)
    for cohort, (x, tau_eff) in zip(cohorts, oracle, strict=True):
        state, metrics = process.next(state, cohort)
        assert_close(process.get_weights(state).trainable, x)
        assert metrics["server"]["tau_eff"] == pytest.approx(tau_eff, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"client_learning_rate": -0.1}, "client_learning_rate must be a finite number above 0, got -0.1"),
        ({"client_learning_rate": 0.1, "momentum": 1.5}, "momentum must be in .* got 1.5"),
        ({"client_learning_rate": 0.1, "proximal_strength": -1.0}, "proximal_strength must be a finite number >= 0, got -1.0"),
        ({"client_learning_rate": 0.1, "client_weight": None}, "client_weight must be one of"),
    ],
)
def test_what_cannot_be_right_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        fednova(ellipses.model(), **arguments)


def test_weights_of_half_precision_stay_so():
    """Though hyperparameters are float32; bfloat16 has three digits."""
    half = regression.model()._replace(init=lambda key: fl.core.ModelWeights([jnp.zeros(3, jnp.bfloat16), jnp.zeros((), jnp.bfloat16)], []))
    cohort = regression.cohorts(1)[0]
    got = []
    for model in (half, regression.model()):
        process = fl.LearningProcess(fednova(model, 0.1, momentum=0.5, proximal_strength=0.2))
        state, _ = process.next(process.initialize(), cohort)
        got.append(process.get_weights(state).trainable)
    assert [leaf.dtype for leaf in got[0]] == [jnp.bfloat16] * 2
    assert_close([leaf.astype(jnp.float32) for leaf in got[0]], got[1], rtol=0.05, atol=0.02)
