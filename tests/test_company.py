"""Jobs that share a slot: real processes, a card that is made up, and trainings on the CPU, all bytes compared."""

import json
import logging
import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from cells import cell, patterns
from test_together import Failing, alone, files_of, learning, words

from harness.cli import main
from harness.compute import gpu_slots
from harness.compute.gpu_slots import Gpu, acquire
from harness.plugins import registry
from harness.plugins.registry import use_object
from harness.settings.parts import Phase
from harness.storage.runs import OK, RunFolder
from harness.training.together import Asked
from harness.training.train import InterruptedRunError
from harness.worker import company
from harness.worker.company import Company, Host, PlaceLostError

CARD = [Gpu("cpu", "a card")]
LONG = {"phases": (Phase(10_000_000, 1e-3, 2),)}
_fork = multiprocessing.get_context("fork")


class Jobs:
    """Processes that train cells in folders 0, 1, ..., on one card with one slot."""

    def __init__(self, folder, cells, n=3):
        self.folder, self.cells, self.n, self.processes = folder, cells, n, []

    def begin(self, number, guests=0):
        """guests: the trainings of others that a host waits for before its first update."""
        process = _fork.Process(target=self._work, args=(number, guests))
        process.start()
        self.processes.append(process)
        return process

    def _work(self, number, guests):
        torch.set_num_threads(1)
        use_object(Failing)
        logging.basicConfig(level=logging.INFO, filename=self.folder / f"{number}.log", force=True)
        gpu_slots.POLL_S, company.POLL_S = 0.01, 0.01

        class Waiting(Host):
            n_waited_for = guests

            def arrivals(self):
                found = [*super().arrivals()]
                while len(found) < self.n_waited_for:
                    self._selector.select()
                    found += super().arrivals()
                self.n_waited_for = 0
                return found

        company.Host = Waiting
        mine = Company(self.n, {"number": number}, "alike", self._asked_of)
        try:
            outcome = self._in_place(mine, number)
        except (InterruptedRunError, ZeroDivisionError) as error:
            outcome = type(error).__name__
        (self.folder / f"{number}.outcome").write_text(outcome)

    def _in_place(self, mine, number):
        while True:
            with acquire("auto", 1, lambda: CARD, self.folder / "slots", mine) as device:
                try:
                    return mine.train(self.cells[number], patterns(), self.folder / str(number), torch.device(device))
                except PlaceLostError:
                    continue

    def _asked_of(self, request):
        number = request["number"]
        with (self.folder / f"{number}.hosts").open("a") as hosts:
            hosts.write(f"{os.getpid()}\n")
        return Asked(self.cells[number], patterns(), self.folder / str(number))

    def hosts_of(self, number):
        """Processes that took a training in."""
        path = self.folder / f"{number}.hosts"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def wait_for_slot(self):
        wait_until(lambda: any(path.read_text().strip() for path in self.folder.glob("slots/*.lock")))

    def wait_for_arrival(self, number):
        wait_until(lambda: self.hosts_of(number))

    def outcomes(self):
        for process in self.processes:
            process.join(120)
            assert process.exitcode is not None
        found = sorted(self.folder.glob("*.outcome"))
        return {int(path.stem): path.read_text() for path in found}


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def jobs(tmp_path):
    made = []

    def make(*cells, n=3):
        made.append(Jobs(tmp_path, cells, n))
        return made[0]

    yield make
    for process in made[0].processes:
        process.kill()
        process.join()
    registry._objects.clear()


def test_one_process_trains_the_models_of_all(jobs, tmp_path):
    """Two guests with shorter trainings; each job has the bytes of a lone one."""
    cells = [learning("bihm"), learning("nade", phases=(Phase(30, 1e-2, 1),)), learning("bihm", seed=1)]
    ours = jobs(*cells)
    host = ours.begin(0, guests=2)
    ours.wait_for_slot()
    ours.begin(1)
    ours.begin(2)
    assert ours.outcomes() == {0: OK, 1: OK, 2: OK}
    assert ours.hosts_of(1)[0] == ours.hosts_of(2)[0] == host.pid
    for number, chosen in enumerate(cells):
        assert files_of(tmp_path / str(number)) == alone(chosen, tmp_path / "alone" / str(number))
    assert "trained beside the model of another process" in (tmp_path / "1.log").read_text()
    assert "trained here for another process" in (tmp_path / "0.log").read_text()


