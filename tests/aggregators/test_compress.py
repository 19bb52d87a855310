"""Quantization, rotation, top-k and low rank: closed forms, NumPy oracles, and what error feedback promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts.lines import assert_close, assert_identical, line_clients, line_model, padded

import fedloom as fl
from fedloom.aggregators import chain, clipping, low_rank, quantize, top_k, weighted_mean
from fedloom.aggregators._rotation import ROTATIONS
from fedloom.core import Contribution

KEY = jax.random.key(7)
RNG = np.random.default_rng(3)


def send(aggregator, value, weight=1.0, memory=(), state=None, key=KEY):
    """What one client sends, and its memory after."""
    state = aggregator.init(value) if state is None else state
    return aggregator.encode(state, Contribution(value, jnp.float32(weight), memory=memory), key)


def error_of(total):
    return float(quantize().decode((), total, KEY)[2]["relative_error"])


def normal(*shape, scale=1.0):
    return jnp.asarray(scale * RNG.normal(size=shape), jnp.float32)


# Quantization.


@pytest.mark.parametrize("bits", [1, 2, 5, 8, 16])
def test_nearest_rounding_is_off_by_half_a_level_at_most(bits):
    """range / (2^bits - 1) / 2, of each array's own range; the ends of the range are exact."""
    value = {"large": normal(40, 5, scale=100), "small": normal(30, scale=1e-3)}
    sent = send(quantize(bits), value).value
    for name, v in value.items():
        step = (v.max() - v.min()) / (2**bits - 1)
        assert np.abs(sent[name] - v).max() <= 0.5 * step * 1.001 + 1e-6 * np.abs(v).max()
        assert sent[name].min() == v.min() and np.isclose(sent[name].max(), v.max(), rtol=1e-6)
        assert len(np.unique(sent[name])) <= 2**bits


def test_stochastic_rounding_is_right_on_average():
    """Of n draws, the mean is within 5 sigma, sigma^2 = p (1 - p) step^2 / n, with p the place between the levels next to it."""
    n, v = 20_000, jnp.array([-1.0, -0.9, 0.1, 0.35, 2.0])
    draws = jax.jit(jax.vmap(lambda key: send(quantize(2, rounding="stochastic"), v, key=key).value))(jax.random.split(KEY, n))
    step = 3 / (2**2 - 1)
    p = ((v + 1) / step) % 1
    assert np.abs(draws - v).max() < step
    np.testing.assert_array_less(np.abs(draws.mean(0) - v), 5 * step * np.sqrt(p * (1 - p) / n) + 1e-6)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_an_array_of_one_number_is_sent_exactly(rounding):
    value = {"b": jnp.float32(0.7), "same": jnp.full(9, -3.3), "zeros": jnp.zeros((2, 2)), "none": jnp.zeros((0, 3)), "no": []}
    assert_identical(send(quantize(1, rounding=rounding), value).value, value)


@pytest.mark.parametrize(("name", "size", "length"), [("hadamard", 70, 128), ("hadamard", 1, 1), ("dft", 11, 12)])
def test_rotations_are_orthogonal(name, size, length):
    """As matrices: R^T R is the identity and backward is R^T; so norms are kept. Other keys give other rotations."""
    rotation = ROTATIONS[name]
    assert rotation.length(size) == length
    matrix = jax.jit(jax.vmap(lambda x: rotation.forward(x, KEY), out_axes=1))(jnp.eye(length))
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(length), atol=1e-6)
    back = jax.jit(jax.vmap(lambda x: rotation.backward(x, KEY), out_axes=1))(jnp.eye(length))
    np.testing.assert_allclose(back, matrix.T, atol=1e-6)
    if name == "hadamard":
        signs = [[(-1) ** (i & j).bit_count() for j in range(length)] for i in range(length)]
        np.testing.assert_allclose(matrix * np.sign(matrix[0]), np.array(signs) / np.sqrt(length), rtol=1e-6)
    if length > 1:
        assert np.abs(matrix @ jnp.arange(length) - rotation.forward(jnp.arange(length, dtype=jnp.float32), jax.random.key(8))).max() > 0.1


