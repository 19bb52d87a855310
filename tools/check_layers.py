"""Checks who imports whom in fedloom: `python tools/check_layers.py [FOLDER]`, 0 if all is well, 1 with a line per wrong import.

    cli -> export -> experiment -> {analytics, report} -> engine -> {algorithms, aggregators, privacy, text}
        -> {models, optimizers, data} -> {core, kernels}

An arrow points at what may be imported; members of one brace never import each other.
An import counts wherever it stands, also in a function; for type checkers only, it counts between our own packages.
Free to change: the tables. With care: what counts as an import.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

PACKAGE = "fedloom"

_PARTS = {"models", "optimizers", "data", "core"}
_ALL = {"engine", "report", "algorithms", "aggregators", "privacy", "text"} | _PARTS
MAY_IMPORT: dict[str, set[str]] = {  # package: which others of ours it may import
    "core": set(),
    "kernels": set(),
    "data": {"core"},
    "models": {"core", "kernels"},
    "optimizers": {"core"},
    "algorithms": _PARTS,
    "aggregators": _PARTS,
    "privacy": _PARTS,
    "text": _PARTS,
    "engine": {"data", "core"},  # is handed an algorithm and does not know its name
    "report": set(),
    "analytics": _ALL - {"report"},
    "experiment": _ALL | {"kernels"},
    "export": _ALL | {"kernels", "experiment"},
    "cli": _ALL | {"kernels", "experiment", "export"},
}

ONLY_IN = {
    "keras": ("models", "text"),
    "matplotlib": ("report", "data.overview._plot"),
    "h5py": ("models", "data.sources"),
    "pyarrow": ("data",),
    "dp_accounting": ("privacy",),
    "jax_privacy": ("aggregators",),
    "safetensors": ("export",),
}
COMMON = {"_version", "_files", "_compilation_cache"}  # of the standard library only
JAX = {"jax", "jaxlib", "optax"}
WITHOUT_JAX = {"data", "report"}  # plain numpy; data sees jax through core's types at most
IN_FUNCTIONS_ONLY = {"dp_accounting", "jax_privacy", "matplotlib"}


class Import(NamedTuple):
    """One imported name."""

    line: int
    target: str  # fedloom.core.Batch
    when: Literal["load", "call", "types"]  # on loading the module, in a function, never (under `if TYPE_CHECKING`)


def violations(root: Path) -> list[str]:
    """What is wrong in the package folder `root`: "file:line: the rule in words", in the order of the files."""
    found = []
    for file in sorted(root.rglob("*.py")):
        module = [root.name, *file.relative_to(root).with_suffix("").parts]
        for item in _imports(ast.parse(file.read_text(encoding="utf-8"), str(file)), module, "load"):
            if rule := _broken_rule(module, item, root):
                found.append(f"{file}:{item.line}: {rule}")
    return list(dict.fromkeys(found))


def _imports(tree: ast.AST, module: list[str], when: Literal["load", "call", "types"]) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name, when) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = [*(module[: -node.level] if node.level else ()), *filter(None, [node.module])]
            yield from (Import(node.lineno, ".".join([*source, alias.name]), when) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            yield from _imports(ast.Module(node.body, []), module, "types")
            yield from _imports(ast.Module(node.orelse, []), module, when)
        else:
            in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports(node, module, "call" if in_function and when == "load" else when)


def _broken_rule(module: list[str], item: Import, root: Path) -> str | None:
    layer = module[1] if len(module) > 2 else None  # None: a file next to the packages, such as fedloom/__init__.py
    top, *rest = item.target.split(".")
    if layer is not None and layer not in MAY_IMPORT:
        return f"the package {layer} has no place in the layers yet; give it one in {Path(__file__).name}"
    if top == root.name:
        return _broken_layer(layer, rest, root)
    if item.when == "types":
        return None
    homes = ONLY_IN.get(top)
    if homes and not any(f"{'.'.join(module[1:])}.".startswith(f"{home}.") for home in homes):
        return f"{top} may be imported in {' and '.join(homes)} only"
    if top in IN_FUNCTIONS_ONLY and item.when == "load":
        return f"{top} may be imported inside functions only: it is slow to load"
    if top in JAX and layer in WITHOUT_JAX:
        return f"{layer} must not import {top}: it does without JAX"
    return None


def _broken_layer(layer: str | None, target: list[str], root: Path) -> str | None:
    if target and target[0] in {*COMMON, layer}:
        return None
    if not target or not (root / target[0]).is_dir():
        return f"import from the package that owns the name, not from {root.name} itself"
    if layer is not None and target[0] not in MAY_IMPORT[layer]:
        return f"{layer} must not import {target[0]}; of ours it may import {', '.join(sorted(MAY_IMPORT[layer])) or 'nothing'}"
    if any(part.startswith("_") for part in target[1:]):
        return f"{'.'.join(target)} is private; import from the package {target[0]}"
    return None


def main() -> int:
    """Prints what is wrong in the folder named on the command line, by default this repository's package."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / PACKAGE
    found = violations(root)
    print("\n".join(found) if found else f"{root.name}: imports follow the layers")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
