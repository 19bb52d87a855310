"""The plan of a run as a table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from fedloom.experiment import Plan


def show_plan(plan: Plan, console: Console) -> None:
    """Prints what a run will do, need and cost."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    for name, text in _lines(plan):
        table.add_row(name, text)
    console.print(table)


def _lines(plan: Plan) -> list[tuple[str, str]]:
    evaluation = f"{plan.held_out_clients:,} clients, {plan.evaluations} times" if plan.evaluations else "none"
    privacy = [] if plan.epsilon is None else [("privacy", f"epsilon {plan.epsilon:.3f} at delta {plan.delta:.2g}, after all rounds")]
    return [
        ("clients", f"{plan.clients:,} to draw from, {plan.cohort_size:,} per round"),
        ("rounds", f"{plan.rounds:,}"),
        ("evaluation", evaluation),
        ("model", f"{plan.parameters:,} weights, {size(plan.model_bytes)}"),
        ("each round", f"{size(plan.bytes_down)} down to the clients, {size(plan.bytes_up)} up, both over all clients"),
        ("a client's work", f"{plan.batches_per_client:.1f} batches on average, {duration(plan.batch_seconds)} each"),
        ("memory", f"about {size(plan.memory_bytes)} at the peak"),
        *privacy,
        (
            "time",
            f"about {duration(plan.total_seconds)}: {duration(plan.round_seconds)} per round, {duration(plan.evaluation_seconds)} per "
            f"evaluation, {duration(plan.compile_seconds)} to compile",
        ),
    ]


def size(count: float) -> str:
    """Bytes for people.

    Example:
        >>> size(1_234_567)
        '1.2 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds for people.

    Example:
        >>> duration(0.0123), duration(0.4836), duration(4.2), duration(200), duration(100_000)
        ('12 ms', '480 ms', '4.2 s', '3 min 20 s', '27 h 46 min')
    """
    if seconds < 1:
        return f"{float(f'{seconds * 1000:.2g}'):g} ms"  # two digits, without an exponent
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