def test_a_host_that_has_ended_leaves_its_guest_a_checkpoint(jobs, tmp_path):
    cells = [learning("nade", phases=(Phase(20, 1e-2, 1),)), learning("vae", phases=(Phase(200, 1e-3, 2),))]
    ours = jobs(*cells)
    host = ours.begin(0, guests=1)
    ours.wait_for_slot()
    ours.begin(1)
    assert ours.outcomes() == {0: OK, 1: OK}
    assert ours.hosts_of(1) == [host.pid]
    for number, chosen in enumerate(cells):
        assert files_of(tmp_path / str(number)) == alone(chosen, tmp_path / "alone" / str(number))


def test_the_guest_of_a_killed_host_does_its_training_itself(jobs, tmp_path):
    cells = [learning("bihm", **LONG), learning("vae")]
    ours = jobs(*cells)
    host = ours.begin(0, guests=2)  # of which one never comes
    ours.wait_for_slot()
    ours.begin(1)
    ours.wait_for_arrival(1)
    host.kill()
    assert ours.outcomes() == {1: OK}
    assert files_of(tmp_path / "1") == alone(cells[1], tmp_path / "alone")


def test_signals_are_for_the_training_of_who_gets_them(jobs, tmp_path):
    ours = jobs(learning("bihm", **LONG), learning("vae", **LONG))
    host = ours.begin(0, guests=1)
    ours.wait_for_slot()
    guest = ours.begin(1)
    ours.wait_for_arrival(1)
    os.kill(guest.pid, signal.SIGTERM)
    guest.join(60)
    assert host.is_alive()
    assert RunFolder(tmp_path / "1").checkpoint_file.exists()
    os.kill(host.pid, signal.SIGTERM)
    assert ours.outcomes() == dict.fromkeys((0, 1), "InterruptedRunError")
    assert RunFolder(tmp_path / "0").checkpoint_file.exists()


def test_a_host_goes_on_without_a_guest_that_is_killed(jobs, tmp_path):
    cells = [learning("bihm", phases=(Phase(400, 1e-2, 4),)), learning("vae", **LONG)]
    ours = jobs(*cells)
    ours.begin(0, guests=1)
    ours.wait_for_slot()
    guest = ours.begin(1)
    ours.wait_for_arrival(1)
    guest.kill()
    assert ours.outcomes() == {0: OK}
    assert files_of(tmp_path / "0") == alone(cells[0], tmp_path / "alone")


def test_a_guest_that_fails_fails_in_its_own_process(jobs, tmp_path):
    use_object(Failing)
    cells = [learning("bihm", phases=(Phase(400, 1e-2, 4),)), cell("failing", {})]
    ours = jobs(*cells)
    host = ours.begin(0, guests=1)
    ours.wait_for_slot()
    ours.begin(1)
    assert ours.outcomes() == {0: OK, 1: "ZeroDivisionError"}
    assert ours.hosts_of(1) == [host.pid]
    assert files_of(tmp_path / "0") == alone(cells[0], tmp_path / "alone")


def test_a_host_that_fails_takes_no_guest_along(jobs, tmp_path):
    use_object(Failing)
    cells = [cell("failing", {}), learning("vae")]
    ours = jobs(*cells)
    host = ours.begin(0, guests=1)
    ours.wait_for_slot()
    ours.begin(1)
    assert ours.outcomes() == {0: "ZeroDivisionError", 1: OK}
    assert ours.hosts_of(1) == [host.pid]
    assert files_of(tmp_path / "1") == alone(cells[1], tmp_path / "alone")


# -- who gets a place -------------------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path):
    def cannot(request):
        raise OSError("no data here")

    with Host(tmp_path / "slot", "alike", 2, cannot) as found:
        yield found


