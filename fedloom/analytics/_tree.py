"""A tree of counts over bins: each node counts what its children do. Its root is first, its leaves are last.

Hay et al. 2010 (arXiv:0904.0942), "Boosting the Accuracy of Differentially Private Histograms Through Consistency", Section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Tree:
    """The shape of a tree in which all leaves are equally deep.

    Attributes:
        arity: Children of a node, at least 2.
        depth: Levels below the root.
    """

    arity: int
    depth: int

    @classmethod
    def over(cls, bins: int, arity: int) -> Tree:
        """The least deep tree with a leaf for each bin."""
        depth = 0
        while arity**depth < bins:
            depth += 1
        return cls(arity, depth)

    @property
    def size(self) -> int:
        """Nodes."""
        return sum(self.arity**level for level in range(self.depth + 1))

    def __call__(self, leaves: jax.Array) -> jax.Array:
        """A client's counts of all nodes, root first, int32 (size,), from the leaves of its values; one beyond the last counts nowhere."""
        levels = [jnp.zeros(self.arity**self.depth, jnp.int32).at[leaves].add(1, mode="drop")]
        for _ in range(self.depth):
            levels.append(levels[-1].reshape(-1, self.arity).sum(1, dtype=jnp.int32))
        return jnp.concatenate(levels[::-1])

    def levels(self, counts: np.ndarray) -> list[np.ndarray]:
        """The counts of all nodes, level by level."""
        borders = np.cumsum([self.arity**level for level in range(self.depth)])
        return np.split(counts, borders)

    def sensitivity(self, max_per_client: float, distinct: bool) -> float:
        """The largest L2 norm of the counts of a client with at most so many values, or so many leaves if they are distinct.

        It is reached where values crowd together: a node over s leaves counts at most s distinct ones, so full nodes and one rest make up
        the largest norm of their level.
        """
        if not distinct:
            return max_per_client * math.sqrt(self.depth + 1)
        most, squares = min(max_per_client, self.arity**self.depth), 0
        for level in range(self.depth + 1):
            full, rest = divmod(int(most), self.arity ** (self.depth - level))
            squares += full * self.arity ** (2 * (self.depth - level)) + rest**2
        return math.sqrt(squares)

    def consistent(self, levels: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The least squares estimate of counts that add up, from counts with noise of one variance; float64. Theorem 3."""
        f = self.arity
        z = [np.asarray(level, np.float64) for level in levels]
        for level in reversed(range(self.depth)):  # upwards: a node's own count and its children's, by their variances
            height = self.depth - level + 1  # l in the paper; leaves have 1
            own = (f**height - f ** (height - 1)) / (f**height - 1)
            z[level] = own * z[level] + (1 - own) * z[level + 1].reshape(-1, f).sum(1)
        for level in range(1, self.depth + 1):  # downwards: what children lack, shared out evenly
            lacking = z[level - 1] - z[level].reshape(-1, f).sum(1)
            z[level] = z[level] + np.repeat(lacking / f, f)
        return z
