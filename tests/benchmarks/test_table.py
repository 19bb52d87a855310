import dataclasses

import pytest

from benchmarks._run import Result, Row
from benchmarks._table import best_peer, clients_per_second, failures, scale_table, table
from benchmarks._tasks import TASKS

CASE = TASKS["T1"][0]


def result(**changes) -> Result:
    """fedloom three times as fast as one peer and six times as fast as another, on rounds of 24 GFLOP."""
    rows = [
        Row("fedloom", True, False, 9.0, 5.0, [1.0, 3.0], [4.0, 3.5, 3.25], [[0.1, 0.2], [0.1, 0.4]], [0, 2], 600.0, 400.0),
        Row("slow", False, True, 9.0, 8.0, [12.0, 12.0], [4.0, 3.5, 3.25], peak_mb=900.0),
        Row("fast", False, True, 9.0, 8.0, [4.0, 8.0], [4.0, 3.5, 3.2825], peak_mb=900.0),
        Row("broken", False, True, error="it | fell over"),
    ]
    return dataclasses.replace(Result(CASE, rows, [24.0, 24.0, 24.0], {"float32": [300.0, 200.0, 250.0]}, [4.0]), **changes)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_has_what_was_measured():
    lines = table(result())
    fedloom, slow, fast, broken = (cells(line) for line in lines[4:8])
    assert fedloom[:5] == ["fedloom", "9.0 / 5.0", "2 (1 to 3)", "2.0", "600 (400)"]
    assert fedloom[5] == "12"  # 48 GFLOP in 4 s
    assert fedloom[6] == "5.0% to 15.0%"
    assert [row[-1] for row in (fedloom, slow, fast)] == ["3.00", "0.50", "1.00"]
    assert "it   fell over" in broken
    assert "250 float32" in lines[9]
    assert "Programs compiled after the first round by fedloom: 2." in lines


def test_all_rows_have_the_columns_of_the_header():
    lines = table(result())
    assert {line.count("|") for line in lines[2:8]} == {lines[2].count("|")}
    lines = scale_table([result()])
    assert {line.count("|") for line in lines[2:]} == {lines[2].count("|")}


def test_peer_with_other_losses_is_marked_but_no_failure():
    lines = table(result())
    assert "1e-02 DIFFERS" in lines[6]  # 1 % off in the last round
    assert "DIFFERS" not in lines[5]
    assert failures(result()) == []


@pytest.mark.parametrize("debug_loss", [4.01, float("nan")])
def test_losses_that_are_not_the_debug_executors_fail(debug_loss):
    assert [line for line in failures(result(debug_losses=[debug_loss])) if "differ from the debug executor's" in line]


def test_rounding_is_no_failure():
    assert failures(result(debug_losses=[4.0 * (1 + 1e-5)])) == []


def test_fedloom_that_fails_is_a_failure():
    broken = result(rows=[Row("fedloom", True, False, error="no memory")])
    assert failures(broken) == ["T1-4: fedloom failed: no memory"]


def test_best_peer_took_the_least_time_and_is_a_peer():
    best = best_peer(result().rows)
    assert best is not None and best.system == "fast"
    assert best_peer(result().rows[:1]) is None


def test_clients_per_second_is_over_all_later_rounds():
    assert clients_per_second(result().rows[0], cohort=10) == 2 * 10 / 4.0


def test_scale_table_says_what_a_client_takes():
    line = cells(scale_table([result()])[4])
    assert line[:2] == ["gru", "4"]
    assert line[4] == "500"  # 4 s for 8 clients
