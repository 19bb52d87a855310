"""Clients that fail are left out of their round, named and counted; a round that too few are left for is tried again."""

import csv
import time

import numpy as np
import pytest
from contracts.lines import assert_close, assert_identical, exact_batches, line_clients, line_model, padded

import fedloom as fl
from fedloom.core import ClientFailure, RoundFailed
from fedloom.experiment._round_metrics import NOT_FINITE

START = {"w": np.array([0.5, 0.25, -1.0], np.float32), "b": np.float32(0.125)}
MODEL = line_model()
every_executor = pytest.mark.parametrize("executor", ["local", "debug"])


def make_process(executor="local", **settings):
    return fl.LearningProcess(fl.algorithms.fedavg(MODEL, fl.optimizers.sgd(0.1)), batching=padded, executor=executor, **settings)


def nan(examples):
    return {**examples, "x": np.full_like(examples["x"], np.nan)}


def wider(examples):
    return {**examples, "x": np.concatenate([examples["x"], examples["x"]], 1)}


def without_labels(examples):
    return {"x": examples["x"]}


def lost(examples):
    raise FileNotFoundError("no such file: bob.npz")


def broken(examples):
    raise ZeroDivisionError("in the user's reader")


def hanging(examples):
    time.sleep(60)


FAILURES = {
    "lost": (lost, "data", "no such file: bob.npz"),
    "broken": (broken, "data", "ZeroDivisionError: in the user's reader"),
    "hanging": (hanging, "data", "reading its data took longer than 0.2 s"),
    "wider": (wider, "data", "dot_general"),
    "nan": (nan, "finish", NOT_FINITE),
}


def dataset(clients, failing=None, names=("bob",)):
    """These clients, some of which fail when they are read."""

    def read(client):
        return failing(clients[client]) if failing and client in names else clients[client]

    return fl.data.FederatedDataset({name: len(examples["y"]) for name, examples in clients.items()}, read)


def some_clients():
    a, b, c, d = line_clients([3, 9, 4, 6]).values()
    return {"ada": a, "bob": b, "cy": c, "dee": d}


@every_executor
@pytest.mark.parametrize("kind", FAILURES)
def test_a_client_that_fails_is_as_if_it_had_not_been_asked(kind, executor):
    failing, stage, reason = FAILURES[kind]
    clients, process = some_clients(), make_process(executor)
    outcome = process.run_round(process.initialize(START), dataset(clients, failing), leave_out_failing=True, timeout=0.2)
    others = {name: examples for name, examples in clients.items() if name != "bob"}
    want = process.run_round(process.initialize(START), dataset(others), leave_out_failing=True)
    assert_close(outcome.state.server, want.state.server)
    (failure,) = outcome.failures
    assert (failure["client"], failure["stage"]) == ("bob", stage) and reason in failure["reason"]
    assert outcome.num_reports == want.num_reports == 3
    counts = {
        "num_nonfinite_clients": float(kind == "nan"),
        "num_failed_clients": float(kind != "nan"),
        "num_clients": 3.0 + (kind == "nan"),
    }
    assert {name: outcome.metrics[name] for name in counts} == counts
    assert outcome.metrics["num_examples"] == want.metrics["num_examples"]


@every_executor
def test_a_stream_that_breaks_in_the_middle_takes_its_client_out(executor):
    clients = {name: exact_batches(examples) for name, examples in line_clients([8, 12, 5]).items()}
    name = "client 1"

    def breaking():
        yield from clients[name][:2]
        raise ConnectionError("connection lost")

    process = make_process(executor)
    outcome = process.run_round(process.initialize(START), {**clients, name: breaking()}, leave_out_failing=True)
    others = {client: batches for client, batches in clients.items() if client != name}
    assert_close(outcome.state.server, process.next(process.initialize(START), others)[0].server)
    assert outcome.failures == [{"client": name, "stage": "data", "reason": "connection lost"}]
    assert (outcome.metrics["num_clients"], outcome.metrics["num_nonfinite_clients"], outcome.metrics["num_failed_clients"]) == (2, 0, 1)


