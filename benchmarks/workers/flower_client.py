# pyright: reportMissingImports=false, reportMissingModuleSource=false
"""A client of Flower: a module of its own, since actors import it."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict

from .._workload import ClientRows, Workload
from .torch_models import make_model, mean_loss, tensors


@functools.lru_cache(1)
def _round(folder: str, number: int) -> tuple[list[np.ndarray | None], np.ndarray]:
    """Columns of a round, mapped into memory, and where each client's rows end."""
    here = Path(folder) / "rounds" / str(number)
    files = [here / f"{name}.npy" for name in ClientRows._fields]
    return [np.load(file, mmap_mode="r") if file.exists() else None for file in files], np.cumsum(np.load(here / "sizes.npy"))


@functools.lru_cache(1)
def case_and_model(folder: str) -> tuple[dict, torch.nn.Module]:
    """The fields of the case, and its model with the first weights; made once per actor."""
    torch.set_num_threads(1)
    workload = Workload(folder)
    return workload.case, make_model(workload.case["model"], workload.weights())


def train(message: Message, context: Context) -> Message:
    """A client's work."""
    folder, number = message.content["config"]["folder"], message.content["config"]["server-round"] - 1
    case, model = case_and_model(folder)
    columns, ends = _round(folder, number)
    index = int(context.node_config["partition-id"])
    start, end = (ends[index - 1] if index else 0), ends[index]
    x, y = tensors(*(None if column is None else np.array(column[start:end]) for column in columns))  # type: ignore[arg-type]
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=case["learning_rate"])
    total, total_count = torch.zeros(()), 0
    for rows, labels in zip(x.split(case["batch_size"]), y.split(case["batch_size"]), strict=True):
        loss, count = mean_loss(model(rows), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, total_count = total + loss.detach() * count, total_count + count
    metrics = MetricRecord({"num-examples": int(end - start), "loss": float(total), "count": total_count})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)
