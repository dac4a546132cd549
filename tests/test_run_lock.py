"""One process at a time in the folder of a run: real processes that contend for it."""

import json
import logging
import os
import signal
import subprocess
import sys

import pytest

from harness.errors import HarnessError
from harness.storage import run_lock
from harness.storage.runs import RunFolder

WORKER = """
import sys
from pathlib import Path
from harness.storage import run_lock
from harness.storage.runs import RunFolder
run_lock.POLL_S = 0.01
folder = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with RunFolder(folder).alone():
        (folder / "busy").touch(exist_ok=False)  # fails where another one is inside
        (folder / "count").write_text(str(int((folder / "count").read_text()) + 1))
        (folder / "busy").unlink()
"""
HOLDER = """
import sys, time
from pathlib import Path
from harness.storage.runs import RunFolder
with RunFolder(Path(sys.argv[1])).alone():
    print("inside", flush=True)
    sys.stdin.read()
"""


def holder(folder):
    command = [sys.executable, "-c", HOLDER, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "inside\n"
    return process


def test_no_two_at_a_time_and_nothing_stays(tmp_path):
    (tmp_path / "count").write_text("0")
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path), "50"]) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    assert (tmp_path / "count").read_text() == "200"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_the_second_one_says_for_whom_it_waits(tmp_path, caplog, monkeypatch):
    first = holder(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "17")

    def end_the_first(_):
        if first.poll() is None:
            first.communicate("")

    monkeypatch.setattr(run_lock.time, "sleep", end_the_first)
    with caplog.at_level(logging.INFO), RunFolder(tmp_path).alone():
        who = json.loads((tmp_path / ".lock").read_text())
    assert (who["process"], who["SLURM job"]) == (os.getpid(), "17")
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path}: waiting for process {first.pid}, host ")


def test_a_killed_process_holds_nothing(tmp_path, caplog):
    first = holder(tmp_path)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert (tmp_path / ".lock").exists()
    with caplog.at_level(logging.INFO), RunFolder(tmp_path).alone():
        pass
    assert not caplog.messages
    assert not list(tmp_path.iterdir())


def test_an_exception_lets_go(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), RunFolder(tmp_path).alone():
            _ = 1 / 0
    assert not list(tmp_path.iterdir())


def test_without_file_locks_it_is_said(tmp_path, caplog, monkeypatch):
    def unsupported(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with caplog.at_level(logging.WARNING), RunFolder(tmp_path).alone():
        pass
    assert "file locks do not work here (Function not implemented)" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(HarnessError, match=r"run/\.lock: expected to write it, found "):
        RunFolder(tmp_path / "run").alone().__enter__()
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match=r"expected to write it, found "):
        RunFolder(tmp_path / "file" / "run").alone().__enter__()
