"""Personalization: each client trains on one part of its data and is evaluated on the other, before and after."""

import jax.numpy as jnp
import numpy as np
import pytest
from contracts.lines import Compilations, assert_close, exact_batches, line_clients, line_model
from golden_cases import keras

import fedloom as fl
from fedloom.core import ClientFailure
from fedloom.data import Batching

MODEL = line_model()
START = {"w": np.array([0.5, 0.25, -1.0], np.float32), "b": np.float32(0.125)}
OTHER = {"w": np.array([1.0, -2.0, 0.0], np.float32), "b": np.float32(-0.5)}
SIZES = {"ada": (7, 5), "bob": (4, 9), "cy": (1, 2), "dee": (3, 3)}


def parts(sizes=SIZES):
    """The training and the test parts of clients, of whom each has a line of its own."""
    both = []
    for i in range(2):
        examples = line_clients([size[i] for size in sizes.values()], seed=i)
        shifted = [{**columns, "y": columns["y"] + np.float32(k)} for k, columns in enumerate(examples.values())]
        both.append(dict(zip(sizes, shifted, strict=True)))
    return both


def sgd_on_line(weights, batches, rate, moves=("w", "b")):
    """In float64: w <- w - rate * mean over the batch of c (x.w + b - y) x, and the same for b, c being sample weights."""
    w, b = np.array(weights["w"], float), float(weights["b"])
    for x, y, c in batches:
        error = c * (x @ w + b - y) / c.sum()
        w, b = (w - rate * error @ x if "w" in moves else w), (b - rate * error.sum() if "b" in moves else b)
    return {"w": w, "b": b}


def loss_on_line(weights, examples):
    error = examples["x"] @ weights["w"] + weights["b"] - examples["y"]
    return np.average(error**2 / 2, weights=examples["sample_weight"])


STRATEGIES = {
    "slow": fl.algorithms.fine_tune(MODEL, fl.optimizers.sgd(0.05)),
    "fast": fl.algorithms.fine_tune(MODEL, fl.optimizers.sgd(0.2)),
    "bias": fl.algorithms.reconstruct(MODEL, "b", fl.optimizers.sgd(0.3)),
    "best": fl.algorithms.choose_best(MODEL, [START, OTHER]),
}


@pytest.mark.parametrize("executor", ["local", "debug"])
def test_every_strategy_against_numpy(executor):
    """Two epochs; the last batch of an epoch is smaller."""
    train, test = parts()
    batching = Batching(size=4, epochs=2, shuffle=False)
    process = fl.LearningProcess(fl.algorithms.fedavg(MODEL, fl.optimizers.sgd(0.1)), batching=batching, executor=executor)
    rows = fl.personalize(process, START, train, test, STRATEGIES)
    assert [row["client"] for row in rows] == list(SIZES)
    for row in rows:
        mine, held_out = train[row["client"]], test[row["client"]]
        batches = exact_batches(mine) * 2
        want = {
            "baseline": START,
            "slow": sgd_on_line(START, batches, 0.05),
            "fast": sgd_on_line(START, batches, 0.2),
            "bias": sgd_on_line(START, batches, 0.3, moves="b"),
            "best": min((START, OTHER), key=lambda weights: loss_on_line(weights, mine)),
        }
        assert row["num_train_examples"] == 2 * len(mine["y"])
        assert list(row) == ["client", "num_train_examples", *want.keys() & {"baseline"}, *STRATEGIES]
        for name, weights in want.items():
            assert row[name]["loss"] == pytest.approx(loss_on_line(weights, held_out), rel=2e-5), (row["client"], name)
            assert row[name]["num_examples"] == len(held_out["y"])


