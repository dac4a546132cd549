"""Imports of large libraries: nothing is searched for garbage meanwhile, and nothing of it stays."""

import gc
import subprocess
import sys

import pytest

from harness.compute.imports import without_looks_for_garbage

COUNT = """
import gc, sys
looks = []
gc.callbacks.append(lambda phase, info: looks.append(info["generation"]))
import harness
harness.run
import harness.kernels
assert "torch" in sys.modules and "numba" in sys.modules and gc.isenabled()
print(looks.count(2))  # through all that there is
"""


def test_what_users_import_is_not_searched_for_garbage():
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 0


@pytest.mark.parametrize("on", [True, False])
def test_garbage_collection_is_as_it_was(on):
    (gc.enable if on else gc.disable)()

    def importing():
        with without_looks_for_garbage():
            assert not gc.isenabled()
            raise KeyError

    try:
        with pytest.raises(KeyError):
            importing()
        assert gc.isenabled() == on
    finally:
        gc.enable()
