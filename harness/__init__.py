"""Reference benchmark and evaluation harness for bidirectional Helmholtz machines.

Data flows one way: ``harness.data`` reads verified data sets, ``harness.training`` fits a method of ``methods/`` to
one, ``harness.evaluation`` measures it, ``harness.tables`` renders the measurements beside the thesis' numbers.
"""

__version__ = "0.1.0"
