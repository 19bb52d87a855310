"""What a round reports, as plain numbers: of all clients together, of each by itself, and what privacy leaves of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedloom.core import ClientReport, Closed, Model, RoundSums, places_of
from fedloom.engine import Attendance, Client, Executor
from fedloom.privacy import Poisson, Sampling

from ._shapes import RoundShapes

NOT_FINITE = "its update was NaN or infinite"


class Clocks(NamedTuple):
    """Seconds of a round."""

    data: float  # in which the device waited for clients' data
    compute: float  # of clients' work besides
    aggregate: float  # of the server's


def seconds_waited(executor: Executor) -> float:
    """In which the device waited for data in the executor's last run: the middle of what is known; 0 if it does not say."""
    waited = getattr(executor, "waited", None)
    return (waited.at_least + waited.at_most) / 2 if waited else 0.0


def clients_left_out(
    sums: RoundSums, cohort: Sequence[Client], attendance: Attendance | None, round_number: int
) -> tuple[RoundSums, list[dict[str, str]]]:
    """Who was left out and why, in the order of the cohort; and the sums without those whose data failed after they had begun.

    Args:
        sums: Of the round, on the host.
        cohort: Who was asked.
        attendance: Who failed; None if that would have ended the round.
        round_number: Of the round.
    """
    failures = attendance.failures if attendance else {}
    begun = len(failures.keys() & set(attendance.present)) if attendance else 0
    rows = {place: {"client": f.client, "stage": f.stage, "reason": f.reason} for place, f in failures.items()}
    for place in places_of(sums.nonfinite_places) if sums.num_nonfinite_clients else ():
        rows.setdefault(place, {"client": cohort[place].name, "stage": "finish", "reason": NOT_FINITE})
    told = sums._replace(num_clients=sums.num_clients - begun, num_nonfinite_clients=sums.num_nonfinite_clients - begun)
    return told, [rows[place] for place in sorted(rows)]


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
    model: Model,
    round_number: int,
    names: Sequence[str],
    reports: Sequence[ClientReport],
    shapes: RoundShapes,
    left_out: Sequence[dict[str, str]],
) -> list[dict[str, Any]]:
    """A dict per client of the round, which is counted from 1 here, as in the rows of `train`; last, those that never began."""
    rows, reasons = [], {row["client"]: row["reason"] for row in left_out}
    for name, report in zip(names, reports, strict=True):
        metrics, tally = jax.device_get((report.metrics, report.tally))
        rows.append(
            {
                "round": round_number + 1,
                "client": name,
                "asked": 1.0,
                "answered": 1.0,
                "reason": reasons.get(name, ""),
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
    return [*rows, *failure_rows(round_number, [row for row in left_out if row["client"] not in set(names)])]


def failure_rows(round_number: int, left_out: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """A dict per client that was left out, with the columns of `client_rows` that there are."""
    return [
        {"round": round_number + 1, "client": row["client"], "asked": 1.0, "answered": 0.0, "reason": row["reason"]} for row in left_out
    ]


def _counts(num_clients: int, shapes: RoundShapes) -> dict[str, float]:
    return {
        "num_clients": float(num_clients),
        "bytes_up": float(shapes.bytes_up * num_clients),
        "bytes_down": float(shapes.bytes_down * num_clients),
    }


def _plain(tree: Any) -> Any:
    """The same with numbers of Python in the place of arrays."""
    return jax.tree.map(lambda leaf: float(leaf) if np.ndim(leaf) == 0 else np.asarray(leaf).tolist(), jax.device_get(tree))
