"""The figures of the thesis, each one module of this package, found by its file.

``figure_3_3.py`` and its like have ``ANALYSES`` (the names of those they are drawn from, plain words), ``CAPTION``,
``data(tables)`` (from the tables of all runs to the rows of ``figure_3_3.csv``) and ``draw(data)`` (from that csv, as
read back, to a matplotlib figure). Where data may call for a warning, ``remarks(data)`` gives sentences that end the
caption. A figure of certain data sets names them in ``DATASETS`` (plain words). Which methods appear follows from the
tables; their names, colours and marks come from ``style``, so a new method appears without a change here.
"""