@pytest.mark.parametrize("rotation", ["hadamard", "dft"])
def test_rotation_helps_where_few_elements_are_large(rotation):
    """Suresh et al., Theorem 3: with k levels the squared error is at most (2 log d + 2) / (k - 1)^2 |x|^2, against d / 2 / (k - 1)^2."""
    d, k = 1000, 2**4
    x = normal(d, scale=0.05).at[17].set(10.0)
    plain = send(quantize(4, rounding="stochastic"), x)
    turned = jax.jit(jax.vmap(lambda key: send(quantize(4, rounding="stochastic", rotation=rotation), x, key=key).tally))(
        jax.random.split(KEY, 50)
    )
    mean = {name: counts.mean() for name, counts in turned.items()}
    assert mean["squared_error"] <= (2 * np.log(1024) + 2) / (k - 1) ** 2 * mean["squared_norm"]
    assert mean["squared_error"] < plain.tally["squared_error"] / 10


@pytest.mark.parametrize("rotation", ["hadamard", "dft"])
def test_a_rotated_array_comes_back_in_shape(rotation):
    """With 16 bits the error is that of rounding only: a level is a range of at most 2 |x| / 65535, in a rotated space."""
    value = {"w": normal(7, 5, 3), "b": jnp.float32(2.5), "v": normal(9)}
    sent = jax.jit(lambda value: send(quantize(16, rotation=rotation), value).value)(value)
    for name, v in value.items():
        assert sent[name].shape == v.shape
        assert np.linalg.norm(sent[name] - v) <= np.sqrt(2 * v.size) * np.linalg.norm(v) / 65535 + 1e-6 * np.linalg.norm(v)


def test_bytes_of_quantized_updates():
    value = {"w": jnp.zeros((3, 7)), "b": jnp.zeros(())}
    assert quantize(3).bytes_up(value) == (8 + 8) + (1 + 8), "63 bits are 8 bytes, and each array has a range"
    assert quantize(3, rotation="hadamard").bytes_up(value) == (12 + 8) + (1 + 8) + 8, "32 elements, and a seed"
    assert quantize(3, rotation="dft").bytes_up(value) == (9 + 8) + (1 + 8) + 8, "22 and 2 elements"


def test_the_relative_error_is_over_all_clients():
    a, b = normal(30), normal(30, scale=3)
    one, two = send(quantize(3), a), send(quantize(3), b)
    want = (np.sum((one.value - a) ** 2) + np.sum((two.value - b) ** 2)) / (np.sum(a**2) + np.sum(b**2))
    np.testing.assert_allclose(error_of(jax.tree.map(jnp.add, one, two)), want, rtol=1e-5)
    assert error_of(send(quantize(3), jnp.zeros(4))) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quantize(0), "bits of quantize must be a whole number from 1 to 16, got 0"),
        (lambda: quantize(8.0), "bits of quantize must be a whole number from 1 to 16, got 8.0"),
        (lambda: quantize(17), "got 17"),
        (lambda: quantize(rounding="up"), "rounding of quantize must be"),
        (lambda: quantize(rotation="fft"), "rotation of quantize must be None or one of"),
        (lambda: top_k(0.0), r"fraction of top_k must be in \(0, 1\], got 0.0"),
        (lambda: top_k(1.5), "got 1.5"),
        (lambda: low_rank(0), "rank of low_rank must be a whole number of at least 1, got 0"),
        (lambda: low_rank(1.5), "got 1.5"),
    ],
)
def test_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Top-k.


def test_top_k_keeps_the_largest_of_each_array():
    value = {"w": normal(6, 5), "v": normal(4, scale=1e-6), "b": jnp.float32(1e-9)}
    sent = send(top_k(0.2, error_feedback=False), value).value
    for name, k in (("w", 6), ("v", 1), ("b", 1)):  # 0.2 * 30, round(0.8), and at least one
        v = np.asarray(value[name])
        kept = np.abs(v) >= np.sort(np.abs(v).ravel())[-k]
        np.testing.assert_array_equal(sent[name], np.where(kept, v, 0))
    assert top_k(0.2).bytes_up(value) == 6 * 8 + 1 * 8 + 4, "a value and its place, but for a scalar"
    assert top_k(1.0).bytes_up(value) == 35 * 4


def test_the_relative_error_of_top_k_is_the_share_not_sent():
    total = send(top_k(0.5, error_feedback=False), jnp.array([3.0, 0.0, -4.0, 1.0]))
    np.testing.assert_allclose(error_of(total), 1 / 26, rtol=1e-6)


def rounds_of_one_client(aggregator, updates, weights):
    """The sum of what a client sends over these rounds, and its memory in the end."""
    shape = jax.eval_shape(lambda: jax.tree.map(lambda u: u[0], updates))

    def one_round(carry, given):
        state, memory, total = carry
        update, weight = given
        sent = aggregator.encode(state, Contribution(update, weight, memory=memory), KEY)
        _, state, _ = aggregator.decode(state, sent._replace(memory=()), KEY)
        return (state, sent.memory, jax.tree.map(jnp.add, total, sent.value)), sent.value

    start = aggregator.init(shape), aggregator.init_client(shape), jax.tree.map(lambda s: jnp.zeros(s.shape), shape)
    (_, memory, total), sent = jax.lax.scan(one_round, start, (updates, jnp.asarray(weights, jnp.float32)))
    return total, memory, sent