@every_executor
def test_values_that_the_model_does_not_have_take_their_client_out_wherever_they_stand(executor):
    """Out of range in the last batch only, long after the client has begun."""

    def bounded(batch):
        if np.max(batch.x) > 50:
            raise ValueError("x must be at most 50")

    process = fl.LearningProcess(
        fl.algorithms.fedavg(MODEL._replace(check_batch=bounded), fl.optimizers.sgd(0.1)),
        batching=fl.data.Batching(size=2, shuffle=False),
        executor=executor,
    )
    clients = line_clients([4, 300, 6])
    spoilt = {**clients["client 1"], "x": clients["client 1"]["x"].copy()}
    spoilt["x"][-1] = 99
    outcome = process.run_round(process.initialize(START), {**clients, "client 1": spoilt}, leave_out_failing=True)
    others = {client: examples for client, examples in clients.items() if client != "client 1"}
    assert_close(outcome.state.server, process.next(process.initialize(START), others)[0].server)
    assert outcome.failures == [{"client": "client 1", "stage": "data", "reason": "x must be at most 50"}]


def test_without_failures_leaving_out_changes_no_bit():
    clients, process = some_clients(), make_process()
    strict, metrics = process.next(process.initialize(START), clients)
    outcome = process.run_round(process.initialize(START), clients, leave_out_failing=True)
    assert_identical(outcome.state.server, strict.server)
    assert outcome.metrics == {**metrics, "num_failed_clients": 0.0} and outcome.failures == []


@pytest.mark.parametrize(("at_most", "took_part"), [(2, ["ada", "cy"]), (3, ["ada", "cy", "dee"]), (9, ["ada", "cy", "dee"])])
def test_spare_clients_stand_in_for_those_that_fail(at_most, took_part):
    process = make_process(client_metrics=True)
    outcome = process.run_round(process.initialize(START), dataset(some_clients(), lost), leave_out_failing=True, at_most=at_most)
    rows = outcome.metrics["clients"]
    assert [row["client"] for row in rows if row["answered"]] == took_part
    assert [(row["client"], row["reason"]) for row in rows if not row["answered"]] == [("bob", "no such file: bob.npz")]


def test_spare_clients_that_are_not_needed_are_not_read():
    clients, read = some_clients(), []
    data = fl.data.FederatedDataset({name: 3 for name in clients}, lambda client: read.append(client) or clients[client])
    process = make_process()
    process.run_round(process.initialize(START), data, leave_out_failing=True, at_most=2)
    assert read == ["ada", "bob"]


@every_executor
def test_an_algorithm_with_two_exchanges_leaves_the_same_clients_out_of_both(executor):
    clients = some_clients()
    process = fl.LearningProcess(fl.algorithms.ALGORITHMS["mime"](MODEL), batching=padded, executor=executor)
    outcome = process.run_round(process.initialize(START), dataset(clients, lost), leave_out_failing=True)
    others = {name: examples for name, examples in clients.items() if name != "bob"}
    assert_close(outcome.state.server, process.next(process.initialize(START), others)[0].server)
    assert outcome.num_reports == 3


