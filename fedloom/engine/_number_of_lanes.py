"""How many lanes go side by side, where the user does not say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from fedloom.core import Algorithm, Batch, Kept, PyTree, client_key, root_key

CPU_LANES = 8
CPU_BYTES = 128 * 2**10  # of weights, up to which lanes pay on a CPU: together they then fit into a core's cache
ACCELERATOR_LANES = 32
ACCELERATOR_BYTES = 2**30  # of weights, in all lanes together
_ONE_BY_ONE_ON_CPU = {"conv_general_dilated", "scan", "while", "ffi_call", "custom_call", "pure_callback", "io_callback"}


def default_lanes(algorithm: Algorithm, message: PyTree, kept: Kept, batch: Batch, platform: str) -> int:
    """A power of two, decided by shapes, by what a step is made of and by the kind of device alone, since bits depend on it.

    1 where clients have nothing of their own to vectorize (evaluation, for which a larger batch does the same), and where they go over
    their batches several times (a vectorized choice between passes computes all of them).

    On a CPU 8 for weights up to 128 KiB and 1 beyond, and 1 for steps with convolutions, which a CPU computes one after the other all the
    more slowly when they are grouped, with loops, or with calls of native code, which has threads of its own. On other devices as many as
    keep the weights of all lanes within 1 GiB, at most 32.

    Args:
        algorithm: What clients do.
        message: Of a round.
        kept: What a client has that never took part.
        batch: The shapes of one.
        platform: "cpu", "gpu" or "tpu".
    """
    work, key = algorithm.client, client_key(root_key(0), 0)

    def begin():
        return work.begin(message, kept.algorithm, key)

    value = jax.eval_shape(lambda: work.finish(message, begin()).contribution.value)
    size = sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(value))
    if not size or len(work.passes) > 1:
        return 1
    if platform != "cpu":
        return 1 << max(0, min(ACCELERATOR_LANES, ACCELERATOR_BYTES // size).bit_length() - 1)
    if size > CPU_BYTES:
        return 1
    step = jax.make_jaxpr(lambda local, batch: work.passes[0].step(message, local, batch, key))(jax.eval_shape(begin), batch)
    return 1 if _ONE_BY_ONE_ON_CPU & set(_primitives(step.jaxpr)) else CPU_LANES


def _primitives(jaxpr: Any) -> Iterator[str]:
    """The names of all operations, those of inner functions too."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda one: hasattr(one, "eqns") or hasattr(one, "jaxpr")):
            if (inner := getattr(value, "jaxpr", value if hasattr(value, "eqns") else None)) is not None:
                yield from _primitives(inner)