def test_top_k_sends_everything_in_the_end():
    """Sent + memory = sum of updates, exactly (on whole numbers); a round without weight sends nothing and forgets nothing."""
    updates = {
        "w": jnp.asarray(RNG.integers(-50, 50, (40, 4, 3)), jnp.float32),
        "b": jnp.asarray(RNG.integers(-5, 5, (40, 6)), jnp.float32),
    }
    weights = RNG.integers(0, 3, 40)
    total, memory, sent = rounds_of_one_client(top_k(0.25), updates, weights)
    assert any(np.abs(m).max() > 0 for m in jax.tree.leaves(memory))
    assert_identical(jax.tree.map(jnp.add, total, memory), jax.tree.map(lambda u: u[weights > 0].sum(0), updates))
    assert all((np.asarray(s)[weights == 0] == 0).all() for s in jax.tree.leaves(sent))
    for part, k in (("w", 3), ("b", 2)):
        assert (np.count_nonzero(sent[part].reshape(40, -1), axis=1) <= k).all()


def descend(aggregator, rounds=600, rate=0.01):
    """Gradient descent on the mean of |x - c_i|^2 / 2 with c_i = (+-10, 1): at x = 0 the large gradients are those that cancel."""
    centres = jnp.array([[10.0, 1.0], [-10.0, 1.0]])
    client = jax.vmap(lambda c, x, memory: send(aggregator, rate * (x - c), memory=memory), in_axes=(0, None, 0))

    def one_round(carry, _):
        x, memory = carry
        sent = client(centres, x, memory)
        return (x - sent.value.mean(0), sent.memory), None

    memory = jax.tree.map(lambda m: jnp.stack([m, m]), aggregator.init_client(jnp.zeros(2)))
    return jax.lax.scan(one_round, (jnp.zeros(2), memory), None, rounds)[0][0]


def test_error_feedback_reaches_the_minimum_where_top_k_alone_does_not():
    """Without it, the second coordinate is never sent. With it, x is off by what is in the memories: some ten updates of rate 0.01."""
    assert_identical(descend(top_k(0.5, error_feedback=False)), jnp.zeros(2))
    np.testing.assert_allclose(descend(top_k(0.5)), [0.0, 1.0], atol=0.25)


# Low rank.


def test_matrices_of_low_rank_are_sent_as_they_are():
    """M of rank r has its columns in the span of M Q for almost any Q. The last axis is that of the columns."""
    matrix = normal(12, 2) @ normal(2, 9)
    value = {
        "w": matrix,
        "conv": (normal(18, 1) @ normal(1, 8)).reshape(3, 3, 2, 8),
        "b": normal(9),
        "tiny": normal(2, 2),
        "scalar": jnp.float32(3),
    }
    sent = send(low_rank(2), value, memory=jax.tree.map(jnp.zeros_like, value))
    assert_close(sent.value, value, rtol=1e-4, atol=1e-5)
    for name in ("b", "tiny", "scalar"):
        np.testing.assert_array_equal(sent.value[name], value[name])
    assert_close(sent.memory["w"], np.zeros((12, 9)), atol=1e-5)
    assert low_rank(2).bytes_up(value) == 4 * (2 * (12 + 9) + 2 * (18 + 8) + 9 + 4 + 1)


def test_the_approximation_is_a_projection_that_warm_starts_improve():
    """sent is orthogonal to the rest, and on the same matrix again and again its error goes to the best one of rank r (Eckart-Young)."""
    u, _ = np.linalg.qr(RNG.normal(size=(30, 20)))
    v, _ = np.linalg.qr(RNG.normal(size=(20, 20)))
    singular = 0.7 ** np.arange(20)
    m, rank = jnp.asarray(u * singular @ v.T, jnp.float32), 3
    aggregator = low_rank(rank, error_feedback=False)
    state, ratios = aggregator.init(m), []
    for _ in range(15):
        sent = send(aggregator, m, state=state)
        assert abs(float(jnp.vdot(sent.value, m - sent.value))) < 1e-5
        assert np.linalg.matrix_rank(sent.value, tol=1e-4) == rank
        ratios.append(float(jnp.linalg.norm(m - sent.value)) / np.linalg.norm(singular[rank:]))
        _, state, _ = aggregator.decode(state, sent, KEY)
    assert ratios[0] > 1.02 and min(ratios) > 1 - 1e-5
    assert ratios[-1] < 1.001


