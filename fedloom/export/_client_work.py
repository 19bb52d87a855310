"""The export of a process: its client's work, weights and manifest as a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from fedloom.core import Batch, ClientWork, Generation, every_batch
from fedloom.data import as_batch
from fedloom.engine import prepare

from ._folder import about, program_files, target_folder, write_folder
from ._manifest import WEIGHTS, Manifest, PassInfo, StoredArray, Tokenization
from ._names import named_leaves, plain
from ._programs import Start, client_programs, step_names
from ._trace import trace

if TYPE_CHECKING:
    from fedloom.experiment import LearningProcess, ProcessState


def client_work(
    process: LearningProcess,
    directory: str | Path,
    *,
    state: ProcessState | None = None,
    clients: Any = None,
    batch: Any = None,
    batch_size: int | None = None,
) -> Manifest:
    """Writes what a client does as programs that run without Python, keras and the model's code; see docs/export.md for the folder.

    Args:
        process: Whose algorithm, aggregator and model are exported.
        directory: New, empty, or an export, which is replaced; whole or not at all.
        state: Whose weights, hyperparameters and aggregator state go with the programs; None takes `process.initialize()`.
        clients: As in `LearningProcess.next`; the first batch that any of them has lends its shapes and types, and nothing else.
        batch: The same from a batch, as (x, y), (x, y, sample_weight), or a dict of these. With neither, they are those that the model was
            built for.
        batch_size: Rows of a batch in the variants of fixed shape; None takes that of the model's RNN state, else that of the process'
            batching, else that of `batch`.

    Returns:
        The manifest that was written.

    Raises:
        ValueError: `directory` holds something else, the shapes of a batch are not known, or a program calls back into Python, depends on
            values, or has an operation that other machines do not know.

    Example:
        >>> import tempfile, fedloom as fl
        >>> model = fl.models.from_functions(lambda key: jnp.zeros(2), lambda w, x: x @ w, lambda y, p: (y - p) ** 2)
        >>> process = fl.LearningProcess(fl.algorithms.fedavg(model, fl.optimizers.sgd(0.1)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     manifest = client_work(process, folder, batch=(np.ones((4, 2), np.float32), np.ones(4, np.float32)))
        >>> sorted(manifest.programs), manifest.batch_size
        (['begin', 'encode', 'evaluate', 'finish', 'step'], 4)
    """
    directory = target_folder(directory)
    if state is None:
        state = process.initialize()
    algorithm, aggregator = process.algorithm, process.aggregator
    shapes, fixed_rows = _batch_shapes(process, clients, batch, batch_size)
    message = algorithm.broadcast(state.server, jnp.int32(state.round_number))
    start = Start(process.get_weights(state), message, state.aggregator)
    generation = _generation(process)
    programs = [trace(program, fixed_rows=fixed_rows) for program in client_programs(algorithm, aggregator, start, shapes, generation)]
    stored, tensors = _stored(process, start, generation)
    files = {**program_files(programs), WEIGHTS: safetensors.numpy.save(tensors)}
    manifest = Manifest(
        **about(programs, files),
        algorithm=algorithm.name,
        aggregator=aggregator.name,
        batch_size=jax.tree.leaves(shapes)[-1].shape[0],
        hyperparameters=process.get_hparams(state),
        passes=_passes(algorithm.client, ""),
        prelude_passes=_passes(algorithm.prelude.client, "prelude_") if algorithm.prelude else (),
        start=stored,
        tokenization=Tokenization(tokens=generation.tokens) if generation else None,
    )
    write_folder(directory, files, manifest)
    return manifest


def _batch_shapes(process: LearningProcess, clients: Any, batch: Any, batch_size: int | None) -> tuple[Batch, str]:
    """Shapes of a batch, and why its number of rows is not free, if so."""
    if clients is not None and batch is not None:
        raise ValueError("clients and batch both say what a batch looks like; give one of them.")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    carry = jax.tree.leaves(process.model.init_carry())
    carried = carry[0].shape[0] if carry else None
    if carried and batch_size not in (None, carried):
        raise ValueError(f"batch_size must be {carried}, to which the model's carried RNN state is tied, got {batch_size}. Leave it out.")
    rows = batch_size or carried or (process.batching.size if process.batching else None)
    if batch is not None:
        known = as_batch(batch)
    elif clients is not None:
        cohort = prepare(clients, process.batching, seed=process.seed, round_number=0, check=process.model.check_batch)
        known = next((one for client in cohort for one in client.batches()), None)
        if known is None:
            raise ValueError("clients must have at least one batch between them, to show what one looks like, got none. Name others.")
    elif process.model.batch_shapes is not None:
        known = process.model.batch_shapes(rows or 1)
        if rows is None:
            raise ValueError("batch_size is needed: the process has no batching to take it from. Pass batch_size=8, say.")
    else:
        raise ValueError(
            "What a batch looks like is not known from the model, whose inputs have open dimensions, or are unknown to it. Pass "
            "`clients=` (as to process.next) or `batch=(x, y)`."
        )
    known = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype)), known)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((rows or leaf.shape[0], *leaf.shape[1:]), leaf.dtype), known)
    return shapes, "The RNN state that the model carries from batch to batch is tied to one batch size." if carried else ""


def _generation(process: LearningProcess) -> Generation | None:
    """Of a model of text that has a state; one without is exported all the same."""
    make = process.model.generation
    try:
        return make() if make is not None else None
    except (TypeError, ValueError):
        return None


def _stored(
    process: LearningProcess, start: Start, generation: Generation | None
) -> tuple[dict[str, tuple[StoredArray, ...]], dict[str, np.ndarray]]:
    """What a client begins with, by group; and the tensors, of which those of the weights serve the message too."""
    groups = {"weights": start.weights, "message": start.message, "aggregator_state": start.aggregator_state}
    groups |= {"carry": process.model.init_carry(), "state": generation.init_state() if generation else ()}
    leaves = {group: named_leaves(group, tree) for group, tree in groups.items()}
    trainable = [name for name in leaves["weights"] if name.startswith("weights/trainable")]
    model_names = dict(zip(trainable, process.model.names, strict=False))
    own = {id(leaf): name for name, leaf in leaves["weights"].items()}
    tensors, stored = {}, {}
    for group, named in leaves.items():
        rows = []
        for name, leaf in named.items():
            tensor = own.get(id(leaf), name)
            array = np.asarray(plain(leaf))
            tensors.setdefault(tensor, np.ascontiguousarray(array).reshape(array.shape))
            about = {"shape": array.shape, "dtype": array.dtype.name, "model_name": model_names.get(name, "")}
            rows.append(StoredArray(name=name, tensor=tensor, **about))
        stored[group] = tuple(rows)
    return stored, tensors


def _passes(work: ClientWork, prefix: str) -> tuple[PassInfo, ...]:
    return tuple(
        PassInfo(program=name, batches="every" if one.batches is every_batch else _name_of(one.batches))
        for name, one in zip(step_names(work, prefix), work.passes, strict=True)
    )


def _name_of(choose: Callable[..., Any]) -> str:
    return getattr(choose, "__qualname__", "").partition(".")[0].strip("_<>") or "chosen"
