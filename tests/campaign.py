"""Kills at random moments: a workflow and its verbs are stopped again and again, and must lose nothing by it.

Each trial starts from a finished run, asks for one target under changed settings, sends SIGKILL or SIGTERM to all its
processes at a random moment, repeats the call until it is done, and compares every file with those of an undisturbed
call: the same names (nothing lost, no litter), the same bytes (nothing stale or half-written). Moments are drawn by
progress, counted in changes of files, so that they do not depend on how fast the machine is. Clocks that results
record stand still in the jobs, so that equal means equal to the byte. In other trials SIGKILL is for the worker alone
(``harness.worker``), and the call has to be done by itself.

    python tests/campaign.py --kills 100 --stops 50 --workers 20 --folder /somewhere/empty

prints a line per trial and ends with 1 if anything went wrong; ``.ci/run`` runs a short one.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from test_workflow import Workflow, only

# Of what a harness process records as seconds; what measures deadlines goes on.
STILL_CLOCK = """
import sys, time
if "harness" in getattr(sys, "orig_argv", ()):
    time.perf_counter = lambda: 0.0
"""
TARGETS = ("tables", "figures", "searches", "compare", "publish", "check", "report")
WITH_WORKER = ("tables", "figures", "searches", "compare")  # by Snakemake
WORKER = "SIGKILL of the worker"
FIGURES = ("figure_3_4", "figure_ess_by_k")
NOT_COMPARED = ("logs", "settings")  # below the results: what was said, and what calls of any settings have read
TRIES = 5  # calls after which a target must be done
HUNG_S = 30  # without a process to wait for and without a change; a Snakemake that was stopped may hang


class Campaign:
    """A folder with a finished run, and what each target makes of it under changed settings."""

    def __init__(self, folder: Path, seed: int):
        self.random = random.Random(seed)
        self.work, self.saved, self.clock = folder / "work", folder / "saved", folder / "clock"
        self.work.mkdir(parents=True)
        self.clock.mkdir()
        (self.clock / "sitecustomize.py").write_text(STILL_CLOCK)
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.clock), os.environ.get("PYTHONPATH", "")]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.flow = Workflow(self.work)
        training = {
            "validate_every": 20,
            "checkpoint_every_s": 0.0,
            "validation_rows": 100,
            "phases": [{"updates": 60, "learning_rate": 0.01, "n_samples": 2}],
        }
        self.flow.settings |= {
            "grid": only(
                factorised={"connect4": {}, "adult": {}},
                bihm={"connect4": {"model": {"layers": [8, 4]}, "training": {"snapshots": 2}}},
            ),
            "budgets": {"bihm": {"*": {"training": training}}},
            "analyses": {"k_sensitivity": {"connect4": {"rows": 20, "ks": [1, 10]}}},
            "searches": {"bihm": {"connect4": {"learning_rate": [0.01, 0.1], "updates": 10}}},
        }
        self.expected: dict[str, dict[str, str]] = {}
        self.moments: dict[str, int] = {}
        for target in TARGETS:
            self.finish(target)
        shutil.copytree(self.work, self.saved, symlinks=True)
        # now other settings: one cell is trained anew, the others measured anew
        self.flow.settings["budgets"]["bihm"]["*"]["training"]["l1"] = 0.01
        self.flow.settings["budgets"]["factorised"] = {"*": {"evaluation": {"n_samples": 7}}}
        self.flow.settings["analyses"]["k_sensitivity"]["connect4"]["rows"] = 15
        self.flow.settings["searches"]["bihm"]["connect4"]["learning_rate"] = [0.01, 0.05]

    def restore(self, target: str) -> None:
        """The finished run; for verbs that only read one, that of the new settings, without what the verb makes."""
        shutil.rmtree(self.work)
        shutil.copytree(self.saved, self.work, symlinks=True)
        self.flow.command()  # writes the settings of now

    # -- calls -------------------------------------------------------------------------------------------------------

    def command(self, target: str) -> list[str]:
        """What a user would type; by Snakemake where it plans, by a verb where that is what they call."""
        results = self.flow.results
        python = [sys.executable, "-m", "harness"]
        settings = ["--settings", str(self.work / "mine.yaml")]
        if target == "publish":
            return [*python, "publish", *settings, "--results", str(results), "--output", str(self.published)]
        names = [f"results/smoke/figures/{name}.png" for name in FIGURES]
        if target == "check":
            return [*python, "check", str(results), "--output", str(results / "check")]
        if target == "report":
            return [*python, "report", *settings, "--runs", str(results / "runs"), "--figures", *names,
                    "--output", str(results / "report.html")]  # fmt: skip
        return self.flow.command(*(names if target == "figures" else [target]), "--rerun-incomplete")

    @property
    def published(self) -> Path:
        return self.work / "published"

    def start(self, command: list[str]) -> subprocess.Popen:
        with (self.work / "said.txt").open("ab") as said:
            return subprocess.Popen(
                command, cwd=self.work, env=self.environment, stdout=said, stderr=said, start_new_session=True
            )

    def finish(self, target: str) -> int:
        """Repeat the call until it is done; how many calls that took."""
        self.flow.command()
        for attempt in range(1, TRIES + 1):
            command = self.command(target)
            if any((self.work / ".snakemake" / "locks").glob("*")):  # of a Snakemake that was killed
                self.start([*self.flow.command(), "--unlock"]).wait()
            if self.start(command).wait() == 0:
                return attempt
        said = (self.work / "said.txt").read_text(errors="replace")[-3000:]
        raise AssertionError(f"{target}: not done after {TRIES} calls:\n{said}")

    def is_done(self, target: str) -> bool:
        """Whether a call of Snakemake has nothing left to do."""
        if target not in WITH_WORKER:
            return True
        done = subprocess.run(
            self.command(target), cwd=self.work, env=self.environment, capture_output=True, text=True, check=False
        )
        return "Nothing to be done" in done.stdout + done.stderr

    # -- what is there -----------------------------------------------------------------------------------------------

    def files(self) -> dict[str, str]:
        """Digests of all files that the run has left, by name; and of what was published, and of the cache."""
        found = {}
        for top in (self.flow.results, self.published.parent):
            for path in sorted(top.rglob("*") if top == self.flow.results else top.glob("*publish*/**/*")):
                name = path.relative_to(self.work)
                if path.is_file() and not (len(name.parts) > 2 and name.parts[2] in NOT_COMPARED):
                    found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def changes(self, seen: set[tuple[str, int]]) -> int:
        """Count the files that are new or other than at the last look, without those that only tell of progress."""
        for top in (self.flow.results, self.work):
            for folder, folders, names in os.walk(top):
                if top == self.work:
                    folders[:] = [name for name in folders if "publish" in name or "publish" in folder]
                for name in names:
                    with contextlib.suppress(OSError):
                        seen.add((os.path.join(folder, name), os.stat(os.path.join(folder, name)).st_mtime_ns))
        return len(seen)

    # -- trials ------------------------------------------------------------------------------------------------------

    def undisturbed(self, target: str) -> None:
        """What the target comes to, and how many changes of files that takes."""
        self.prepare(target)
        seen: set[tuple[str, int]] = set()
        before = self.changes(seen)
        process = self.start(self.command(target))
        while process.poll() is None:
            self.changes(seen)
            time.sleep(0.01)
        assert process.returncode == 0, (self.work / "said.txt").read_text(errors="replace")[-3000:]
        self.moments[target] = self.changes(seen) - before
        self.expected[target] = self.files()

    def prepare(self, target: str) -> None:
        """The finished run; where the target only shows what there is, with the new settings' tables and figures."""
        self.restore(target)
        if target in ("publish", "check", "report"):
            made = self.saved.with_name("made")
            if not made.exists():
                for needed in ("tables", "figures", "searches"):
                    self.finish(needed)
                shutil.copytree(self.work, made, symlinks=True)
            shutil.rmtree(self.work)
            shutil.copytree(made, self.work, symlinks=True)

    def trial(self, target: str, number: signal.Signals | str) -> "Trial":
        """Stop a call at a random moment, repeat it until it is done, compare."""
        if target not in self.expected:
            self.undisturbed(target)
        moment = self.random.randrange(max(1, self.moments[target]))
        while not self.stopped(target, number, moment):
            moment //= 2  # the call was through: changes came too fast to be counted one by one
        calls = self.finish(target)
        found, expected = self.files(), self.expected[target]
        wrong = [
            *(f"lost {name}" for name in sorted(set(expected) - set(found))),
            *(f"litter {name}" for name in sorted(set(found) - set(expected))),
            *(f"other {name}" for name in sorted(set(found) & set(expected)) if found[name] != expected[name]),
        ]
        wrong += [] if self.is_done(target) else ["a call after the last one finds work to do"]
        return Trial(target, getattr(number, "name", number), moment, calls, tuple(wrong))

    def stopped(self, target: str, number: signal.Signals | str, moment: int) -> bool:
        """Start a call and stop it after so many changes of files; False where it ended before, or had no worker."""
        self.prepare(target)
        seen: set[tuple[str, int]] = set()
        before = self.changes(seen)
        process = self.start(self.command(target))
        while process.poll() is None and self.changes(seen) - before < moment:
            time.sleep(0.005)
        in_time = process.poll() is None
        if number == WORKER:
            # before the first change of a file there is none yet, and it is not certain to be there at once
            while not (workers := _workers(process)) and process.poll() is None:
                time.sleep(0.005)
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            assert process.wait() == 0, (self.work / "said.txt").read_text(errors="replace")[-3000:]
            return in_time and bool(workers)
        self.stop(process, number)
        return in_time

    def stop(self, process: subprocess.Popen, number: signal.Signals) -> None:
        """Send the signal to all processes of the call, and wait until none is left, its worker's either."""
        groups = {process.pid, *_workers(process)}
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        quiet = time.monotonic()
        while members := _members(groups, process):
            if members != {process.pid}:
                quiet = time.monotonic()  # a job is still at work on its last checkpoint
            if time.monotonic() - quiet > HUNG_S:
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.02)
        process.wait()


