"""Float32 functions that loops over arrays can be vectorised with.

Without Intel's short vector maths library, which Numba's wheels do not bring along, a call of ``math.exp`` keeps LLVM
from vectorising the loop around it. These few lines of arithmetic take its place. Infinities have their limits and NaN
remains NaN, so that a diverged model is seen; since the functions become part of the loop that calls them, that needs
``fastmath=FAST`` there as well.
"""

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

# What fastmath=True permits, but for the assumption that neither NaN nor infinities occur. It vectorises as well.
FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}

_MINUS_LOG2_E = np.float32(-1.4426950408889634)
_SMALLEST_EXPONENT, _LARGEST_EXPONENT = np.float32(-126.0), np.float32(126.0)
_LOG2_E = np.float32(1.4426950408889634)
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
# 2^f for f in [0, 1]: minimax, relative error 9.1e-8 before rounding, highest power first
_P5, _P4, _P3 = np.float32(1.8775767e-3), np.float32(8.9893397e-3), np.float32(5.5826318e-2)
_P2, _P1, _P0 = np.float32(2.4015361e-1), np.float32(6.9315308e-1), np.float32(9.9999994e-1)


@intrinsic
def pow2(typing_context, n):
    """2^n for a float32 that holds an integer from -126 to 127: exact, by writing the exponent's bits."""

    def generate(context, builder, signature, arguments):
        i32 = ir.IntType(32)
        exponent = builder.add(builder.fptosi(arguments[0], i32), ir.Constant(i32, 127))
        return builder.bitcast(builder.shl(exponent, ir.Constant(i32, 23)), ir.FloatType())

    return types.float32(types.float32), generate


@nb.njit(inline="always", fastmath=FAST, error_model="numpy")
def _exp2(t):
    """2^t for -126 <= t < 127: relative error below 3e-7, the polynomial's and the rounding of its last steps."""
    n = np.floor(t)
    f = t - n
    p = _P5 * f + _P4
    p = p * f + _P3
    p = p * f + _P2
    p = p * f + _P1
    p = p * f + _P0
    return pow2(n) * p


@nb.njit(inline="always", fastmath=FAST, error_model="numpy")
def exp_neg(a):
    """exp(-|a|): relative error below 3e-7 + 8e-8 |a|, and so below 3e-7 in absolute terms.

    It stays at 2^-126 where |a| > 87.3. The second term is the rounding of the exponent |a| log2(e), 2^-24 of it, and
    that of the constant.
    """
    t = _MINUS_LOG2_E * abs(a)
    t = _SMALLEST_EXPONENT if t < _SMALLEST_EXPONENT else t  # not max(), which may lose NaN
    return _exp2(t)


@nb.njit(inline="always", fastmath=FAST, error_model="numpy")
def sigmoid(a):
    """1 / (1 + exp(-a)): relative error below 6e-7 + 8e-8 |a| (where |a| < 87.3), absolute error below 4e-7.

    Beside that of the exponential, it has the rounding of a sum and a quotient; compilers may take a reciprocal
    estimate and one Newton step, 1.3e-7, for the latter.
    """
    t = _MINUS_LOG2_E * a
    t = _SMALLEST_EXPONENT if t < _SMALLEST_EXPONENT else t
    t = _LARGEST_EXPONENT if t > _LARGEST_EXPONENT else t
    return _ONE / (_ONE + _exp2(t))


@nb.njit(inline="always", fastmath=FAST, error_model="numpy")
def exp(a):
    """exp(a): relative error below 3e-7 + 8e-8 |a|; it stays at 2^-126 and 2^126, where |a| > 87.3."""
    t = _LOG2_E * a
    t = _SMALLEST_EXPONENT if t < _SMALLEST_EXPONENT else t
    t = _LARGEST_EXPONENT if t > _LARGEST_EXPONENT else t
    return _exp2(t)


@nb.njit(inline="always", fastmath=FAST, error_model="numpy")
def tanh(a):
    """tanh(a) = (1 - e) / (1 + e) with the sign of a, for e = exp(-2 |a|): absolute error below 5e-7.

    The error of e, 3e-7 + 1.6e-7 |a| of it, counts by a factor of 2 / (1 + e)^2, which leaves at most 2.1e-7; rounding
    of the sum, the difference and the quotient (see ``sigmoid``) add 2.5e-7.
    """
    e = exp_neg(a + a)
    size = (_ONE - e) / (_ONE + e)
    return -size if a < _ZERO else size
