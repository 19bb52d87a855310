"""What an export computes: the bits of the process it came from, for every kind of model and algorithm."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quadratics
from exported_models import CASES, KEY, ROWS, assert_same_bits, live, write
from golden_cases import keras

import fedloom as fl
from fedloom.core import client_key, close, empty_sums, root_key, round_key
from fedloom.kernels import native, references


@pytest.fixture(params=CASES)
def exported(request, export_of):
    case, folder = export_of(request.param)
    return case, fl.export.load(folder)


def without_kernels(client):
    """The same programs on the references, whatever the machine has."""
    for program in client.programs.values():
        program._kernels = False
    return client


def train(client, batches):
    """Local states after begin and each step, and the groups that `finish` gives."""
    message, programs = client.message(), client.programs
    locals_ = [programs["begin"](message, {}, KEY)]
    for k, batch in enumerate(batches):
        locals_.append(programs["step"](message, locals_[-1], batch, jax.random.fold_in(KEY, k)))
    return locals_, programs["finish"](message, locals_[-1])


def test_it_gives_the_bits_of_the_process_with_its_kernels(exported):
    case, client = exported
    batch = client.batch(case.x, case.y)
    message, locals_ = live(case)
    output = jax.jit(case.process.algorithm.client.finish)(message, locals_[-1])
    got, (value, weight, metrics, state) = train(client, [batch, batch])
    assert_same_bits(got, locals_)
    assert_same_bits((value, weight, metrics), (output.contribution.value, output.contribution.weight, output.metrics))
    assert state == {}
    has_kernels = len(case.x.shape) > 2 or case.x.dtype == np.int32  # a small Dense layer has none
    assert client.programs["step"].variant(ROWS) == ("kernels" if has_kernels and not native().missing else "static")


def test_its_portable_programs_give_the_bits_of_the_references(exported):
    """For the batch size that it was exported for, and through the program for any."""
    case, client = exported
    client = without_kernels(client)
    with references():
        _, locals_ = live(case)
    batch = client.batch(case.x, case.y)
    assert client.programs["step"].variant(ROWS) == "static"
    assert_same_bits(train(client, [batch, batch])[0], locals_)
    step = client.programs["step"]
    step._batch_size = ROWS + 1  # so that it takes the program for any batch size
    try:
        assert step.variant(ROWS) == "symbolic"
        assert_same_bits(train(client, [batch, batch])[0], locals_)
    finally:
        step._batch_size = ROWS


def test_other_batch_sizes_and_padding_are_the_same_mean(exported):
    """Three examples alone, through the program for any batch size, and filled up with a row of weight 0."""
    case, client = exported
    padded = client.batch(case.x[:3], case.y[:3])
    alone = {name: column[:3] for name, column in padded.items()}
    assert padded["real"].tolist() == [1, 1, 1, 0] and padded["sample_weight"].tolist() == [1, 1, 1, 0]
    assert client.programs["step"].variant(3) == "symbolic"
    evaluate, weights = client.programs["evaluate"], client.weights()
    both = [evaluate(weights, client.start("carry"), batch)[0] for batch in (alone, padded)]
    assert both[0]["num_examples"] == 3
    for name, value in both[0].items():
        np.testing.assert_allclose(value, both[1][name], rtol=2e-6, err_msg=name)


@pytest.mark.parametrize("exported", ["mlp", "gru"], indirect=True)
def test_a_round_gives_the_bits_of_the_executor(exported):
    """One client with a batch and a half: begin, two steps, finish, encode, the mean of one, against `process.next`."""
    case, client = exported
    x, y = (np.concatenate([column, column[::-1][:2]]) for column in (case.x, case.y))
    before = case.process.initialize(case.keras_model)
    after, metrics = case.process.next(before, {"ada": {"x": x, "y": y}})
    key = client_key(round_key(root_key(0), 0), 0)
    done = client.train([client.batch(x[i : i + ROWS], y[i : i + ROWS]) for i in (0, ROWS)], key)
    sent, weight, _, _ = client.programs["encode"](client.start("aggregator_state"), done.value, done.weight, {}, key)
    process, message = case.process, case.process.algorithm.broadcast(before.server, jnp.int32(0))
    sums, _ = empty_sums(process.algorithm, process.aggregator, message, before.aggregator, key)
    value = jax.tree.unflatten(jax.tree.structure(sums.contribution.value), list(sent.values()))
    sums = sums._replace(contribution=sums.contribution._replace(value=value, weight=weight))
    closed = jax.jit(functools.partial(close, process.algorithm, process.aggregator))(
        before.server, before.aggregator, message, sums, round_key(root_key(0), 0)
    )
    assert_same_bits(closed.server.weights, process.get_weights(after))
    assert float(done.metrics["loss/total"]) / float(done.metrics["loss/weight"]) == metrics["loss"]
    assert float(weight) == metrics["num_examples"] == len(x)


def test_trained_weights_go_back_into_the_keras_model(exported):
    """In Keras' own order, trainable ones first: a model with them predicts what the export evaluates."""
    case, client = exported
    done = without_kernels(client).train([client.batch(case.x, case.y)], KEY)
    own = {name.removeprefix("weights/"): value for name, value in done.local.items() if name.startswith("weights/")}
    assert list(own) == list(client.weights())
    copy = keras.models.clone_model(case.keras_model)
    for variable, value in zip([*copy.trainable_weights, *copy.non_trainable_weights], own.values(), strict=True):
        variable.assign(value)
    logits = np.asarray(copy(case.x, training=False), np.float64)
    nats = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, case.y[..., None], -1)[..., 0]
    sums, _ = client.programs["evaluate"](own, {}, client.batch(case.x, case.y))
    np.testing.assert_allclose(float(sums["loss/total"]) / float(sums["loss/weight"]), nats.mean(), rtol=1e-5)
    assert [array.model_name for array in client.manifest.start["weights"] if array.model_name] == [
        variable.path for variable in case.keras_model.trainable_weights
    ]


