"""What killed processes leave behind goes away, what living ones are writing stays, and folders change in one step."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from harness import atomic
from harness.errors import HarnessError

WRITER = """
import sys, time
from pathlib import Path
from harness import atomic
with atomic.replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    time.sleep(1000)
"""


@pytest.fixture(autouse=True)
def _unswept(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr(atomic, "_swept", set())


def test_the_file_of_a_killed_writer_is_swept_that_of_a_living_one_is_not(tmp_path, monkeypatch):
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
        for name in ("report.html", "checkpoint.safetensors")
    ]
    killed, living = (os.path.basename(process.stdout.readline().strip()) for process in processes)
    processes[0].send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, processes[0].pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has waited for it
    atomic.write_text(tmp_path / "other.csv", "whole")
    assert sorted(os.listdir(tmp_path)) == sorted([living, "other.csv"])
    processes[0].communicate()
    processes[1].send_signal(signal.SIGKILL)
    processes[1].communicate()
    atomic.write_text(tmp_path / "other.csv", "whole")  # this process has swept
    assert living in os.listdir(tmp_path)
    monkeypatch.setattr(atomic, "_swept", set())
    atomic.write_text(tmp_path / "other.csv", "whole")
    assert os.listdir(tmp_path) == ["other.csv"]
    assert killed != living


def test_a_number_that_was_given_out_again_is_another_process(tmp_path):
    me, birth = os.getpid(), atomic._birth(os.getpid())
    earlier = tmp_path / f".a.csv.{atomic._place()}-{me}-{birth - 1}-abc.part"
    mine = tmp_path / f".a.csv.{atomic._place()}-{me}-{birth}-abc.part"
    for path in (earlier, mine):
        path.write_text("")
    atomic.sweep(tmp_path)
    assert os.listdir(tmp_path) == [mine.name]


def test_the_file_of_a_process_elsewhere_is_swept_when_it_is_old(tmp_path):
    elsewhere = tmp_path / ".check.csv.00000000-1-1-abc.part"
    of_an_earlier_version = tmp_path / ".check.csv.abc123.part"
    not_ours = tmp_path / ".notes.md"
    for path in (elsewhere, of_an_earlier_version, not_ours):
        path.write_text("")
    atomic.sweep(tmp_path)
    assert elsewhere.exists()
    assert of_an_earlier_version.exists()
    for path in (elsewhere, of_an_earlier_version, not_ours):
        os.utime(path, (0, 0))
    atomic._swept.clear()
    atomic.sweep(tmp_path)
    assert os.listdir(tmp_path) == [not_ours.name]


def test_names_of_any_length_have_room_for_their_owner(tmp_path):
    atomic.write_text(tmp_path / ("x" * 250), "whole")
    assert (tmp_path / ("x" * 250)).read_text() == "whole"


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "p"
    with atomic.replacing_folder(folder) as new:
        (new / "a").write_text("1")
    with contextlib.suppress(KeyboardInterrupt), atomic.replacing_folder(folder) as new:
        (new / "b").write_text("2")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.rglob("*")] == ["p", "a"]
    (tmp_path / ".p.new").mkdir()  # two calls that were killed, one before the new folder was in place
    folder.rename(tmp_path / ".p.old")
    with atomic.replacing_folder(folder) as new:
        assert (folder / "a").read_text() == "1"
        (new / "c").write_text("3")
    assert [path.name for path in tmp_path.rglob("*")] == ["p", "c"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic.replacing_folder(tmp_path / "link") as new:
        (new / "a").write_text("1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="file"), atomic.replacing_folder(tmp_path / "file" / "p"):
        pass
