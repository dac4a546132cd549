"""Pieces of work on threads: same results in the same order, errors that arrive, modes that hold."""

import threading
import time

import pytest
import torch
from enumerable import N_VISIBLE, small_stack

from harness.blocks import exact
from harness.compute import parallel
from harness.estimators import importance_estimates, log_z2


@pytest.fixture(autouse=True)
def _restore():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_results_keep_the_order_of_their_pieces():
    torch.set_num_threads(3)
    seen = set()

    def piece(i):
        seen.add(threading.current_thread().name)
        torch.randn(200, 200) @ torch.randn(200, 200)
        return i

    assert parallel.run_all([lambda i=i: piece(i) for i in range(50)]) == list(range(50))
    assert 1 <= len(seen) <= 3
    assert parallel.run_all([]) == []


def test_all_threads_take_part():
    torch.set_num_threads(2)
    meeting = threading.Barrier(2, timeout=20)
    assert len(parallel.run_all([meeting.wait, meeting.wait])) == 2


@pytest.mark.parametrize("failing", ["caller", "runner"])
def test_an_exception_arrives_and_ends_the_work(failing):
    torch.set_num_threads(2)
    started, caller, both = [], threading.current_thread(), threading.Barrier(2, timeout=20)

    def piece(i):
        started.append(i)
        if i < 2:
            both.wait()  # each thread has one of these
            if (threading.current_thread() is caller) == (failing == "caller"):
                raise KeyError("the piece that fails")
        time.sleep(0.01)

    with pytest.raises(KeyError, match="the piece that fails"):
        parallel.run_all([lambda i=i: piece(i) for i in range(1000)])
    assert len(started) < 1000


def test_what_is_spread_over_threads_is_told():
    torch.set_num_threads(2)
    with parallel.spreads() as outer:
        parallel.run_all([int, int, int])
        with parallel.spreads() as inner:
            parallel.run_all([int])
            assert inner == []
            torch.set_num_threads(3)
            parallel.run_all([int] * 9)
    torch.set_num_threads(2)
    parallel.run_all([int, int])
    assert (outer, inner) == ([2, 3], [3])


def test_modes_of_the_caller_hold():
    torch.set_num_threads(2)
    both = threading.Barrier(2, timeout=20)

    def modes():
        both.wait()
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    with torch.inference_mode():
        assert parallel.run_all([modes, modes]) == [(False, True)] * 2
    with torch.no_grad():
        assert parallel.run_all([modes, modes]) == [(False, False)] * 2
    assert parallel.run_all([modes, modes]) == [(True, False)] * 2


def test_estimates_do_not_depend_on_the_number_of_threads():
    model = small_stack("bihm").float()
    x = exact.all_binary(N_VISIBLE).float()
    found = []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        estimates = importance_estimates(model, x, 100, torch.Generator().manual_seed(1), 150)
        z2 = log_z2(model, 1000, 2, torch.Generator().manual_seed(2), 64)
        found.append(torch.cat([estimates.log_p, estimates.ess_p_star, torch.tensor([z2.value, z2.standard_error])]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
