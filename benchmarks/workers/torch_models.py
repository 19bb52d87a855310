# pyright: reportMissingImports=false, reportMissingModuleSource=false
"""The models in PyTorch, with weights from Keras' layout, for the peers that use PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

IGNORED = -100  # the label of what carries no weight, as `cross_entropy` has it


class Recurrent(nn.Module):
    """Ids to logits: an embedding, GRU or LSTM layers, a dense layer."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM], weights: list[torch.Tensor]):
        super().__init__()
        embedding, *layers, kernel, bias = weights
        self.embedding = nn.Embedding.from_pretrained(embedding.clone(), freeze=False)
        units = layers[1].shape[0]
        self.rnn = kind(embedding.shape[1], units, num_layers=len(layers) // 3, batch_first=True)
        order = [1, 0, 2] if kind is nn.GRU else [0, 1, 2, 3]  # Keras: z, r, h; PyTorch: r, z, n
        for i in range(0, len(layers), 3):
            values = [_gates(weight.T, order, units) for weight in layers[i : i + 2]]
            if kind is nn.GRU:
                values += [_gates(row, order, units) for row in layers[i + 2]]
            else:
                values += [layers[i + 2], torch.zeros_like(layers[i + 2])]
            for parameter, value in zip(self.rnn.all_weights[i // 3], values, strict=True):
                parameter.data.copy_(value)
            if kind is nn.LSTM:  # PyTorch's second bias, which Keras does not have: trained, it would double the rate of the first
                self.rnn.all_weights[i // 3][3].requires_grad_(False)
        self.dense = _linear(kernel, bias)

    def forward(self, x):
        """Logits of each position."""
        return self.dense(self.rnn(self.embedding(x))[0])


class Convolutional(nn.Module):
    """Images (rows, 28, 28, 1) to logits."""

    def __init__(self, weights: list[torch.Tensor]):
        super().__init__()
        self.first, self.second = (_conv(weights[i], weights[i + 1]) for i in (0, 2))
        channels = weights[2].shape[3]
        hidden = weights[4].reshape(-1, channels, weights[4].shape[1])  # Keras flattens positions before channels
        self.hidden = _linear(hidden.permute(1, 0, 2).reshape(weights[4].shape), weights[5])
        self.dense = _linear(weights[6], weights[7])

    def forward(self, x):
        """Logits."""
        x = x.reshape(-1, 1, 28, 28)
        x = F.max_pool2d(F.relu(self.second(F.relu(self.first(x)))), 2)
        return self.dense(F.relu(self.hidden(x.flatten(1))))


def make_model(name: str, weights: list[np.ndarray]) -> nn.Module:
    """A model of the cases, by its name, with weights in the order and layout of Keras."""
    tensors = [torch.from_numpy(weight) for weight in weights]
    if name == "gru":
        return Recurrent(nn.GRU, tensors)
    if name == "lstm":
        return Recurrent(nn.LSTM, tensors)
    if name == "cnn":
        return Convolutional(tensors)
    return _linear(*tensors)


def tensors(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> tuple[torch.Tensor, torch.Tensor]:
    """A client's rows as PyTorch wants them; labels without weight become `IGNORED`."""
    if weight is not None:
        y = np.where(weight > 0, y, IGNORED)
    return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y.astype(np.int64))


def mean_loss(logits: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Mean cross-entropy over the labels that count, and their number."""
    count = int((y != IGNORED).sum()) if y.ndim > 1 else y.numel()
    total = F.cross_entropy(logits.flatten(0, -2), y.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / max(count, 1), count


def _gates(weight: torch.Tensor, order: list[int], units: int) -> torch.Tensor:
    """Rows of one gate after the other, in another order of gates."""
    return torch.cat([weight[gate * units : (gate + 1) * units] for gate in order])


def _linear(kernel: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(*kernel.shape)
    layer.weight.data.copy_(kernel.T)
    layer.bias.data.copy_(bias)
    return layer


def _conv(kernel: torch.Tensor, bias: torch.Tensor) -> nn.Conv2d:
    layer = nn.Conv2d(kernel.shape[2], kernel.shape[3], kernel.shape[0])
    layer.weight.data.copy_(kernel.permute(3, 2, 0, 1))
    layer.bias.data.copy_(bias)
    return layer
