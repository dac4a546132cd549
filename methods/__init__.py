"""Methods, one file each: a file ``NAME.py`` holds one subclass of ``harness.method.Method`` with ``name = "NAME"``."""
