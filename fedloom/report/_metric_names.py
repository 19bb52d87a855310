"""What the name of a metric says of it."""

from __future__ import annotations

_LOWER = ("loss", "error", "perplexity", "divergence", "crossentropy")  # a name with one of these is better where it is lower
_LOWER_NAMES = {"mae", "mape", "mse", "msle", "rmse", "nll", "bias"}


def lower_is_better(name: str) -> bool:
    """Whether less of a metric is better, by its name alone.

    Example:
        >>> [name for name in ("loss", "mae", "mean_squared_error", "accuracy", "auc") if lower_is_better(name)]
        ['loss', 'mae', 'mean_squared_error']
    """
    words = name.lower()
    return words in _LOWER_NAMES or any(word in words for word in _LOWER)
