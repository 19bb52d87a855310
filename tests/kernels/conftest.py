import pytest

from fedloom.kernels import _native, native, set_threads


@pytest.fixture
def settings_of_kernels():
    """Puts the number of threads and the instruction set back."""
    before = native()
    yield
    set_threads(before.threads)
    _native.use_instruction_set(before.instruction_set)
