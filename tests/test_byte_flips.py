"""The campaign of flipped bits knows every verb, and each reader of a file is one that it calls."""

from pathlib import Path

import byte_flips

from harness import cli


def verbs_that_there_are():
    (verbs,) = (action.choices for action in cli._parser()._actions if isinstance(action.choices, dict))
    return set(verbs)


def test_every_verb_is_called_or_left_out_by_name():
    called = set(byte_flips.calls_of(Path("run"), Path("sound"), Path("out"), "{}")) | set(byte_flips.OF_CELLS)
    assert not called & byte_flips.LEFT_OUT
    assert called | byte_flips.LEFT_OUT == verbs_that_there_are()


def test_the_calls_are_such_that_their_verbs_take():
    calls = byte_flips.calls_of(Path("run"), Path("sound"), Path("out"), "{}")
    for verb, of_verb in calls.items():
        for arguments in of_verb:
            assert cli._parser().parse_args([verb, *arguments]).verb
    assert {verb for verbs in byte_flips.READERS.values() for verb in verbs} <= set(calls)
