"""Sixteen float32 at a time in a kernel: a Numba type with arithmetic, and the two products that belief layers need.

Loops that LLVM would have to vectorise itself depend on what it can prove about arrays, and short ones it leaves to
single instructions. Values of ``vector`` are vectors from the start, on whatever processor: one register with 512 bits,
several where registers are shorter. Memory is given by addresses, in bytes, as are strides; nothing is checked.

The result of every function is the same wherever arrays lie; sums of products are rounded once a term where the
processor multiplies and adds in one instruction.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 16
BYTES = 4 * LANES  # of a vector
_WIDE = binding.get_host_cpu_features().get("avx512f", False)
ROWS = 8 if _WIDE else 4  # of a matrix that ``multiply`` takes at once: as many sums as registers hold
SIDE = 4 if _WIDE else 2  # rows and columns of what ``outer`` computes at once

_FLOAT, _WORD, _INT = ir.FloatType(), ir.IntType(64), ir.IntType(32)
_FLOATS, _WORDS, _INTS = (ir.VectorType(element, LANES) for element in (_FLOAT, _WORD, _INT))
_CONTRACT = ("contract",)
# 2^f for f in [0, 1]: that of ``harness.kernels.fastmath``
_POWERS = (1.8775767e-3, 8.9893397e-3, 5.5826318e-2, 2.4015361e-1, 6.9315308e-1, 9.9999994e-1)
_LOG2_E = 1.4426950408889634


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__("float32 x 16")


vector = _Vector()


@register_model(_Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


def _arithmetic(function: Any, instruction: str) -> None:
    @infer_global(function)
    class _Typing(ConcreteTemplate):
        cases = [signature(vector, vector, vector)]

    @lower_builtin(function, vector, vector)
    def _lower(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments, flags=_CONTRACT)


for _function, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_function, _instruction)


def _pointer(builder: Any, address: Any, kind: Any, offset: Any = None) -> Any:
    where = address if offset is None else builder.add(address, offset)
    return builder.inttoptr(where, kind.as_pointer())


def _splat(builder: Any, value: Any, kind: Any = _FLOATS) -> Any:
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT, 0))
    mask = ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), mask)


def _constant(value: float) -> Any:
    return ir.Constant(_FLOATS, [ir.Constant(_FLOAT, value)] * LANES)


def _load(builder: Any, address: Any) -> Any:
    return builder.load(_pointer(builder, address, _FLOATS), align=4)


def _broadcast(builder: Any, address: Any) -> Any:
    return _splat(builder, builder.load(_pointer(builder, address, _FLOAT), align=4))


def _multiply_add(builder: Any, left: Any, right: Any, total: Any) -> Any:
    return builder.fadd(total, builder.fmul(left, right, flags=_CONTRACT), flags=_CONTRACT)


@intrinsic
def load(context: Any, address: Any) -> Any:
    """The vector at an address."""
    return vector(types.int64), lambda _, builder, __, given: _load(builder, given[0])


@intrinsic
def broadcast(context: Any, address: Any) -> Any:
    """The number at an address, in every lane."""
    return vector(types.int64), lambda _, builder, __, given: _broadcast(builder, given[0])


@intrinsic
def splat(context: Any, value: Any) -> Any:
    """A float32 in every lane."""
    return vector(types.float32), lambda _, builder, __, given: _splat(builder, given[0])


@intrinsic
def store(context: Any, address: Any, value: Any) -> Any:
    """Write a vector."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        builder.store(given[1], _pointer(builder, given[0], _FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, vector), generate


