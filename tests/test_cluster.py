"""What the harness does about SLURM, with commands in place of SLURM's; ``test_slurm`` has a real one."""

import json
import os
import signal
import subprocess
import sys

import pytest

from harness.cli import cluster, main
from harness.errors import ConfigError
from harness.storage.records import read_json
from harness.storage.runs import RunFolder

LIKE_SNAKEMAKE = """
import signal, subprocess, sys
from harness.cli.cluster import forward_sigterm
signal.signal(signal.SIGTERM, lambda *_: print("told", flush=True))
forward_sigterm()
line = '''trap : TERM; %s -c "
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print('ready', flush=True)
signal.pause()
" || exit $?''' % sys.executable
print("ended", subprocess.call(["bash", "-c", line]))
"""


def test_sigterm_reaches_what_snakemake_has_started(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    process = subprocess.Popen([sys.executable, "-c", LIKE_SNAKEMAKE], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[0].splitlines() == ["told", "ended 143"]


def test_outside_a_job_signals_are_left_alone(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    cluster.forward_sigterm()
    previous = signal.set_wakeup_fd(-1)
    assert previous == -1


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Write a command that says something on standard error and ends with a code; what it was called with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def write(name, words="", code=0, output=""):
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/{name}.calls\necho "{words}" >&2\n{output}\nexit {code}\n')
        path.chmod(0o755)
        return folder / f"{name}.calls"

    return write


def test_each_kind_of_job_is_asked_for_once(commands):
    calls = commands("sbatch")
    commands("sinfo")
    one, other = {"runtime": 20, "mem_mb": 4000, "tmpdir": "/tmp"}, {"runtime": 720, "mem_mb": 4000, "gres": "gpu:1"}
    cluster.check_requests([one, other, one])
    assert sorted(calls.read_text().splitlines()) == [
        "--test-only --ntasks=1 --gres=gpu:1 --mem=4000 --time=720 --wrap=true",
        "--test-only --ntasks=1 --mem=4000 --time=20 --wrap=true",
    ]


@pytest.mark.parametrize(
    ("partition", "minutes", "refused"),
    [("", 1440, ""), ("", 1441, "1440 in main"), ("quick", 31, "30.5 in quick"), ("endless", 99999, "")],
)
def test_no_more_time_than_the_partition_has(partition, minutes, refused, commands):
    commands("sbatch")
    commands("sinfo", output="echo 'main*|1-00:00:00'; echo 'quick|30:30'; echo 'endless|infinite'")
    job = {"slurm_partition": partition, "runtime": minutes}
    if not refused:
        cluster.check_requests([job])
        return
    with pytest.raises(ConfigError, match=f"no more minutes than {refused}, found {minutes}"):
        cluster.check_requests([job])


def test_slurm_s_objection_is_told(commands):
    commands("sbatch", "sbatch: error: invalid partition specified: nowhere", 1)
    with pytest.raises(ConfigError, match=r"expected to take a job with --partition=nowhere, found .*nowhere"):
        cluster.check_requests([{"slurm_partition": "nowhere"}])


@pytest.mark.parametrize(
    "words",
    [
        "allocation failure: Requested nodes are busy",
        "allocation failure: Requested partition configuration not available now",
        "allocation failure: Required node not available (down, drained or reserved)",
        "allocation failure: Unable to contact slurm controller (connect failure)",
    ],
)
def test_a_cluster_that_is_busy_is_no_error(words, commands):
    commands("sbatch", words, 1)
    commands("sinfo", "down", 1)
    cluster.check_requests([{"runtime": 20}])


@pytest.mark.parametrize(
    ("output", "code", "expected"),
    [
        ("echo physics; echo maths", 0, "expected one of maths, physics, found 'chemistry'"),
        ("", 1, r"expected no account without accounting \(no database\), found 'chemistry'"),
        ("echo Chemistry", 0, None),
        ("", 0, None),
    ],
)
def test_an_account_that_the_plugin_would_not_use(output, code, expected, commands):
    commands("sbatch")
    commands("sinfo")
    commands("sacctmgr", "no database", code, output)
    if expected is None:
        cluster.check_requests([{"slurm_account": "chemistry"}])
        return
    with pytest.raises(ConfigError, match=f"slurm_account: {expected}"):
        cluster.check_requests([{"slurm_account": "chemistry"}])


def test_srun_keeps_the_cluster_that_a_variable_names(commands, tmp_path, monkeypatch):
    commands("srun", output='echo "$SLURM_CONF $@"')
    profile = cluster.Path(__file__).parent.parent / "workflows/profiles/slurm"
    monkeypatch.setenv("SLURM_CONF", "/some/slurm.conf")
    monkeypatch.setenv("PATH", os.environ["PATH"])  # put back in the end
    for name in ("BIHM_SRUN", "BIHM_SLURM_CONF"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    cluster.use_this_cluster(profile)
    assert "BIHM_SRUN" not in os.environ
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    for _ in range(2):
        cluster.use_this_cluster(profile)
    without = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    done = subprocess.run("srun -n1 true", shell=True, env=without, capture_output=True, text=True, check=True)
    assert done.stdout == "/some/slurm.conf -n1 true\n"


@pytest.mark.parametrize(
    ("killed_at", "attempt", "given_up"), [(4, 5, True), (4, 4, False), (3, 5, False), (4, 1, False), (None, 5, False)]
)
def test_a_run_is_given_up_when_it_was_killed_with_all_memory(killed_at, attempt, given_up, tmp_path):
    crashes = RunFolder(tmp_path).crashes
    assert not crashes.killed_at_last(attempt)
    crashes.add("killed", killed_at)
    assert crashes.killed_at_last(attempt) is given_up
    assert crashes.count() == 1


def test_crashes_of_a_call_that_ends_well_are_forgotten(tmp_path):
    """Snakemake keeps the count that there was when the call began."""
    crashes = RunFolder(tmp_path).crashes
    crashes.add("of an earlier call")
    crashes.forget(1, succeeded=False)
    for attempt in (1, 2):
        crashes.add("killed", attempt)
        crashes.forget(attempt + 1, succeeded=False)
    assert crashes.count() == 3
    crashes.forget(3, succeeded=True)
    assert crashes.count() == 1
    crashes.forget(1, succeeded=True)
    assert crashes.count() == 1


def test_a_cell_that_is_killed_in_every_try_is_failed_in_the_end(tmp_path):
    """The verbs of a rule, in the order in which a cluster's tries call them."""
    run, record = tmp_path / "run", tmp_path / "record.json"
    settings = {"data": {"cache": str(tmp_path / "cache"), "mirrors": [], "download": False}}
    common = ["--settings", json.dumps(settings), "--preset", "smoke"]
    assert main(["datasets", "--fetch", "connect4", "--record", str(record), *common]) == 0
    common += ["--dataset", "connect4", "--method", "factorised", "--run", str(run), "--data-record", str(record)]
    for attempt in range(1, 5):
        assert main(["record-failure", *common, "--exit-code", "137", "--attempt", str(attempt)]) == 0
    assert main(["run", *common, "--attempt", "5"]) == 0
    (row,) = read_json(run / "metrics.json")["rows"]
    assert (row["status"], row["message"]) == ("failed", "killed in 4 attempts, probably for lack of memory")
    assert RunFolder(run).crashes.count() == 4
    assert main(["run", *common, "--attempt", "1"]) == 0  # the next call tries again
    assert read_json(run / "metrics.json")["rows"][0]["status"] == "ok"
