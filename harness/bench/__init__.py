"""Speed: how long updates and evaluations take here, beside other ways of writing them, and how far there is to go.

``harness bench`` lets contenders do the same job in turns in one process, compares the medians, replays the matrix
products of our update alone as a floor, and measures peak memory in a process of its own for each contender.
"""
