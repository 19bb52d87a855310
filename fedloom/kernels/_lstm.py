"""An LSTM over a whole sequence as one differentiable function, as `_gru.py` has it for a GRU.

The backward pass only collects the gate gradients; the weight gradient is then a single product over all steps at once. On a CPU, both
loops are native kernels (`native/lstm.h`); the scans below say what these compute.

Equations: Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000 (doi:10.1162/089976600300015015), in Keras' gate order
i, f, c, o; `x` is the input's share of each gate, W x + b. Free to change: anything that keeps the numbers, which
`tests/models/test_recurrent_layers.py` holds to those of Keras' own layer.
"""

from __future__ import annotations

import functools
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

from ._matmul import product
from ._native import call, float32, ids_within, native_or
from ._operands import Operands, current_operands, multiply


def lstm_sequence(
    x: jax.Array, h0: jax.Array, c0: jax.Array, kernel: jax.Array, mask: jax.Array | None = None, ids: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Hidden states of an LSTM, with operands of the recurrent products as `operands` says.

    Args:
        x: The input's share of the gates i, f, c, o, with the bias; (time, batch, 4 units), or with `ids` that of every id, (ids, 4 units).
        h0: Hidden state before the first step; (batch, units).
        c0: Cell state before the first step; (batch, units).
        kernel: Recurrent kernel; (units, 4 units).
        mask: Where it is 0, both states are held, and gradients pass by that step; (time, batch). None for no such steps.
        ids: Which row of `x` is the input, where inputs are few: the same as `x[ids]`, without making it; (time, batch), whole numbers.

    Returns:
        The hidden state after every step, (time, batch, units), and the cell state after the last one, (batch, units).
    """
    if mask is None:
        mask = jnp.zeros(0, x.dtype)
    ids = ids_within(ids, x)
    return cast(tuple[jax.Array, jax.Array], _lstm_sequence(x, ids, h0, c0, kernel, mask, current_operands()))


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _lstm_sequence(x, ids, h0, c0, kernel, mask, kind):
    return _forward(x, ids, h0, c0, kernel, mask, kind)[0]


def _forward(x, ids, h0, c0, kernel, mask, kind):
    scan, native = functools.partial(_scan, kind=kind), functools.partial(_native_forward, kind=kind)
    gates, hidden, cells = native_or(scan, native, x, ids, h0, c0, kernel, mask)
    return (hidden, cells[-1]), (x.shape[0], ids, h0, c0, hidden, cells, gates, kernel, mask)


def _native_forward(x, ids, h0, *others, kind: Operands):
    (steps, batch), (_, units) = (ids if ids.size else x).shape[:2], h0.shape
    results = [float32(steps, batch, 4 * units), *[float32(steps, batch, units)] * 2]
    return tuple(call("lstm_forward", results, x, ids, h0, *others, in_place=not ids.size, bfloat16=kind == "bfloat16"))


def _scan(x, ids, h0, c0, kernel, mask, kind):
    def step(state, inputs):
        (h, c), (x_t, *mask_t) = state, inputs
        i, f, candidate, o = jnp.split(x_t + multiply(h, kernel, kind), 4, axis=-1)
        i, f, candidate, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(candidate), jax.nn.sigmoid(o)
        cell = f * c + i * candidate
        h, c = _held(mask_t, (h, c), (o * jnp.tanh(cell), cell))
        return (h, c), (jnp.concatenate([i, f, candidate, o], axis=-1), h, c)

    return lax.scan(step, (h0, c0), _with(mask, x[ids] if ids.size else x))[1]


def _with(mask, *sequences):
    return (*sequences, mask) if mask.size else sequences


def _held(mask_t, before, after):
    """`after`, or `before` in the rows that the mask, if there is one, leaves out."""
    if not mask_t:
        return after
    held = mask_t[0][:, None] == 0
    return jax.tree.map(lambda old, new: jnp.where(held, old, new), before, after)


def _backward(kind, residuals, gradients):
    rows, ids, h0, c0, hidden, cells, gates, kernel, mask = residuals
    grad_hidden, grad_cell = gradients
    scan, native = functools.partial(_scan_back, rows=rows, kind=kind), functools.partial(_native_backward, rows=rows, kind=kind)
    dx, d_gates, dh0, dc0 = native_or(scan, native, gates, ids, grad_hidden, grad_cell, c0, cells, kernel, mask)
    d_kernel = product(hidden.reshape(-1, h0.shape[1]), d_gates.reshape(-1, kernel.shape[1]), kind, left_transposed=True, head=h0)
    return dx, None, dh0, dc0, d_kernel, jnp.zeros_like(mask)


def _native_backward(gates, ids, *others, rows, kind):
    _, _, c0, *_ = others
    of_ids = float32(rows, gates.shape[2]) if ids.size else float32(0)
    results = [float32(*gates.shape), of_ids, float32(*c0.shape), float32(*c0.shape)]
    d_gates, dx, dh0, dc0 = call("lstm_backward", results, gates, ids, *others, in_place=True, bfloat16=kind == "bfloat16")
    return dx if ids.size else d_gates, d_gates, dh0, dc0


def _scan_back(gates, ids, grad_hidden, grad_cell, c0, cells, kernel, mask, rows, kind):
    previous, transposed = jnp.concatenate([c0[None], cells[:-1]]), kernel.T

    def step(state, inputs):
        (dh, dc), (gates_t, grad, c_before, c, *mask_t) = state, inputs
        i, f, candidate, o = jnp.split(gates_t, 4, axis=-1)
        dh, shown = dh + grad, jnp.tanh(c)
        d_cell = dc + dh * o * (1 - shown**2)
        di = d_cell * candidate * i * (1 - i)
        df = d_cell * c_before * f * (1 - f)
        d_candidate = d_cell * i * (1 - candidate**2)
        do = dh * shown * o * (1 - o)
        dx = jnp.concatenate([di, df, d_candidate, do], axis=-1)
        return _held(mask_t, ((dh, dc), jnp.zeros_like(dx)), ((multiply(dx, transposed, kind), d_cell * f), dx))

    (dh0, dc0), dx = lax.scan(step, (jnp.zeros_like(c0), grad_cell), _with(mask, gates, grad_hidden, previous, cells), reverse=True)
    return jnp.zeros((rows, dx.shape[-1])).at[ids].add(dx) if ids.size else dx, dx, dh0, dc0


_lstm_sequence.defvjp(_forward, _backward)
