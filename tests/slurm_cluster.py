"""A SLURM of one machine for tests: its own munge, slurmctld, slurmd and, where asked for, slurmdbd on its own MariaDB.

Everything lies in one folder and ends with the block. Needs root and Debian's packages (``slurm-wlm munge``, for the
accounting ``slurmdbd mariadb-server``); ``missing`` says what this machine lacks. By hand, in the root of the
repository:

    python tests/slurm_cluster.py --accounting -- sinfo
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd", "scontrol", "sbatch", "squeue", "scancel", "sinfo", "srun")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb", "sacctmgr", "sacct")
CGROUPS = Path("/sys/fs/cgroup")
FULL_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
PATIENCE_S = 120
NODE = f"node{os.getpid()}"  # names control groups, too: clusters of several tests at a time must not share them

CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType={process_tracking}
TaskPlugin={task}
JobAcctGatherType={gather}
JobAcctGatherFrequency=task=1
{gather_parameters}
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
MinJobAge=300
KillWait=30
SlurmdTimeout=300
SchedulerParameters=sched_interval=5,batch_sched_delay=1,bf_interval=5,requeue_delay=1
DefMemPerCPU=500
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN
PartitionName=main Nodes={node} Default=YES MaxTime=24:00:00 DefaultTime=01:00:00 State=UP
{accounting}
"""
CGROUP_CONFIGURATION = """\
CgroupPlugin=cgroup/v1
CgroupAutomount=no
CgroupMountpoint={cgroups}
ConstrainRAMSpace=yes
AllowedRAMSpace=100
"""
DATABASE_CONFIGURATION = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdPort={port}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={storage_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""


def missing(accounting: bool = False) -> str:
    """Why there can be no cluster on this machine; '' where there can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs root on Linux"
    absent = [name for name in DAEMONS + (ACCOUNTING if accounting else ()) if not shutil.which(name, path=FULL_PATH)]
    packages = "slurm-wlm munge" + (" slurmdbd mariadb-server" if accounting else "")
    return f"needs Debian's {packages}: no {', '.join(absent)}" if absent else ""


class ClusterError(Exception):
    """The cluster did not come up; the message has the end of the daemon's log."""


class Cluster:
    """A running cluster. environment: of processes that are to see it."""

    def __init__(self, folder: Path, accounting: bool, cpus: int, memory_mb: int):
        self.folder, self.accounting, self.cpus, self.memory_mb = folder, accounting, cpus, memory_mb
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": FULL_PATH}
        for name in [name for name in self.environment if name.startswith("SLURM_") and name != "SLURM_CONF"]:
            del self.environment[name]
        self.limits_memory = _has_cgroups()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, *command: str, check: bool = True, timeout: float = PATIENCE_S) -> str:
        """Output of a command that sees the cluster; raises ClusterError where it fails."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=timeout
        )
        if check and done.returncode:
            raise ClusterError(f"{' '.join(command)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def jobs(self, *states: str) -> dict[int, str]:
        """Job -> state, of those in one of the states or, without any, of all that the controller remembers."""
        lines = self.run("squeue", "--noheader", "--states=all", "--format=%A|%T").splitlines()
        found = {int(number): state for number, _, state in (line.strip().partition("|") for line in lines)}
        return {number: state for number, state in found.items() if not states or state in states}

    def start(self) -> None:
        """Start all daemons, each one when what it needs answers."""
        self._start_munge()
        if self.accounting:
            self._start_accounting()
        self._write_configuration()
        self._start("slurmctld", "slurmctld", "-D", "-c", "-f", self.environment["SLURM_CONF"])
        self._wait("slurmctld", "scontrol", "ping")
        self.start_node()

    def start_node(self) -> None:
        """Start slurmd and wait until the node takes jobs."""
        self._start("slurmd", "slurmd", "-D", "-f", self.environment["SLURM_CONF"], "-N", NODE)
        self.run("scontrol", "update", f"NodeName={NODE}", "State=RESUME", check=False)
        deadline = time.monotonic() + PATIENCE_S
        while not self.run("sinfo", "--noheader", "--format=%T").strip().startswith(("idle", "mixed", "allocated")):
            if time.monotonic() > deadline:
                raise ClusterError(self.run("sinfo", "--list-reasons") + self._log("slurmd"))
            time.sleep(0.2)

    def kill_node(self) -> None:
        """What a power cut does to the node: slurmd and all steps are gone at once, and the controller learns of it."""
        self._stop("slurmd", signal.SIGKILL)
        for number in _steps(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.run("scontrol", "update", f"NodeName={NODE}", "State=DOWN", "Reason=power cut")

    def stop(self) -> None:
        """End all jobs and daemons."""
        if "slurmctld" in self._processes:
            self.run("scancel", "--full", "--user=root", check=False)
            deadline = time.monotonic() + 30
            while self.run("squeue", "--noheader", check=False).strip() and time.monotonic() < deadline:
                time.sleep(0.2)
        for number in _steps(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        for name in reversed(list(self._processes)):
            self._stop(name, signal.SIGTERM)
        _remove_cgroups()

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        folder.mkdir(mode=0o755)
        key = folder / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        options = {"key-file": key, "socket": folder / "socket", "pid-file": folder / "pid", "log-file": folder / "log"}
        options["seed-file"] = folder / "seed"
        arguments = [f"--{name}={path}" for name, path in options.items()]
        self._start("munged", "munged", "--foreground", "--force", *arguments)
        self._wait("munged", "munge", "--no-input", "--socket", str(folder / "socket"))

    def _start_accounting(self) -> None:
        data, port = self.folder / "mariadb", _free_port()
        user = pwd.getpwuid(os.geteuid()).pw_name
        places = [f"--datadir={data}", f"--user={user}"]
        log = self.folder / "mariadb-install.log"
        with log.open("wb") as output:
            command = ["mariadb-install-db", "--no-defaults", *places, "--auth-root-authentication-method=socket"]
            subprocess.run(command, env=self.environment, check=True, stdout=output, stderr=output, timeout=PATIENCE_S)
        own_socket = self.folder / "mariadb.socket"
        options = [f"--socket={own_socket}", f"--port={port}", "--bind-address=127.0.0.1"]
        options += [
            f"--pid-file={self.folder}/mariadb.pid",
            "--innodb-buffer-pool-size=64M",
            "--innodb-lock-wait-timeout=900",
        ]
        self._start("mariadbd", "mariadbd", "--no-defaults", *places, *options)
        client = ["mariadb", "--no-defaults", f"--socket={own_socket}", "--user=root"]
        self._wait("mariadbd", *client, "--execute=SELECT 1")
        rights = "CREATE DATABASE slurm; GRANT ALL ON slurm.* TO 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm'; "
        rights += "GRANT ALL ON slurm.* TO 'slurm'@'localhost' IDENTIFIED BY 'slurm'"
        self.run(*client, f"--execute={rights}")
        self._database_port = _free_port()
        text = DATABASE_CONFIGURATION.format(folder=self.folder, port=self._database_port, storage_port=port)
        file = self.folder / "slurmdbd.conf"
        file.write_text(text)
        file.chmod(0o600)
        self._write_configuration()  # sacctmgr reads where slurmdbd is
        self._start("slurmdbd", "slurmdbd", "-D")
        self._wait("slurmdbd", "sacctmgr", "--immediate", "list", "cluster")
        self.run("sacctmgr", "--immediate", "add", "cluster", "tests")
        self.run("sacctmgr", "--immediate", "add", "account", "physics", "cluster=tests", "Description=tests")
        self.run("sacctmgr", "--immediate", "add", "user", user, "account=physics", "cluster=tests")

    def _write_configuration(self) -> None:
        accounting = "AccountingStorageType=accounting_storage/none"
        if self.accounting:
            accounting = (
                f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=localhost\n"
                f"AccountingStoragePort={self._database_port}\nAccountingStorageEnforce=associations\n"
                f"AccountingStoragePass={self.folder}/munge/socket"
            )
        file = self.folder / "slurm.conf"
        if not hasattr(self, "_ports"):
            self._ports = {"controller_port": _free_port(), "node_port": _free_port()}
        kind = {"process_tracking": "proctrack/linuxproc", "task": "task/none", "gather": "jobacct_gather/linux"}
        kind["gather_parameters"] = "JobAcctGatherParams=OverMemoryKill"
        if self.limits_memory:
            kind = {"process_tracking": "proctrack/cgroup", "task": "task/cgroup", "gather": "jobacct_gather/cgroup"}
            kind["gather_parameters"] = ""
            (self.folder / "cgroup.conf").write_text(CGROUP_CONFIGURATION.format(cgroups=CGROUPS))
        text = CONFIGURATION.format(
            host=socket.gethostname(),
            folder=self.folder,
            node=NODE,
            cpus=self.cpus,
            memory_mb=self.memory_mb,
            accounting=accounting,
            **self._ports,
            **kind,
        )
        file.write_text(text)

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as output:
            # a session of its own: Ctrl-C in the terminal must not reach the daemons before stop() does
            self._processes[name] = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _wait(self, name: str, *command: str) -> None:
        """Until a command succeeds; raises ClusterError when the daemon ends before it does, or time is up."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
            if done.returncode == 0 and "is DOWN" not in done.stdout:
                return
            if self._processes[name].poll() is not None or time.monotonic() > deadline:
                raise ClusterError(f"{name}: {done.stdout}{done.stderr}\n{self._log(name)}")
            time.sleep(0.2)

    def _stop(self, name: str, how: signal.Signals) -> None:
        process = self._processes.pop(name)
        process.send_signal(how)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _log(self, name: str) -> str:
        parts = [self.folder / f"{name}.out", self.folder / f"{name}.log"]
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in parts if path.exists())