@pytest.mark.parametrize("exported", ["gru"], indirect=True)
def test_generation_continues_a_text_as_the_process_would(exported):
    case, client = exported
    tokens, prompt = client.manifest.tokenization.tokens, "To be"
    state, ids, key = client.start("state"), [tokens.index(c) for c in prompt], jax.random.key(3)
    for i in ids[:-1]:
        _, state = client.programs["generate"](client.weights(), state, i, 0.7, key)
    token = ids[-1]
    for step_key in jax.random.split(key, 12):
        token, state = client.programs["generate"](client.weights(), state, token, 0.7, step_key)
        ids.append(int(token))
    text = fl.text.generate(case.keras_model, prompt, length=12, temperature=0.7, seed=3)
    assert "".join(tokens[i] for i in ids) == text


@pytest.mark.parametrize("name", ["scaffold", "mimelite", "mime"])
def test_algorithms_with_states_passes_and_preludes_give_the_bits_of_their_functions(name, tmp_path):
    """Two rounds' worth of client state for those that keep one; a prelude's client work for Mime."""
    process = fl.LearningProcess(fl.algorithms.ALGORITHMS[name](quadratics.model()))
    batch = quadratics.clients(["bob"])["bob"][0]
    fl.export.client_work(process, tmp_path / "export", batch=batch)
    client = fl.export.load(tmp_path / "export")
    state = process.initialize()
    message, work = process.algorithm.broadcast(state.server, jnp.int32(0)), process.algorithm.client
    kept, kept_there = process.algorithm.init_client(process.get_weights(state)), None
    for _ in range(2):
        local, k = jax.jit(work.begin)(message, kept, KEY), itertools.count()
        for one in work.passes:
            for _ in range(2):
                local = jax.jit(one.step)(message, local, batch, jax.random.fold_in(KEY, next(k)))
        output = jax.jit(work.finish)(message, local)
        kept = output.state
        done = client.train([client.batch(batch.x, batch.y)] * 2, KEY, client_state=kept_there)
        kept_there = done.client_state
        assert_same_bits((done.value, done.local), (output.contribution.value, local))
        if jax.tree.leaves(kept):
            assert_same_bits(kept_there, kept)
    assert ("prelude_step" in client.programs) == (name == "mime")
    if name == "mime":
        first = process.algorithm.prelude.client
        local = jax.jit(first.step)(message, first.begin(message, (), KEY), batch, KEY)
        programs, sent = client.programs, client.message()
        got = programs["prelude_step"](sent, programs["prelude_begin"](sent, {}, KEY), client.batch(batch.x, batch.y), KEY)
        assert_same_bits(programs["prelude_finish"](sent, got)[0], jax.jit(first.finish)(message, local).contribution.value)


