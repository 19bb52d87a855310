"""What a run is to do, and the record of it by which a resumed run knows that it is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedloom.core import CheckpointMismatch
from fedloom.data import CohortSampler, FederatedDataset
from fedloom.report import plain

from ._checkpoint import Checkpoints
from ._cohorts import evenly_spaced, scheme
from ._failures import Failures
from ._guard import Guard
from ._process import LearningProcess, ProcessState

_LOOKED_AT = 3  # clients of which one must fit the model before a run begins
_MAY_CHANGE = {"rounds", "checkpoints", "guard"}  # settings that decide no bit of the rounds there are


@dataclass(frozen=True, kw_only=True)
class Job:
    """The arguments of `train`, checked."""

    process: LearningProcess
    dataset: FederatedDataset
    cohort_size: int
    rounds: int
    initial: Any
    sample: CohortSampler
    evaluate: Any
    also_evaluate: Mapping[str, Any]
    evaluate_every: int
    best_by: str | None
    guard: Guard
    failures: Failures
    checkpoints: Checkpoints
    settings: Mapping[str, Any]  # from `settings_of`

    def initialize(self) -> ProcessState:
        """The state before the first round.

        Raises:
            ValueError: The weights do not fit the model, or a round needs more memory than there is.
            ClientFailure: The data do not fit the model, as far as a few clients tell.
        """
        state = self.process.initialize(self.initial)
        self.process.check_cohort_size(state, self.cohort_size)
        some = [self.dataset.client_ids[i] for i in range(min(_LOOKED_AT, len(self.dataset)))]
        self.process.check_data(state, self.dataset.subset(some), timeout=self.failures.timeout)
        return state


def settings_of(
    process: LearningProcess, dataset: FederatedDataset, *, sampling: Any, config: Mapping[str, Any] | None, **own: Any
) -> dict[str, Any]:
    """What decides a run, as JSON: to be kept, and compared when the run is resumed.

    Args:
        process: Whose algorithm, aggregator, privacy, seed and batching are kept.
        dataset: Of which the number of clients and a digest of their ids and sizes are kept.
        sampling: As `train` has it.
        config: The user's further settings, which go before ours where they have the same name.
        own: Further arguments of `train`.
    """
    parts = {"algorithm": process.algorithm.name, "aggregator": process.aggregator.name, "privacy": process.privacy}
    data = {"num_clients": len(dataset), "clients_digest": _digest_of(dataset)}
    base = {**own, "sampling": scheme(sampling), "seed": process.seed, "batching": process.batching}
    return plain({**base, **parts, **data, **(config or {})})


def _digest_of(dataset: FederatedDataset) -> str:
    """Of ids and sizes of up to 1,000 clients, evenly spaced: enough to tell most other data from the same."""
    ids, sizes = dataset.client_ids, dataset.size_array()
    text = "\n".join(f"{ids[place]} {sizes[place]}" for place in evenly_spaced(len(ids), 1000))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def check_settings(found: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raises CheckpointMismatch if a run was started with other settings than it is resumed with."""
    for name in [*here, *(name for name in found if name not in here)]:
        if name not in _MAY_CHANGE and _deciding(name, here.get(name)) != _deciding(name, found.get(name)):
            raise CheckpointMismatch(
                f"The run was started with other settings: {name} was {found.get(name)!r}, now it is {here.get(name)!r}. Resume it with "
                "the settings in its config.json, or start a new run; `rounds` may be more than before."
            )


def _deciding(name: str, value: Any) -> Any:
    """What of a setting decides the bits of the rounds there are."""
    if name == "failures" and isinstance(value, Mapping):
        return {part: value.get(part) for part in ("leave_out", "over_selection")}
    return value


def check_environment(found: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raises CheckpointMismatch if a run was started with other versions or hardware, on which its bits depend."""
    differing = [name for name in here if here[name] != found.get(name)]
    if not differing:
        return
    first, *others = differing
    further = f" (and {', '.join(others)})" if others else ""
    raise CheckpointMismatch(
        f"The run was started with other versions or hardware: {first} was {found.get(first)!r}, now it is {here[first]!r}{further}. "
        'It can go on, but not to the bits that it would have ended with: resume="anywhere", or `fedloom resume --anywhere`.'
    )
