"""The settings of runs that need no Python: frozen dataclasses, which are the fields of a TOML file and the flags of the command line.

With care: names and defaults; files that people keep depend on them.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from .._files import write_text
from ._checkpoint import Checkpoints
from ._failures import Failures
from ._guard import Guard

Optimizer = Literal["sgd", "momentum", "adagrad", "adam", "yogi"]


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """Differential privacy for clients: each update is clipped, and noise is added to their sum.

    Args:
        noise_multiplier: Standard deviation of the noise over the clip, >= 0; 0 is no privacy.
        clip: The largest L2 norm of an update, above 0.
        delta: In (0, 1 / number of clients); None takes a tenth of that bound.
        epsilon: The most that the run may spend; None is what all its rounds spend together.

    Raises:
        ValueError: A number is out of range.
    """

    noise_multiplier: float = 0.0
    clip: float = 1.0
    delta: float | None = None
    epsilon: float | None = None

    def __post_init__(self):
        for name, holds, expected in (
            ("noise_multiplier", 0 <= self.noise_multiplier < math.inf, "a number >= 0"),
            ("clip", 0 < self.clip < math.inf, "a number above 0"),
            ("delta", self.delta is None or 0 < self.delta < 1, "in (0, 1)"),
            ("epsilon", self.epsilon is None or 0 < self.epsilon < math.inf, "a number above 0"),
        ):
            if not holds:
                raise ValueError(f"privacy.{name} must be {expected}, got {getattr(self, name)}.")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every task has; the tasks add what to train, and on what."""

    task: ClassVar[str]

    rounds: int = 40
    cohort_size: int = 10  # clients per round
    clients: tuple[str, ...] = ()  # the same clients every round, instead of a fresh cohort
    sampling: Literal["uniform", "poisson", "weighted", "cyclic", "tff"] = "uniform"
    min_examples: int = 1  # draw only from clients with at least so many examples
    batch_size: int = 8
    epochs: int = 1  # passes over a client's data per round
    max_batches: int = 0  # per client and round; 0 for all
    remainder: Literal["pad", "drop"] = "pad"  # pad and mask the last batch, or drop it as TFF's tutorial does
    shuffle: bool = True
    compute: Literal["float32", "bfloat16"] = "float32"  # what products multiply; bfloat16 is faster, and less exact
    algorithm: Literal["fedavg", "fedprox", "fedsgd", "mimelite"] = "fedavg"
    proximal_strength: float = 0.01  # of fedprox
    client_optimizer: Optimizer = "sgd"
    client_learning_rate: float = 0.1
    server_optimizer: Optimizer = "sgd"
    server_learning_rate: float = 1.0
    client_weight: Literal["num_examples", "uniform", "tokens"] = "num_examples"
    evaluate_every: int = 5  # rounds
    evaluate_clients: int = 60  # held-out data of so many clients, the same ones throughout; 0 takes all
    best_by: str | None = None  # the held-out metric by which models are compared; by default the accuracy, or else the loss
    client_metrics: bool = False  # keep a table of every client's training
    seed: int = 0
    executor: Literal["local", "debug"] = "local"
    guard: Guard = field(default_factory=Guard)
    failures: Failures = field(default_factory=Failures)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    privacy: Privacy = field(default_factory=Privacy)

    def __post_init__(self):
        for name in ("rounds", "cohort_size", "batch_size", "epochs", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("client_learning_rate", "server_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}.")
        for name in ("evaluate_clients", "min_examples", "max_batches"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}.")
        if self.clients and self.sampling != "uniform":
            raise ValueError(f'sampling must be left at "uniform" where the clients are named, got {self.sampling!r}: no cohort is drawn.')


Config = TypeVar("Config", bound=RunConfig)


def read_config(path: Path, tasks: Mapping[str, type[RunConfig]]) -> RunConfig:
    """The settings in a TOML file: a table like `--help`'s list of flags, `task` first, tables [guard], [failures] and so on.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not TOML, or a setting is unknown, of the wrong type or out of range.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no config file {str(path)!r}. Name a .toml file, or one of the tasks {', '.join(tasks)}.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}.") from error
    task = values.pop("task", next(iter(tasks)))
    if task not in tasks:
        raise ValueError(f"{path}: task must be one of {', '.join(map(repr, tasks))}, got {task!r}.")
    return config_from(tasks[task], values, str(path))


def config_from(kind: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """Settings from nested plain values.

    Args:
        kind: The class of the settings.
        values: By name; what is missing keeps its default.
        where: What error messages call the source.

    Raises:
        ValueError: A setting is unknown, of the wrong type or out of range.
    """
    import pydantic

    _check_names(kind, values, where, "")
    try:
        return pydantic.TypeAdapter(kind).validate_python(dict(values))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        own = first["type"] == "value_error"  # from `__post_init__`, which names the setting itself
        raise ValueError(f"{where}: {message}" if own else f"{where}: {name}: {message}, got {first['input']!r}.") from error


def _check_names(kind: type, values: Mapping[str, Any], where: str, prefix: str) -> None:
    known = {one.name: one for one in dataclasses.fields(kind)}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ValueError(
                f"{where}: there is no setting {prefix + name!r}{f', perhaps {near[0]!r} is meant' if near else ''}. "
                f"There are: {', '.join(sorted(known))}."
            )
        default = known[name].default_factory
        if isinstance(default, type) and dataclasses.is_dataclass(default):
            if not isinstance(value, Mapping):
                raise ValueError(f"{where}: {prefix + name} must be a table, [{prefix + name}], got {value!r}.")
            _check_names(default, value, where, f"{prefix}{name}.")


def write_config(config: RunConfig, path: Path) -> None:
    """Writes the settings as a TOML file that `read_config` reads to equal ones."""
    import tomli_w

    write_text(path, tomli_w.dumps({"task": config.task, **_without_none(dataclasses.asdict(config))}))


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null; a setting that is None by default is left out."""
    return {
        name: _without_none(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None
    }