@intrinsic
def where_less(context: Any, a: Any, b: Any, then: Any, otherwise: Any) -> Any:
    """``then`` in the lanes where a < b, else ``otherwise``."""

    def generate(_: Any, builder: Any, __: Any, given: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", given[0], given[1]), given[2], given[3])

    return vector(vector, vector, vector, vector), generate


@intrinsic
def any_equal(context: Any, a: Any, b: Any) -> Any:
    """Whether a == b in some lane."""

    def generate(_: Any, builder: Any, __: Any, given: Any) -> Any:
        lanes = builder.bitcast(builder.fcmp_ordered("==", *given), ir.IntType(LANES))
        return builder.icmp_unsigned("!=", lanes, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(vector, vector), generate


@intrinsic
def floor(context: Any, a: Any) -> Any:
    """The whole numbers below."""
    return vector(vector), lambda _, builder, __, given: _floor(builder, given[0])


def _floor(builder: Any, value: Any) -> Any:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_FLOATS, [_FLOATS]), f"llvm.floor.v{LANES}f32"
    )
    return builder.call(function, [value])


@intrinsic
def sum_of(context: Any, a: Any) -> Any:
    """The sum over lanes."""
    return types.float32(vector), lambda _, builder, __, given: _sum(builder, given[0])


def _sum(builder: Any, value: Any) -> Any:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_FLOAT, [_FLOAT, _FLOATS]), f"llvm.vector.reduce.fadd.v{LANES}f32"
    )
    return builder.call(function, [ir.Constant(_FLOAT, -0.0), value], fastmath=("reassoc",))


@intrinsic
def exp_neg(context: Any, a: Any) -> Any:
    """exp(-|a|), as ``harness.kernels.fastmath.exp_neg`` has it."""

    def generate(_: Any, builder: Any, __: Any, given: Any) -> Any:
        bits = builder.bitcast(given[0], _INTS)
        negative = builder.or_(bits, ir.Constant(_INTS, [ir.Constant(_INT, -(2**31))] * LANES))
        t = builder.fmul(builder.bitcast(negative, _FLOATS), _constant(_LOG2_E))
        smallest = _constant(-126.0)
        t = builder.select(builder.fcmp_ordered("<", t, smallest), smallest, t)  # NaN stays
        whole = _floor(builder, t)
        part = builder.fsub(t, whole)
        total = _constant(_POWERS[0])
        for coefficient in _POWERS[1:]:
            total = _multiply_add(builder, total, part, _constant(coefficient))
        exponent = builder.add(builder.fptosi(whole, _INTS), ir.Constant(_INTS, [ir.Constant(_INT, 127)] * LANES))
        power = builder.shl(exponent, ir.Constant(_INTS, [ir.Constant(_INT, 23)] * LANES))
        return builder.fmul(builder.bitcast(power, _FLOATS), total)

    return vector(vector), generate


@intrinsic
def random_words(context: Any, address: Any, seed: Any, first: Any, step: Any) -> Any:
    """Write 16 words of SplitMix64 at a seed: those with the indices first, first + step, ... (all uint64)."""

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        address, seed, first, step = given

        def constant(value: int) -> Any:
            return ir.Constant(_WORDS, [ir.Constant(_WORD, value)] * LANES)

        lanes = ir.Constant(_WORDS, [ir.Constant(_WORD, lane) for lane in range(LANES)])
        index = builder.add(_splat(builder, first, _WORDS), builder.mul(lanes, _splat(builder, step, _WORDS)))
        word = builder.add(_splat(builder, seed, _WORDS), builder.mul(index, constant(0x9E3779B97F4A7C15)))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            word = builder.mul(builder.xor(word, builder.lshr(word, constant(shift))), constant(factor))
        word = builder.xor(word, builder.lshr(word, constant(31)))
        builder.store(word, _pointer(builder, address, _WORDS), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.uint64, types.uint64, types.uint64), generate


@intrinsic
def bits_of_words(context: Any, address: Any, number: Any) -> Any:
    """Sixteen bits of each of 16 words, as numbers from 0 to 65535; number 0 .. 3 counts from the lowest."""

    def generate(_: Any, builder: Any, __: Any, given: Any) -> Any:
        words = builder.load(_pointer(builder, given[0], _WORDS), align=8)
        shift = _splat(builder, builder.shl(given[1], ir.Constant(_WORD, 4)), _WORDS)
        low = builder.trunc(builder.lshr(words, shift), _INTS)
        low = builder.and_(low, ir.Constant(_INTS, [ir.Constant(_INT, 0xFFFF)] * LANES))
        return builder.sitofp(low, _FLOATS)

    return vector(types.int64, types.int64), generate


