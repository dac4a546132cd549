"""Analyses of trained models beyond the numbers of the tables: sweeps, diagnostics, samples.

An analysis is one module of this package, found by its file. ``NEEDS`` names the capabilities of ``harness.method``
that it is made from, a tuple of plain words; ``analyse(subject, ...)`` returns the tidy table that becomes
``runs/.../analyses/NAME.csv``, and its further arguments are the settings that the configuration's ``analyses`` section
gives it, data set by data set. Every method of the grid that has what an analysis needs takes part in it, and one that
lacks something is left out with that reason. An analysis with ``ABLATIONS = True`` looks at the configuration's
ablations instead, which no other one does. Figures are drawn from these tables alone.
"""