def test_data_that_do_not_fit_the_model_are_found_before_anything_runs(tmp_path):
    data = dataset(some_clients(), wider, names=("ada", "bob", "cy", "dee"))
    with pytest.raises(ClientFailure, match="'ada' failed in round 0 at stage 'data': .*dot_general"):
        fl.train(make_process(), data, cohort_size=2, rounds=2, initial=START, run_dir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_round_in_which_everybody_fails_is_given_up_with_the_reason_told_once():
    clients, reads = some_clients(), []

    def read(client):
        reads.append(client)
        return clients[client] if len(reads) == 1 else lost(clients[client])  # the first look is before the run

    data = fl.data.FederatedDataset({name: 3 for name in clients}, read)
    with pytest.raises(RoundFailed, match="Round 1 was given up after 2 cohorts: 1 clients must report.* 0 did") as caught:
        fl.train(make_process(), data, cohort_size=2, rounds=2, initial=START, failures=fl.Failures(max_attempts=2), progress=False)
    assert str(caught.value).count("no such file") == 1
    assert (caught.value.round_number, caught.value.attempts, len(caught.value.failures)) == (0, 2, 2)


def test_a_run_goes_on_without_failing_clients_and_names_them(tmp_path, capsys):
    result = fl.train(
        make_process(), dataset(some_clients(), lost), cohort_size=3, rounds=6, initial=START, run_dir=tmp_path / "run", progress="plain"
    )
    drawn = [row["round"] for row in result.clients]
    assert drawn and all(row["num_failed_clients"] == (row["round"] in drawn) for row in result.history[1:])
    with (tmp_path / "run" / "clients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["client"], row["answered"], row["reason"]) for row in rows] == [("bob", "0.0", "no such file: bob.npz")] * len(drawn)
    assert "1 client left out: bob: no such file: bob.npz" in capsys.readouterr().err


def test_a_round_with_too_few_reports_is_tried_with_a_new_cohort():
    """Cohorts of one: rounds whose one client fails are drawn again, and the run is that of the draws that count."""
    data = dataset(some_clients(), lost)
    process, asked = make_process(seed=3), []
    sample = fl.data.uniform(data.client_ids, 1, seed=3)
    result = fl.train(
        process,
        data,
        cohort_size=1,
        rounds=8,
        initial=START,
        sampling=lambda draw: asked.append(sample(draw)) or sample(draw),
        progress=False,
    )
    assert len(asked) > 8, "or nobody failed"
    assert [row["attempts"] for row in result.history if "attempts" in row]
    state = process.initialize(START)
    for (client,) in (cohort for cohort in asked if cohort != ["bob"]):
        state, _ = process.next(state, data.subset([client]))
    assert_identical(result.weights, process.get_weights(state))


def test_over_selection_draws_spares():
    data = dataset(some_clients(), lost)
    process = make_process(client_metrics=True)
    result = fl.train(
        process, data, cohort_size=2, rounds=8, initial=START, failures=fl.Failures(over_selection=1.5, min_reports=2), progress=False
    )
    for row in result.history[1:]:
        assert row["num_clients"] == 2 and "attempts" not in row
    assert any(not row["answered"] for row in result.clients)


def test_the_first_failure_ends_a_run_that_is_told_so():
    with pytest.raises(ClientFailure, match="'bob' failed in round 0 at stage 'data': no such file: bob.npz"):
        fl.train(
            make_process(),
            dataset(some_clients(), lost),
            cohort_size=4,
            rounds=1,
            initial=START,
            failures=fl.Failures(leave_out=False),
            progress=False,
        )


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"over_selection": 0.5}, {}, "failures.over_selection must be at least 1, got 0.5"),
        ({"min_reports": 0}, {}, "failures.min_reports must be at least 1"),
        ({"max_attempts": 0}, {}, "failures.max_attempts must be at least 1"),
        ({"timeout": 0.0}, {}, "failures.timeout must be a number of seconds above 0"),
        ({"min_reports": 3}, {}, "failures.min_reports must be at most cohort_size=2, got 3"),
        ({"over_selection": 3}, {}, r"cohort_size \* failures.over_selection must be at most 4.*got 6"),
        ({"over_selection": 2}, {"sampling": "poisson"}, "over_selection must be 1 for Poisson"),
        ({"over_selection": 2}, {"sampling": lambda r: ["ada"]}, "over_selection must be 1 for cohorts that come from a function"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, arguments, message):
    with pytest.raises(ValueError, match=message):
        data = dataset(some_clients())
        fl.train(make_process(), data, cohort_size=2, rounds=1, failures=fl.Failures(**settings), progress=False, **arguments)


@every_executor
def test_a_client_whose_first_pass_is_empty_and_whose_second_fails_is_left_out(executor):
    """HypCluster goes over the batches twice; here there are none at first, and then reading fails."""
    clients = {name: exact_batches(examples) for name, examples in line_clients([8, 12, 5]).items()}
    reads = []

    class Failing:
        def __iter__(self):
            reads.append(1)
            if len(reads) > 1:
                raise OSError("gone")
            return iter(())

    process = fl.LearningProcess(fl.algorithms.ALGORITHMS["hypcluster"](MODEL), batching=padded, executor=executor, client_metrics=True)
    outcome = process.run_round(process.initialize(), {**clients, "failing": Failing()}, leave_out_failing=True)
    assert [failure["client"] for failure in outcome.failures] == ["failing"] and outcome.num_reports == 3
    assert [row["client"] for row in outcome.metrics["clients"]] == [*clients, "failing"]
