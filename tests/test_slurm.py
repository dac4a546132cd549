"""The workflow on a real SLURM of one machine: whatever happens to its jobs, it ends, with the numbers of an
undisturbed run. Nothing here waits for a time to pass: a training that must not end yet is stopped (SIGSTOP)."""

import contextlib
import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import slurm_cluster

from harness.compute.places import ROOT
from harness.settings.config import load_settings

HAS_PLUGIN = importlib.util.find_spec("snakemake_executor_plugin_slurm") is not None
REASON = slurm_cluster.missing() or ("" if HAS_PLUGIN else "needs pip install -e '.[slurm]'")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

PATIENCE_S = 900  # before a test gives up; none takes as long, however slow the machine is
PHASES = [{"updates": 1500, "learning_rate": 3.0e-3, "n_samples": 5}]
TRAINING = {"phases": PHASES, "checkpoint_every_s": 0.1, "validate_every": 100}
HUNGRY = """
import torch
from harness.method import Batch, Method


class Hungry(Method):
    name, title, kind, source = "hungry", "hungry", "control", "of tests"

    def __init__(self, n_visible: int, megabytes: int):
        super().__init__(n_visible)
        self.logits, self.megabytes = torch.nn.Parameter(torch.zeros(n_visible)), megabytes

    def log_prob(self, x):
        return -torch.nn.functional.binary_cross_entropy_with_logits(
            self.logits.expand_as(x), x, reduction="none"
        ).sum(1)

    def loss(self, batch: Batch, n_samples: int, generator):
        torch.ones(self.megabytes << 18).sum()
        return -self.log_prob(batch.x).mean()
"""


@pytest.fixture(scope="module")
def cluster():
    with slurm_cluster.cluster() as made:
        yield made


def settings_of(folder, /, **more):
    """Two cells that share a job, and what ``more`` has; nothing else of the smoke preset."""
    everything = load_settings({"preset": "smoke"})
    grid = dict.fromkeys(everything["grid"])
    grid["bihm"] = dict.fromkeys(everything["grid"]["bihm"])
    for variant, size in (("a", 30), ("b", 20)):
        grid["bihm"][f"connect4/{variant}"] = {"model": {"layers": [size, 10]}, "training": TRAINING}
    settings = {"grid": grid, "ablations": dict.fromkeys(everything["ablations"])}
    settings["data"] = {"cache": str(folder / "cache"), "download": False, "mirrors": []}
    settings["cluster"] = {"short_minutes": 30}
    for key, value in more.items():
        settings[key] = {**settings.get(key, {}), **value} if isinstance(value, dict) else value
    return settings


class Workflow:
    """A checkout with its own results, whose jobs go to the cluster."""

    def __init__(self, folder, cluster, /, **more):
        self.folder, self.cluster = folder, cluster
        for name in ("Snakefile", "workflows"):
            (folder / name).symlink_to(ROOT / name)
        self.settings = folder / "settings.yaml"
        self.settings.write_text(json.dumps(settings_of(folder, **more)))
        path = os.pathsep.join([str(Path(sys.executable).parent), cluster.environment["PATH"]])
        self.environment = {**cluster.environment, "PYTHONPATH": str(ROOT), "PATH": path, "OMP_NUM_THREADS": "1"}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.output = folder / "snakemake.log"

    def start(self, *arguments):
        command = [sys.executable, "-m", "snakemake", "tables", "--profile", "workflows/profiles/slurm"]
        command += ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5", *arguments]
        command += ["--configfile", str(self.settings), "--config", "preset=smoke"]
        with self.output.open("ab") as output:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=output, stderr=output, start_new_session=True
            )

    def finish(self, process):
        """Wait for Snakemake; its output."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
        if process.poll() is None:
            process.kill()
            process.wait()
        text = self.output.read_text()
        assert process.returncode == 0, text[-6000:] + self.logs()
        return text

    def logs(self):
        found = [*self.folder.glob("results/smoke/logs/**/*.log"), *self.folder.glob(".snakemake/slurm_logs/**/*.log")]
        return "\n".join(f"=== {path}\n{path.read_text()[-2000:]}" for path in found)

    def run(self, variant="a", method="bihm"):
        return self.folder / "results/smoke/runs/connect4" / method / variant / "0"

    def wait_for(self, what, process=None):
        """Until ``what()`` is something; returns that."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := what()):
            assert time.monotonic() < deadline, self.output.read_text()[-6000:] + self.logs()
            assert process is None or process.poll() is None, self.output.read_text()[-6000:] + self.logs()
            time.sleep(0.02)
        return found

    def trainer(self, variant="a"):
        """The process that trains, by its lock; None where there is none."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return json.loads((self.run(variant) / ".lock").read_text())["process"]
        return None

    def paused(self, process, variant="a"):
        """The process of a training that has written a checkpoint, stopped in the midst of it."""

        def try_to():
            number = self.trainer(variant)
            if number is None or not (self.run(variant) / "checkpoint.safetensors").exists():
                return None
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGSTOP)
                if (self.run(variant) / "checkpoint.safetensors").exists():
                    return number
                os.kill(number, signal.SIGCONT)
            return None

        return self.wait_for(try_to, process)

    def said(self, text, variant="a"):
        """Whether the log of a run has this; Snakemake deletes it when a job for the run begins."""
        with contextlib.suppress(FileNotFoundError):
            log = self.folder / f"results/smoke/logs/runs/connect4/bihm/{variant}/0.log"
            return text in log.read_text()
        return False

    def job(self):
        """The one running job."""
        (number,) = self.cluster.jobs("RUNNING")
        return str(number)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Variant -> folder of its run, done by hand without a cluster."""
    folder = tmp_path_factory.mktemp("undisturbed")
    file = folder / "settings.yaml"
    file.write_text(json.dumps(settings_of(folder)))
    common = ["--settings", str(file), "--preset", "smoke"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    runs = {}
    subprocess.run(
        [sys.executable, "-m", "harness", "datasets", "--fetch", "connect4", *common], check=True, env=environment
    )
    for variant in ("a", "b"):
        runs[variant] = folder / variant
        cell = ["--dataset", "connect4", "--method", "bihm", "--variant", variant, "--run", str(runs[variant])]
        subprocess.run([sys.executable, "-m", "harness", "run", *cell, *common], check=True, env=environment)
    return runs


def content(run):
    """All that a run measured and learned, but for times and the state of the working tree."""
    rows = json.loads((run / "metrics.json").read_text())["rows"]
    for row in rows:
        for key in [key for key in row if "seconds" in key or key == "git_commit"]:
            del row[key]
    with (run / "curve.csv").open() as lines:
        curve = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(lines)]
    return rows, curve, (run / "model.safetensors").read_bytes()


