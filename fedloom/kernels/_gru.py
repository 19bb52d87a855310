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
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

from ._native import call, float32, native_or


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
    hidden, *kept = native_or(
        _scan_reset_after if reset_after else _scan_reset_before,
        functools.partial(_native_forward, reset_after=reset_after),
        *(x, h0, kernel, bias),
    )
    return hidden, (h0, hidden, kept, kernel)


def _native_forward(x, h0, kernel, bias, reset_after):
    states = float32(*x.shape[:2], h0.shape[1])
    *out, inner = call("gru_forward", [*[states] * 4, states if reset_after else float32(0)], x, h0, kernel, bias, reset_after=reset_after)
    return (*out, inner) if reset_after else tuple(out)


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
    return hidden, *kept


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
    return hidden, *kept


def _backward(reset_after, residuals, grad_hidden):
    h0, hidden, kept, kernel = residuals
    dx, d_inner, dh0 = native_or(
        _scan_back_reset_after if reset_after else _scan_back_reset_before,
        functools.partial(_native_backward, reset_after=reset_after),
        *(grad_hidden, h0, hidden, kernel, *kept),
    )
    previous = jnp.concatenate([h0[None], hidden[:-1]])
    if reset_after:
        return dx, dh0, _weight_gradient(previous, d_inner), d_inner.sum((0, 1))
    units = h0.shape[-1]
    _, r, _ = kept
    d_gates, d_candidate = dx[..., : 2 * units], dx[..., 2 * units :]
    d_kernel = jnp.concatenate([_weight_gradient(previous, d_gates), _weight_gradient(r * previous, d_candidate)], axis=-1)
    return dx, dh0, d_kernel, jnp.zeros(kernel.shape[1:], kernel.dtype)


def _native_backward(grad_hidden, h0, hidden, kernel, z, r, candidate, *inner, reset_after):
    (steps, batch, units), none = hidden.shape, jnp.zeros(0)
    gates = float32(steps, batch, 3 * units)
    return tuple(
        call(
            "gru_backward",
            [gates, gates if reset_after else float32(0), float32(batch, units)],
            *(grad_hidden, h0, hidden, z, r, candidate, *(inner or [none]), kernel),
            reset_after=reset_after,
        )
    )


def _scan_back_reset_after(grad_hidden, h0, hidden, kernel, *kept):
    previous, transposed = jnp.concatenate([h0[None], hidden[:-1]]), kernel.T

    def step(dh, inputs):
        grad, h, z, r, candidate, ih = inputs
        dh = dh + grad
        d_candidate = dh * (1 - z) * (1 - candidate**2)
        dz = dh * (h - candidate) * z * (1 - z)
        dr = d_candidate * ih * r * (1 - r)
        d_inner = jnp.concatenate([dz, dr, d_candidate * r], axis=-1)
        return dh * z + d_inner @ transposed, (jnp.concatenate([dz, dr, d_candidate], axis=-1), d_inner)

    dh0, (dx, d_inner) = lax.scan(step, jnp.zeros_like(h0), (grad_hidden, previous, *kept), reverse=True)
    return dx, d_inner, dh0


def _scan_back_reset_before(grad_hidden, h0, hidden, kernel, *kept):
    units, previous = h0.shape[-1], jnp.concatenate([h0[None], hidden[:-1]])
    gates_transposed, candidate_transposed = kernel[:, : 2 * units].T, kernel[:, 2 * units :].T

    def step(dh, inputs):
        grad, h, z, r, candidate = inputs
        dh = dh + grad
        d_candidate = dh * (1 - z) * (1 - candidate**2)
        d_reset = d_candidate @ candidate_transposed  # the gradient of r * h
        dz = dh * (h - candidate) * z * (1 - z)
        dr = d_reset * h * r * (1 - r)
        d_gates = jnp.concatenate([dz, dr], axis=-1)
        return dh * z + d_reset * r + d_gates @ gates_transposed, jnp.concatenate([d_gates, d_candidate], axis=-1)

    dh0, dx = lax.scan(step, jnp.zeros_like(h0), (grad_hidden, previous, *kept), reverse=True)
    return dx, jnp.zeros(0), dh0


def _weight_gradient(inputs, grads):
    """Sum over time and batch of input x gradient, as one product."""
    return inputs.reshape(-1, inputs.shape[-1]).T @ grads.reshape(-1, grads.shape[-1])


_gru_sequence.defvjp(_forward, _backward)
