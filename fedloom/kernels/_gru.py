"""A GRU over a whole sequence as one differentiable function, several times faster to train than a plain scan.

Differentiating `lax.scan` adds a rank-B product to the recurrent gradient at every time step. Here the backward pass only collects the
gate gradients; the weight gradient is then a single product over all steps at once. On a CPU, both loops are native kernels
(`native/gru.h`); the scans below say what these compute.

Equations: Cho et al. 2014 (arXiv:1406.1078), eq. 5-8, in Keras' two variants and its gate order z, r, h. Symbols below are theirs, with
`x` for the input's share of each gate, W x + b. Free to change: anything that keeps the numbers, which
`tests/models/test_recurrent_layers.py` holds to those of Keras' own layer.
"""

from __future__ import annotations

import functools
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from ._matmul import product
from ._native import call, float32, ids_within, native_or
from ._operands import Operands, current_operands, multiply


def gru_sequence(
    x: jax.Array, h0: jax.Array, kernel: jax.Array, bias: jax.Array, reset_after: bool, ids: jax.Array | None = None
) -> jax.Array:
    """Hidden states of a GRU, with operands of the recurrent products as `operands` says.

    Args:
        x: The input's share of the gates z, r, h, with its bias; (time, batch, 3 units), or with `ids` that of every id, (ids, 3 units).
        h0: State before the first step; (batch, units).
        kernel: Recurrent kernel; (units, 3 units).
        bias: Recurrent bias, (3 units,); used with `reset_after` only.
        reset_after: Whether the reset gate acts after the recurrent product (Keras' default) or before it, as in the paper.
        ids: Which row of `x` is the input, where inputs are few: the same as `x[ids]`, without making it; (time, batch), whole numbers.

    Returns:
        The state after every step; (time, batch, units).
    """
    return cast(jax.Array, _gru_sequence(x, ids_within(ids, x), h0, kernel, bias, _Form(reset_after, current_operands())))


class _Form(NamedTuple):
    reset_after: bool
    operands: Operands

    def attributes(self):
        return {"reset_after": self.reset_after, "bfloat16": self.operands == "bfloat16"}


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _gru_sequence(x, ids, h0, kernel, bias, form):
    return _forward(x, ids, h0, kernel, bias, form)[0]


def _forward(x, ids, h0, kernel, bias, form):
    hidden, *kept = native_or(
        functools.partial(_scan_reset_after if form.reset_after else _scan_reset_before, form=form),
        functools.partial(_native_forward, form=form),
        *(x, ids, h0, kernel, bias),
    )
    return hidden, (x.shape[0], ids, h0, hidden, kept, kernel)


def _native_forward(x, ids, h0, kernel, bias, form):
    states = float32(*(ids if ids.size else x).shape[:2], h0.shape[1])
    inner = states if form.reset_after else float32(0)
    *out, inner = call("gru_forward", [*[states] * 4, inner], x, ids, h0, kernel, bias, **form.attributes())
    return (*out, inner) if form.reset_after else tuple(out)


def _scan_reset_after(x, ids, h0, kernel, bias, form):
    def step(h, x_t):
        inner = multiply(h, kernel, form.operands) + bias
        xz, xr, xh = jnp.split(x_t, 3, axis=-1)
        iz, ir, ih = jnp.split(inner, 3, axis=-1)
        z, r = jax.nn.sigmoid(xz + iz), jax.nn.sigmoid(xr + ir)
        candidate = jnp.tanh(xh + r * ih)
        h = z * h + (1 - z) * candidate
        return h, (h, z, r, candidate, ih)

    _, (hidden, *kept) = lax.scan(step, h0, x[ids] if ids.size else x)
    return hidden, *kept


def _scan_reset_before(x, ids, h0, kernel, bias, form):
    units = h0.shape[-1]
    gates, candidate_kernel = kernel[:, : 2 * units], kernel[:, 2 * units :]

    def step(h, x_t):
        xz, xr, xh = jnp.split(x_t, 3, axis=-1)
        iz, ir = jnp.split(multiply(h, gates, form.operands), 2, axis=-1)
        z, r = jax.nn.sigmoid(xz + iz), jax.nn.sigmoid(xr + ir)
        candidate = jnp.tanh(xh + multiply(r * h, candidate_kernel, form.operands))
        h = z * h + (1 - z) * candidate
        return h, (h, z, r, candidate)

    _, (hidden, *kept) = lax.scan(step, h0, x[ids] if ids.size else x)
    return hidden, *kept


