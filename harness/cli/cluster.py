"""The Snakefile's dealings with SLURM: before jobs are sent, it is asked whether they could run; inside a job, signals
and settings are passed on that would not reach what Snakemake starts there.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from harness.errors import ConfigError

# Words of sbatch about a cluster that is busy or being repaired: the same job may run later.
PASSING = re.compile(r"busy|not available now|\bdown\b|drained|reserved|unable to contact|timed out|unavailable", re.I)


def check_requests(jobs: Iterable[Mapping[str, Any]]) -> None:
    """Ask SLURM about each kind of job, by its resources, before any is sent; nothing is queued.

    Snakemake prints no reason when a job that several cells share is refused, and waits for ever for one whose account
    is unknown to the plugin or that asks for more than its partition has. Raises ConfigError with SLURM's words.
    """
    user = psutil.Process().username()
    kinds = {tuple(sorted(_options(resources).items())) for resources in jobs}
    for account in sorted({options["account"] for options in map(dict, kinds) if "account" in options}):
        _check_account(account, user)
    for kind in sorted(kinds):
        asked = [f"--{name}={value}" for name, value in kind]
        command = ["sbatch", "--test-only", "--ntasks=1", *asked, "--wrap=true"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        words = " ".join(done.stderr.split())
        if done.returncode and not PASSING.search(words):
            raise ConfigError(f"SLURM: expected to take a job with {shlex.join(asked)}, found {words}")
        _check_time(dict(kind))


def _check_time(options: Mapping[str, str]) -> None:
    """By default SLURM queues a job that asks for more time than its partition has; it then waits for ever."""
    named = set(options.get("partition", "").split(","))
    done = subprocess.run(["sinfo", "--noheader", "--format=%P|%l"], capture_output=True, text=True, check=False)
    limits = {}
    for line in done.stdout.splitlines():
        partition, _, limit = line.strip().partition("|")
        if partition.rstrip("*") in named or (named == {""} and partition.endswith("*")):
            limits[partition.rstrip("*")] = _minutes(limit)
    if "time" in options and limits and int(options["time"]) > max(limits.values()):
        known = ", ".join(f"{limit:g} in {partition}" for partition, limit in limits.items())
        raise ConfigError(f"cluster: expected jobs of no more minutes than {known}, found {options['time']}")


def _minutes(text: str) -> float:
    """Minutes of SLURM's D-HH:MM:SS, HH:MM:SS or MM:SS; infinite for its other words."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not match:
        return math.inf
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + minutes + seconds / 60


def _options(resources: Mapping[str, Any]) -> dict[str, str]:
    """Options of sbatch that can make a job impossible."""
    names = {"slurm_partition": "partition", "slurm_account": "account", "runtime": "time", "mem_mb": "mem"}
    names |= {"gres": "gres", "qos": "qos", "constraint": "constraint", "slurm_cluster": "clusters"}
    return {option: str(resources[name]) for name, option in names.items() if resources.get(name)}


def _check_account(account: str, user: str) -> None:
    """The plugin lets nobody use an account that it cannot find in the accounting."""
    command = ["sacctmgr", "--noheader", "--parsable2", "list", "associations", f"user={user}", "format=account"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ConfigError(f"slurm_account: expected no account without sacctmgr, found {account!r}") from error
    known = {line.strip().lower() for line in done.stdout.splitlines() if line.strip()}
    if done.returncode:
        why = " ".join(done.stderr.split())
        raise ConfigError(f"slurm_account: expected no account without accounting ({why}), found {account!r}")
    if known and account.lower() not in known:
        raise ConfigError(f"slurm_account: expected one of {', '.join(sorted(known))}, found {account!r}")


def use_this_cluster(profile: Path) -> None:
    """Within a job of SLURM, let ``srun`` keep SLURM_CONF, which the plugin takes away (see the profile's bin/srun)."""
    found = shutil.which("srun")
    if found and "SLURM_JOB_ID" in os.environ and "SLURM_CONF" in os.environ and "BIHM_SRUN" not in os.environ:
        os.environ["BIHM_SRUN"], os.environ["BIHM_SLURM_CONF"] = found, os.environ["SLURM_CONF"]
        os.environ["PATH"] = os.pathsep.join([str(profile / "bin"), os.environ["PATH"]])


def forward_sigterm() -> None:
    """Pass SIGTERM on to all that this Snakemake has started, inside a job of SLURM; elsewhere do nothing.

    There the signal that announces the end of a job reaches only the process which SLURM itself started (with
    ``proctrack/cgroup``), a Snakemake that then waits for its own jobs and is killed with them. A training that hears
    of it writes a checkpoint. Snakemake's own handler stays in place: the interpreter writes to the pipe beside it.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def forward() -> None:
        while number := os.read(reader, 1):
            if number[0] == signal.SIGTERM:
                for process in psutil.Process().children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.terminate()

    threading.Thread(target=forward, name="forward SIGTERM", daemon=True).start()
