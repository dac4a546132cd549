"""Slots on GPUs: real processes contending for lock files; the GPUs themselves are made up, so none is needed."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from harness.cli import main, workflow
from harness.compute import gpu_slots
from harness.compute.gpu_slots import Gpu, acquire, means_gpu, visible_gpus
from harness.errors import ConfigError
from harness.settings.config import load_settings

TWO = [Gpu("cuda:0", "GPU-aaaa"), Gpu("cuda:1", "GPU-bbbb")]
HOLDER = """
import sys, time
from pathlib import Path
from harness.compute import gpu_slots
gpu_slots.POLL_S = 0.01
cards, slots, folder, seconds = [gpu_slots.Gpu(*pair.split("=")) for pair in sys.argv[1].split(",")], *sys.argv[2:5]
with gpu_slots.acquire("auto", int(slots), lambda: cards, Path(folder)) as device:
    print(device, time.monotonic(), flush=True)
    time.sleep(float(seconds))
    print(device, time.monotonic(), flush=True)
"""


def holder(folder, slots, seconds, gpus=TWO):
    """A process that takes a slot, says which and when, and keeps it for some seconds."""
    cards = ",".join(f"{gpu.device}={gpu.identity}" for gpu in gpus)
    command = [sys.executable, "-c", HOLDER, cards, str(slots), str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_more_processes_than_slots_take_turns(tmp_path):
    processes = [holder(tmp_path, slots=2, seconds=0.3) for _ in range(10)]
    stays = {"cuda:0": [], "cuda:1": []}
    for process in processes:
        taken, given_back = process.communicate(timeout=60)[0].splitlines()
        assert process.returncode == 0
        device = taken.split()[0]
        stays[device].append((float(taken.split()[1]), float(given_back.split()[1])))
    for intervals in stays.values():
        assert intervals
        for start, _ in intervals:
            assert sum(begin <= start < end for begin, end in intervals) <= 2
    waited = sorted(start for intervals in stays.values() for start, _ in intervals)
    assert waited[-1] - waited[0] >= 0.6  # ten stays of 0.3 s in four slots


def test_every_card_gets_a_process_before_one_gets_a_second(tmp_path):
    with contextlib.ExitStack() as stack:
        devices = [stack.enter_context(acquire("auto", 2, lambda: TWO, tmp_path)) for _ in range(4)]
    assert devices == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]


def test_a_killed_process_gives_its_slot_back(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(gpu_slots, "POLL_S", 0.01)
    first = holder(tmp_path, slots=1, seconds=1000, gpus=TWO[:1])
    assert first.stdout.readline().startswith("cuda:0")
    waiting = holder(tmp_path, slots=1, seconds=0, gpus=TWO[:1])
    time.sleep(0.5)
    assert waiting.poll() is None
    first.send_signal(signal.SIGKILL)
    assert waiting.communicate(timeout=60)[0].startswith("cuda:0")
    first.communicate()
    with caplog.at_level(logging.INFO), acquire("cuda", 1, lambda: TWO[:1], tmp_path):
        pass
    assert not caplog.messages


def test_waiting_is_told_once_with_the_holders(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(gpu_slots, "POLL_S", 0.01)
    process = holder(tmp_path, slots=1, seconds=0.5, gpus=TWO[1:])
    process.stdout.readline()
    with caplog.at_level(logging.INFO), acquire("cuda:1", 1, lambda: TWO, tmp_path) as device:
        assert device == "cuda:1"
    assert caplog.messages == [f"waiting for one of 1 slots on cuda:1, held by processes {process.pid}"]
    process.communicate()


def test_a_card_is_the_same_whatever_its_number_here(tmp_path, monkeypatch):
    """Two processes with different CUDA_VISIBLE_DEVICES call one card by two names."""
    monkeypatch.setattr(gpu_slots, "POLL_S", 0.01)
    process = holder(tmp_path, slots=1, seconds=0.5, gpus=[Gpu("cuda:0", "GPU-bbbb")])
    process.stdout.readline()
    with acquire("cuda", 1, lambda: TWO, tmp_path) as device:
        assert device == "cuda:0"  # of TWO: the other card
    process.communicate()


def test_an_exception_gives_the_slot_back(tmp_path):
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), acquire("cuda", 1, lambda: TWO[:1], tmp_path):
            _ = 1 / 0


def test_what_needs_no_gpu_asks_for_none(tmp_path):
    def never():
        raise AssertionError("asked for GPUs")

    for name in ("cpu", "mps"):
        with acquire(name, 1, never, tmp_path) as device:
            assert device == name
    with acquire("auto", 1, list, tmp_path) as device:
        assert device == "cpu"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("gpus", "asked", "expected"),
    [(TWO, "cuda:2", "auto, cpu, cuda:0, cuda:1 on "), ([], "cuda", "auto, cpu on "), ([], "cuda:0", "auto, cpu on ")],
)
def test_a_card_that_there_is_not_is_named(gpus, asked, expected, tmp_path):
    with pytest.raises(ConfigError, match=f"device: expected one of {expected}.*, found '{asked}'"):
        acquire(asked, 1, lambda: gpus, tmp_path).__enter__()


def test_the_command_line_names_a_word_that_is_no_device(tmp_path, capsys):
    settings = '{"data": {"cache": "%s", "mirrors": [], "download": false}}' % (tmp_path / "cache")
    assert main(["datasets", "--fetch", "connect4", "--settings", settings]) == 0
    cell = ["--dataset", "connect4", "--method", "factorised", "--run", str(tmp_path / "run")]
    assert main(["run", *cell, "--settings", settings, "--device", "gpu"]) == 3
    assert "device: expected auto, cpu, cuda, cuda:1 ..., found 'gpu'" in capsys.readouterr().err


def test_without_file_locks_training_goes_on(tmp_path, caplog, monkeypatch):
    def unsupported(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with caplog.at_level(logging.WARNING), acquire("auto", 1, lambda: TWO, tmp_path) as device:
        assert device == "cuda:0"
    assert "Function not implemented; GPUs are shared without a limit" in caplog.text


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """A driver that lists two cards, and a build of torch that could use them."""
    listing = "GPU 0: A card (UUID: GPU-aaaa)\nGPU 1: A card (UUID: GPU-bbbb)\n  MIG 1g.10gb Device 0: (UUID: MIG-cc)\n"
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<END\n{listing}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(gpu_slots, "version", lambda _: "2.13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, 2),
        ("0,1", 2),
        ("1", 1),
        ("GPU-bbbb", 1),
        ("GPU-bb,GPU-aa", 2),
        ("0,7,1", 1),
        ("", 0),
        ("-1", 0),
        ("GPU-dddd", 0),
        ("MIG-cc", 1),
    ],
)
def test_gpus_are_counted_as_cuda_would(visible, expected, two_gpus, monkeypatch):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == expected


def test_gpus_are_counted_without_the_driver_s_tool(tmp_path, monkeypatch):
    for bus in ("0000:41:00.0", "0000:c1:00.0"):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text(f"Model: \t A card\nGPU UUID: \t GPU-{bus[5:7]}\n")
    monkeypatch.setattr(gpu_slots, "PROC_GPUS", tmp_path)
    monkeypatch.setattr(gpu_slots, "version", lambda _: "2.13.0")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == 2
    monkeypatch.setattr(gpu_slots, "PROC_GPUS", tmp_path / "none")
    assert visible_gpus() == 0


def test_a_torch_for_the_cpu_sees_no_gpu(two_gpus, monkeypatch):
    monkeypatch.setattr(gpu_slots, "version", lambda _: "2.13.0+cpu")
    assert visible_gpus() == 0


@pytest.mark.parametrize(
    ("device", "n_gpus", "expected"),
    [
        ("auto", 0, False),
        ("auto", 1, True),
        ("cpu", 2, False),
        ("cuda", 0, True),
        ("cuda:1", 2, True),
        ("mps", 0, False),
    ],
)
def test_which_settings_mean_a_gpu(device, n_gpus, expected):
    assert means_gpu(device, n_gpus) is expected


@pytest.mark.parametrize(
    ("device", "n_gpus", "slots"), [("cpu", 2, 0), ("auto", 0, 0), ("auto", 2, 6), ("cuda:1", 2, 3), ("cuda", 0, 3)]
)
def test_snakemake_counts_the_slots_of_the_cards_in_use(device, n_gpus, slots):
    settings = load_settings({"device": device, "gpu": {"slots_per_device": 3}})
    resources, total = workflow.gpu_resources(settings, n_gpus)
    assert total == slots
    settings["gpu"]["stack"] = 2
    assert workflow.gpu_resources(settings, n_gpus) == (resources, 2 * slots)
    assert resources == ({"gpu_slots": 1, "gres": "gpu:1"} if slots else {})


@pytest.mark.parametrize("kind", ["a link", "a hard link", "a pipe", "a folder"])
def test_a_lock_is_no_way_to_another_file(tmp_path, kind, caplog):
    """What lies in the place of a lock file is left alone, and the card is shared uncounted, with a word about it."""
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    with acquire("cuda:0", 1, lambda: TWO, tmp_path / "gpu"):
        (lock,) = (tmp_path / "gpu").iterdir()
    lock.unlink()
    if kind == "a link":
        lock.symlink_to(precious)
    elif kind == "a hard link":
        lock.hardlink_to(precious)
    elif kind == "a pipe":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    with acquire("cuda:0", 1, lambda: TWO, tmp_path / "gpu") as device:
        assert device == "cuda:0"
    assert "GPUs are shared without a limit" in caplog.text
    assert precious.read_text() == "years of work"


def test_a_link_to_nothing_makes_no_file(tmp_path):
    with acquire("cuda:0", 1, lambda: TWO, tmp_path / "gpu"):
        (lock,) = (tmp_path / "gpu").iterdir()
    lock.unlink()
    lock.symlink_to(tmp_path / "new")
    with acquire("cuda:0", 1, lambda: TWO, tmp_path / "gpu"):
        pass
    assert not (tmp_path / "new").exists()
