"""Uniform quantization of what clients send, with stochastic rounding and random rotation as options.

Paper: Suresh et al. 2017, arXiv:1611.00429: k-level stochastic quantization (Section 2.2), after a random rotation (Section 3).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from fedloom.core import Aggregator, Key

from ._compression import compress, relative_error
from ._rotation import ROTATIONS

_RANGE_BYTES = 8  # two float32 per array: where the levels begin and end
_SEED_BYTES = 8


def quantize(
    bits: int = 8, *, rounding: Literal["nearest", "stochastic"] = "nearest", rotation: Literal["hadamard", "dft"] | None = None
) -> Aggregator:
    """A stage before the mean: each array goes to 2^bits equidistant levels between its own smallest and largest element.

    On the wire are the code of each element, the range of each array and the seed of the rotation. A server decodes these and rotates back
    before it adds them up, and it is that decoded value which is summed here. Differs from the paper: every client draws its own rotation,
    and arrays are quantized one by one rather than as one vector, since their scales differ. Reports `relative_error`.

    Args:
        bits: Per element, from 1 to 16.
        rounding: "nearest" is off by at most range / (2^bits - 1) / 2; "stochastic" by up to twice that, but right on average, so that
            errors of many clients cancel.
        rotation: Spreads large elements over the array first, for arrays with few of them: "hadamard" fills an array up to a power of two,
            "dft" to an even length.

    Raises:
        ValueError: An argument is not one of these.

    Example:
        >>> import fedloom as fl
        >>> mean = fl.aggregators.chain(quantize(4, rounding="stochastic", rotation="hadamard"), fl.aggregators.weighted_mean())
        >>> mean.bytes_up({"w": jnp.zeros((30, 30)), "b": jnp.zeros(2)})  # 1024 + 2 codes of 4 bits, two ranges, a seed
        537
    """
    if not isinstance(bits, int) or not 1 <= bits <= 16:
        raise ValueError(f"bits of quantize must be a whole number from 1 to 16, got {bits!r}. Leave the stage out to send float32.")
    if rounding not in ("nearest", "stochastic"):
        raise ValueError(f'rounding of quantize must be "nearest" or "stochastic", got {rounding!r}.')
    if rotation not in (None, *ROTATIONS):
        raise ValueError(f"rotation of quantize must be None or one of {sorted(ROTATIONS)}, got {rotation!r}.")
    levels = 2**bits - 1

    def on_levels(x: jax.Array, key: Key) -> jax.Array:
        low, high = x.min(), x.max()
        step = (high - low) / levels
        place = (x - low) / jnp.where(step > 0, step, 1)
        code = jnp.round(place) if rounding == "nearest" else jnp.floor(place + jax.random.uniform(key, x.shape))
        return low + jnp.clip(code, 0, levels) * step

    def decoded(x: jax.Array, key: Key) -> jax.Array:
        if x.size == 0:
            return x
        if rotation is None:
            return on_levels(x.astype(jnp.float32), key).astype(x.dtype)
        rotate_key, round_key = jax.random.split(key)
        turn = ROTATIONS[rotation]
        flat = jnp.pad(x.astype(jnp.float32).reshape(-1), (0, turn.length(x.size) - x.size))
        back = turn.backward(on_levels(turn.forward(flat, rotate_key), round_key), rotate_key)
        return back[: x.size].reshape(x.shape).astype(x.dtype)

    def encode(state, contribution, key):
        def lossy(value):
            leaves, tree = jax.tree.flatten(value)
            return jax.tree.unflatten(tree, [decoded(leaf, jax.random.fold_in(key, i)) for i, leaf in enumerate(leaves)])

        return compress(contribution, lossy)

    def decode(state, total, key):
        return total, state, relative_error(total)

    def bytes_up(value):
        sizes = [leaf.size if rotation is None else ROTATIONS[rotation].length(leaf.size) for leaf in jax.tree.leaves(value)]
        seed = 0 if rotation is None else _SEED_BYTES
        return sum((size * bits + 7) // 8 + _RANGE_BYTES for size in sizes) + seed

    # No `bound`: rounding may lengthen an update.
    return Aggregator(lambda value: (), encode, decode, "quantize", bytes_up=bytes_up)
