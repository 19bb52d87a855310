"""TFF's recipes: the aggregators of `tff.learning` with its defaults.

Free to change: nothing, as each is what its name means in TFF; put together a chain of your own instead.
"""

from __future__ import annotations

import math

from fedloom.core import Aggregator, Mechanism, chain

from ._clip import clipping as clipping_stage
from ._clip import zeroing as zeroing_stage
from ._gaussian import dp_gaussian_adaptive
from ._mean import unweighted_mean, weighted_mean
from ._quantile import quantile


def robust_aggregator(zeroing: bool = True, clipping: bool = True, weighted: bool = True) -> Aggregator:
    """A mean that single corrupt or very large updates hardly move, as `tff.learning.robust_aggregator`.

    Updates far above all others (largest element above 2C + 1, C near the 98% quantile) become zeros; the others are clipped at about the
    80% quantile of the L2 norm.

    Args:
        zeroing: Whether to zero.
        clipping: Whether to clip.
        weighted: Whether to take the weighted mean, or that over all clients of the round.
    """
    zeroed = [_zeroing()] if zeroing else []
    clipped = [clipping_stage(quantile(1.0, target=0.8, learning_rate=0.2))] if clipping else []
    return chain(*zeroed, *clipped, weighted_mean() if weighted else unweighted_mean())


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
    if zeroing is not True:
        return chain(zeroing_stage(zeroing), private)
    joined = chain(_zeroing(), private)
    assert joined.mechanism is not None
    total = joined.mechanism.noise_multiplier

    def noise_multiplier_if_private(state, bound):
        if float(total(state, bound)) > 0:
            raise ValueError(
                "dp_aggregator with zeroing=True has no epsilon: as in TFF, the threshold of its zeroing follows clients' exact norms, "
                "which no noise covers. Give a fixed threshold, zeroing=100.0, or zeroing=False: clipping bounds every update anyway."
            )
        return total(state, bound)

    return joined._replace(mechanism=Mechanism("gaussian", noise_multiplier_if_private))


def _zeroing() -> Aggregator:
    return zeroing_stage(quantile(10.0, target=0.98, learning_rate=math.log(10.0), multiplier=2.0, increment=1.0))
