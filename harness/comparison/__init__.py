"""Which of several methods is better: the statistics of ``harness compare`` and of the overview table.

``columns`` and ``rows`` read values per test row, ``statistics`` holds the tests, ``models`` gathers what a method has
on a data set, ``pairs`` tests two models on the rows that both have, ``ranks`` compares methods over several data sets,
and ``compare`` puts these together. Nothing here writes a file: ``harness.reporting`` renders it. ``harness.check``
uses the same tests for another question, whether the numbers of one run moved.
"""
