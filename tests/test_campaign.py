"""The short form of the campaign of kills (see ``campaign.py``)."""

from campaign import TARGETS, run

KILLS = STOPS = 10


def test_stops_at_random_moments_cost_nothing(tmp_path):
    trials = run(tmp_path / "campaign", KILLS, STOPS)
    assert len(trials) == KILLS + STOPS
    assert {trial.target for trial in trials} == set(TARGETS)
    assert [trial for trial in trials if trial.wrong] == []
