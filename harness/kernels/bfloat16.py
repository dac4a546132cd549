"""Arrays of float32 or bfloat16 in one kernel: how an element becomes a float32, and how it is written.

NumPy has no bfloat16, so kernels see such arrays as uint16, the upper half of a float32's bits. Numba compiles a kernel
once a data type; these functions are what differs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

ONE_BITS = np.uint16(0x3F80)


@intrinsic
def _bits_to_float(context: Any, bits: Any) -> Any:
    """The float32 whose upper half are the bits of a bfloat16 (uint16)."""

    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = builder.zext(arguments[0], ir.IntType(32))
        return builder.bitcast(builder.shl(wide, ir.Constant(ir.IntType(32), 16)), ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def _float_to_bits(context: Any, value: Any) -> Any:
    """Bits (uint16) of a float32 rounded to the nearest bfloat16, ties to even; value must be finite."""

    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        bits = builder.bitcast(arguments[0], word)
        odd = builder.and_(builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 1))
        rounded = builder.add(builder.add(bits, ir.Constant(word, 0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, ir.Constant(word, 16)), ir.IntType(16))

    return types.uint16(types.float32), generate


def load(value: Any) -> Any:
    """An array's element as float32."""


@overload(load, inline="always")
def _load(value):
    if value == types.uint16:
        return lambda value: _bits_to_float(value)  # noqa: PLW0108 -- an overload returns a Python function
    return lambda value: value


def round_like(array, value):
    """A float32 as an element of ``array``."""


@overload(round_like, inline="always")
def _round_like(array, value):
    if array.dtype == types.uint16:
        return lambda array, value: _float_to_bits(value)
    return lambda array, value: value


def bit_like(array, value):
    """0 or 1 as an element of ``array``."""


@overload(bit_like)
def _bit_like(array, value):
    if array.dtype == types.uint16:
        return lambda array, value: ONE_BITS if value else np.uint16(0)
    return lambda array, value: np.float32(1.0) if value else np.float32(0.0)
