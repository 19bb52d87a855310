"""How much memory there is, and whether what an aggregator wants at once fits into it."""

from __future__ import annotations

from pathlib import Path

_COPIES = 3  # as they come in, stacked, and while the aggregator works on them


def check_stack(aggregator: str, num_clients: int, bytes_per_client: int, available: int | None = None) -> None:
    """Raises ValueError if the contributions of so many clients do not fit in memory side by side.

    Args:
        aggregator: Its name, for the message.
        num_clients: Of a round.
        bytes_per_client: Of one contribution.
        available: Bytes; None asks the system, and where it does not say, nothing is checked.
    """
    available = available_bytes() if available is None else available
    needed = _COPIES * num_clients * bytes_per_client
    if available is not None and needed > available:
        raise ValueError(
            f"The aggregator {aggregator!r} needs the updates of all {num_clients} clients of a round at once: about "
            f"{_readable(needed)} for {_COPIES} copies of {_readable(bytes_per_client)} each, and {_readable(available)} are free. Take a "
            "smaller cohort, or an aggregator that is a sum, such as weighted_mean with clipping."
        )


def available_bytes() -> int | None:
    """What can be allocated now, by the system's and the container's account; None if neither says."""
    known = []
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        known.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass
    try:
        group = Path("/sys/fs/cgroup")
        known.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        pass
    return min(known) if known else None


def _readable(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
