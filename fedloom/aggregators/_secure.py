"""Updates as integers that are added modulo 2^m: what secure aggregation can mask and add without seeing any of them.

Papers: Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (masks that cancel in a sum modulo R);
Bonawitz et al. 2019, arXiv:1912.00131 (quantization for it).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fedloom.core import Aggregator

_MODULUS_BITS = 32  # of uint32, in which sums wrap around by themselves


def secure_encoding(bound: float, *, max_clients: int, bits: int = 16, modulus_bits: int = 32) -> Aggregator:
    """The last stage of a chain: each element, limited to [-bound, bound], as a signed integer of `bits`, summed modulo 2^modulus_bits.

    A client sends round(v / bound * (2^(bits-1) - 1)) as uint32 in two's complement. The sum wraps around on the way, in any order and with
    any masks that cancel, and comes out right. It is off by at most n bound / (2^bits - 2) for n clients, and zeros stay zeros. Values are
    float32 again after it.

    This is the encoding alone: it adds no masks and hides nothing by itself. Only the value is encoded: the weight and the counts of the
    stages travel as float32, in the open. What a client sends has the bound after `weighted_mean` has weighed it, so `bound` must allow for
    the largest weight. Reports `clipped_elements`. A round with more than `max_clients` does not count.

    Args:
        bound: On the magnitude of an element, above 0; a hyperparameter.
        max_clients: The most clients of a round.
        bits: Of one client's element, from 2 to 24, which float32 holds exactly.
        modulus_bits: m, from 2 to 32.

    Raises:
        ValueError: An argument is out of range, or the sum over `max_clients` could overflow.

    Example:
        >>> import fedloom as fl
        >>> aggregator = fl.aggregators.chain(fl.aggregators.fixed_mean(100), secure_encoding(1.0, max_clients=120))
    """
    if not 0 < bound < math.inf:
        raise ValueError(f"bound of secure_encoding must be finite and above 0, got {bound!r}. Elements beyond it are cut off.")
    if not isinstance(bits, int) or not 2 <= bits <= 24:
        raise ValueError(f"bits of secure_encoding must be a whole number from 2 to 24, got {bits!r}.")
    if not isinstance(modulus_bits, int) or not 2 <= modulus_bits <= _MODULUS_BITS:
        raise ValueError(f"modulus_bits of secure_encoding must be a whole number from 2 to {_MODULUS_BITS}, got {modulus_bits!r}.")
    if not isinstance(max_clients, int) or max_clients < 1:
        raise ValueError(f"max_clients of secure_encoding must be a whole number of at least 1, got {max_clients!r}.")
    growth = (max_clients - 1).bit_length()  # ceil(log2(max_clients))
    if bits + growth > modulus_bits:
        raise ValueError(
            f"modulus_bits must hold the sum of max_clients={max_clients} integers of {bits} bits, which takes {bits + growth}, got "
            f"{modulus_bits}. Lower bits to {modulus_bits - growth} or less, take smaller cohorts, or raise modulus_bits to at most 32."
        )
    largest = 2 ** (bits - 1) - 1
    unused = _MODULUS_BITS - modulus_bits

    def init(value):
        return {"hyperparams": {"bound": jnp.float32(bound)}}

    def encode(state, contribution, key):
        limit = state["hyperparams"]["bound"]

        def to_integers(v):
            number = jnp.round(jnp.clip(v.astype(jnp.float32) / limit, -1, 1) * largest).astype(jnp.int32)
            return jax.lax.bitcast_convert_type(number, jnp.uint32) & jnp.uint32(2**modulus_bits - 1)

        beyond = [(jnp.abs(v) > limit).sum() for v in jax.tree.leaves(contribution.value)]
        tally = {"clipped_elements": jnp.asarray(sum(beyond), jnp.float32), "clients": jnp.float32(1)}
        return contribution._replace(value=jax.tree.map(to_integers, contribution.value), tally=tally)

    def decode(state, total, key):
        limit = state["hyperparams"]["bound"]
        # More clients than the modulus has room for would give a wrong sum that looks like any other.
        scale = jnp.where(total.tally["clients"] <= max_clients, limit / largest, jnp.nan)

        def from_integers(s):
            # The topmost of the m bits becomes the sign: up to the top of 32, and down again as signed.
            number = jax.lax.bitcast_convert_type(s << unused, jnp.int32) >> unused
            return number.astype(jnp.float32) * scale

        value = jax.tree.map(from_integers, total.value)
        return total._replace(value=value), state, {"clipped_elements": total.tally["clipped_elements"]}

    def bytes_up(value):
        return (sum(leaf.size for leaf in jax.tree.leaves(value)) * modulus_bits + 7) // 8

    # No `bound`: rounding may lengthen an update.
    return Aggregator(init, encode, decode, "secure_encoding", bytes_up=bytes_up, innermost=True)
