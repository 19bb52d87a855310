"""A federated program on an executor: the server computes, the clients go through a pass, the server goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from fedloom.core import (
    Aggregator,
    Algorithm,
    ClientFailure,
    ClientOutput,
    ClientReport,
    ClientWork,
    Contribution,
    PyTree,
    RoundSums,
    places_of,
    root_key,
)
from fedloom.core.language import Node, Pass, Program, Values, compute, shapes_in_words

from .._debug import DebugExecutor
from .._executor import MakeExecutor
from ._inputs import ClientValues


class Runner:
    """A program, and what is compiled for it.

    Args:
        program: Traced for arguments of some shapes.
        make_executor: Makes what takes clients through a pass.
    """

    def __init__(self, program: Program, make_executor: MakeExecutor):
        self._program = program
        compiled = (lambda function: function) if make_executor is DebugExecutor else jax.jit
        self._passes = [_PassRunner(program, one, make_executor) for one in program.passes]
        self._results = [compiled(one.results) for one in program.passes]
        self._stages = [_ServerStage(program.at_server(done), compiled) for done in range(len(program.passes) + 1)]
        own = [node for node in program.outputs if node.place == "clients"]
        self._own = _PassRunner(program, Pass.over(own), make_executor, reports=True) if own else None

    def run(self, server: Mapping[str, Any], clients: ClientValues | None) -> Any:
        """The result for arguments at the server, by name, and at the clients."""
        program = self._program
        values: Values = {node: server[name] for name, node in program.arguments.items() if node.place == "server"} | program.constants
        values |= self._stages[0].run(values)
        for one, results, stage in zip(self._passes, self._results, self._stages[1:], strict=True):
            assert clients is not None  # tracing saw to it: what is aggregated is at the clients
            sums, _ = one.run(values, clients)
            values |= dict(zip(one.nodes, results(sums.contribution.value), strict=True))
            values |= stage.run(values)
        found = {node: _on_host(values[node]) for node in program.outputs if node.place == "server"}
        if self._own is not None and clients is not None:
            _, reports = self._own.run(values, clients)
            told = [_on_host(report.contribution.value) for report in reports]
            for i, node in enumerate(self._own.nodes):
                of_each = [one[i] for one in told]
                found[node] = dict(zip(clients.ids, of_each, strict=True)) if clients.has_ids else of_each
        return program.with_outputs(found)


class _ServerStage:
    """What the server computes between two passes."""

    def __init__(self, nodes: tuple[Node, ...], compiled: Any):
        self._nodes = nodes
        self._inputs = tuple(dict.fromkeys(one for node in nodes for one in node.inputs if one not in nodes))
        self._run = compiled(self._compute)

    def run(self, known: Values) -> Values:
        return dict(zip(self._nodes, self._run(*(known[node] for node in self._inputs)), strict=True)) if self._nodes else {}

    def _compute(self, *inputs: Any) -> tuple:
        values = dict(zip(self._inputs, inputs, strict=True))
        for node in self._nodes:
            values[node] = compute(node, [values[one] for one in node.inputs])
        return tuple(values[node] for node in self._nodes)


class _PassRunner:
    """A pass as client work: a client has one batch, which holds its arguments, and contributes what it finds."""

    def __init__(self, program: Program, one: Pass, make_executor: MakeExecutor, *, reports: bool = False):
        self.nodes, self._message, self._name = one.nodes, one.message, program.name
        arguments = {name: node for name, node in program.arguments.items() if node.place == "clients"}

        def of_client(message: tuple, own: Mapping[str, PyTree], place: Any) -> tuple:
            found = one.of_client(message, {node: own[name] for name, node in arguments.items()}, place)
            return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), found)  # no weak types: sums have none

        messages = tuple(node.like for node in one.message)
        likes = jax.eval_shape(of_client, messages, {name: node.like for name, node in arguments.items()}, jnp.int32(0))

        def begin(message, state, key):
            return jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), likes)

        def step(message, local, batch, key):
            place, own = batch
            found = of_client(message, own, place)
            for node, got, expected in zip(one.nodes, found, likes, strict=True):
                if (ours := shapes_in_words(got)) != (theirs := shapes_in_words(expected)):
                    raise ValueError(
                        f"what it gives to fl.core.{node.verb} has the shapes {ours}, where the first client gives {theirs}. "
                        "All clients must contribute the same shapes."
                    )
            return found

        def finish(message, local):
            return ClientOutput(Contribution(local, jnp.float32(1)), {})

        work = Algorithm(
            cast(Any, None),  # there is no model
            init=lambda weights: (),
            client=ClientWork(begin, step, finish),
            server_update=lambda state, message, aggregate: (state, {}),
            name=program.name,
        )
        plain = Aggregator(
            init=lambda value: (),
            encode=lambda state, own, key: own,
            decode=lambda state, total, key: (total, state, {}),
            reduce="stack" if reports else "sum",
        )
        self._executor = make_executor(work, plain, reports=reports)

    def run(self, values: Values, clients: ClientValues) -> tuple[RoundSums, list[ClientReport]]:
        """What the clients contribute, summed, or each by itself."""
        message = tuple(values[node] for node in self._message)
        try:
            sums, reports = self._executor.run(message, (), clients.cohort(), root_key(0), 0)
        except ClientFailure as error:
            if error.stage == "data":
                raise
            raise clients.failure(error.client, "work", error.__cause__ or error) from error
        if int(sums.num_nonfinite_clients):
            places = places_of(np.asarray(sums.nonfinite_places))
            names = [str(clients.ids[place]) for place in places] or ["(any)"]
            verbs = ", ".join(dict.fromkeys(f"fl.core.{node.verb}" for node in self.nodes))
            raise clients.failure(
                names[0],
                "work",
                ValueError(
                    f"it gives NaN or infinity to {verbs}, as {int(sums.num_nonfinite_clients)} of {len(clients)} clients do "
                    f"({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}). Look at its data, or replace such values in fl.core.map."
                ),
            )
        return sums, reports


def _on_host(tree: PyTree) -> PyTree:
    """NumPy's arrays, and its numbers for shape ()."""
    keys = jax.tree.map(lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key), tree)
    return jax.tree.map(lambda x, is_key: x if is_key else np.asarray(x)[()], tree, keys)