def _backward(form, residuals, grad_hidden):
    rows, ids, h0, hidden, kept, kernel = residuals
    dx, d_inner, dh0 = native_or(
        functools.partial(_scan_back, rows=rows, form=form),
        functools.partial(_native_backward, rows=rows, form=form),
        *(grad_hidden, ids, h0, hidden, kernel, *kept),
    )
    states, d_gates = _matrix(hidden), _matrix(d_inner)
    weight_gradient = functools.partial(product, kind=form.operands, left_transposed=True)
    if form.reset_after:
        return dx, None, dh0, weight_gradient(states, d_gates, head=h0), d_gates.sum(0)
    units = h0.shape[-1]
    reset = kept[1] * jnp.concatenate([h0[None], hidden[:-1]])
    d_kernel = [weight_gradient(states, d_gates[:, : 2 * units], head=h0), weight_gradient(_matrix(reset), d_gates[:, 2 * units :])]
    return dx, None, dh0, jnp.concatenate(d_kernel, axis=-1), jnp.zeros(kernel.shape[1:], kernel.dtype)


def _native_backward(grad_hidden, ids, h0, hidden, kernel, z, r, candidate, *inner, rows, form):
    (steps, batch, units), none = hidden.shape, jnp.zeros(0)
    gates = float32(steps, batch, 3 * units)
    separate = float32(rows, 3 * units) if ids.size else gates if form.reset_after else float32(0)
    dx, d_inner, dh0 = call(
        "gru_backward",
        [separate, gates, float32(batch, units)],
        *(grad_hidden, ids, h0, hidden, z, r, candidate, *(inner or [none]), kernel),
        **form.attributes(),
    )
    return dx if separate.size else d_inner, d_inner, dh0


def _scan_back(grad_hidden, ids, h0, hidden, kernel, *kept, rows, form):
    scan = _scan_back_reset_after if form.reset_after else _scan_back_reset_before
    dx, d_inner, dh0 = scan(grad_hidden, h0, hidden, kernel, *kept, form=form)
    return jnp.zeros((rows, dx.shape[-1])).at[ids].add(dx) if ids.size else dx, d_inner, dh0


def _scan_back_reset_after(grad_hidden, h0, hidden, kernel, *kept, form):
    previous, transposed = jnp.concatenate([h0[None], hidden[:-1]]), kernel.T

    def step(dh, inputs):
        grad, h, z, r, candidate, ih = inputs
        dh = dh + grad
        d_candidate = dh * (1 - z) * (1 - candidate**2)
        dz = dh * (h - candidate) * z * (1 - z)
        dr = d_candidate * ih * r * (1 - r)
        d_inner = jnp.concatenate([dz, dr, d_candidate * r], axis=-1)
        return dh * z + multiply(d_inner, transposed, form.operands), (jnp.concatenate([dz, dr, d_candidate], axis=-1), d_inner)

    dh0, (dx, d_inner) = lax.scan(step, jnp.zeros_like(h0), (grad_hidden, previous, *kept), reverse=True)
    return dx, d_inner, dh0


def _scan_back_reset_before(grad_hidden, h0, hidden, kernel, *kept, form):
    units, previous = h0.shape[-1], jnp.concatenate([h0[None], hidden[:-1]])
    gates_transposed, candidate_transposed = kernel[:, : 2 * units].T, kernel[:, 2 * units :].T

    def step(dh, inputs):
        grad, h, z, r, candidate = inputs
        dh = dh + grad
        d_candidate = dh * (1 - z) * (1 - candidate**2)
        d_reset = multiply(d_candidate, candidate_transposed, form.operands)  # the gradient of r * h
        dz = dh * (h - candidate) * z * (1 - z)
        dr = d_reset * h * r * (1 - r)
        d_gates = jnp.concatenate([dz, dr], axis=-1)
        return dh * z + d_reset * r + multiply(d_gates, gates_transposed, form.operands), jnp.concatenate([d_gates, d_candidate], axis=-1)

    dh0, dx = lax.scan(step, jnp.zeros_like(h0), (grad_hidden, previous, *kept), reverse=True)
    return dx, dx, dh0


def _matrix(sequence):
    return sequence.reshape(-1, sequence.shape[-1])


_gru_sequence.defvjp(_forward, _backward)