def test_the_best_of_several_is_not_the_same_for_all_clients():
    """Or the test above would see nothing of the choice, which is made on the training part and not on the test part."""
    train, test = parts()
    far = [{**START, "b": np.float32(k)} for k in (0.0, 3.0, np.nan)]
    rows = fl.personalize(MODEL, START, train, train, {"best": fl.algorithms.choose_best(MODEL, far)}, batching=Batching(size=4))
    losses = [[loss_on_line(weights, train[row["client"]]) for weights in far[:2]] for row in rows]
    assert len({np.argmin(pair) for pair in losses}) == 2
    assert [row["best"]["loss"] for row in rows] == pytest.approx([min(pair) for pair in losses], rel=1e-5)
    swapped = fl.personalize(MODEL, START, test, train, {"best": fl.algorithms.choose_best(MODEL, far)}, batching=Batching(size=4))
    for row in swapped:
        chosen = min(far[:2], key=lambda weights, client=row["client"]: loss_on_line(weights, test[client]))
        assert row["best"]["loss"] == pytest.approx(loss_on_line(chosen, train[row["client"]]), rel=1e-5)


def digits_model(stateful):
    """With statistics that training learns, or with RNN state that goes from batch to batch."""
    keras.utils.set_random_seed(3)
    if stateful:
        layers = [keras.Input(batch_shape=(2, 4), dtype="int32"), keras.layers.Embedding(5, 3)]
        layers += [keras.layers.GRU(3, return_sequences=True, stateful=True), keras.layers.Dense(5)]
    else:
        layers = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization(momentum=0.5), keras.layers.Dense(5)]
    network = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    return network, fl.models.from_keras(network, loss, [accuracy], rnn_state="carry" if stateful else "reset")


@pytest.mark.parametrize("stateful", [False, True], ids=["batch norm", "rnn state"])
def test_fine_tuning_is_a_round_with_one_client_and_then_an_evaluation(stateful):
    """And the baseline an evaluation, whose RNN state starts from zeros whatever the training part left."""
    network, model = digits_model(stateful)
    rng = np.random.default_rng(0)

    def examples(n):
        x = rng.integers(5, size=(n, 4)) if stateful else rng.normal(size=(n, 3)).astype(np.float32)
        return {"x": x, "y": rng.integers(5, size=(n, 4) if stateful else n)}

    train, test = ({name: examples(n) for name, n in sizes.items()} for sizes in ({"ada": 6, "bob": 3}, {"ada": 4, "bob": 5}))
    batching = Batching(size=2, epochs=2, shuffle=not stateful)
    process = fl.LearningProcess(fl.algorithms.fedavg(model, fl.optimizers.sgd(0.1)), batching=batching)
    state = process.initialize(network)
    strategies = {"sgd": fl.algorithms.fine_tune(model, fl.optimizers.sgd(0.1))}
    rows = fl.personalize(process, state, train, test, strategies)
    for row, before in zip(rows, process.evaluate_clients(state, test), strict=True):
        client = row["client"]
        after = process.evaluate_clients(process.next(state, {client: train[client]})[0], {client: test[client]})[0]
        for got, want in ((row["baseline"], before), (row["sgd"], after)):
            assert_close({**got, "num_batches": 0}, {name: want[name] for name in got} | {"num_batches": 0})
        assert row["sgd"]["loss"] != row["baseline"]["loss"]


def test_reconstruction_leaves_statistics_alone():
    """As in `fedrecon`; fine-tuning learns them."""
    network, model = digits_model(stateful=False)
    rng = np.random.default_rng(0)
    part = {"ada": {"x": 3 + rng.normal(size=(8, 3)).astype(np.float32), "y": rng.integers(5, size=8)}}
    name = next(name for name in model.names if "kernel" in name)
    strategies = {
        "recon": fl.algorithms.reconstruct(model, name, fl.optimizers.sgd(0.0)),
        "sgd": fl.algorithms.fine_tune(model, fl.optimizers.sgd(0.0)),
    }
    (row,) = fl.personalize(model, network, part, part, strategies, batching=Batching(size=4))
    assert row["recon"] == row["baseline"]
    assert row["sgd"]["loss"] != row["baseline"]["loss"]
    with pytest.raises(ValueError, match="local must name trainable weights"):
        fl.algorithms.reconstruct(model, "nonsense", fl.optimizers.sgd(0.1))


