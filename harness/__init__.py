"""Reference benchmark and evaluation harness for bidirectional Helmholtz machines.

Data flows one way: ``harness.data`` reads verified data sets, ``harness.training.train`` fits a method of ``methods/``
to one, ``harness.evaluation.measure`` measures it, ``harness.reporting.tables`` renders the measurements beside the
thesis' numbers.
"""

__version__ = "0.1.0"