def _members(groups: set[int], process: subprocess.Popen) -> set[int]:
    """The living processes of groups; the first one is waited for, so that it does not stay as a zombie."""
    process.poll()
    return {each for each, (_, group, state) in _processes().items() if group in groups and state != "Z"}


def _workers(process: subprocess.Popen) -> set[int]:
    """The worker that a Snakemake has started, which leads a group of its own."""
    started = {each for each, (parent, group, _) in _processes().items() if parent == process.pid and group == each}
    return {each for each in started if b"\0harness\0worker\0" in _command(each)}


def _command(process: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""


def _processes() -> dict[int, tuple[int, int, str]]:
    """(parent, group, state) of every process."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = stat.read_text().rpartition(")")[2].split()
            found[int(stat.parent.name)] = int(fields[1]), int(fields[2]), fields[0]
    return found


@dataclass(frozen=True)
class Trial:
    """One stop. ``moment``: changes of files before it. ``calls``: how many it took until the target was done."""

    target: str
    signal: str
    moment: int
    calls: int
    wrong: tuple[str, ...]


def run(folder: Path, kills: int, stops: int, workers: int, seed: int = 0) -> list[Trial]:
    """So many trials with SIGKILL, with SIGTERM and with SIGKILL for the worker, shared out to all targets in turn."""
    campaign = Campaign(folder, seed)
    trials = []
    for number, count in ((signal.SIGKILL, kills), (signal.SIGTERM, stops), (WORKER, workers)):
        targets = WITH_WORKER if number == WORKER else TARGETS
        for i in range(count):
            trials.append(campaign.trial(targets[i % len(targets)], number))
            print(json.dumps(trials[-1].__dict__), flush=True)
    return trials


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--stops", type=int, default=50)
    parser.add_argument("--workers", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    trials = run(options.folder, options.kills, options.stops, options.workers, options.seed)
    print(f"{len(trials)} trials: {dict(Counter(f'{trial.target} {trial.signal}' for trial in trials))}")
    wrong = [trial for trial in trials if trial.wrong]
    print(f"{len(wrong)} with something wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
