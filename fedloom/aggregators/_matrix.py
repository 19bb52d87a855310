"""DP-FTRL by a banded matrix: noise that takes off in later rounds some of what it added in earlier ones.

Paper: Choquette-Choo et al. 2023, arXiv:2306.08153 (BandMF), Algorithm 1. With G the sums of clipped updates, a row per round, A the lower
triangle of ones (running sums) and A = B C, what is published is B (C G + Z) = A (G + C^-1 Z), so round t adds row t of C^-1 Z to its sum.
C is a lower triangular Toeplitz matrix with `bands` diagonals, chosen by jax-privacy to make the mean squared error of the running sums
least. Differs from the paper: the cohorts may be anything that keeps clients `min_separation` rounds apart; help from sampling is not
counted.

With care: everything in `decode`, and the state. A run keeps the matrix, the noise and the clip that it began with: the noise of a round
is part of that of others, so none of them can change in between.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from fedloom.core import Aggregator, Mechanism

from ._clip import clip as clip_to
from ._gaussian import as_one, check_private_mean, noise_like, noisy_mean


def dp_matrix(
    noise_multiplier: float,
    clients_per_round: float,
    clip: float,
    *,
    rounds: int,
    bands: int,
    min_separation: int | None = None,
    max_participations: int | None = None,
) -> Aggregator:
    """(sum_i clip(v_i) + (C^-1 Z)_t) / n, with Z of independent elements N(0, (z C_clip sens)^2), for `rounds` rounds.

    sens is the largest norm of what one client of clip 1 can add to C G. All rounds together cost what one Gaussian release with z does:
    account for them with `fl.privacy.Matrix` of the same rounds, separation and participations. The server keeps the noise of bands - 1
    rounds, each as large as the model.

    There are no hyperparameters: a change of the noise or of the clip needs a new run. After `rounds` rounds there is no noise left that
    was accounted for: a budget refuses the next one, and without a budget the mean is NaN, so that it is not accepted. Reports `clip`,
    `noise_std` (of Z), `matrix_round` (t) and `clipped_count`. Needs jax-privacy; the first call for a size takes seconds.

    Args:
        noise_multiplier: z >= 0, standard deviation of Z over clip and sens; 0 is no privacy.
        clients_per_round: n, number of clients in a round.
        clip: C_clip, the largest L2 norm of an update, above 0.
        rounds: T of the whole run, >= 1.
        bands: Diagonals of C, in [1, rounds]; 1 is independent noise. Best as large as `min_separation`, if memory allows.
        min_separation: A client of round r takes part again in round r + min_separation at the earliest, >= 1. None takes `bands`. Nothing
            here checks that cohorts keep to it.
        max_participations: In how many rounds of a run a client takes part at most, >= 1; None if in all that the separation allows.

    Raises:
        ValueError: An argument is out of range.
        ImportError: jax-privacy is missing.
    """
    check_private_mean(noise_multiplier, clients_per_round, clip)
    min_separation = bands if min_separation is None else min_separation
    most = rounds if max_participations is None else max_participations
    for name, count in {"rounds": rounds, "bands": bands, "min_separation": min_separation, "max_participations": most}.items():
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be an int of at least 1, got {count!r}.")
    if bands > rounds:
        raise ValueError(f"bands must be in [1, rounds={rounds}], got {bands}. Row t of the matrix speaks of rounds 1 to t only.")
    toeplitz = _jax_privacy_toeplitz()
    coef = _coefficients(rounds, bands)
    # Theorem 2 of Kalinin & Lampert 2024, arXiv:2405.13763: coefficients that fall and are not negative; any separation.
    sens = float(toeplitz.minsep_sensitivity_squared(coef, min_separation, most, n=rounds)) ** 0.5

    def init(value):
        return {
            "noise_multiplier": jnp.float32(noise_multiplier),
            "clip": jnp.float32(clip),
            "std": jnp.float32(noise_multiplier * clip * sens),
            "coef": coef,  # the first column of C, (bands,)
            "length": jnp.int32(rounds),  # T
            "rounds": jnp.int32(0),  # t - 1
            "noise": toeplitz.inverse_as_streaming_matrix(coef).init_multiply(value),  # of the last rounds, (bands - 1, *shape)
        }

    def encode(state, contribution, key):
        value, norm = clip_to(contribution.value, state["clip"])
        return as_one(contribution, value, {"clipped": (norm > state["clip"]).astype(jnp.float32)})

    def decode(state, total, key):
        z_t = noise_like(total.value, state["std"], key)
        # "highest": in bfloat16 or TF32, an accelerator's default, C times the noise would not be the z_t that hides G.
        with jax.default_matmul_precision("highest"):
            noise, kept = toeplitz.inverse_as_streaming_matrix(state["coef"]).multiply_next(z_t, state["noise"])
        left = state["rounds"] < state["length"]
        released = jax.tree.map(lambda x, v: jnp.where(left, x, jnp.nan).astype(v.dtype), noise, total.value)
        after = {**state, "rounds": state["rounds"] + 1, "noise": kept}
        measurements = {
            "clip": state["clip"],
            "noise_std": state["std"],
            "matrix_round": state["rounds"] + 1,
            "clipped_count": total.tally["clipped"],
        }
        state = jax.tree.map(lambda new, old: jnp.where(left, new, old), after, state)
        return noisy_mean(total, released, clients_per_round), state, measurements

    return Aggregator(
        init,
        encode,
        decode,
        "dp_matrix",
        bound=lambda state, bound: state["clip"],
        mechanism=Mechanism("matrix", lambda state, bound: state["noise_multiplier"], rounds),
    )


@functools.lru_cache(maxsize=64)
def _coefficients(rounds: int, bands: int) -> jax.Array:
    """The first column of C, shape (bands,), of L2 norm 1."""
    return _jax_privacy_toeplitz().optimize_banded_toeplitz(n=rounds, bands=bands)


def _jax_privacy_toeplitz() -> Any:
    try:
        from jax_privacy.matrix_factorization import toeplitz  # on first use: it takes a second, and few need it
    except ImportError as cause:
        raise ImportError('dp_matrix needs jax-privacy, which is not installed. Run: pip install "fedloom[matrix]"') from cause
    return toeplitz
