"""What clients add up, how a total becomes an aggregate, and what an accountant must know of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ._types import Array, Key, Params, PyTree

AggregatorState = PyTree
Measurements = dict[str, PyTree]
"""What an aggregator reports of a round: name -> array of shape (), or a dict of these."""


class Contribution(NamedTuple):
    """A client's part of a sum, or the sum itself."""

    value: Params
    weight: jax.Array  # shape (), >= 0
    tally: PyTree = ()  # what an aggregator counts on the way, e.g. {"clipped": 1.0}; adds up like the value
    memory: PyTree = ()  # what the client keeps for its next round; never sent, and not part of a sum


class Mechanism(NamedTuple):
    """The noise that an aggregator adds to a sum, as an accountant must know it."""

    kind: Literal["gaussian", "tree", "matrix"]
    noise_multiplier: Callable[[AggregatorState, Array | None], Array]  # (state, bound) -> standard deviation / bound of a client's part
    rounds: int | None = None  # of a tree, after which a new one begins, or of a matrix; None: any number


class Aggregator(NamedTuple):
    """A reduction in two halves around a sum; `chain` joins several.

    `init` and what follows `decode` take the shapes of a contribution's value (arrays or `jax.ShapeDtypeStruct`).
    """

    init: Callable[[Params], AggregatorState]
    encode: Callable[[AggregatorState, Contribution, Key], Contribution]  # on each client
    decode: Callable[[AggregatorState, Contribution, Key], tuple[Contribution, AggregatorState, Measurements]]  # on the total
    name: str = ""  # under which a chain keeps its state and reports its measurements
    reduce: Literal["sum", "stack"] = "sum"  # "stack": decode gets all contributions at once, along a new first axis
    init_client: Callable[[Params], PyTree] = lambda value: ()  # the memory of a client that takes part for the first time
    bytes_up: Callable[[Params], int] | None = None  # what one client sends; None: the value as it is
    bound: Callable[[AggregatorState, Array | None], Array | None] = lambda state, bound: None
    """From a bound on the L2 norm of a client's value before `encode` to one after; None is no bound. Noise needs one."""
    mechanism: Mechanism | None = None  # the noise in `decode`
    innermost: bool = False  # whether no stage may stand after it in a chain, as none could compute with what it sends
    follows_clients: bool = False  # whether its state adapts to what clients sent without noise, which no accountant counts


def same_bound(state: AggregatorState, bound: Array | None) -> Array | None:
    """`Aggregator.bound` of an aggregator that never makes a client's value larger."""
    return bound


def chain(*stages: Aggregator) -> Aggregator:
    """Several aggregators as one: clients encode from left to right, the server decodes from right to left.

    So the first stage is the outermost, as in TFF's nested factories: `chain(zeroing(...), clipping(...), weighted_mean())` zeroes, then
    clips, then weighs. The state, the measurements and the counts are dicts with a name per stage.

    Args:
        *stages: At least one. One that stacks, or encodes for a secure sum, must be the last: it is the first to see what clients sent.

    Raises:
        ValueError: There is no stage, one that must be the last is not, or one adds noise to a sum in which a client's part has no bound.

    Example:
        >>> import jax.numpy as jnp
        >>> double = Aggregator(lambda v: (), lambda s, c, k: c._replace(value=2 * c.value), lambda s, t, k: (t, s, {}), "double")
        >>> list(chain(double, double).init(jnp.zeros(3)))
        ['double', 'double_2']
    """
    if not stages:
        raise ValueError("chain needs at least one aggregator, got none. For a plain mean, use weighted_mean().")
    if early := [stage.name for stage in stages[:-1] if stage.innermost or stage.reduce == "stack"]:
        raise ValueError(
            f"{early[0]!r} must be the last stage of a chain: it is the first to see what clients sent. Put the others before it."
        )
    named = dict(zip(_distinct([stage.name or "stage" for stage in stages]), stages, strict=True))

    def init(value):
        return {name: stage.init(value) for name, stage in named.items()}

    def init_client(value):
        memory = {name: stage.init_client(value) for name, stage in named.items()}
        return memory if jax.tree.leaves(jax.eval_shape(lambda: memory)) else ()

    def encode(state, contribution, key):
        tallies, memories = {}, {}
        given = contribution.memory
        for i, (name, stage) in enumerate(named.items()):
            contribution = contribution._replace(tally=(), memory=given[name] if given else ())
            contribution = stage.encode(state[name], contribution, jax.random.fold_in(key, i))
            memories[name] = contribution.memory
            if jax.tree.leaves(contribution.tally):
                tallies[name] = contribution.tally
        return contribution._replace(tally=tallies, memory=memories if given else ())

    def decode(state, total, key):
        tallies, states, measurements = total.tally, {}, {}
        for i, (name, stage) in reversed(list(enumerate(named.items()))):
            tally = tallies.get(name, ())
            if stages[-1].reduce == "stack" and stage.reduce == "sum":
                tally = jax.tree.map(lambda leaf: leaf.sum(0), tally)
            total, states[name], reported = stage.decode(state[name], total._replace(tally=tally), jax.random.fold_in(key, i))
            if reported:
                measurements[name] = reported
        ordered = {name: states[name] for name in named}
        return total, ordered, {name: measurements[name] for name in named if name in measurements}

    def bound(state, bound):
        for name, stage in named.items():
            bound = stage.bound(state[name], bound)
        return bound

    return Aggregator(
        init=init,
        encode=encode,
        decode=decode,
        name="chain",
        reduce=stages[-1].reduce,
        init_client=init_client,
        bytes_up=next((stage.bytes_up for stage in reversed(stages) if stage.bytes_up), None),
        bound=bound,
        mechanism=_mechanism(named),
        innermost=stages[-1].innermost,
        follows_clients=any(stage.follows_clients for stage in stages),
    )


def _mechanism(named: dict[str, Aggregator]) -> Mechanism | None:
    """Of the one stage that adds noise, with the bound that the chain gives a client's part in the sum."""
    noisy = [name for name, stage in named.items() if stage.mechanism]
    if not noisy:
        return None
    if len(noisy) > 1:
        raise ValueError(f"A chain must add noise once, so that it can be accounted for, got {noisy}. Leave one of them.")
    (own,) = noisy
    mechanism = named[own].mechanism
    assert mechanism is not None

    def noise_multiplier(state, bound):
        for name, stage in named.items():
            # What is encoded after the noisy stage is in the sum too; a mechanism that clips by itself does not look at the bound.
            bound = stage.bound(state[name], bound)
        return mechanism.noise_multiplier(state[own], bound)

    noise_multiplier({name: stage.init(jnp.zeros((2, 2))) for name, stage in named.items()}, None)  # refuses a part without a bound, now
    return mechanism._replace(noise_multiplier=noise_multiplier)


def _distinct(names: list[str]) -> list[str]:
    return [name if (n := names[:i].count(name)) == 0 else f"{name}_{n + 1}" for i, name in enumerate(names)]
