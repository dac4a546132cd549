"""The conformance suite inside the tests of a method's own author."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from harness.errors import ConfigError
from harness.method import Method
from harness.plugins.registry import method_class

if TYPE_CHECKING:
    import pytest

    from harness.verify.subject import Subject


@cache
def _subject(cls: type[Method]) -> Subject:
    from harness.verify.subject import Subject

    return Subject(cls)


class MethodCheck:
    """One check of one method; calling it raises AssertionError with what was found unless the method passes."""

    def __init__(self, cls: type[Method], name: str):
        self.cls, self.name = cls, name

    def __repr__(self) -> str:
        return f"{self.cls.__name__}-{self.name.replace(' ', '_')}"

    def __call__(self) -> None:
        """Skips where the method has nothing to look at; what nothing can verify is a failure, to be declared."""
        import pytest

        from harness.verify import run_check

        result = run_check(self.name, _subject(self.cls))
        if result.verdict == "not applicable":
            pytest.skip(result.detail)
        if result.verdict != "passed":
            raise AssertionError(f"{self.name} {result.verdict}: {result.detail}")


def parametrize_with_checks(
    *methods: str | type[Method], expected_failures: Mapping[str, str] | None = None
) -> pytest.MarkDecorator:
    """Gives a test function's argument ``check`` every check of every method in turn; the test calls it.

    ::

        @parametrize_with_checks("mymethod", expected_failures={"single precision": "needs double"})
        def test_conformance(check):
            check()

    methods: names that ``harness verify`` knows, or classes. expected_failures: check -> reason; such a check must
    fail, or not be possible, or the test fails. Raises ConfigError for a name that no method or check has.
    """
    import pytest

    from harness.verify import CHECKS

    declared = dict(expected_failures or {})
    for name in declared:
        if name not in CHECKS:
            raise ConfigError(f"expected_failures: expected one of {', '.join(CHECKS)}, found {name!r}")
    if not methods:
        raise ConfigError("parametrize_with_checks: expected at least one method, found none")
    parameters = []
    for method in methods:
        cls = method_class(method) if isinstance(method, str) else method
        for name in CHECKS:
            marks = [pytest.mark.xfail(reason=declared[name], strict=True)] if name in declared else []
            check = MethodCheck(cls, name)
            parameters.append(pytest.param(check, marks=marks, id=repr(check)))
    return pytest.mark.parametrize("check", parameters)
