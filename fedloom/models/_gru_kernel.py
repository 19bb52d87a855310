"""A GRU over a whole sequence as one differentiable function, several times faster to train than a plain scan.

Differentiating `lax.scan` adds a rank-B product to the recurrent gradient at every time step. Here the backward pass only collects the
gate gradients; the weight gradient is then a single product over all steps at once.

Equations: Cho et al. 2014 (arXiv:1406.1078), eq. 5-8, in Keras' two variants and its gate order z, r, h. Symbols below are theirs, with
`x` for the input's share of each gate, W x + b. Free to change: anything that keeps the numbers, which `tests/models/test_recurrent.py`
holds to those of Keras' own layer.
"""

from __future__ import annotations

import functools
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax


def gru_sequence(x: jax.Array, h0: jax.Array, kernel: jax.Array, bias: jax.Array, reset_after: bool) -> jax.Array:
    """Hidden states of a GRU.

    Args:
        x: The input's share of the gates z, r, h, with its bias; (time, batch, 3 units).
        h0: State before the first step; (batch, units).
        kernel: Recurrent kernel; (units, 3 units).
        bias: Recurrent bias, (3 units,); used with `reset_after` only.
        reset_after: Whether the reset gate acts after the recurrent product (Keras' default) or before it, as in the paper.

    Returns:
        The state after every step; (time, batch, units).
    """
    return cast(jax.Array, _gru_sequence(x, h0, kernel, bias, reset_after))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _gru_sequence(x, h0, kernel, bias, reset_after):
    return _forward(x, h0, kernel, bias, reset_after)[0]


def _forward(x, h0, kernel, bias, reset_after):
    scan = _scan_reset_after if reset_after else _scan_reset_before
    hidden, kept = scan(x, h0, kernel, bias)
    return hidden, (h0, hidden, kept, kernel)


def _scan_reset_after(x, h0, kernel, bias):
    def step(h, x_t):
        inner = h @ kernel + bias
        xz, xr, xh = jnp.split(x_t, 3, axis=-1)
        iz, ir, ih = jnp.split(inner, 3, axis=-1)
        z, r = jax.nn.sigmoid(xz + iz), jax.nn.sigmoid(xr + ir)
        candidate = jnp.tanh(xh + r * ih)
        h = z * h + (1 - z) * candidate
        return h, (h, z, r, candidate, ih)

    _, (hidden, *kept) = lax.scan(step, h0, x)
    return hidden, kept


def _scan_reset_before(x, h0, kernel, bias):
    units = h0.shape[-1]
    gates, candidate_kernel = kernel[:, : 2 * units], kernel[:, 2 * units :]

    def step(h, x_t):
        xz, xr, xh = jnp.split(x_t, 3, axis=-1)
        iz, ir = jnp.split(h @ gates, 2, axis=-1)
        z, r = jax.nn.sigmoid(xz + iz), jax.nn.sigmoid(xr + ir)
        candidate = jnp.tanh(xh + (r * h) @ candidate_kernel)
        h = z * h + (1 - z) * candidate
        return h, (h, z, r, candidate)

    _, (hidden, *kept) = lax.scan(step, h0, x)
    return hidden, kept


def _backward(reset_after, residuals, grad_hidden):
    h0, hidden, kept, kernel = residuals
    previous = jnp.concatenate([h0[None], hidden[:-1]])
    scan = _scan_back_reset_after if reset_after else _scan_back_reset_before
    return scan(grad_hidden, previous, kept, kernel)


def _scan_back_reset_after(grad_hidden, previous, kept, kernel):
    transposed = kernel.T

    def step(dh, inputs):
        grad, h, z, r, candidate, ih = inputs
        dh = dh + grad
        d_candidate = dh * (1 - z) * (1 - candidate**2)
        dz = dh * (h - candidate) * z * (1 - z)
        dr = d_candidate * ih * r * (1 - r)
        d_inner = jnp.concatenate([dz, dr, d_candidate * r], axis=-1)
        return dh * z + d_inner @ transposed, (d_inner, d_candidate)

    dh0, (d_inner, d_candidate) = lax.scan(step, jnp.zeros_like(grad_hidden[0]), (grad_hidden, previous, *kept), reverse=True)
    units = d_candidate.shape[-1]
    dx = jnp.concatenate([d_inner[..., : 2 * units], d_candidate], axis=-1)
    return dx, dh0, _weight_gradient(previous, d_inner), d_inner.sum((0, 1))


def _scan_back_reset_before(grad_hidden, previous, kept, kernel):
    units = previous.shape[-1]
    gates_transposed, candidate_transposed = kernel[:, : 2 * units].T, kernel[:, 2 * units :].T

    def step(dh, inputs):
        grad, h, z, r, candidate = inputs
        dh = dh + grad
        d_candidate = dh * (1 - z) * (1 - candidate**2)
        d_reset = d_candidate @ candidate_transposed  # the gradient of r * h
        dz = dh * (h - candidate) * z * (1 - z)
        dr = d_reset * h * r * (1 - r)
        d_gates = jnp.concatenate([dz, dr], axis=-1)
        return dh * z + d_reset * r + d_gates @ gates_transposed, (d_gates, d_candidate)

    dh0, (d_gates, d_candidate) = lax.scan(step, jnp.zeros_like(grad_hidden[0]), (grad_hidden, previous, *kept), reverse=True)
    r = kept[1]
    d_kernel = jnp.concatenate([_weight_gradient(previous, d_gates), _weight_gradient(r * previous, d_candidate)], axis=-1)
    dx = jnp.concatenate([d_gates, d_candidate], axis=-1)
    return dx, dh0, d_kernel, jnp.zeros((kernel.shape[1],), kernel.dtype)


def _weight_gradient(inputs, grads):
    """Sum over time and batch of input x gradient, as one product."""
    return inputs.reshape(-1, inputs.shape[-1]).T @ grads.reshape(-1, grads.shape[-1])


_gru_sequence.defvjp(_forward, _backward)
