"""The characters or words of clients' texts, without their texts, and with differential privacy if asked for.

Gopi et al. 2020 (arXiv:2002.09745), "Differentially Private Set Union", Theorem 5.1 (weighted Gaussian), whose symbols are used below: a
client has a set W_i of at most Delta_0 tokens, a token is given out if its weight with noise N(0, sigma^2) is at least rho. The weights of
what is given out may be known too: unless a token of one client alone is among it, all follows from a Gaussian release without that client.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from ._clients import check_count, generator, strings
from ._iblt import Decoded, Table
from ._noise import rounded_gaussian
from ._privacy import PrivacySpent, Target, target
from ._strings import add_up

_ONE = 2**12
"""What stands for a weight of 1 in integers. A constant, for what depended on the number of clients would tell of it."""
_MOST_CLIENTS = 2**20 - 1  # whose weights' sum stays below 2^32
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


@dataclass(frozen=True)
class Vocabulary:
    """What `vocabulary` finds.

    Attributes:
        tokens: Those with the highest scores first.
        scores: float64. Without privacy, how often all clients together have a token; with it, its weight with noise.
        threshold: Without privacy, clients that a token has at least; with it, the score (rho).
        num_too_long: Tokens longer than `max_bytes`, as often as they come, which were left out; None with privacy.
        privacy: What was given away; None without noise.
    """

    tokens: tuple[str, ...]
    scores: np.ndarray
    threshold: float
    num_too_long: int | None
    privacy: PrivacySpent | None


def vocabulary(
    data: Mapping[str, Any],
    tokens: Literal["characters", "words"] | Callable[[str], Iterable[str]] = "characters",
    *,
    column: str | None = None,
    max_size: int | None = None,
    min_clients: int = 1,
    max_per_client: int | None = None,
    epsilon: float | None = None,
    delta: float | None = None,
    noise_multiplier: float | None = None,
    capacity: int = 10_000,
    max_bytes: int = 24,
    seed: int | None = None,
    executor: Any = "local",
) -> Vocabulary:
    """The tokens of all clients' texts, the most frequent first; `.tokens` is a vocabulary for `fl.text`.

    Clients send a table as in `heavy_hitters`, of which only the sum is read; no token need be known beforehand.

    With privacy, a client's |W_i| most frequent tokens, at most `max_per_client`, get the weight 1 / sqrt(|W_i|) each, so that its weights
    have norm 1. The server adds noise of standard deviation sigma, the noise multiplier, to the weights of the tokens it has read. It gives
    out those with at least rho = max_t 1 / sqrt(t) + sigma Phi^-1((1 - delta / 2)^(1 / t)), t from 1 to `max_per_client`: tokens that one
    client alone has stay secret but for a probability of delta / 2. The other half of delta goes to the noise. The server is trusted with
    the sum, and if the table cannot be read completely nothing is given out: choose a capacity that leaves no doubt, as that error is not
    part of what epsilon counts.

    Args:
        data: Client id -> texts, or a `FederatedDataset`. Clients may be empty.
        tokens: "characters"; "words", which are runs of letters and digits, with apostrophes between them, in lower case; or a function
            from a text to its tokens.
        column: Of the data set; may be left out if it has one.
        max_size: The most tokens to give out; None for all.
        min_clients: Without privacy: how many clients a token has at least, >= 1 (k-anonymity).
        max_per_client: Delta_0, how many distinct tokens count of one client, its most frequent ones; None for all. Needed with privacy.
        epsilon: The most to spend, above 0; with `delta`. None, and no noise multiplier: no noise.
        delta: In (0, 1 / number of clients).
        noise_multiplier: In place of epsilon: sigma.
        capacity: Distinct tokens of all clients together, >= 1. A client sends about 1.5 capacity (max_bytes + 4) numbers.
        max_bytes: Of a token in UTF-8, >= 1. Longer ones are left out and counted.
        seed: Of the noise, the hash functions, and the choice among equally frequent tokens. With noise a new, secret one for each
            analysis, such as `secrets.randbits(63)`, as for `histogram`. None is 0, without noise.
        executor: As `fl.federated` takes it.

    Raises:
        ValueError: An argument is out of range, there is no such column, there are no clients, or `capacity` is too small.
        ClientFailure: A client's values are no strings.

    Example:
        >>> vocabulary({"ada": ["to be"], "bob": ["or not to be"]}, "words").tokens
        ('be', 'to', 'not', 'or')
        >>> vocabulary({"ada": ["to be"], "bob": ["or not to be"]}, min_clients=2).tokens
        (' ', 'o', 't', 'b', 'e')
    """
    check_count("min_clients", min_clients)
    check_count("capacity", capacity)
    check_count("max_bytes", max_bytes)
    for name, value in (("max_size", max_size), ("max_per_client", max_per_client)):
        if value is not None:
            check_count(name, value)
    count = _counting(tokens)
    request = target(epsilon, delta, noise_multiplier, seed, num_clients=max(1, len(data)))
    if request is not None and (max_per_client is None or min_clients > 1):
        raise ValueError(
            "With privacy, max_per_client must be given and min_clients be 1, as the threshold on the noisy weights takes its place, got "
            f"max_per_client={max_per_client!r} and min_clients={min_clients!r}."
        )
    if request is not None and len(data) > _MOST_CLIENTS:
        raise ValueError(f"With privacy, data must have at most {_MOST_CLIENTS} clients, got {len(data)}. Take a sample of them.")

    def share_out(counts: Mapping[str, int]) -> Mapping[str, int]:
        weight = math.floor(_ONE / math.sqrt(max(1, len(counts))))
        return {token: weight for token in counts}

    found, too_long = add_up(
        data,
        column,
        Table(capacity, max_bytes, seed or 0),
        count=count,
        weigh=share_out if request else lambda counts: counts,
        max_per_client=max_per_client,
        frequent_first=True,
        executor=executor,
    )
    if found.pairs_left:
        raise ValueError(
            f"capacity must hold the distinct tokens of all clients together, got {capacity}, and their sum cannot be read. Double it, "
            "lower max_per_client, or, if there are surely fewer tokens, take another seed."
        )
    if request:
        assert max_per_client is not None and seed is not None
        return _private(found, request, max_per_client, max_size, seed)
    enough = np.flatnonzero(found.clients >= min_clients)
    best = enough[np.lexsort((-found.clients[enough], -found.weights[enough]))][:max_size]
    return Vocabulary(tuple(found.strings[i] for i in best), found.weights[best].astype(np.float64), min_clients, too_long, None)


def _private(found: Decoded, request: Target, max_per_client: int, max_size: int | None, seed: int) -> Vocabulary:
    """The tokens whose noisy weights reach the threshold; Gopi et al. 2020, Theorem 5.1."""
    half = request.delta / 2
    sigma = request.least_noise("pld", half)
    rho = threshold(sigma, half, max_per_client)
    noisy = found.weights + rounded_gaussian(generator(seed, "noise on tokens"), sigma * _ONE, len(found.weights))
    least = math.ceil(rho * _ONE + 0.5)  # rounding the noise may add a half
    chosen = np.flatnonzero(noisy >= least)
    best = chosen[np.argsort(-noisy[chosen], kind="stable")][:max_size]
    return Vocabulary(tuple(found.strings[i] for i in best), noisy[best] / _ONE, least / _ONE, None, request.spent(sigma, half))


def threshold(sigma: float, delta: float, max_per_client: int) -> float:
    """rho: the noisy weights of t tokens that one client alone has, 1 / sqrt(t) each, all stay below, but for a probability of delta."""
    normal = NormalDist()
    return max(
        # Phi^-1((1 - delta)^(1/t)), by the upper tail: near 1, a float64 has too few digits.
        1 / math.sqrt(t) - sigma * normal.inv_cdf(-math.expm1(math.log1p(-delta) / t))
        for t in range(1, max_per_client + 1)
    )


def _counting(tokens: str | Callable[[str], Iterable[str]]) -> Callable[[Any], Counter[str]]:
    if tokens == "characters":
        return lambda values: Counter("".join(strings(values)))
    if tokens == "words":
        return lambda values: Counter(word for text in strings(values) for word in _WORD.findall(text.lower()))
    if not callable(tokens):
        raise ValueError(f'tokens must be "characters", "words" or a function from a text to its tokens, got {tokens!r}.')
    return lambda values: Counter(strings([token for text in strings(values) for token in tokens(text)]))
