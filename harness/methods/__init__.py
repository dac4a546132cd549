"""The built-in methods, one module each, whose files lie in the folder ``methods/`` of the repository.

A file ``NAME.py`` holds one subclass of ``harness.method.Method`` with ``name = "NAME"``.
"""

from harness.compute.places import METHODS

__path__ = [str(METHODS)]
