"""The rule for when a class has a capability: one for models, for classes, and for classes known from their text alone.

Nothing here imports PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol


def has_members(cls: type, names: Iterable[str]) -> bool:
    """Whether a class has all of these: defined, inherited, mixed in or assigned to a name of its own.

    Only functions count: ``None`` takes away what a base has, and a text or number may have such a name.
    Attributes of instances, where layers and hyperparameters are, do not count.
    """
    return all(callable(getattr(cls, name, None)) for name in names)


def members(protocol: type) -> tuple[str, ...]:
    """Names of the functions that a protocol asks for."""
    return tuple(name for name, value in vars(protocol).items() if callable(value) and not name.startswith("_"))


class _ByMembers(type(Protocol)):
    """Answers ``isinstance`` and ``issubclass`` for protocols by ``has_members``."""

    def __instancecheck__(cls, instance: Any) -> bool:
        if not vars(cls).get("_is_protocol", False):
            return super().__instancecheck__(instance)
        return has_members(type(instance), members(cls))

    def __subclasscheck__(cls, subclass: type) -> bool:
        if not vars(cls).get("_is_protocol", False):
            return super().__subclasscheck__(subclass)
        return has_members(subclass, members(cls))


class Capability(Protocol, metaclass=_ByMembers):
    """Base of the protocols in ``harness.method``; ``isinstance`` and ``issubclass`` say what ``has_members`` does."""
