"""Schedules: the phases that they stand for, and which entry replaces which."""

import json

import pytest

from harness.errors import ConfigError
from harness.settings.check import Source
from harness.settings.config import Cell, load_settings, read_settings, resolve
from harness.settings.schedule import phases_of
from harness.settings.text import parse_settings
from harness.storage.search import trials

RUNS = {"grid": {"rws": {"adult": {"model": {"layers": [4]}}}}, "preset": "smoke"}
PHASES = [{"updates": 7, "learning_rate": 0.5, "n_samples": 3}]
WHOLE = {"updates": [30, 10], "learning_rate": 0.03, "n_samples": 2}


@pytest.mark.parametrize(
    ("schedule", "phases"),
    [
        ("{updates: 30, learning_rate: 0.03, n_samples: 2}", [(30, 0.03, 2)]),
        ("{updates: [30], learning_rate: [0.03], n_samples: [2]}", [(30, 0.03, 2)]),
        (
            "{updates: [30, 20, 10], learning_rate: 0.03, n_samples: 2}",
            [(30, 0.03, 2), (20, 0.003, 2), (10, 0.0003, 2)],
        ),
        (
            "{updates: [9, 9, 9], learning_rate: 0.03, n_samples: 2, decay: 0.2}",
            [(9, 0.03, 2), (9, 0.006, 2), (9, 0.0012, 2)],
        ),
        ("{updates: [9, 9], learning_rate: [0.03, 0.05], n_samples: [2, 50]}", [(9, 0.03, 2), (9, 0.05, 50)]),
        ("{updates: [9, 9], learning_rate: 1, n_samples: 2, decay: null}", [(9, 1, 2), (9, 0.1, 2)]),
    ],
)
def test_a_schedule_stands_for_phases(schedule, phases):
    found = phases_of(parse_settings(schedule, "here"))
    assert [tuple(phase.values()) for phase in found] == phases
    assert [list(phase) for phase in found] == [["updates", "learning_rate", "n_samples"]] * len(phases)


@pytest.mark.parametrize("digits", range(1, 100))
def test_decayed_rates_are_those_that_a_person_would_write(digits):
    found = phases_of({"updates": [1] * 4, "learning_rate": float(f"{digits}e-3"), "n_samples": 1})
    assert [phase["learning_rate"] for phase in found] == [float(f"{digits}e-{i}") for i in range(3, 7)]


def shown(*given):
    """Phases of a cell as (updates, learning rate, samples), for the user's settings in pieces."""
    settings = read_settings([Source("first", RUNS), *(Source(f"piece {i}", each) for i, each in enumerate(given))])
    assert load_settings(settings) == settings  # as jobs read it again
    training = resolve(settings, "adult", "rws").training
    assert (
        "schedule" not in Cell.from_dict(json.loads(json.dumps(resolve(settings, "adult", "rws").to_dict()))).to_dict()
    )
    return [(phase.updates, phase.learning_rate, phase.n_samples) for phase in training.phases]


def budget(training, key="adult"):
    return {"budgets": {"rws": {key: {"training": training}}}}


def defaults(training):
    return {"defaults": {"training": training}}


@pytest.mark.parametrize("less", [defaults, lambda training: budget(training, "*"), lambda t: budget(t, "uci"), budget])
def test_one_form_replaces_the_other_from_below(less):
    phases, schedule = [(7, 0.5, 3)], [(30, 0.03, 2), (10, 0.003, 2)]
    assert shown(less({"phases": PHASES})) == phases
    assert shown(less({"schedule": WHOLE})) == schedule
    assert shown(less({"phases": PHASES}), budget({"schedule": WHOLE})) == schedule
    assert shown(less({"schedule": WHOLE}), budget({"phases": PHASES})) == phases
    assert shown(less({"schedule": WHOLE}), budget({"schedule": {"learning_rate": 0.1, "decay": 0.5}})) == [
        (30, 0.1, 2),
        (10, 0.05, 2),
    ]
    with pytest.raises(
        ConfigError, match=r"^piece 1: budgets\.rws\.adult\.training\.schedule: expected key 'updates'.*phases"
    ):
        shown(less({"phases": PHASES}), budget({"schedule": {"n_samples": 1, "learning_rate": 0.1}}))


