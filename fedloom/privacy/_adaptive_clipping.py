"""The price of adaptive clipping.

Paper: Andrew et al. 2021, arXiv:1905.03871, Theorem 1, whose symbols are used below.
"""

from __future__ import annotations

import math

from ._accounting import check_noise_multiplier


def split_noise_multiplier(noise_multiplier: float, clipped_count_stddev: float) -> float:
    """The noise multiplier of the sum, if a noised count of clipped clients is released beside it.

    z_Delta = (z^-2 - (2 sigma_b)^-2)^(-1/2): both releases together then cost what the sum alone would cost at z. This holds if clients
    send the count's bits as b_i - 1/2, each of which moves the sum by 1/2.

    Args:
        noise_multiplier: z, of both together, >= 0: what the accountant is told.
        clipped_count_stddev: sigma_b, standard deviation of the noise on the sum of bits, above z / 2; 0.05 clients_per_round is usual.

    Returns:
        z_Delta, which is above z; 0 if z is 0.

    Raises:
        ValueError: An argument is out of range, so that the count alone would cost as much as both may.

    Example:
        >>> round(split_noise_multiplier(1.2, clipped_count_stddev=1.0), 3)  # 3 : 4 : 5, as 1 / 1.2^2 = 1 / 1.5^2 + 1 / 2^2
        1.5
    """
    check_noise_multiplier(noise_multiplier)
    if noise_multiplier == 0:
        return 0.0
    if not clipped_count_stddev > noise_multiplier / 2:
        raise ValueError(
            f"clipped_count_stddev must be above noise_multiplier / 2 = {noise_multiplier / 2:g}, got {clipped_count_stddev!r}: with less "
            "noise the count alone uses up what both may give away. Raise it, or lower noise_multiplier."
        )
    return noise_multiplier / math.sqrt(1 - (noise_multiplier / (2 * clipped_count_stddev)) ** 2)
