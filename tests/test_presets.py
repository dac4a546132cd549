"""What the presets ask for, cell by cell and trial by trial, however their files say it."""

import hashlib

import pytest

from harness.compute.places import WORKFLOWS
from harness.settings.config import canonical_json, cells, chosen_analyses, load_settings, presets
from harness.storage.search import trials

# sha256 of all cells and trials of a preset with their training digests and evaluations. Saying a preset in other
# words leaves it alone; another number does not. Where a preset is meant to change, the failing test prints its new
# line; runs that were published with the old one no longer show what the preset does, until they are made anew.
DIGESTS = {
    "full": "7b32143900f96aade4de587136a981a0f27575fd9f6d8d4b9e7c017c04b784db",
    "long": "20ced5ff3d6ddcae8dd5fa6d18de3f50d972e4c7c32666122e298697d55f1743",
    "quick": "26adaaa6b8a60a105f07449125900e7143dfa52879ef2ad06e80b6637ec4bfe8",
    "smoke": "26e715159a6806cb24be04b7bb10ffe90ad1256076ffd1a6438e3a0d8fea8a41",
}


def test_the_digests_are_of_all_presets():
    assert sorted(DIGESTS) == presets()


@pytest.mark.parametrize("preset", DIGESTS)
def test_cells_and_trials_of_a_preset_are_what_they_were(preset):
    settings = load_settings({"preset": preset})
    asked = [[c.path, c.training_digest, c.to_dict(), chosen_analyses(settings, c)] for c in cells(settings)]
    asked += [[t.path, t.cell.training_digest, t.values, t.chosen] for t in trials(settings)]
    assert load_settings(settings) == settings  # as jobs read it again
    found = hashlib.sha256("\n".join(sorted(map(canonical_json, asked))).encode()).hexdigest()
    assert found == DIGESTS[preset], f"{len(asked)} cells and trials; meant to change? {preset!r}: {found!r}"


@pytest.mark.parametrize("path", sorted(WORKFLOWS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(WORKFLOWS)))
def test_no_line_is_longer_than_those_of_the_code(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert {n: line for n, line in enumerate(lines, start=1) if len(line) > 120} == {}
