import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks._workload import ClientRows, Workload, Writer


def rows(count: int, *, weighted: bool, start: int = 0) -> ClientRows:
    x = np.arange(start, start + 3 * count, dtype=np.float32).reshape(count, 3)
    y = np.arange(2 * count, dtype=np.int32).reshape(count, 2)
    return ClientRows(x, y, (y % 3 > 0).astype(np.float32) if weighted else None)


@settings(max_examples=20)
@given(sizes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=3), weighted=st.booleans())
def test_what_is_written_is_read(tmp_path_factory, sizes, weighted):
    folder = tmp_path_factory.mktemp("workload")
    weights = [np.ones((2, 3), np.float32), np.zeros(3, np.float32)]
    writer = Writer(folder, {"model": "any", "cohort": 2}, weights)
    rounds = [{f"{r}-{i}": rows(size, weighted=weighted, start=10 * i) for i, size in enumerate(part)} for r, part in enumerate(sizes)]
    for clients in rounds:
        writer.add_round(clients)

    workload = Workload(folder)

    assert workload.case == {"model": "any", "cohort": 2}
    assert workload.clients == [list(clients) for clients in rounds]
    assert workload.rows == [sum(part) for part in sizes]
    for ours, theirs in zip(workload.weights(), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for number, clients in enumerate(rounds):
        for ours, theirs in zip(workload.round(number), clients.values(), strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_round_that_is_not_stored_is_counted(tmp_path):
    writer = Writer(tmp_path, {}, [])
    writer.add_round({"ada": rows(4, weighted=False), "bob": rows(3, weighted=False)}, store=False)
    workload = Workload(tmp_path)
    assert (workload.clients, workload.rows) == ([["ada", "bob"]], [7])
    with pytest.raises(FileNotFoundError):
        workload.round(0)


@pytest.mark.parametrize("weighted", [False, True])
def test_weighted_columns_have_a_weight_for_every_label(weighted):
    client = rows(4, weighted=weighted)
    columns = client.weighted()
    np.testing.assert_array_equal(columns["weight"], client.weight if weighted else np.ones((4, 2)))
    assert columns["x"] is client.x and columns["y"] is client.y
