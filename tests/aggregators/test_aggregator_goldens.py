"""Clipping, zeroing, quantiles and private means without noise against the numbers of TFF 0.87 itself."""

import jax.numpy as jnp
import pytest
from golden_cases import ENTRIES, Golden

import fedloom as fl

agg = fl.aggregators

TFF_QUANTILE = {"initial_estimate": "initial", "target_quantile": "target"}


def make_quantile(spec):
    arguments = {TFF_QUANTILE.get(key, key): value for key, value in spec.items() if key != "name"}
    return agg.quantile(**arguments)


def make_stages(spec):
    """TFF's nested factories as the stages of a chain."""
    if spec["name"] == "mean":
        return [agg.weighted_mean()]
    if spec["name"].startswith("dp_gaussian"):
        arguments = {key: value for key, value in spec.items() if key != "name"}
        return [getattr(agg, spec["name"])(**arguments)]
    threshold = spec["threshold"] if isinstance(spec["threshold"], float) else make_quantile(spec["threshold"])
    return [getattr(agg, spec["name"])(threshold, spec["norm"]), *make_stages(spec["inner"])]


def of_case(name):
    return agg.chain(*make_stages(ENTRIES[name]["algorithm"]["aggregator"]))


CASES = {  # with the recipes' defaults, where TFF has a recipe
    "clipping_fixed": lambda: of_case("clipping_fixed"),
    "zeroing_fixed": lambda: of_case("zeroing_fixed"),
    "robust_aggregator": agg.robust_aggregator,
    "robust_aggregator_nan_client": agg.robust_aggregator,
    "dp_gaussian_fixed": lambda: of_case("dp_gaussian_fixed"),
    "dp_gaussian_adaptive": lambda: of_case("dp_gaussian_adaptive"),
    "dp_aggregator_zeroing": lambda: agg.dp_aggregator(0.0, clients_per_round=7),
}
MEASURED = {  # in TFF: here
    "zeroing_norm": ("zeroing", "threshold"),
    "zeroed_count": ("zeroing", "zeroed_count"),
    "clipping_norm": ("clipping", "threshold"),
    "clipped_count": ("clipping", "clipped_count"),
    "clip": ("dp_gaussian", "clip"),
}


@pytest.mark.parametrize("name", CASES)
def test_rounds_compute_the_numbers_of_tff(name, record_property):
    golden = Golden(name)
    model = fl.models.from_keras(golden.keras_model(), golden.loss(), golden.metrics())
    algorithm = fl.algorithms.fedavg(model, golden.optimizer("client"), golden.optimizer("server"))
    process = fl.LearningProcess(algorithm, aggregator=CASES[name]())
    state = process.initialize(golden.weights(0))
    largest = {"weights": 0.0, "metrics": 0.0, "aggregator": 0.0}
    for r, cohort in enumerate(golden.entry["cohorts"]):
        state, metrics = process.next(state, {str(c): golden.batches(c) for c in cohort})
        for i, got in enumerate(process.get_weights(state).trainable):
            largest["weights"] = max(largest["weights"], golden.check("weights", got, golden.arrays[f"weights/trainable/{i}"][r + 1]))
        for path, values in golden.arrays.items():
            part, *_, measured = path.removeprefix("metrics/").split("/")
            if path.startswith("metrics/aggregator/"):
                stage, ours = MEASURED[measured]
                largest[part] = max(largest[part], golden.check("metrics", metrics["aggregator"][stage][ours], values[r], path))
            elif path.startswith("metrics/client_work/"):
                largest["metrics"] = max(largest["metrics"], golden.check("metrics", metrics[measured], values[r], path))
        assert metrics["accepted"] == 1
    record_property("largest_difference", largest)


@pytest.mark.parametrize("i", range(4))
def test_quantile_estimates_are_those_of_tff(i):
    golden = Golden("quantile_estimation")
    quantile = make_quantile(golden.entry["configs"][i])
    reported = golden.arrays[f"config/{i}/reported"]
    estimate = jnp.float32(quantile.initial)
    for r, want in enumerate(reported):
        golden.check("reported", quantile.threshold(estimate), want, f"config {i} round {r}")
        if r + 1 < len(reported):
            values = jnp.asarray(golden.arrays[f"config/{i}/round/{r}/values"])
            estimate = quantile.update(estimate, quantile.share(quantile.bit(values, estimate).sum(), len(values)))