def test_parts_without_examples_and_clients_in_many_forms():
    """Without a training part nothing is learned; without a test part nothing is measured."""
    train, test = parts({"ada": (0, 4), "bob": (5, 0), "cy": (3, 4)})
    process = fl.LearningProcess(fl.algorithms.fedavg(MODEL, fl.optimizers.sgd(0.1)), batching=Batching(size=4, shuffle=False))
    strategies = {name: STRATEGIES[name] for name in ("slow", "best")}
    rows = fl.personalize(process, START, train, test, strategies)
    ada, bob, _ = rows
    assert ada["num_train_examples"] == 0 and ada["slow"] == ada["best"] == ada["baseline"]
    assert bob["num_train_examples"] == 5 and bob["slow"]["num_examples"] == bob["slow"]["loss"] == 0
    exact = [{client: exact_batches(columns) for client, columns in part.items()} for part in (train, test)]
    for forms in (
        [fl.data.FederatedDataset.from_dict(part) for part in (train, test)],
        [list(part.values()) for part in (train, test)],
        exact,
        [{client: iter(batches) for client, batches in part.items()} for part in exact],
        [dict(reversed(train.items())), test],
    ):
        got = fl.personalize(process, START, *forms, strategies)
        assert_close([row | {"client": 0} for row in got], [row | {"client": 0} for row in rows])


def test_the_next_call_compiles_nothing():
    """Other weights, clients and candidates, with the same strategies."""
    process = fl.LearningProcess(fl.algorithms.fedavg(MODEL, fl.optimizers.sgd(0.1)), batching=Batching(size=4))
    fl.personalize(process, START, *parts(), STRATEGIES)
    state = process.initialize(OTHER)
    best = STRATEGIES["best"]._replace(sent=fl.algorithms.choose_best(MODEL, [OTHER, OTHER]).sent)
    with Compilations() as later:
        rows = fl.personalize(process, state, *parts({"eve": (9, 1), "fay": (0, 6)}), {**STRATEGIES, "best": best})
    assert later.count == 0
    assert all(row["best"] == row["baseline"] for row in rows)


def test_personal_weights_of_the_algorithm_are_evaluated_too():
    """Those of Ditto; a client that never took part has the server's."""
    train, test = parts()
    process = fl.LearningProcess(fl.algorithms.ditto(MODEL, fl.optimizers.sgd(0.1), lam=0.1), batching=Batching(size=4, shuffle=False))
    state, _ = process.next(process.initialize(START), {client: train[client] for client in ("ada", "bob")})
    one_shot = {client: iter(exact_batches(columns)) for client, columns in test.items()}
    rows = fl.personalize(process, state, train, one_shot, {"slow": STRATEGIES["slow"]})
    for row in rows:
        own = process.personal_weights(state, row["client"]).trainable
        assert row["personal"]["loss"] == pytest.approx(loss_on_line(own, test[row["client"]]), rel=1e-5)
        assert (row["personal"]["loss"] == pytest.approx(row["baseline"]["loss"], rel=1e-6)) == (row["client"] not in ("ada", "bob"))


def test_a_strategy_of_ones_own():
    """Halfway to zero, whatever the data."""
    half = fl.algorithms.Strategy(
        begin=lambda received, key: (),
        step=lambda received, local, batch, key: local,
        weights=lambda received, local: received.weights._replace(
            trainable={k: v * received.sent for k, v in received.weights.trainable.items()}
        ),
        sent=jnp.float32(0.5),
    )
    train, test = parts()
    rows = fl.personalize(MODEL, START, train, test, {"half": half}, batching=Batching(size=4))
    for row in rows:
        assert row["half"]["loss"] == pytest.approx(loss_on_line({k: v / 2 for k, v in START.items()}, test[row["client"]]), rel=1e-5)