def _sums(builder: Any, shape: tuple[int, int]) -> list[list[Any]]:
    """Memory for vectors that are zero, which LLVM turns into registers."""
    sums = [[cgutils.alloca_once(builder, _FLOATS) for _ in range(shape[1])] for _ in range(shape[0])]
    for place in (each for row in sums for each in row):
        builder.store(_constant(0.0), place)
    return sums


def _row_addresses(builder: Any, base: Any, first: Any, n: Any, stride: Any, count: int) -> list[Any]:
    """Addresses of ``count`` rows from ``first`` on; behind the last of n, that one again."""
    last, found = builder.sub(n, ir.Constant(_WORD, 1)), []
    for number in range(count):
        row = builder.add(first, ir.Constant(_WORD, number))
        row = builder.select(builder.icmp_signed("<", row, last), row, last)
        found.append(builder.add(base, builder.mul(row, stride)))
    return found


@intrinsic
def multiply(context: Any, weight: Any, first: Any, n_out: Any, n_in: Any, u: Any, out: Any) -> Any:
    """Rows first .. first + ROWS - 1 of weight [n_out, n_in] times u [n_in, 16], written to out [ROWS, 16].

    Rows from n_out on are there, and hold whatever.
    """

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        weight, first, n_out, n_in, u, out = given
        four, size = ir.Constant(_WORD, 4), ir.Constant(_WORD, BYTES)
        rows = _row_addresses(builder, weight, first, n_out, builder.mul(n_in, four), ROWS)
        sums = _sums(builder, (ROWS, 1))
        with cgutils.for_range(builder, n_in, intp=_WORD) as loop:
            seen = _load(builder, builder.add(u, builder.mul(loop.index, size)))
            offset = builder.mul(loop.index, four)
            for row, (place,) in zip(rows, sums, strict=True):
                factor = _broadcast(builder, builder.add(row, offset))
                builder.store(_multiply_add(builder, factor, seen, builder.load(place)), place)
        for number, (place,) in enumerate(sums):
            target = _pointer(builder, out, _FLOATS, ir.Constant(_WORD, number * BYTES))
            builder.store(builder.load(place), target, align=4)
        return context.get_dummy_value()

    word = types.int64
    return types.void(word, word, word, word, word, word), generate


@intrinsic
def outer(
    context: Any, a: Any, first: Any, n_a: Any, b: Any, second: Any, n_b: Any, stride: Any, n: Any, out: Any
) -> Any:
    """Sums over blocks and lanes of a_j b_i, j = first .. and i = second .., written to out [SIDE, SIDE].

    Block k of n has a [n_a, 16] and b [n_b, 16] at k * stride bytes from the first. What lies behind the last row of
    a or b is there, and holds whatever.
    """

    def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
        a, first, n_a, b, second, n_b, stride, n, out = given
        size = ir.Constant(_WORD, BYTES)
        left = _row_addresses(builder, a, first, n_a, size, SIDE)
        right = _row_addresses(builder, b, second, n_b, size, SIDE)
        sums = _sums(builder, (SIDE, SIDE))
        with cgutils.for_range(builder, n, intp=_WORD) as loop:
            offset = builder.mul(loop.index, stride)
            factors = [_load(builder, builder.add(each, offset)) for each in right]
            for each, row in zip(left, sums, strict=True):
                factor = _load(builder, builder.add(each, offset))
                for other, place in zip(factors, row, strict=True):
                    builder.store(_multiply_add(builder, factor, other, builder.load(place)), place)
        for number, place in enumerate(each for row in sums for each in row):
            target = _pointer(builder, out, _FLOAT, ir.Constant(_WORD, 4 * number))
            builder.store(_sum(builder, builder.load(place)), target)
        return context.get_dummy_value()

    word = types.int64
    return types.void(word, word, word, word, word, word, word, word, word), generate
