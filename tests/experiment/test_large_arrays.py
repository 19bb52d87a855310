"""What the allocator of the C library does with large arrays, asked of itself in fresh processes."""

import json
import os
import platform
import subprocess
import sys

import pytest

# glibc's rule: freeing 24 MiB that had pages of their own makes it put the next 16 MiB into the heap.
CODE = """
import ctypes, json
from fedloom.experiment._large_arrays import give_back_large_arrays
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
library = ctypes.CDLL(None)
library.mallinfo2.restype = Info
library.malloc.restype, library.malloc.argtypes, library.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
done = CALL and give_back_large_arrays()
library.free(library.malloc(24 * 2**20))
before = library.mallinfo2().hblkhd
library.malloc(16 * 2**20)
print(json.dumps([done, library.mallinfo2().hblkhd - before >= 16 * 2**20]))
"""


pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="rules of glibc")


def after(call, **chosen):
    """Whether it was set, and whether the next large array has pages of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    code = CODE.replace("CALL", str(call))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**environment, **chosen})
    return json.loads(done.stdout)


def test_large_arrays_have_pages_of_their_own():
    assert after(False) == [False, False]
    assert after(True) == [True, True]


@pytest.mark.parametrize("chosen", [{"MALLOC_MMAP_THRESHOLD_": "33554432"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=33554432"}])
def test_what_the_user_has_chosen_stays(chosen):
    assert after(True, **chosen) == [False, False]
