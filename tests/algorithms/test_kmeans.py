"""Federated k-means against the numbers of TFF, and against Lloyd's algorithm by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import Golden

import fedloom as fl
from fedloom.algorithms import kmeans
from fedloom.data import Batching


def test_it_computes_the_numbers_of_tff(record_property):
    golden = Golden("fed_kmeans")
    algorithm = golden.entry["algorithm"]
    process = fl.LearningProcess(kmeans(algorithm["num_clusters"], algorithm["data_shape"]), batching=Batching(size=4))
    state = process.initialize(golden.arrays["centroids"][0])
    largest = 0.0
    for r, cohort in enumerate(golden.entry["cohorts"]):
        state, metrics = process.next(state, {str(c): {"x": golden.arrays[f"client/{c}/points"]} for c in cohort})
        pairs = {
            "centroids": (process.get_weights(state).trainable, golden.arrays["centroids"][r + 1]),
            "counts": (state.server.counts, golden.arrays["counts"][r + 1]),
            "metrics": (metrics["num_examples"], golden.arrays["metrics/client_work/num_examples"][r]),
        }
        largest = max([largest, *(golden.check(group, *pair, what=f"round {r}") for group, pair in pairs.items())])
    record_property("largest_difference", largest)


def test_a_tie_goes_to_the_lower_index_and_padding_is_no_point():
    """Points of shape (2, 1) in batches of 4: one padded row that repeats the first point, and counts of whole numbers."""
    process = fl.LearningProcess(kmeans(3, (2, 1)), batching=Batching(size=4, shuffle=False))
    start = np.float32([[[0.0], [0.0]], [[4.0], [0.0]], [[0.0], [50.0]]])
    points = np.float32([[[2.0], [0.0]], [[2.0], [1.0]], [[3.0], [3.0]]])  # two ties between 0 and 1, one point of 1
    state, metrics = process.next(process.initialize(start), {"ada": {"x": points}, "empty": {"x": points[:0]}})
    np.testing.assert_allclose(process.get_weights(state).trainable, [[[4 / 3], [1 / 3]], [[7 / 2], [3 / 2]], [[0.0], [50.0]]], rtol=1e-6)
    np.testing.assert_array_equal(state.server.counts, [3, 2, 1])
    assert metrics["loss"] == pytest.approx((4 + 5 + 10) / 3) and metrics["num_examples"] == 3


def test_it_finds_groups():
    """Three groups of 40 points with deviation 0.1, from one point of each; the loss is then that of two coordinates, 2 * 0.1^2."""
    rng = np.random.default_rng(1)
    centres = np.array([[1.0, 1.0], [-1.0, 1.0], [0.0, -1.5]])
    points = np.float32(np.repeat(centres, 40, axis=0) + 0.1 * rng.normal(size=(120, 2)))
    process = fl.LearningProcess(kmeans(3, 2), batching=Batching(size=16))
    state = process.initialize(points[::40])
    for _ in range(5):
        state, _ = process.next(state, {str(i): {"x": points[i::5], "y": np.zeros(24)} for i in range(5)})
    np.testing.assert_allclose(process.get_weights(state).trainable, points.reshape(3, 40, 2).mean(1), atol=0.02)
    np.testing.assert_array_equal(state.server.counts, [1 + 5 * 40] * 3)
    assert process.evaluate(state, {"all": {"x": points}})["loss"] == pytest.approx(2 * 0.1**2, rel=0.3)


def test_fresh_centroids_are_standard_normal_and_decided_by_the_seed():
    """Mean and mean square of 3000 numbers within 5 sigma, which are 1 and sqrt(2) over sqrt(3000)."""
    first, again, other = (
        np.asarray(fl.LearningProcess(kmeans(1000, 3), seed=seed).initialize().server.weights.trainable) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert abs(first.mean()) < 5 / 3000**0.5 and abs((first**2).mean() - 1) < 5 * (2 / 3000) ** 0.5


def test_counts_stay_exact_over_clients_whose_mean_is_not():
    """s / n * n is not s in float32 for every n, but the rounded one is."""
    process = fl.LearningProcess(kmeans(1, 1), batching=Batching(size=64))
    state = process.initialize(np.zeros((1, 1), np.float32))
    sizes = [1, 2, 4, 7, 11, 61, 5]
    for _ in range(3):
        state, _ = process.next(state, {str(i): {"x": np.ones((n, 1), np.float32)} for i, n in enumerate(sizes)})
    assert state.server.counts.tolist() == [1 + 3 * sum(sizes)] and state.server.counts.dtype == jnp.int32
    np.testing.assert_allclose(process.get_weights(state).trainable, 3 * sum(sizes) / (1 + 3 * sum(sizes)), rtol=1e-6)


@pytest.mark.parametrize(("clusters", "shape"), [(0, 2), (2, 0), (2, (3, -1)), (2.5, 2)])
def test_bad_arguments_are_errors(clusters, shape):
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        kmeans(clusters, shape)
