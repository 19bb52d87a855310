"""TFF's recipes: the aggregators of `tff.learning` with its defaults.

Free to change: nothing, as each is what its name means in TFF; put together a chain of your own instead.
"""

from __future__ import annotations

import math

from fedloom.core import Aggregator, chain

from ._clip import clipping as clipping_stage
from ._clip import zeroing as zeroing_stage
from ._gaussian import dp_gaussian_adaptive
from ._mean import unweighted_mean, weighted_mean
from ._quantile import quantile
from ._quantize import quantize
from ._secure import secure_encoding


def robust_aggregator(zeroing: bool = True, clipping: bool = True, weighted: bool = True) -> Aggregator:
    """A mean that single corrupt or very large updates hardly move, as `tff.learning.robust_aggregator`.

    Updates far above all others (largest element above 2C + 1, C near the 98% quantile) become zeros; the others are clipped at about the
    80% quantile of the L2 norm.

    Args:
        zeroing: Whether to zero.
        clipping: Whether to clip.
        weighted: Whether to take the weighted mean, or that over all clients of the round.
    """
    return chain(*_robust_stages(zeroing, clipping), weighted_mean() if weighted else unweighted_mean())


def dp_aggregator(noise_multiplier: float, clients_per_round: float, zeroing: bool | float = True) -> Aggregator:
    """Zeroing, then `dp_gaussian_adaptive` with its defaults, as `tff.learning.dp_aggregator`.

    TFF's zeroing follows exact norms of clients without noise, which no accountant covers: with `zeroing=True`, a process with `privacy`
    refuses this aggregator.

    Args:
        noise_multiplier: As in `dp_gaussian_adaptive`, also as a hyperparameter.
        clients_per_round: As there.
        zeroing: True as in TFF; or the largest element that an update may have, above 0; or False for none. The latter two are private.

    Raises:
        ValueError: An argument is out of range; from a process with `privacy`, see above.
    """
    private = dp_gaussian_adaptive(noise_multiplier, clients_per_round)
    if zeroing is False:
        return chain(private)
    return chain(_zeroing() if zeroing is True else zeroing_stage(zeroing), private)


def compression_aggregator(zeroing: bool = True, clipping: bool = True, weighted: bool = True) -> Aggregator:
    """`robust_aggregator` whose updates are sent in 8 bits per element after weighing, as `tff.learning.compression_aggregator`.

    Differs from it: tensors of any size are quantized, between their own least and largest element rather than an estimate of them.

    Args:
        zeroing: Whether to zero.
        clipping: Whether to clip.
        weighted: Whether to take the weighted mean, or that over all clients of the round.
    """
    return chain(*_robust_stages(zeroing, clipping), weighted_mean() if weighted else unweighted_mean(), quantize(8))


def secure_aggregator(bound: float, max_clients: int, zeroing: bool = True, clipping: bool = True, weighted: bool = True) -> Aggregator:
    """`robust_aggregator` whose sum is one of integers, ready for secure aggregation, as `tff.learning.secure_aggregator`.

    Differs from it: the range is given rather than estimated, and the norms behind the thresholds are not sent in integers.

    Args:
        bound: As in `secure_encoding`, of an element times the client's weight.
        max_clients: As in `secure_encoding`.
        zeroing: Whether to zero.
        clipping: Whether to clip.
        weighted: Whether to take the weighted mean, or that over all clients of the round.

    Raises:
        ValueError: `bound` or `max_clients` is out of range.
    """
    mean = weighted_mean() if weighted else unweighted_mean()
    return chain(*_robust_stages(zeroing, clipping), mean, secure_encoding(bound, max_clients=max_clients))


def _robust_stages(zeroing: bool, clipping: bool) -> list[Aggregator]:
    zeroed = [_zeroing()] if zeroing else []
    return zeroed + ([clipping_stage(quantile(1.0, target=0.8, learning_rate=0.2))] if clipping else [])


def _zeroing() -> Aggregator:
    return zeroing_stage(quantile(10.0, target=0.98, learning_rate=math.log(10.0), multiplier=2.0, increment=1.0))
