"""DP-FTRL: noise on the running sum of all rounds, by a binary tree; private without sampling clients at random.

Paper: Kairouz et al. 2021, arXiv:2103.00039, Algorithm 1 and Appendix D (restarts). Each node of the tree over the rounds has noise of
its own, and the sum of rounds 1 to t has that of the nodes which cover them, one for each 1 in the binary form of t. Differs from the
paper: what comes out is the difference of two noisy running sums, as in TFF, so that any server optimizer can follow (with SGD it is the
paper's); and without Honaker's estimator, which would lower the variance of a sum by up to a half.

With care: the state. It holds the keys of the noise rather than the noise, so it is as small for a large model as for a small one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedloom.core import Aggregator, Mechanism

from ._clip import clip as clip_to
from ._gaussian import as_one, check_private_mean, noise_like, noisy_mean

_LEVELS = 31  # rounds are counted in int32


def dp_tree(noise_multiplier: float, clients_per_round: float, clip: float, restart_every: int | None = None) -> Aggregator:
    """(sum_i clip(v_i) + N_t - N_{t-1}) / n, where N_t is the noise of the tree on the sum of rounds 1 to t.

    `noise_multiplier` and `clip` are hyperparameters; a change starts a new tree. Reports `clip`, `noise_std` (of a node), `tree_round` (t)
    and `clipped_count`.

    Args:
        noise_multiplier: z, standard deviation of a node's noise over the clip, >= 0; 0 is no privacy.
        clients_per_round: n, number of clients in a round.
        clip: C, the largest L2 norm of an update, above 0.
        restart_every: Rounds after which a new tree begins, so that clients may take part again: `rounds_per_restart` of
            `fl.privacy.Tree`. None is never.

    Raises:
        ValueError: An argument is out of range.
    """
    check_private_mean(noise_multiplier, clients_per_round, clip)
    if restart_every is not None and not (isinstance(restart_every, int) and restart_every >= 1):
        raise ValueError(f"restart_every must be an int of at least 1, or None, got {restart_every!r}.")

    def init(value):
        no_key = jnp.zeros_like(jax.random.key_data(jax.random.key(0)))
        return {
            "hyperparams": {"noise_multiplier": jnp.float32(noise_multiplier), "clip": jnp.float32(clip)},
            "rounds": jnp.int32(0),  # t - 1, in this tree
            "noise_multiplier": jnp.float32(noise_multiplier),  # of this tree
            "clip": jnp.float32(clip),
            "nodes": jnp.stack([no_key] * _LEVELS),  # by level; that of level l counts if bit l of `rounds` is 1
        }

    def encode(state, contribution, key):
        value, norm = clip_to(contribution.value, state["hyperparams"]["clip"])
        return as_one(contribution, value, {"clipped": (norm > state["hyperparams"]["clip"]).astype(jnp.float32)})

    def decode(state, total, key):
        z, C = state["hyperparams"]["noise_multiplier"], state["hyperparams"]["clip"]
        restart = (z != state["noise_multiplier"]) | (state["clip"] != C)
        if restart_every is not None:
            restart |= state["rounds"] >= restart_every
        done = jnp.where(restart, 0, state["rounds"])

        def noise_of(node):
            return noise_like(total.value, z * C, jax.random.wrap_key_data(node, impl=jax.random.key_impl(key)))

        # From t-1 = ...0111 to t = ...1000: a node of level 3 takes the place of those of levels 0, 1 and 2.
        level = jax.lax.population_count(done ^ (done + 1)) - 1
        new = jax.random.key_data(key)
        noise = jax.lax.fori_loop(
            0, level, lambda lower, noise: jax.tree.map(jnp.subtract, noise, noise_of(state["nodes"][lower])), noise_of(new)
        )
        tree = {"rounds": done + 1, "noise_multiplier": z, "clip": C, "nodes": state["nodes"].at[level].set(new)}
        measurements = {"clip": C, "noise_std": z * C, "tree_round": done + 1, "clipped_count": total.tally["clipped"]}
        return noisy_mean(total, noise, clients_per_round), {**state, **tree}, measurements

    return Aggregator(
        init,
        encode,
        decode,
        "dp_tree",
        bound=lambda state, bound: state["hyperparams"]["clip"],
        mechanism=Mechanism("tree", lambda state, bound: state["hyperparams"]["noise_multiplier"], restart_every),
    )
