"""The conformance suite on scores, modes and draws: planted mistakes are caught by the check that names the fault."""

import pytest
from planted_scores import PLANTED

from harness.verify import Subject, run_check

_passed: dict[tuple[type, str], bool] = {}


def parent_passes(cls, check):
    parent = cls.__mro__[1]
    if (parent, check) not in _passed:
        _passed[parent, check] = run_check(check, Subject(parent)).verdict == "passed"
    return _passed[parent, check]


@pytest.mark.parametrize("cls", PLANTED, ids=lambda cls: cls.__name__)
def test_planted_mistakes_are_caught_by_name(cls):
    result = run_check(PLANTED[cls], Subject(cls))
    assert result.verdict == "failed", result.detail
    assert "Error" not in result.detail.split(":")[0], result.detail
    assert parent_passes(cls, PLANTED[cls])
