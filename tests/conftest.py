"""Shared fixtures; tests run single-threaded so that numbers do not depend on the machine."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)
