"""Agnostic federated averaging: training for the mixture of domains that is hardest for the model.

Papers: Ro et al. 2021 (arXiv:2104.02748) for the algorithm, AgnosticFedAvg; Mohri et al. 2019 (arXiv:1902.00146) for its objective,
min over w, max over lambda in the simplex, of sum_d lambda_d L_d(w), with L_d the mean loss over the examples of domain d. Domains cut
across clients: a language, a device, a kind of text.
Differs from them: a local step is normalized by the client's mean alpha rather than by its sum of alphas, so that one domain is FedAvg;
a domain without examples in a round keeps its lambda; and one that the window has not seen is taken to have an equal share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedloom import optimizers
from fedloom.core import (
    Algorithm,
    Batch,
    Carry,
    ClientOutput,
    ClientWork,
    Contribution,
    Model,
    ModelWeights,
    Pass,
    PyTree,
    Ratio,
    add_metrics,
)

from ._checks import check_count, check_not_negative
from ._training import (
    Hyperparams,
    LocalState,
    Schedule,
    check_schedule,
    local_step,
    rates_of,
    scheduled,
    server_step,
    start,
    update_of,
)

SMALLEST_ALPHA = 1e-6
"""A client of weight 0 is not heard at all, so the loss of a domain could not bring it back."""


class AgnosticState(NamedTuple):
    """The server; D is the number of domains."""

    weights: ModelWeights  # w_t
    server_optimizer: PyTree  # its state
    log_lambda: jax.Array  # (D,); in logarithms, so that a domain whose weight has become tiny can come back
    window: jax.Array  # (rounds, D): examples of each domain in the last rounds
    hyperparams: Hyperparams


class AgnosticMessage(NamedTuple):
    """What the server sends a client."""

    weights: ModelWeights  # w_t
    alpha: jax.Array  # (D,): what an example of each domain counts for
    hyperparams: Hyperparams


class AgnosticUpdate(NamedTuple):
    """What a client sends, with the weight beta_k = sum_d alpha_d N_{k,d}."""

    update: ModelWeights  # before minus after
    losses: jax.Array  # (D,): sums of losses, divided by beta_k because the mean multiplies by it
    examples: jax.Array  # (D,): N_{k,d} / beta_k


class AgnosticLocalState(NamedTuple):
    """A client at work."""

    training: LocalState
    domains: Ratio  # (D,): sums of losses at the received weights, and numbers of examples N_{k,d}
    carry: Carry  # RNN state of the first pass


def agnostic(
    model: Model,
    client_optimizer: Any = None,
    server_optimizer: Any = optimizers.sgd(1.0),
    *,
    num_domains: int,
    domain: Callable[[Batch], jax.Array],
    domain_learning_rate: float,
    window: int = 1,
    client_schedule: Schedule | None = None,
) -> Algorithm:
    """FedAvg on examples weighted by domain, with domain weights lambda that grow where the loss is high.

    A client goes over its data twice: first for the losses of the domains at the weights it received, then to train. So all goes in one
    exchange: its examples are scaled by alpha_d = lambda_d / (share of domain d among the examples of the last rounds). With one domain it
    is `fedavg` with `client_weight="tokens"`.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`. Reported are those over the weighted examples, of the mixture lambda.
        client_optimizer: Takes the local steps; its state starts fresh every round.
        server_optimizer: Is fed the mean update as a gradient.
        num_domains: D.
        domain: The domain of every row of a batch, (B,) whole numbers in [0, D); it is traced. A client with any other number counts as
            one that is not finite.
        domain_learning_rate: gamma >= 0 of the exponentiated gradient step lambda_d <- lambda_d exp(gamma L_d) / Z, which is taken once
            per round; 0 holds all domains at the same weight. It is the hyperparameter of this name.
        window: Rounds over which the shares of domains are taken; more for small cohorts.
        client_schedule: The learning rate of the client optimizer by round, counted from 0.

    Returns:
        An `Algorithm`. It reports, as lists with an entry per domain, `domain_weights` (lambda of the next round), `domain_losses` (of this
        round at the weights sent, 0 without examples) and `domain_examples`. An example of sample weight s counts as s.

    Raises:
        ValueError: A number is out of its range, there is no client optimizer, or it has no rate that the schedule could set.
    """
    check_count("num_domains", num_domains)
    check_count("window", window)
    check_not_negative("domain_learning_rate", domain_learning_rate, such_as="one such as 0.1")
    client_optimizer, server_optimizer = model.as_optax(client_optimizer), model.as_optax(server_optimizer)
    check_schedule(client_schedule, client_optimizer, "client_schedule")

    def init(weights):
        return AgnosticState(
            weights,
            server_optimizer.init(weights.trainable),
            jnp.full(num_domains, -math.log(num_domains), jnp.float32),
            jnp.zeros((window, num_domains), jnp.float32),
            {"client_optimizer": rates_of(client_optimizer, weights), "domain_learning_rate": jnp.float32(domain_learning_rate)},
        )

    def broadcast(state, round_number):
        N = state.window.sum(0)
        share = jnp.where(N > 0, N / jnp.where(N.sum() > 0, N.sum(), 1), 1 / num_domains)
        sent = scheduled({"client_optimizer": state.hyperparams["client_optimizer"]}, client_schedule, round_number)
        alpha = jnp.maximum(jnp.exp(state.log_lambda) / share, SMALLEST_ALPHA)
        return AgnosticMessage(state.weights, alpha, sent)

    def begin(message, client_state, key):
        training = start(model, client_optimizer, message.weights, message.hyperparams["client_optimizer"])
        return AgnosticLocalState(training, Ratio(jnp.zeros(num_domains), jnp.zeros(num_domains)), model.init_carry())

    def measure(message, local, batch, key):
        def of_domain(member):
            sums, carry = model.evaluate(message.weights, local.carry, _weighted(batch, member))
            return sums["loss"], carry

        # Only the weights of rows differ between domains, so the forward pass itself is not repeated.
        losses, carry = jax.vmap(of_domain, out_axes=(0, None))(_members(domain(batch), num_domains))
        return local._replace(domains=add_metrics(local.domains, losses), carry=carry)

    def beta(message, local):
        return (message.alpha * local.domains.weight).sum()

    def train(message, local, batch, key):
        members = _members(domain(batch), num_domains)
        alpha = jnp.where(members.any(0), (message.alpha[:, None] * members).sum(0), jnp.nan)  # of every row
        weighted = _weighted(batch, alpha)
        # The loss of a batch is a mean, so by itself it does not say whether the batch holds much or little of what counts.
        mean_alpha = _safe(_total_weight(weighted), _total_weight(batch))
        relative = _safe(mean_alpha, _safe(beta(message, local), local.domains.weight.sum()))

        def scale(gradient, weights):
            return jax.tree.map(lambda g: relative.astype(g.dtype) * g, gradient)

        return local._replace(training=local_step(model, client_optimizer, local.training, weighted, key, scale))

    def finish(message, local):
        beta_k = beta(message, local)
        update = update_of(model, message.weights, local.training.weights)
        value = AgnosticUpdate(update, _safe(local.domains.total, beta_k), _safe(local.domains.weight, beta_k))
        metrics = {**local.training.metrics, "num_tokens": local.domains.weight.sum()}  # as in the data, not scaled by alpha
        return ClientOutput(Contribution(value, beta_k), metrics)

    def server_update(state, message, mean):
        weights, opt_state = server_step(model, server_optimizer, state.server_optimizer, state.weights, mean.value.update)
        N = mean.weight * mean.value.examples
        L = _safe(mean.value.losses, mean.value.examples)
        log_lambda = _exponentiated_gradient(state.log_lambda, L, N > 0, state.hyperparams["domain_learning_rate"])
        last = jnp.concatenate([state.window[1:], N[None]])
        report = {"domain_weights": jnp.exp(log_lambda), "domain_losses": L, "domain_examples": N}
        return state._replace(weights=weights, server_optimizer=opt_state, log_lambda=log_lambda, window=last), report

    work = ClientWork(begin, (Pass(measure), Pass(train)), finish)
    return Algorithm(model, init, work, server_update, broadcast, name="agnostic")


def _exponentiated_gradient(log_lambda, L, seen, gamma):
    """lambda_d <- lambda_d exp(gamma L_d) / Z; Z leaves what the domains that were seen have together as it was."""
    before = jnp.where(seen, log_lambda, -jnp.inf)
    after = before + gamma * L
    moved = after - jax.nn.logsumexp(after) + jax.nn.logsumexp(before)
    return jnp.where(seen, moved, log_lambda)


def _members(domains, num_domains: int) -> jax.Array:
    """(D, B): 1 where a row is of a domain."""
    return (jnp.arange(num_domains)[:, None] == domains).astype(jnp.float32)


def _weighted(batch: Batch, factor) -> Batch:
    """The batch with the weight of every row times its factor, (B,)."""
    given = jnp.asarray(batch.sample_weight)
    return batch._replace(sample_weight=given * factor.reshape((-1,) + (1,) * (given.ndim - 1)))


def _total_weight(batch: Batch) -> jax.Array:
    return _weighted(batch, jnp.asarray(batch.real)).sample_weight.sum()


def _safe(total, weight):
    """total / weight; 0 where there is no weight."""
    return jnp.where(weight == 0, 0, total / jnp.where(weight == 0, 1, weight))
