"""Evaluation of personalized models over clients, and what it says of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from fedloom.aggregators import weighted_mean
from fedloom.algorithms import Strategy, personalization
from fedloom.core import Model, root_key
from fedloom.data import Batching
from fedloom.engine import pair, prepare

from ._evaluation import evaluator_of, weights_of
from ._evaluator import carried_rows, evaluation_batching
from ._process import LearningProcess, ProcessState

_OWN = {"client", "num_train_examples", "personal"}


def personalize(
    source: LearningProcess | Model,
    weights: Any,
    train_clients: Any,
    test_clients: Any,
    strategies: Mapping[str, Strategy],
    *,
    batching: Batching | None = None,
    seed: int | None = None,
) -> list[dict[str, Any]]:
    """How well weights do on each client's test part: as they are, and after each strategy has fitted them to its training part.

    Args:
        source: The process, or the model. A process keeps what was compiled for its next call with the same strategies.
        weights: As in `LearningProcess.initialize`, but not None; with a process, one of its states too. A state of an algorithm with
            personal weights (Ditto, APFL) has these evaluated as well.
        train_clients: As in `LearningProcess.next`; each client's training part.
        test_clients: The same clients' test parts; the same ids, or as many in a list. A part may have no examples: without a training part
            a client is evaluated with what its strategies start from, and without a test part all its metrics are of 0 examples.
        strategies: By name, e.g. `{"sgd": fl.algorithms.fine_tune(model, fl.optimizers.sgd(0.1))}`. All see the same batches.
        batching: Of the training parts, with the number of epochs and the most batches to train on; None takes that of the process. Test
            parts have batches of the same size.
        seed: Decides shuffling and dropout; None takes that of the process, or 0.

    Returns:
        A dict per client, in the order of `test_clients`: its id as `client`, `num_train_examples` with repeats, and metrics of its test
        part under `baseline`, under `personal` if there are personal weights, and under the name of each strategy. See
        `personalization_summary`.

    Raises:
        ValueError: A client is in one of the two cohorts only, there is no strategy or one has a name that is taken, weights do not fit the
            model, or shuffling would break up a carried RNN state.
        ClientFailure: A client's data could not be read, or does not fit the model.

    Example:
        >>> import jax.numpy as jnp, fedloom as fl
        >>> model = fl.models.from_functions(lambda key: jnp.zeros(()), lambda w, x: w * x, lambda y, p: (y - p) ** 2 / 2)
        >>> part = {"ada": {"x": jnp.ones(2), "y": jnp.ones(2)}}
        >>> strategies = {"half a step": fl.algorithms.fine_tune(model, fl.optimizers.sgd(0.5))}
        >>> (row,) = personalize(model, 0.0, part, part, strategies, batching=fl.data.Batching(size=2))
        >>> row["client"], row["baseline"]["loss"], row["half a step"]["loss"]
        ('ada', 0.5, 0.125)
    """
    evaluator, start = evaluator_of(source), weights_of(source, weights)
    process = source if isinstance(source, LearningProcess) else None
    batching = process.batching if process and batching is None else batching
    seed = (process.seed if process else 0) if seed is None else seed
    model = evaluator.model
    if taken := sorted(_OWN & strategies.keys()):
        raise ValueError(f"strategies must not have the names {taken}, which the rows use themselves. Rename them.")
    if batching is not None and batching.shuffle and carried_rows(model):
        raise ValueError('Batching.shuffle must be False for a model with rnn_state="carry", whose state follows the order of the data.')
    algorithm = personalization(model, strategies)
    testing = evaluation_batching(model, batching.size if batching else None)
    personal_weights = None
    if process and isinstance(weights, ProcessState) and process.algorithm.personal:
        personal_weights = process.personal_weights
    train = prepare(train_clients, batching, seed=seed, round_number=0, check=model.check_batch)
    test = prepare(test_clients, testing, seed=seed, round_number=0, check=model.check_batch, rereads=personal_weights is not None)
    cohort = pair(train, test)
    settings = tuple((name, *strategy._replace(sent=())) for name, strategy in strategies.items())
    executor = evaluator.executor("personalization", lambda: (algorithm, weighted_mean()), reports=True, settings=settings)
    _, reports = executor.run(algorithm.init(start), (), cohort, root_key(seed), 0)
    rows = []
    for client, report in zip(cohort, reports, strict=True):
        sums = jax.device_get(report.metrics)
        metrics = {name: model.finish_metrics(sums["models"][name]) for name in ("baseline", *strategies)}
        rows.append({"client": client.name, "num_train_examples": float(sums["num_train_examples"]), **metrics})
    if personal_weights:
        for row, client in zip(rows, test, strict=True):
            own = personal_weights(weights, client.name)
            row["personal"] = model.finish_metrics(evaluator.total({"model": own}, [client.batches()])["model"])
    return rows


def personalization_summary(
    rows: Sequence[Mapping[str, Any]], metric: str = "loss", *, better: Literal["lower", "higher"] | None = None
) -> dict[str, dict[str, float]]:
    """One metric over the clients that have test examples.

    Args:
        rows: From `personalize`.
        metric: Its name; a single number per client.
        better: Whether clients gain where it is lower or higher than with the baseline; must be said for all but the loss.

    Returns:
        By strategy, with the baseline first: `num_clients`, `mean` (each client counts the same), `weighted_mean` (by test examples), and
        but for the baseline `share_gaining` and `share_losing` of clients, strictly; where it is the same, a client does neither. NaN
        makes a mean NaN, and counts as losing.

    Raises:
        ValueError: `metric` is not in the rows, `better` is missing, or no client has test examples.

    Example:
        >>> rows = [
        ...     {"client": "ada", "num_train_examples": 5.0, "baseline": {"loss": 1.0, "num_examples": 1}, "sgd": {"loss": 0.5}},
        ...     {"client": "bob", "num_train_examples": 5.0, "baseline": {"loss": 2.0, "num_examples": 3}, "sgd": {"loss": 2.0}},
        ... ]
        >>> personalization_summary(rows)["sgd"]
        {'num_clients': 2, 'mean': 1.25, 'weighted_mean': 1.625, 'share_gaining': 0.5, 'share_losing': 0.0}
    """
    if better not in ("lower", "higher") and (metric != "loss" or better is not None):
        raise ValueError(f'better must be "lower" or "higher" for {metric!r}, got {better!r}: say which way is a gain.')
    tested = [row for row in rows if row["baseline"]["num_examples"]]
    if not tested:
        raise ValueError("No client has test examples, so there is nothing to summarize.")
    if metric not in tested[0]["baseline"]:
        raise ValueError(f"metric must be one of {sorted(tested[0]['baseline'])}, got {metric!r}.")
    names = ["baseline", *[name for name in tested[0] if name not in {"baseline", "client", "num_train_examples"}]]
    values = {name: np.array([row[name][metric] for row in tested], float) for name in names}
    counts = np.array([row["baseline"]["num_examples"] for row in tested], float)
    summary = {}
    for name in names:
        mean, weighted = values[name].mean(), np.average(values[name], weights=counts)
        summary[name] = {"num_clients": len(tested), "mean": float(mean), "weighted_mean": float(weighted)}
        if name != "baseline":
            before, after = (-values[n] if better == "higher" else values[n] for n in ("baseline", name))
            gains, same = after < before, after == before
            summary[name] |= {"share_gaining": float(gains.mean()), "share_losing": float((~gains & ~same).mean())}
    return summary