def asking(host, slot, alike="alike"):
    """What somebody finds who asks for a place, with the host at work."""
    found = SimpleNamespace()

    def ask():
        found.place = company._ask(slot, {"alike": alike, "request": {}})

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive():
        assert host.arrivals() == []
    return found.place


def test_places_are_for_so_many_who_are_alike(host, tmp_path):
    slot = tmp_path / "slot"
    assert asking(host, slot, "other settings") is None
    first, second = asking(host, slot), asking(host, slot)
    assert first is not None
    assert second is not None
    assert asking(host, slot) is None
    with first:
        pass
    assert asking(host, slot) is not None
    assert company._ask(tmp_path / "another slot", {}) is None


def test_nobody_of_another_user_gets_a_place(host, tmp_path, monkeypatch):
    monkeypatch.setattr(company.os, "getuid", lambda: 1 + os.geteuid())
    assert asking(host, tmp_path / "slot") is None


def test_what_is_no_request_is_refused(host, tmp_path):
    for packet in (b"nonsense", b"[]", b"{}", b"\xff"):
        with company.socket.socket(company.socket.AF_UNIX, company.socket.SOCK_SEQPACKET) as connection:
            connection.connect(company._address(tmp_path / "slot"))
            connection.send(packet)
            for _ in range(2):
                assert host.arrivals() == []
            assert connection.recv(100) == company.REFUSED
    assert asking(host, tmp_path / "slot") is not None


def test_a_training_that_cannot_begin_with_the_host_is_for_the_guest(host, tmp_path, caplog):
    place = asking(host, tmp_path / "slot")
    place._connection.send(company.GO)
    assert host.arrivals() == []
    assert place._connection.recv(100) == company.ALONE
    assert "no data here" in caplog.text


def test_a_job_without_company_trains_as_ever(tmp_path):
    ours = Company(1, {}, "alike", None)
    with acquire("auto", 1, lambda: CARD, tmp_path / "slots", ours):
        assert ours.train(learning("bihm"), patterns(), tmp_path / "0", torch.device("cpu")) == OK
    assert files_of(tmp_path / "0") == alone(learning("bihm"), tmp_path / "alone")


# -- the verb ---------------------------------------------------------------------------------------------------------


def run_on_the_card(arguments, folder, guests):
    """The verb in a process of its own, on a card that is made up."""
    gpu_slots.POLL_S, company.POLL_S = 0.01, 0.01
    gpu_slots.acquire = partial(acquire, gpus=lambda: CARD, folder=folder / "slots")
    gpu_slots.visible_gpus = lambda: 1

    class Waiting(Host):
        n_waited_for = guests

        def arrivals(self):
            while self.n_waited_for:
                self._selector.select()
                if found := super().arrivals():
                    self.n_waited_for = 0
                    return found
            return super().arrivals()

    company.Host = Waiting
    os._exit(main(arguments))


def test_the_verb_takes_a_guest_in(tmp_path):
    stacked = json.loads(words(tmp_path)[-1]) | {"device": "auto", "gpu": {"slots_per_device": 1, "stack": 2}}
    processes = []
    for seed in ("0", "1"):
        arguments = [*words(tmp_path)[:-1], json.dumps(stacked), "--seed", seed, "--run", str(tmp_path / seed)]
        if seed == "0":
            assert main(["datasets", "--fetch", "connect4", "--settings", arguments[6]]) == 0
        processes.append(_fork.Process(target=run_on_the_card, args=(arguments, tmp_path, seed == "0")))
        processes[-1].start()
        wait_until(lambda: any(path.read_text().strip() for path in tmp_path.glob("slots/*.lock")))
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    for seed in ("0", "1"):
        lone = tmp_path / f"lone {seed}"
        assert main([*words(tmp_path), "--seed", seed, "--run", str(lone)]) == 0
        assert files_of(tmp_path / seed) == files_of(lone)
        found, expected = (RunFolder(run).measurements() for run in (tmp_path / seed, lone))
        assert [row["value"] for row in found] == [row["value"] for row in expected]
