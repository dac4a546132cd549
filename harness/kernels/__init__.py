"""Numba kernels for float32 on the CPU: what PyTorch needs several passes over memory for, they do in one.

Importing a kernel module imports Numba, which takes half a second: import them where a kernel is called.
"""
