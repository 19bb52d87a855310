"""An export in Python again: programs as functions, without keras and without the model's code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from fedloom.core import Key, step_key
from fedloom.data import as_batch

from ._folder import raise_if_lacking, read_folder
from ._manifest import WEIGHTS, Manifest
from ._names import named_leaves
from ._portable import Group, as_array, group_of, named, portable_programs


class Finished(NamedTuple):
    """What a client has at the end of a round."""

    value: Group  # of its contribution, before `encode`
    weight: jax.Array  # shape ()
    metrics: Group  # sums; of a mean, `NAME/total` over `NAME/weight`
    client_state: Group  # for its next round
    local: Group  # where it ended; with most algorithms its own weights are among it


class PortableClient:
    """A client's work that was exported.

    Attributes:
        manifest: What there is.
        programs: By name. Those of most algorithms are `begin`, `step`, `finish`, `encode` and `evaluate`.
    """

    def __init__(self, manifest: Manifest, files: Mapping[str, bytes], tensors: Mapping[str, np.ndarray]):
        self.manifest, self._tensors = manifest, tensors
        self.programs = portable_programs(manifest, files, manifest.batch_size)

    def start(self, group: str) -> Group:
        """What a client begins with: "weights", "message", "aggregator_state", "carry" (of `evaluate`) or "state" (of `generate`)."""
        stored = self.manifest.start[group]
        return group_of(group, stored, [jnp.asarray(self._tensors[array.tensor]) for array in stored])

    def weights(self) -> Group:
        """The model's weights, in its own order: first the trainable ones, then the others."""
        return self.start("weights")

    def message(self, weights: Group | None = None) -> Group:
        """What the server sends a client: as it was exported, or with other weights."""
        if weights is None:
            return self.start("message")
        new = named("weights", weights)
        if unknown := sorted(new.keys() ^ {array.name for array in self.manifest.start["weights"]}):
            raise ValueError(f"weights must have the names of `weights()`, got a difference in {', '.join(unknown)}.")
        stored = self.manifest.start["message"]
        return group_of("message", stored, [as_array(a, new[a.tensor] if a.tensor in new else self._tensors[a.tensor]) for a in stored])

    def batch(self, x: Any, y: Any = None, sample_weight: Any = None) -> Group:
        """A batch as programs take it; one with fewer rows than `manifest.batch_size` is filled up with rows of weight 0.

        Args:
            x: An array, or a dict of them; rows first.
            y: Likewise; None for a loss that needs none.
            sample_weight: Of each row, or of each token; None gives all the same.

        Raises:
            ValueError: They differ in their number of rows.
        """
        raw = as_batch((x, {} if y is None else y, *([] if sample_weight is None else [sample_weight])))
        weight = next(array for array in self.manifest.batch_columns if array.name == "batch/sample_weight")
        if sample_weight is None and len(weight.shape) > 1:
            raw = raw._replace(sample_weight=np.ones((np.shape(raw.real)[0], *weight.sizes), np.float32))
        missing = max(0, self.manifest.batch_size - np.shape(raw.real)[0])
        filled = jax.tree.map(lambda leaf: np.pad(leaf, [(0, missing)] + [(0, 0)] * (np.ndim(leaf) - 1)), raw)
        return group_of("batch", self.manifest.batch_columns, list(named_leaves("batch", filled).values()))

    def train(self, batches: Iterable[Group], key: Key, *, message: Group | None = None, client_state: Group | None = None) -> Finished:
        """A client's round: begin, a step for each batch in every pass, finish.

        Args:
            batches: From `batch`, at most once through for each pass.
            key: Of this client in this round; steps have keys of their own, as in a process.
            message: From the server; None takes that of the export.
            client_state: What the client kept from its last round; None begins anew.

        Raises:
            ValueError: A pass sees other batches than all of them, which only a process knows to choose.
        """
        passes = self.manifest.passes
        if chosen := [one.batches for one in passes if one.batches != "every"]:
            raise ValueError(
                f"Passes of {self.manifest.algorithm} see batches chosen by {', '.join(chosen)}, which did not leave Python: call "
                "`programs` yourself, each on its batches."
            )
        batches = list(batches) if len(passes) > 1 else batches
        message = self.message() if message is None else message
        if client_state is None:
            begins_anew = self.programs.get("init_client")
            client_state = begins_anew(self.weights())[0] if begins_anew else {}
        local, k = self.programs["begin"](message, client_state, key), 0
        for one in passes:
            for batch in batches:
                local = self.programs[one.program](message, local, batch, step_key(key, k))
                k += 1
        value, weight, metrics, kept = self.programs["finish"](message, local)
        return Finished(value, weight, metrics, kept, local)


def load(directory: str | Path) -> PortableClient:
    """An export, checked: its version, the hash of every file, and the weights against the manifest, before anything is run.

    Programs run as they would in the process that was exported, to the bit on the same machine: see docs/export.md.

    Args:
        directory: From `client_work`.

    Raises:
        FileNotFoundError: There is no export, or one of its files is missing.
        ValueError: It is of another version, is damaged, or its weights do not fit.
    """
    directory = Path(directory)
    manifest, files = read_folder(directory, Manifest)
    _check_complete(directory, manifest)
    return PortableClient(manifest, files, _tensors(directory / WEIGHTS, files[WEIGHTS], manifest))


def _check_complete(directory: Path, manifest: Manifest) -> None:
    """Raises ValueError if the manifest speaks of what it does not list."""
    programs = {"begin", "finish", "evaluate", *(one.program for one in (*manifest.passes, *manifest.prelude_passes))}
    groups = {"weights", "message", "aggregator_state", "carry", "state"}
    lacking = {WEIGHTS} - manifest.files.keys() | programs - manifest.programs.keys() | groups - manifest.start.keys()
    raise_if_lacking(directory, lacking)


def _tensors(path: Path, content: bytes, manifest: Manifest) -> dict[str, np.ndarray]:
    try:
        tensors = safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}. Export anew.") from error
    for array in (one for group in manifest.start.values() for one in group):
        tensor = tensors.get(array.tensor)
        found = "nothing" if tensor is None else f"{tensor.dtype.name}{list(tensor.shape)}"
        if found != (expected := f"{array.dtype}{list(array.shape)}"):
            raise ValueError(f"{path} does not fit the manifest: {array.tensor} must be {expected}, got {found}. Export anew.")
    return tensors
