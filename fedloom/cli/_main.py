"""The command line: parse, call, print. Exit code 0, 1 for a run that failed or was stopped, 2 for bad input."""

from __future__ import annotations

import dataclasses
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Literal

import tyro

from fedloom.core import CheckpointMismatch, ClientFailure, RunInterrupted

from ._data import Data
from ._doctor import Doctor
from ._evaluate import Evaluate
from ._export import Export
from ._output import Failed
from ._report import Report
from ._text import Generate, Pretrain
from ._train import Resume, train_command

_BAD_INPUT = (ValueError, TypeError, KeyError, FileNotFoundError, ConnectionError, ImportError, ClientFailure, CheckpointMismatch)
_DESCRIPTION = "Federated learning on Keras 3 and JAX."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion:
    """Print a script that completes fedloom's commands and flags in your shell.

    Example: fedloom completion bash > ~/.local/share/bash-completion/completions/fedloom
    """

    shell: tyro.conf.Positional[Literal["bash", "zsh", "tcsh"]]  # which shell it is for
    traceback: bool = False  # show where an error came from

    def run(self) -> None:
        """Prints it."""
        _parse(["--tyro-print-completion", self.shell])


def _commands(args: Sequence[str]) -> dict[str, Any]:
    """By name; which settings `train` has depends on its first argument."""
    return {
        "train": train_command(args[1:] if args[:1] == ["train"] else []),
        "resume": Resume,
        "evaluate": Evaluate,
        "generate": Generate,
        "pretrain": Pretrain,
        "data": Data,
        "report": Report,
        "export": Export,
        "doctor": Doctor,
        "completion": Completion,
    }


def _parse(args: Sequence[str]) -> Any:
    return tyro.extras.subcommand_cli_from_dict(_commands(args), prog="fedloom", description=_DESCRIPTION, args=args)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line with these arguments, by default the process' own, and returns the exit code. Errors are one paragraph."""
    args = list(sys.argv[1:] if args is None else args)
    try:
        _parse(args).run()
        return 0
    except KeyboardInterrupt as error:
        print(f"fedloom: {error if isinstance(error, RunInterrupted) else 'interrupted'}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # of `fedloom ... | head`: nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Failed as outcome:
        print(f"fedloom: {outcome}", file=sys.stderr)
        return 1
    except Exception as error:
        if "--traceback" in args:
            traceback.print_exc()
        message = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
        print(f"fedloom: {message or type(error).__name__}", file=sys.stderr)
        if "--traceback" not in args:
            print("(--traceback shows where this came from)", file=sys.stderr)
        return 2 if isinstance(error, _BAD_INPUT) else 1
