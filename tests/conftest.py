"""Shared fixtures; tests run single-threaded so that numbers do not depend on the machine."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


# Files of more than half a minute, the longest first: a worker is given whole files, and the last ones should be short.
LONG = (
    "test_verify.py",
    "test_workflow.py",
    "test_verify_updates.py",
    "test_publish.py",
    "test_workflow_stale.py",
    "test_new_method.py",
    "test_verify_scores.py",
    "test_stale_code.py",
    "test_verify_kinds.py",
    "test_kinds.py",
    "test_pieces.py",
    "test_figures_workflow.py",
    "test_bench.py",
    "test_training.py",
    "test_start_from_workflow.py",
    "test_workflow_data.py",
    "test_notebook.py",
    "test_method_files.py",
    "test_gradients.py",
    "test_gibbs.py",
)


@pytest.fixture(autouse=True)
def _as_pytorch_computes():
    """What a test sets for all of PyTorch ends with it; that our code leaves nothing set has tests of its own."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision(before)


def pytest_collection_modifyitems(items):
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


OF_BROWSER = "test_report_page.py"


def pytest_terminal_summary(terminalreporter):
    """Say plainly whether the report was looked at in a browser: a count of skipped tests hides it."""
    for line in about_browser(terminalreporter.stats):
        terminalreporter.write_line(line)


def about_browser(stats):
    """Lines about the tests that need a browser; none where none of them was asked for. stats: reports by outcome."""
    done = {
        outcome: sum(Path(getattr(each, "nodeid", "").partition("::")[0]).name == OF_BROWSER for each in reports)
        for outcome, reports in stats.items()
        if outcome in ("passed", "failed", "error", "skipped")
    }
    skipped = done.pop("skipped", 0)
    if skipped:
        yield f"{skipped} report tests skipped: no Chromium"
    elif ran := sum(done.values()):
        yield f"{ran} report tests ran in Chromium"
