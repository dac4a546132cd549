"""The Python face: what ``import harness`` offers. Workflow and command line call the same functions.

``experiment`` trains and measures one cell, ``run`` is a trained cell to look at, ``results`` a whole folder of them.
"""
