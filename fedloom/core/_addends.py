"""What clients contribute to something else than a sum: it adds up in its own way, so that every executor can add it.

Zeros are the neutral element of each, as of numbers: executors begin from zeros and never ask what it is that they add. All of them take
leading axes (lanes) as they come.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._types import PyTree


class Addend:
    """A node in a tree of contributions that says how it adds up; see `add`."""

    def __add__(self, other: Any) -> Any:
        """The two taken together; associative, and commutative up to the rounding of floats."""
        raise NotImplementedError

    def folded(self) -> Any:
        """Itself, added up over the first axis."""
        raise NotImplementedError


def add(a: PyTree, b: PyTree) -> PyTree:
    """Two trees of arrays and addends, added up."""
    return jax.tree.map(lambda x, y: x + y, a, b, is_leaf=_is_addend)


def fold(tree: PyTree) -> PyTree:
    """A tree of arrays and addends, added up over the first axis."""
    return jax.tree.map(lambda x: x.folded() if _is_addend(x) else x.sum(0, dtype=x.dtype), tree, is_leaf=_is_addend)


def _is_addend(node: Any) -> bool:
    return isinstance(node, Addend)


@jax.tree_util.register_pytree_node_class
class Extreme(Addend):
    """The smallest or largest of some values, element by element.

    Args:
        value: Any shape.
        present: bool, of the same shape: whether there is a value at all.
        largest: Whether the largest counts.
    """

    def __init__(self, value: jax.Array, present: jax.Array, *, largest: bool):
        self.value, self.present, self.largest = value, present, largest

    def __add__(self, other: Extreme) -> Extreme:
        choose = jnp.maximum if self.largest else jnp.minimum
        both = choose(self.value, other.value)
        value = jnp.where(self.present & other.present, both, jnp.where(self.present, self.value, other.value))
        return Extreme(value, self.present | other.present, largest=self.largest)

    def folded(self) -> Extreme:
        """See `Addend`; of values that are all present."""
        return Extreme((jnp.max if self.largest else jnp.min)(self.value, axis=0), self.present.any(0), largest=self.largest)

    def tree_flatten(self):
        """For JAX."""
        return (self.value, self.present), self.largest

    @classmethod
    def tree_unflatten(cls, largest, children):
        """For JAX."""
        return cls(*children, largest=largest)


class Sample(NamedTuple):
    """What `fl.core.collect` gives: the values of some clients, in the order of the cohort."""

    values: PyTree  # with a first axis of length `at_most`; zeros where there is no client
    present: jax.Array  # bool (at_most,): the first of them are


@jax.tree_util.register_pytree_node_class
class Lots(Addend):
    """The `k` clients that drew the highest lots, with their values.

    Args:
        lot: uint32 (..., k): above 0; 0 says that there is no client.
        place: int32 (..., k): in the cohort, which decides between equal lots.
        values: A tree of (..., k, ...).
    """

    def __init__(self, lot: jax.Array, place: jax.Array, values: PyTree):
        self.lot, self.place, self.values = lot, place, values

    @classmethod
    def of_one(cls, lot: jax.Array, place: jax.Array, value: PyTree, k: int) -> Lots:
        """One client's, shapes ()."""
        alone = jnp.zeros(k, jnp.int32).at[0].set(1)
        lot = jnp.maximum(lot, 1)
        return cls(lot * alone.astype(lot.dtype), place * alone, jax.tree.map(lambda x: _first_of(k, jnp.asarray(x)), value))

    def __add__(self, other: Lots) -> Lots:
        axis = self.lot.ndim - 1
        joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis), self, other)
        return joined._sorted(~joined.lot, joined.place).shortened(self.lot.shape[-1])

    def folded(self) -> Lots:
        """See `Addend`."""
        k = self.lot.shape[-1]
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), self)
        return flat._sorted(~flat.lot, flat.place).shortened(k)

    def sample(self) -> Sample:
        """The values in the order of the cohort, absent ones last."""
        ordered = self._sorted((self.lot == 0).astype(jnp.int32), self.place)
        return Sample(ordered.values, ordered.lot > 0)

    def shortened(self, k: int) -> Lots:
        """The first k."""
        axis = self.lot.ndim - 1
        return jax.tree.map(lambda x: jax.lax.slice_in_dim(x, 0, k, axis=axis), self)

    def _sorted(self, *by: jax.Array) -> Lots:
        axis = self.lot.ndim - 1
        places = jax.lax.broadcasted_iota(jnp.int32, self.lot.shape, axis)
        order = jax.lax.sort((*by, places), dimension=axis, num_keys=len(by))[-1]
        return jax.tree.map(lambda x: jnp.take_along_axis(x, order.reshape(order.shape + (1,) * (x.ndim - order.ndim)), axis), self)

    def tree_flatten(self):
        """For JAX."""
        return (self.lot, self.place, self.values), None

    @classmethod
    def tree_unflatten(cls, _, children):
        """For JAX."""
        return cls(*children)


def _first_of(k: int, value: jax.Array) -> jax.Array:
    return jnp.zeros((k, *value.shape), value.dtype).at[0].set(value)
