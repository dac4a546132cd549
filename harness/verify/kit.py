"""What the checks of tables, figures, analyses and claims have in common: verdicts, and code of others run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.errors import DataError, HarnessError
from harness.reporting.plain_frames import in_words
from harness.verify.subject import FailedCheckError, NotApplicableError, NotCheckedError, Result


def results(checks: Mapping[str, Callable[[], str]]) -> Iterator[Result]:
    """The verdicts of checks, each a function that returns what it found; an exception is a failure."""
    for name, check in checks.items():
        try:
            yield Result(name, "passed", check())
        except NotApplicableError as reason:
            yield Result(name, "not applicable", str(reason))
        except NotCheckedError as reason:
            yield Result(name, "NOT CHECKED", str(reason))
        except FailedCheckError as failure:
            yield Result(name, "failed", str(failure))
        except (Exception, SystemExit) as error:  # of code that is not ours
            yield Result(name, "failed", in_words(error))


def fail_unless(holds: bool, expected: str, found: object) -> None:
    """Raises FailedCheckError."""
    if not holds:
        raise FailedCheckError(f"expected {expected}, found {found}")


def says_what_is_missing(call: Callable[[], Any], without: str) -> None:
    """Raises FailedCheckError unless a call returns something, or raises a DataError, where something is missing."""
    try:
        call()
    except (Exception, SystemExit) as error:
        cause = error.__cause__ if isinstance(error, HarnessError) and error.__cause__ else error
        if not isinstance(cause, DataError):
            expected = f"rows, none, or a DataError that says what is missing {without}"
            raise FailedCheckError(f"expected {expected}, found {in_words(cause)}") from error