def test_the_client_half_of_the_aggregator_clips(tmp_path):
    """|value| = 5 clipped to 2: the same direction, and it counts once."""
    clipping = fl.aggregators.chain(fl.aggregators.clipping(2.0), fl.aggregators.unweighted_mean())
    algorithm = fl.algorithms.fedavg(quadratics.model(), fl.optimizers.sgd(0.1))
    fl.export.client_work(fl.LearningProcess(algorithm, aggregator=clipping), tmp_path / "e", batch=quadratics.clients()["ada"][0])
    client = fl.export.load(tmp_path / "e")
    value, weight, tally, memory = client.programs["encode"](
        client.start("aggregator_state"), {"trainable": np.array([3.0, -4.0], np.float32)}, np.float32(7), {}, KEY
    )
    np.testing.assert_allclose(value["trainable"], [1.2, -1.6], rtol=1e-6)
    assert weight == 1 and list(tally.values()) == [1.0] and memory == {}


def test_a_carried_state_ties_it_to_its_batch_size(tmp_path):
    keras_model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, return_sequences=True)])
    model = fl.models.from_keras(fl.models.with_batch_size(keras_model, 2, stateful=True), "mse", rnn_state="carry")
    process = fl.LearningProcess(fl.algorithms.fedavg(model, fl.optimizers.sgd(0.1)), batching=fl.data.Batching(size=2, shuffle=False))
    x, y = np.ones((3, 4, 2), np.float32), np.zeros((3, 4, 3), np.float32)
    with pytest.raises(ValueError, match="batch_size must be 2, to which the model's carried RNN state is tied, got 3"):
        fl.export.client_work(process, tmp_path / "e", batch=(x, y), batch_size=3)
    manifest = fl.export.client_work(process, tmp_path / "e", batch=(x, y))
    assert manifest.batch_size == 2 and [array.shape for array in manifest.batch_columns] == [(2, 4, 2), (2, 4, 3), (2,), (2,)]
    client = fl.export.load(tmp_path / "e")
    with pytest.raises(ValueError, match="evaluate takes batches of 2 rows, got one of 3: The RNN state"):
        client.programs["evaluate"](client.weights(), client.start("carry"), client.batch(x, y))
    _, carry = client.programs["evaluate"](client.weights(), client.start("carry"), client.batch(x[:2], y[:2]))
    assert np.any(np.asarray(carry["0"])) and not np.any(np.asarray(client.start("carry")["0"]))


def test_the_same_export_twice_is_the_same_bytes(export_of, tmp_path):
    """So the hashes in a manifest say whether two exports do the same; and nothing in them tells where they were made."""
    case, folder = export_of("mlp")
    assert write(case, tmp_path / "again") == fl.export.load(folder).manifest
    content = b"".join(path.read_bytes() for path in (tmp_path / "again").rglob("*.mlirbc"))
    assert b".py" not in content and str(tmp_path).encode() not in content