def test_variants_and_ablations_have_forms_of_their_own():
    given = {
        "preset": "smoke",
        "grid": {"rws": {"adult": {"model": {"layers": [4]}}, "adult/thin": {"model": {"layers": [2]}}}},
        "ablations": {"rws": {"adult/one": {"model": {"layers": [3]}, "training": {"schedule": WHOLE}}}},
        "budgets": {
            "rws": {"adult": {"training": {"phases": PHASES}}, "adult/thin": {"training": {"schedule": WHOLE}}}
        },
    }
    settings = load_settings(given)
    lengths = {name: len(resolve(settings, "adult", "rws", name).training.phases) for name in ("", "thin", "one")}
    assert lengths == {"": 1, "thin": 2, "one": 1}  # budgets are laid over ablations


def test_what_comes_later_replaces_what_came_before_in_the_same_place():
    assert shown(budget({"schedule": WHOLE}), budget({"phases": PHASES}), budget({"schedule": WHOLE})) == [
        (30, 0.03, 2),
        (10, 0.003, 2),
    ]
    # a decay that was said before the phases is gone with them
    assert shown(
        budget({"schedule": {**WHOLE, "decay": 0.5}}), budget({"phases": PHASES}), budget({"schedule": WHOLE})
    ) == [
        (30, 0.03, 2),
        (10, 0.003, 2),
    ]
    with pytest.raises(ConfigError, match="as a schedule takes nothing from phases"):
        shown(budget({"schedule": WHOLE}), budget({"phases": PHASES}), budget({"schedule": {"updates": 5}}))


def test_a_list_of_rates_replaces_a_decay_and_a_rate_replaces_the_list():
    general = budget({"schedule": {**WHOLE, "decay": 0.5}}, "*")
    rates = budget({"schedule": {"learning_rate": [0.2, 0.1]}}, "uci")
    assert shown(general, rates) == [(30, 0.2, 2), (10, 0.1, 2)]
    assert shown(general, rates, budget({"schedule": {"learning_rate": 0.2}})) == [(30, 0.2, 2), (10, 0.02, 2)]
    with pytest.raises(ConfigError, match=r"^piece 2: .*adult\.training\.schedule\.decay: expected none beside a list"):
        shown(general, rates, budget({"schedule": {"decay": 0.2}}))


def test_a_method_may_have_hyperparameters_of_these_names():
    from harness.settings.check import merged

    over = {"model": {"schedule": "linear"}}
    assert merged({"model": {"phases": 3}}, over) == {"model": {"phases": 3, "schedule": "linear"}}


def test_searches_of_schedules_are_those_of_phases():
    def found(axes, finer=None):
        search = {**axes, "training.l1": [0.1], **({} if finer is None else {"finer": [finer]})}
        settings = load_settings({**RUNS, "searches": {"rws": {"adult": search}}})
        assert load_settings(settings) == settings
        return [(trial.name, trial.values, trial.cell) for trial in trials(settings)]

    other = {"updates": [5], "learning_rate": [0.2], "n_samples": [4]}
    by_phases = found({"training.phases": [phases_of(WHOLE)]}, {"training.phases": [phases_of(other)]})
    assert [name for name, _, _ in by_phases] == [
        "training.phases=30x0.03x2-10x0.003x2,training.l1=0.1",
        "training.phases=5x0.2x4,training.l1=0.1",
    ]
    for one, two in (("schedule", "schedule"), ("schedule", "phases"), ("phases", "schedule")):
        says = {"schedule": lambda each: each, "phases": phases_of}
        axes, finer = {f"training.{one}": [says[one](WHOLE)]}, {f"training.{two}": [says[two](other)]}
        assert found(axes, finer) == by_phases


def test_a_search_of_one_form_replaces_that_of_the_other():
    for one, other in ((WHOLE, PHASES), (PHASES, WHOLE)):
        first, second = ({f"training.{'phases' if each is PHASES else 'schedule'}": [each]} for each in (one, other))
        for key in ("uci", "adult"):
            searches = [{"searches": {"rws": {k: axes}}} for k, axes in ((key, first), ("adult", second))]
            settings = read_settings([Source("x", RUNS), *(Source("y", each) for each in searches)])
            assert load_settings(settings) == settings
            (trial,) = (trial for trial in trials(settings) if trial.cell.dataset == "adult")
            assert len(trial.cell.training.phases) == (1 if other is PHASES else 2)
