"""A kernel's rows shared out to the threads that PyTorch's own operations use.

PyTorch multiplies matrices on the OpenMP threads of the process, which keep spinning for a while when they are done. A
second pool, Numba's for one, would find the cores taken; so kernels ask the same pool, through entry points that
GNU's and LLVM's OpenMP libraries have in common, and start within a microsecond. Where PyTorch brings none of them
(other operating systems), one thread does everything.

What every thread runs is a task, a C function of one pointer to a block of integers: which threads there are, the
kernel, and addresses and sizes of arrays, written by ``put`` and read by ``vector`` and ``matrix``. It runs the machine
code of the kernel that one thread alone would run (``call``): code of its own, with the kernel made part of it, may add
in another order, and what a sum is rounded to would depend on the number of threads and on what was compiled before.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

TASK = types.void(types.CPointer(types.int64))
HEAD, ARRAY = 3, 3  # words of a block: two entry points and the kernel; address, rows and columns of an array
WORDS = HEAD + 7 * ARRAY + 2  # seven arrays and two numbers, at its end
ENOUGH = 10_000  # entries that pay for a second thread

_WORD, _INT = ir.IntType(64), ir.IntType(32)


@cache
def entry_points() -> np.ndarray:
    """Addresses of GOMP_parallel, omp_get_thread_num and omp_get_num_threads that PyTorch uses; empty without them."""
    if hasattr(os, "RTLD_NOLOAD"):
        for path in sorted((Path(torch.__file__).parent / "lib").glob("lib*omp*.so*")):
            try:
                library = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD)  # only what is loaded already
                found = library.GOMP_parallel, library.omp_get_thread_num, library.omp_get_num_threads
            except (OSError, AttributeError):
                continue
            return np.array([ctypes.cast(function, ctypes.c_void_p).value for function in found], np.int64)
    return np.empty(0, np.int64)


def n_threads(size: int) -> int:
    """How many threads to share work on ``size`` entries among: 1, or as many as PyTorch is set to use."""
    n = torch.get_num_threads() if size >= ENOUGH else 1
    return n if n > 1 and len(entry_points()) else 1


@intrinsic
def _run(context: Any, run: Any, task: Any, data: Any, n: Any) -> Any:
    """GOMP_parallel(task, data, n, 0)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(ir.VoidType(), [_WORD, _WORD, _INT, _INT]).as_pointer()
        numbers = builder.trunc(arguments[3], _INT), ir.Constant(_INT, 0)
        builder.call(builder.inttoptr(arguments[0], function), [arguments[1], arguments[2], *numbers])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def _ask(context: Any, function: Any) -> Any:
    """The result of an ``int function(void)`` at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.FunctionType(_INT, []).as_pointer())
        return builder.sext(builder.call(pointer, []), _WORD)

    return types.int64(types.int64), generate


@intrinsic
def pointer(context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.int64), generate


_points: dict[tuple[Any, ...], np.ndarray] = {}


def points_for(kernel: Any, *arguments: Any) -> np.ndarray:
    """Entry points of the threads and the address of the kernel's machine code for arguments like these.

    Arrays are contiguous, as tasks take them to be, so that their data types are all that differs from call to call.
    """
    key = kernel, *(argument.dtype for argument in arguments if isinstance(argument, np.ndarray))
    if key not in _points:  # asking Numba for types takes longer than a small kernel
        argument_types = tuple(nb.typeof(argument) for argument in arguments)
        kernel.compile(argument_types)
        compiled = kernel.overloads[argument_types]
        address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
        _points[key] = np.append(entry_points(), np.int64(address))
    return _points[key]


@intrinsic
def call(typing_context: Any, kernel: Any, block: Any, arguments: Any) -> Any:
    """kernel(*arguments) at the address in the block; the kernel itself only says of which types they are."""
    of_kernel = kernel.get_call_type(typing_context, tuple(arguments), {})

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kind = context.call_conv.get_function_type(of_kernel.return_type, of_kernel.args)
        words = context.make_array(signature.args[1])(context, builder, given[1]).data
        address = builder.load(builder.gep(words, [ir.Constant(_WORD, 2)]))
        values = cgutils.unpack_tuple(builder, given[2])
        pointer = builder.inttoptr(address, kind.as_pointer())
        context.call_conv.call_function(builder, pointer, of_kernel.return_type, of_kernel.args, values)
        return context.get_dummy_value()

    return types.void(kernel, block, arguments), generate


@nb.njit(nogil=True, cache=True)
def share_out(points: np.ndarray, task: int, block: np.ndarray, n: int) -> None:
    """Run the task at this address on n threads with this block, and wait for all of them; points of ``points_for``."""
    block[0], block[1], block[2] = points[1], points[2], points[3]
    _run(points[0], task, block.ctypes.data, n)


@nb.njit(inline="always")
def new_block():
    return np.empty(WORDS, np.int64)


@nb.njit(inline="always")
def block_at(data):
    """The block that a task was given."""
    return nb.carray(data, WORDS)


@nb.njit(inline="always")
def own_part(block, n):
    """This thread's part of n rows: (number of the thread, first row, row behind the last one)."""
    thread, threads = _ask(block[0]), _ask(block[1])
    return thread, n * thread // threads, n * (thread + 1) // threads


@nb.njit(inline="always")
def put(block, index, array):
    """Write where a matrix, or a vector as one row, lies; index counts arrays."""
    word = HEAD + ARRAY * index
    block[word] = array.ctypes.data
    block[word + 1] = array.size // max(1, array.shape[-1])
    block[word + 2] = array.shape[-1]


@nb.njit(inline="always")
def matrix(block, index, dtype):
    """The array put there, as a matrix."""
    word = HEAD + ARRAY * index
    return nb.carray(pointer(block[word]), (block[word + 1], block[word + 2]), dtype)


@nb.njit(inline="always")
def vector(block, index, dtype):
    """The array put there, as a vector."""
    word = HEAD + ARRAY * index
    return nb.carray(pointer(block[word]), (block[word + 1] * block[word + 2],), dtype)
