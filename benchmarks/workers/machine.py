"""What the machine can do: FLOP/s of a large matrix product in JAX, measured at each turn."""

from __future__ import annotations

from .._turns import Turns, serve

TURNS = Turns()

import statistics  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

SIZE, REPEATS = 2048, 5


def main() -> None:
    """Measures at every turn."""
    product = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))
    factors = {dtype: jax.random.normal(jax.random.key(0), (SIZE, SIZE), dtype) for dtype in ("float32", "bfloat16")}
    for factor in factors.values():
        product(factor, factor).block_until_ready()

    def run(_: Any) -> dict[str, Any]:
        begin = time.perf_counter()
        rates = {name: statistics.median(_rate(product, factor) for _ in range(REPEATS)) for name, factor in factors.items()}
        return {"seconds": time.perf_counter() - begin, "loss": None, "gflops": rates}

    serve(TURNS, lambda number: None, run)


def _rate(product: Any, factor: jax.Array) -> float:
    begin = time.perf_counter()
    product(factor, factor).block_until_ready()
    return 2 * SIZE**3 / (time.perf_counter() - begin) / 1e9


if __name__ == "__main__":
    main()