def assert_undisturbed(workflow, undisturbed):
    """The end of every test: the same numbers, nothing left to do, no litter."""
    for variant, run in undisturbed.items():
        assert content(workflow.run(variant)) == content(run), workflow.logs()
    assert (workflow.folder / "results/smoke/tables/table_3_1.md").is_file()
    litter = r"^\.(?!sha256$)|\.part$|checkpoint"
    left = {path.name for path in workflow.folder.glob("results/**/*") if re.search(litter, path.name)}
    assert not left
    before = len(workflow.output.read_text())
    assert "Nothing to be done" in workflow.finish(workflow.start())[before:]


def test_undisturbed_and_nothing_to_be_done_after(cluster, undisturbed, tmp_path):
    workflow = Workflow(tmp_path, cluster)
    workflow.finish(workflow.start())
    assert_undisturbed(workflow, undisturbed)


@pytest.mark.skipif(bool(slurm_cluster.missing(accounting=True)), reason=slurm_cluster.missing(accounting=True))
def test_with_accounting(undisturbed, tmp_path):
    """One job is cancelled on the way: its state is then that of the database."""
    with slurm_cluster.cluster(accounting=True) as cluster:
        workflow = Workflow(tmp_path, cluster)
        text = refused(workflow, "--default-resources", "slurm_account=chemistry")
        assert re.search("slurm_account: expected one of .*physics.*, found 'chemistry'", text)
        process = workflow.start()
        workflow.paused(process)
        cluster.run("scancel", workflow.job())
        workflow.finish(process)
        assert_undisturbed(workflow, undisturbed)


def test_when_time_is_up_the_next_try_goes_on(cluster, undisturbed, tmp_path):
    workflow = Workflow(tmp_path, cluster, cluster={"short_minutes": 1})
    process = workflow.start()
    workflow.paused(process, "b")
    job = workflow.job()
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    workflow.finish(process)
    assert cluster.jobs()[int(job)] == "TIMEOUT"
    assert_undisturbed(workflow, undisturbed)


def test_a_cancelled_job_is_sent_again(cluster, undisturbed, tmp_path):
    workflow = Workflow(tmp_path, cluster)
    process = workflow.start()
    workflow.paused(process)
    cluster.run("scancel", workflow.job())
    workflow.finish(process)
    assert_undisturbed(workflow, undisturbed)


def test_sigterm_reaches_the_training_which_writes_a_checkpoint(cluster, undisturbed, tmp_path):
    """What SLURM sends some time before it kills, only to the process that it started itself."""
    workflow = Workflow(tmp_path, cluster)
    settings = json.loads(workflow.settings.read_text())
    for cell in ("connect4/a", "connect4/b"):
        settings["grid"]["bihm"][cell]["training"]["checkpoint_every_s"] = 1.0e6
    workflow.settings.write_text(json.dumps(settings))
    process = workflow.start()
    number = workflow.wait_for(workflow.trainer, process)
    # the handler is there once training is under way, which the progress in the log tells
    workflow.wait_for(lambda: (workflow.run() / "config.json").exists() and catches_sigterm(number), process)
    cluster.run("scancel", "--signal=TERM", workflow.job())
    workflow.wait_for(lambda: workflow.said("checkpoint written"), process)
    workflow.finish(process)
    assert_undisturbed(workflow, undisturbed)


