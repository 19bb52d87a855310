"""What a round reports, as plain numbers: of all clients together, of each by itself, and what privacy leaves of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fedloom.core import ClientReport, Closed, Model, RoundSums
from fedloom.privacy import Poisson, Sampling

from ._shapes import RoundShapes


def round_metrics(model: Model, sums: RoundSums, closed: Closed, shapes: RoundShapes) -> dict[str, Any]:
    """Metrics of a round without a budget; see `LearningProcess.next`."""
    parts = {"server": _plain(closed.metrics), "aggregator": _plain(closed.measurements)}
    return {
        **model.finish_metrics(jax.device_get(sums.metrics)),
        "num_nonfinite_clients": float(sums.num_nonfinite_clients),
        "accepted": float(closed.accepted),
        **_counts(int(sums.num_clients), shapes),
        **{name: part for name, part in parts.items() if part},
    }


def private_metrics(sums: RoundSums, closed: Closed, shapes: RoundShapes, sampling: Sampling) -> dict[str, Any]:
    """What may be told of a round under a budget: what came out of the noise, and what does not depend on single clients."""
    # With coins of their own, how many came tells of each; with a fixed number it tells nothing.
    counts = {} if isinstance(sampling, Poisson) else _counts(int(sums.num_clients), shapes)
    return {"accepted": float(closed.accepted), **counts, **({"server": server} if (server := _plain(closed.metrics)) else {})}


def client_rows(
    model: Model, round_number: int, names: Sequence[str], reports: Sequence[ClientReport], shapes: RoundShapes
) -> list[dict[str, Any]]:
    """A dict per client of the round, which is counted from 1 here, as in the rows of `train`."""
    rows = []
    for name, report in zip(names, reports, strict=True):
        metrics, tally = jax.device_get((report.metrics, report.tally))
        rows.append(
            {
                "round": round_number + 1,
                "client": name,
                "asked": 1.0,
                "answered": 1.0,  # in a simulation nobody drops out
                "weight": float(report.weight),
                "update_norm": float(report.update_norm),
                "nonfinite": float(~np.asarray(report.finite)),
                **(_plain(tally) or {}),
                "bytes_up": float(shapes.bytes_up),
                "bytes_down": float(shapes.bytes_down),
                "seconds": report.seconds,
                **model.finish_metrics(metrics),
            }
        )
    return rows


def _counts(num_clients: int, shapes: RoundShapes) -> dict[str, float]:
    return {
        "num_clients": float(num_clients),
        "bytes_up": float(shapes.bytes_up * num_clients),
        "bytes_down": float(shapes.bytes_down * num_clients),
    }


def _plain(tree: Any) -> Any:
    """The same with numbers of Python in the place of arrays."""
    return jax.tree.map(lambda leaf: float(leaf) if np.ndim(leaf) == 0 else np.asarray(leaf).tolist(), jax.device_get(tree))
