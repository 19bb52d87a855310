"""The plan of a run as a table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from fedloom.experiment import Plan
from fedloom.report import bytes_text, seconds_text


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
        ("model", f"{plan.parameters:,} weights, {bytes_text(plan.model_bytes)}"),
        ("each round", f"{bytes_text(plan.bytes_down)} down to the clients, {bytes_text(plan.bytes_up)} up, both over all clients"),
        ("a client's work", f"{plan.batches_per_client:.1f} batches on average, {seconds_text(plan.batch_seconds)} each"),
        ("memory", f"about {bytes_text(plan.memory_bytes)} at the peak"),
        *privacy,
        (
            "time",
            f"about {seconds_text(plan.total_seconds)}: {seconds_text(plan.round_seconds)} per round, "
            f"{seconds_text(plan.evaluation_seconds)} per evaluation, {seconds_text(plan.compile_seconds)} to compile",
        ),
    ]