def catches_sigterm(number):
    """Whether a process has a handler of its own for SIGTERM."""
    with contextlib.suppress(OSError):
        mask = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{number}/status").read_text(), re.MULTILINE)
        return bool(int(mask[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def test_a_node_that_goes_down_and_comes_back(cluster, undisturbed, tmp_path):
    workflow = Workflow(tmp_path, cluster)
    process = workflow.start()
    workflow.paused(process)
    cluster.kill_node()
    workflow.wait_for(lambda: not cluster.jobs("RUNNING"), process)
    cluster.start_node()
    workflow.finish(process)
    assert_undisturbed(workflow, undisturbed)


def test_after_a_sigkill_of_snakemake_old_and_new_jobs_take_turns(cluster, undisturbed, tmp_path):
    workflow = Workflow(tmp_path, cluster)
    process = workflow.start()
    number = workflow.paused(process)
    process.kill()
    process.wait()
    assert cluster.jobs("RUNNING")
    unlock = [sys.executable, "-m", "snakemake", "--unlock", "--configfile", str(workflow.settings)]
    subprocess.run([*unlock, "--config", "preset=smoke"], cwd=tmp_path, env=workflow.environment, check=True)
    again = workflow.start()
    workflow.wait_for(lambda: workflow.said(f"waiting for process {number}"), again)
    os.kill(number, signal.SIGCONT)
    workflow.finish(again)
    workflow.wait_for(lambda: not cluster.jobs("RUNNING"))
    assert_undisturbed(workflow, undisturbed)


def refused(workflow, *arguments):
    """What Snakemake prints where SLURM would not run its jobs; nothing was sent."""
    before = set(workflow.cluster.jobs())
    process = workflow.start(*arguments)
    process.wait(PATIENCE_S)
    text = workflow.output.read_text()
    assert process.returncode == 1, text
    assert set(workflow.cluster.jobs()) == before
    return text


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ("slurm_partition=nowhere", "--partition=nowhere.*[Ii]nvalid partition"),
        ("slurm_account=physics", "slurm_account: expected no account without accounting.*found 'physics'"),
        ("mem_mb=1000000000", "--mem=1000000000.*, found .*"),
    ],
)
def test_what_slurm_would_refuse_is_said_before_anything_is_sent(resource, expected, cluster, tmp_path):
    text = refused(Workflow(tmp_path, cluster), "--default-resources", resource)
    assert re.search(expected, text), text
    assert "Traceback" not in text


def test_more_time_than_the_partition_has(cluster, tmp_path):
    workflow = Workflow(tmp_path, cluster, cluster={"short_minutes": 800})
    assert re.search("expected jobs of no more minutes than 1440 in main, found 1600", refused(workflow))


@pytest.mark.parametrize(("megabytes", "expected"), [(1500, "ok"), (8000, "failed")])
def test_a_cell_killed_for_memory_gets_more_and_blocks_no_other(megabytes, expected, cluster, undisturbed, tmp_path):
    if not cluster.limits_memory:
        pytest.skip("no control groups here: SLURM cannot limit memory")
    (tmp_path / "hungry.py").write_text(HUNGRY)
    workflow = Workflow(tmp_path, cluster, methods=[str(tmp_path / "hungry.py")])
    settings = json.loads(workflow.settings.read_text())
    phases = [{"updates": 3, "learning_rate": 1.0e-3, "n_samples": 1}]
    settings["grid"]["hungry"] = {"connect4": {"model": {"megabytes": megabytes}, "training": {"phases": phases}}}
    workflow.settings.write_text(json.dumps(settings))
    workflow.finish(workflow.start("--default-resources", "mem_mb=1000*min(attempt,4)"))
    # SLURM's word for the job is FAILED or OUT_OF_MEMORY, by its version
    crashes = json.loads((workflow.run("default", "hungry") / "crashes.json").read_text())
    assert crashes["count"] == (0 if expected == "ok" else 4)
    assert "exit code 137" in crashes["message"]
    (row, *_) = json.loads((workflow.run("default", "hungry") / "metrics.json").read_text())["rows"]
    assert row["status"] == expected, row
    for variant, run in undisturbed.items():
        assert content(workflow.run(variant)) == content(run), workflow.logs()
    if expected == "ok":
        assert_undisturbed(workflow, undisturbed)
    else:
        assert "killed in 4 tries" in row["message"]
        assert (workflow.folder / "results/smoke/tables/table_3_1.md").is_file()