def test_what_does_not_go_together_is_refused():
    train, test = parts()
    sgd = {"sgd": STRATEGIES["slow"]}
    with pytest.raises(ValueError, match=r"in both train_clients and test_clients, got 1 in train_clients only: bob\. Leave them out"):
        fl.personalize(MODEL, START, train, {k: v for k, v in test.items() if k != "bob"}, sgd, batching=Batching(size=4))
    with pytest.raises(ValueError, match="got 4 in test_clients only: ada, bob, cy, ..."):
        fl.personalize(MODEL, START, {}, test, sgd, batching=Batching(size=4))
    with pytest.raises(ValueError, match=r"at least one strategy, and none of them \"baseline\", got \[\]"):
        fl.personalize(MODEL, START, train, test, {})
    with pytest.raises(ValueError, match="none of them .baseline., got .'baseline'"):
        fl.personalize(MODEL, START, train, test, {"baseline": STRATEGIES["slow"]})
    with pytest.raises(ValueError, match="must not have the names .'client'"):
        fl.personalize(MODEL, START, train, test, {"client": STRATEGIES["slow"]})
    with pytest.raises(ValueError, match="candidates must hold"):
        fl.algorithms.choose_best(MODEL, [])
    with pytest.raises(ClientFailure, match="'ada' failed.*need `batching`"):
        fl.personalize(MODEL, START, train, test, sgd)
    network, model = digits_model(stateful=True)
    with pytest.raises(ValueError, match="shuffle must be False"):
        fl.personalize(
            model, network, train, test, {"sgd": fl.algorithms.fine_tune(model, fl.optimizers.sgd(0.1))}, batching=Batching(size=2)
        )


def rows_of(**losses):
    """Clients with 1, 2, 3, ... test examples; the last one has none."""
    count = len(losses["baseline"])
    sizes = [*range(1, count), 0]
    return [
        {"client": str(i), "num_train_examples": 1.0, **{k: {"loss": v[i], "num_examples": sizes[i]} for k, v in losses.items()}}
        for i in range(count)
    ]


def test_the_summary_counts_clients_and_examples():
    rows = rows_of(baseline=[1.0, 2.0, 3.0, 99.0], sgd=[0.5, 2.0, 4.0, 99.0])
    summary = fl.personalization_summary(rows)
    assert summary["baseline"] == {"num_clients": 3, "mean": 2.0, "weighted_mean": pytest.approx((1 + 4 + 9) / 6)}
    third = pytest.approx(1 / 3)
    weighted = pytest.approx((0.5 + 4 + 12) / 6)
    assert summary["sgd"] == {"num_clients": 3, "mean": 6.5 / 3, "weighted_mean": weighted, "share_gaining": third, "share_losing": third}
    higher = fl.personalization_summary(rows_of(baseline=[1.0, 2.0, 3.0, 0.0], sgd=[3.0, 1.0, 4.0, 0.0]), better="higher")["sgd"]
    assert (higher["share_gaining"], higher["share_losing"]) == pytest.approx((2 / 3, 1 / 3))
    diverged = fl.personalization_summary(rows_of(baseline=[1.0, 2.0, 0.0], sgd=[np.nan, 1.0, 0.0]))["sgd"]
    assert np.isnan(diverged["mean"]) and (diverged["share_gaining"], diverged["share_losing"]) == (0.5, 0.5)


def test_a_summary_that_would_mislead_is_refused():
    rows = rows_of(baseline=[1.0, 0.0], sgd=[2.0, 0.0])
    with pytest.raises(ValueError, match='better must be "lower" or "higher" for .accuracy., got None'):
        fl.personalization_summary(rows, "accuracy")
    with pytest.raises(ValueError, match="got 'more'"):
        fl.personalization_summary(rows, better="more")
    with pytest.raises(ValueError, match=r"metric must be one of \['loss', 'num_examples'\], got 'accuracy'"):
        fl.personalization_summary(rows, "accuracy", better="higher")
    with pytest.raises(ValueError, match="No client has test examples"):
        fl.personalization_summary(rows[1:])
