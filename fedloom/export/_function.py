"""A federated function as a folder of programs, and such a folder as a function again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedloom.engine import FederatedFunction
from fedloom.engine.programs import ClientValues, mapped

from ._folder import about, program_files, raise_if_lacking, read_folder, target_folder, write_folder
from ._manifest import FunctionManifest
from ._names import named_leaves
from ._portable import Group, portable_programs
from ._stages import federated_programs
from ._trace import trace


def federated_function(function: FederatedFunction, directory: str | Path, *args: Any, **kwargs: Any) -> FunctionManifest:
    """Writes a federated function as programs that run without Python and its code: one for each turn of the server and of a client.

    The server's turns are `server_0`, `server_1`, ..., between which every client takes `client_0`, ..., and their parts are added up by
    `add_0`, .... What the function closes over, such as arrays and models, is within the programs.

    Args:
        function: Made by `fl.federated`.
        directory: New, empty, or an export, which is replaced; whole or not at all.
        *args: As the function takes them; they lend their shapes, and nothing else. At the clients, the first client's.
        **kwargs: Likewise.

    Returns:
        The manifest that was written.

    Raises:
        TypeError: `function` is another kind of function.
        ValueError: `directory` holds something else, the function returns what is no array, or a program cannot be exported.

    Example:
        >>> import tempfile, fedloom as fl
        >>> spread = fl.federated(lambda x, centre: fl.core.mean((x - fl.core.broadcast(centre)) ** 2), clients="x")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     manifest = federated_function(spread, folder, [1.0, 2.0], 3.0)
        ...     print(list(manifest.programs), load_function(folder)(x=[1.0, 2.0, 7.0], centre=3.0))
        ['server_0', 'client_0', 'add_0', 'server_1'] 7.0
    """
    if not isinstance(function, FederatedFunction):
        raise TypeError(f"function must be made by fl.federated, got {type(function).__name__}.")
    directory = target_folder(directory)
    traced = function.traced(*function.likes(*args, **kwargs))
    programs = [trace(program) for program in federated_programs(traced)]
    files = program_files(programs)
    manifest = FunctionManifest(**about(programs, files), name=function.name, places=function.places, passes=len(traced.passes))
    write_folder(directory, files, manifest)
    return manifest


class PortableFunction:
    """A federated function that was exported; called with its arguments by name.

    Attributes:
        manifest: What there is.
        programs: By name.
    """

    def __init__(self, manifest: FunctionManifest, files: Mapping[str, bytes]):
        self.manifest, self.programs = manifest, portable_programs(manifest, files)

    def __call__(self, **arguments: Any) -> Any:
        """Runs it, one client after the other.

        Args:
            **arguments: All of them, in the shapes of the export; those at the clients as mappings from client id, or lists.

        Returns:
            What the function returned at the server: an array, or a `Group`, arrays by their path in it. If it returned values at the
            clients too, a tuple of this and of what each client has, as a mapping or list.

        Raises:
            TypeError: An argument is missing, or unknown.
            ValueError: One has another shape or type.
            ClientFailure: A client's has.
        """
        places = self.manifest.places
        if arguments.keys() != places.keys():
            raise TypeError(f"{self.manifest.name} takes {_listed(places)} by name, got {_listed(arguments)}.")
        own = {name: value for name, value in arguments.items() if places[name] == "clients"}
        clients = ClientValues(own, self.manifest.name) if own else None
        given: dict[str, Any] = {
            "arguments": _flat({name: mapped(jnp.asarray, value) for name, value in arguments.items() if name not in own})
        }
        for number in range(self.manifest.passes):
            given |= self._run(f"server_{number}", given)
            add, part = self.programs[f"add_{number}"], None
            for found in self._on_clients(f"client_{number}", given, clients):
                part = found["part"] if part is None else add(part, found["part"])
            given["part"] = part
        given |= self._run(f"server_{self.manifest.passes}", given)
        last = f"client_{self.manifest.passes}"
        if clients is None or last not in self.programs:
            return given["result"]
        kept = [found["own_result"] for found in self._on_clients(last, given, clients)]
        return given["result"], dict(zip(clients.ids, kept, strict=True)) if clients.has_ids else kept

    def _run(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        program = self.programs[name]
        found = program(*(given[group] for group in program.info.arguments))
        return dict(zip(program.info.results, found if len(program.info.results) > 1 else (found,), strict=True))

    def _on_clients(self, name: str, given: Mapping[str, Any], clients: ClientValues | None) -> Iterator[dict[str, Any]]:
        assert clients is not None  # a function without any has no pass over them
        for number in range(len(clients)):
            try:
                yield self._run(name, {**given, "own": _flat(clients.read(number)), "place": np.int32(number)})
            except ValueError as error:
                raise clients.failure(str(clients.ids[number]), "data", error) from error


def load_function(directory: str | Path) -> PortableFunction:
    """The export of a federated function, checked as `load` does.

    Raises:
        FileNotFoundError: There is no export, or one of its files is missing.
        ValueError: It is of another kind or version, or damaged.
    """
    directory = Path(directory)
    manifest, files = read_folder(directory, FunctionManifest)
    turns = [f"{who}_{number}" for who in ("server", "client", "add") for number in range(manifest.passes)]
    raise_if_lacking(directory, {*turns, f"server_{manifest.passes}"} - manifest.programs.keys())
    return PortableFunction(manifest, files)


def _flat(arguments: Mapping[str, Any]) -> Group:
    return named_leaves("", arguments)


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "nothing"
