"""Federated k-means: a mini-batch step of Lloyd's algorithm per round, over the points of all its clients.

Source: Sculley 2010 (doi:10.1145/1772690.1772862), Algorithm 1, whose per-centre rate is 1 / (points seen so far), with all clients' points
of a round as the mini-batch; the numbers are those of TFF's `build_fed_kmeans`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedloom.core import Algorithm, ClientOutput, ClientWork, Contribution, MetricSums, Model, ModelWeights, add_metrics

from ._checks import check_count


class KMeansState(NamedTuple):
    """The server."""

    weights: ModelWeights  # the centroids, (K, *data_shape), are what is trainable
    counts: jax.Array  # (K,) int32: points that each centroid has been made of, from 1


class Assigned(NamedTuple):
    """Points by the centroid nearest to them."""

    sums: jax.Array  # (K, *data_shape)
    counts: jax.Array  # (K,)


class LocalState(NamedTuple):
    """A client at work."""

    assigned: Assigned
    metrics: MetricSums


def kmeans(num_clusters: int, data_shape: int | Sequence[int]) -> Algorithm:
    """Federated k-means clustering.

    A round assigns every point to its nearest centroid (of equals, to the first) and moves each centroid with n > 0 new points to
    (count * centroid + sum of the n points) / (count + n), then count <- count + n. Counts start at 1, so the start weighs as one point.

    Args:
        num_clusters: K.
        data_shape: Of a point, or the number of its coordinates.

    Returns:
        An `Algorithm` with a model of its own. Clients need the column `x` only, (n, *data_shape); every point counts once, whatever its
        sample weight. The loss is the mean squared distance to the nearest centroid. Start centroids are standard normal, or those that
        `LearningProcess.initialize` is given, (K, *data_shape). It needs an aggregator that takes a mean; sums of up to 4 million points a
        round are exact.

    Raises:
        ValueError: A number is less than 1.

    Example:
        >>> import jax.numpy as jnp, fedloom as fl
        >>> process = fl.LearningProcess(kmeans(2, 1), batching=fl.data.Batching(size=4))
        >>> state = process.initialize(jnp.array([[0.0], [10.0]]))
        >>> state, metrics = process.next(state, {"ada": {"x": jnp.array([[2.0], [4.0]])}, "bob": {"x": jnp.array([[8.0]])}})
        >>> process.get_weights(state).trainable.tolist(), state.server.counts.tolist()
        ([[2.0], [9.0]], [3, 2])
    """
    shape = tuple(data_shape) if isinstance(data_shape, Sequence) else (data_shape,)
    check_count("num_clusters", num_clusters)
    for size in shape:
        check_count("Every number in data_shape", size)
    model = _model(num_clusters, shape)

    def init(weights):
        return KMeansState(weights, jnp.ones(num_clusters, jnp.int32))

    def begin(message, client_state, key):
        return LocalState(Assigned(jnp.zeros((num_clusters, *shape)), jnp.zeros(num_clusters)), model.init_metrics())

    def step(message, local, batch, key):
        nearest = jnp.argmin(_squared_distances(message.trainable, batch.x), axis=1)  # of equals, the first
        members = jax.nn.one_hot(nearest, num_clusters) * batch.real[:, None]
        sums = jnp.tensordot(members.T, jnp.asarray(batch.x, jnp.float32), axes=1, precision=jax.lax.Precision.HIGHEST)
        metrics, _ = model.evaluate(message, (), batch)
        return LocalState(*add_metrics((local.assigned, local.metrics), (Assigned(sums, members.sum(0)), metrics)))

    def finish(message, local):
        weight = (local.metrics["num_examples"] > 0).astype(jnp.float32)
        return ClientOutput(Contribution(local.assigned, weight), local.metrics)

    def server_update(state, message, mean):
        # The mean over clients times their number is the sum; of counts, which are whole numbers, exactly.
        sums, n = mean.weight * mean.value.sums, jnp.round(mean.weight * mean.value.counts)
        seen = state.counts.astype(jnp.float32)
        old, new = (part.reshape(-1, *[1] * len(shape)) for part in (seen / (seen + n), (n > 0) / (seen + n)))
        centroids = old * state.weights.trainable + new * sums
        counts = state.counts + n.astype(jnp.int32)
        return KMeansState(ModelWeights(centroids, []), counts), {}

    return Algorithm(model, init, ClientWork(begin, step, finish), server_update, name="kmeans")


def _model(num_clusters: int, shape: tuple[int, ...]) -> Model:
    from fedloom.models import from_functions  # keras comes with it, which takes seconds to load

    return from_functions(
        init=lambda key: jax.random.normal(key, (num_clusters, *shape)),
        apply=lambda centroids, x: _squared_distances(centroids, x).min(axis=1),
        loss=lambda y, squared_distance: squared_distance,
    )


def _squared_distances(centroids, points) -> jax.Array:
    """(B, K)."""
    difference = jnp.asarray(points, jnp.float32)[:, None] - centroids
    return (difference**2).sum(axis=tuple(range(2, difference.ndim)))
