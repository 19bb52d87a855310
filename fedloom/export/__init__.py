"""Computations that leave Python: as StableHLO with a manifest, loaded again without the code, or compiled by IREE.

`_client_work.py` exports a process, `_function.py` a federated function; `_trace.py` turns a program into its files, `_folder.py` and
`_manifest.py` say what lies where, `_load.py` and `_portable.py` make functions of them again, `_native.py` hands them to IREE.
"""

from ._client_work import client_work as client_work
from ._function import PortableFunction as PortableFunction
from ._function import federated_function as federated_function
from ._function import load_function as load_function
from ._load import Finished as Finished
from ._load import PortableClient as PortableClient
from ._load import load as load
from ._manifest import FunctionManifest as FunctionManifest
from ._manifest import Manifest as Manifest
from ._native import compile_native as compile_native
from ._native import run_module as run_module
from ._portable import PortableProgram as PortableProgram

__all__ = [
    "Finished",
    "FunctionManifest",
    "Manifest",
    "PortableClient",
    "PortableFunction",
    "PortableProgram",
    "client_work",
    "compile_native",
    "federated_function",
    "load",
    "load_function",
    "run_module",
]