def _has_cgroups() -> bool:
    """Whether slurmd can make control groups here, and so limit the memory of a step."""
    probes = [CGROUPS / name / f"probe-{os.getpid()}" for name in ("memory", "freezer", "cpuset", "cpuacct")]
    try:
        for probe in probes:
            probe.mkdir()
            probe.rmdir()
    except OSError:
        return False
    return True


def _remove_cgroups() -> None:
    for top in CGROUPS.glob(f"*/slurm_{NODE}"):
        for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(OSError):
            top.rmdir()


def _steps(folder: Path) -> list[int]:
    """Processes of jobs of this cluster: slurmstepd, and whatever has its settings in the environment and a job."""
    mark, job = f"SLURM_CONF={folder}/slurm.conf".encode(), b"SLURM_JOB_ID="
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (path / "environ").read_bytes().split(b"\0")
            command = (path / "cmdline").read_bytes()
            step = command.startswith(b"slurmstepd") and mark in variables
            if step or (mark in variables and any(each.startswith(job) for each in variables)):
                found.append(int(path.name))
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def cluster(accounting: bool = False, cpus: int = 4, memory_mb: int = 64_000) -> Iterator[Cluster]:
    """A cluster of one node that says it has ``cpus`` processors and ``memory_mb`` of memory, while the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    made = Cluster(folder, accounting, cpus, memory_mb)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command beside a cluster; its exit code, 77 where there can be none."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd")
    parser.add_argument("--cpus", type=int, default=4)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    reason = missing(options.accounting)
    if reason:
        print(f"skipped: {reason}", file=sys.stderr)
        return 77
    with cluster(options.accounting, options.cpus) as made:
        return subprocess.run(options.command, env=made.environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
