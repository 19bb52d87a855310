"""A task of the user's own: any Keras model file, on any data by client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fedloom import data as fl_data

from ._assemble import Assembled, choose_clients, make_process
from ._config import RunConfig


@dataclass(frozen=True, kw_only=True)
class KerasConfig(RunConfig):
    """Settings for a Keras model of your own on data of your own."""

    task: ClassVar[str] = "keras"

    model: str  # the path of a .keras file, or of a Keras 2 HDF5 file
    data: str  # what `fedloom data` takes: a file or folder, or the name of a public data set
    client: str | None = None  # for tables, the column with the client ids; by default client_id
    split: str | None = None  # for data with several, which one to train on
    held_out: str | None = None  # data to evaluate on; by default a part of each client's examples is kept apart
    held_out_share: float = 0.2  # that part
    inputs: tuple[str, ...] = ()  # columns that together are the model's input; by default there is a column x
    label: str = "y"  # the column to predict
    objective: Literal["classification", "binary", "regression"] = "classification"
    from_logits: bool = False  # whether the model's output has not been through a softmax or sigmoid

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.held_out_share < 1:
            raise ValueError(f"held_out_share must be in (0, 1), got {self.held_out_share}.")


def assemble_keras(config: KerasConfig) -> Assembled:
    """The model and the data.

    Raises:
        ValueError: A setting does not fit the data or the model.
        FileNotFoundError: There is no such model or data.
    """
    from fedloom import models

    keras_model = models.load(config.model)
    loss, metrics = models.objective(config.objective, from_logits=config.from_logits)
    model = models.from_keras(keras_model, loss, metrics, compute=config.compute)
    whole = fl_data.load(config.data, client=config.client, split=config.split)
    if config.held_out is None:
        train_set, held_out = whole.split(config.held_out_share)
    else:
        train_set, held_out = whole, fl_data.load(config.held_out, client=config.client)
    train_set, held_out = choose_clients(config, train_set, held_out)
    prepare = _Columns(config.inputs, config.label)
    process = make_process(config, model, train_set)
    return Assembled(
        config=config, keras_model=keras_model, process=process, dataset=train_set.map(prepare), held_out=held_out.map(prepare)
    )


@dataclass(frozen=True)
class _Columns:
    """The columns that the model wants."""

    inputs: tuple[str, ...]
    label: str

    def __call__(self, examples):
        missing = [name for name in (*(self.inputs or "x"), self.label) if name not in examples]
        if missing:
            raise ValueError(
                f"The data have no column {missing[0]!r}; there are {', '.join(sorted(examples))}. Name the columns with "
                "`inputs` and `label`."
            )
        if self.inputs:
            return fl_data.Tabular(features=self.inputs, label=self.label)(examples)
        return {"x": examples["x"], "y": examples[self.label]}