def test_low_rank_sends_everything_in_the_end():
    updates = {"w": normal(30, 8, 6), "b": normal(30, 6)}
    total, memory, sent = rounds_of_one_client(low_rank(1), updates, np.ones(30))
    assert_close(jax.tree.map(jnp.add, total, memory), jax.tree.map(lambda u: u.sum(0), updates), rtol=1e-4, atol=1e-4)
    assert np.linalg.norm(memory["w"]) > 1 and np.abs(memory["b"]).max() == 0
    assert (np.linalg.matrix_rank(sent["w"], tol=1e-3) <= 1).all()


@pytest.mark.parametrize("matrix", [np.zeros((9, 7)), np.outer(np.arange(9.0), np.arange(7.0) + 1)], ids=["zeros", "rank 1"])
def test_a_mean_that_says_nothing_of_a_direction_leaves_it(matrix):
    """Q stays orthonormal; without a mean it stays as it was, and else lies in the span of what it was and the mean's direction."""
    m = jnp.asarray(matrix, jnp.float32)
    aggregator = low_rank(2)
    state = aggregator.init(m)
    (before,) = state.q
    _, after, _ = aggregator.decode(state, send(aggregator, m, memory=jnp.zeros_like(m)), KEY)
    (q,) = after.q
    np.testing.assert_allclose(q.T @ q, np.eye(2), atol=1e-5)
    row = np.linalg.svd(matrix)[2][:1] if matrix.any() else np.zeros((1, 7))
    span, _ = np.linalg.qr(np.concatenate([row[row.any(1)], before.T]).T)
    np.testing.assert_allclose(span @ (span.T @ q), q, atol=0.05)  # rounding relative to the pull
    np.testing.assert_allclose(row @ q @ q.T, row, atol=1e-3)


# Bounds, and whole rounds.


def test_only_what_never_lengthens_an_update_keeps_its_bound():
    bounds = {a.name: a.bound(a.init(jnp.zeros((5, 5))), jnp.float32(2)) for a in (quantize(), top_k(0.1), low_rank(1))}
    assert bounds == {"quantize": None, "top_k": None, "low_rank": None}
    for aggregator in (top_k(0.1, error_feedback=False), low_rank(1, error_feedback=False)):
        assert aggregator.bound((), jnp.float32(2)) == 2


def process_of(*stages, executor="local"):
    algorithm = fl.algorithms.fedavg(line_model(), fl.optimizers.sgd(0.1))
    return fl.LearningProcess(algorithm, aggregator=chain(*stages, weighted_mean()), batching=padded, executor=executor)


def test_a_round_of_quantized_updates_is_nearly_a_round_without():
    """Each client is off by half of a level of its own clipped update: at most 2 * 0.5 / 65535 / 2."""
    clients = line_clients([3, 0, 6, 2])
    plain = process_of(clipping(0.5))
    want = plain.get_weights(plain.next(plain.initialize(), clients)[0])
    for executor in ("local", "debug"):
        process = process_of(clipping(0.5), quantize(16), executor=executor)
        state, metrics = process.next(process.initialize(), clients)
        assert_close(process.get_weights(state), want, rtol=0, atol=1e-5)
        assert 0 < metrics["aggregator"]["quantize"]["relative_error"] < 1e-7
        assert metrics["bytes_up"] == 4 * ((6 + 8) + (2 + 8))


def test_memories_belong_to_clients():
    """Ada keeps the rest of her update; bob without data and eve without finite data keep none; a round without ada leaves hers."""
    process = process_of(top_k(0.3))
    clients = dict(zip(["ada", "bob", "eve"], line_clients([4, 0, 4]).values(), strict=True))
    clients["eve"]["y"][0] = np.nan
    state, _ = process.next(process.initialize(), clients)
    memories = {name: np.concatenate([np.ravel(leaf) for leaf in leaves]) for name, leaves in state.clients.items()}
    assert np.count_nonzero(memories["ada"]) == 2, "two of three elements of w; b, a single number, is always sent"
    assert not memories["bob"].any() and not memories["eve"].any()
    later, _ = process.next(state, {"bob": clients["ada"]})
    assert_identical(later.clients["ada"], state.clients["ada"])
    assert np.concatenate([np.ravel(leaf) for leaf in later.clients["bob"]]).any()
    with pytest.raises(ValueError, match="must be a mapping from client id"):
        process.next(state, list(clients.values()))
