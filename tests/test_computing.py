"""How a training is computed: recorded, kept when it goes on elsewhere, and part of what makes it this training."""

import contextlib
import json

import pytest
import torch
from cells import cell, patterns, train_until
from safetensors.torch import load_file, save_file

from harness.compute.computing import on_device
from harness.settings.parts import Phase
from harness.storage import checkpoint
from harness.storage.runs import OK, RunFolder
from harness.training.train import train

CPU = torch.device("cpu")
PHASES = (Phase(12, 1e-2, 10),)


def wide(**training):
    """Large enough for PyTorch to share an operation out to threads."""
    values = {"batch_size": 100, "phases": PHASES, "checkpoint_every_s": 1e9, "precision": "float32", **training}
    return cell("vimco", {"layers": [100, 50]}, **values)


def weights(run):
    return (run / "model.safetensors").read_bytes()


def test_a_training_keeps_its_number_of_threads_wherever_it_goes_on(tmp_path, caplog):
    data, chosen = patterns(400), wide()
    for n in (1, 2):
        torch.set_num_threads(n)
        assert train(chosen, data, tmp_path / f"{n}", CPU) == OK
    assert weights(tmp_path / "1") != weights(tmp_path / "2")  # else there is nothing to keep
    torch.set_num_threads(1)
    train_until(chosen, tmp_path / "moved", 4, data)
    assert not any("--threads" in message for message in caplog.messages)
    caplog.clear()  # kernels may have been compiled meanwhile, which says so
    torch.set_num_threads(2)
    assert train(chosen, data, tmp_path / "moved", CPU) == OK
    assert caplog.messages == [f"{chosen.path}: continues with --threads 1, as it started, not 2"]
    assert torch.get_num_threads() == 2
    assert weights(tmp_path / "moved") == weights(tmp_path / "1")
    assert [RunFolder(tmp_path / name).status()["threads"] for name in ("1", "2", "moved")] == [1, 2, 1]


def test_a_training_on_other_threads_is_another_one(tmp_path):
    chosen = cell("nade")
    torch.set_num_threads(1)
    train(chosen, patterns(), tmp_path, CPU)
    assert [RunFolder(tmp_path).is_trained(chosen, "0", threads) for threads in (None, 1, 2)] == [True, True, False]
    status = RunFolder(tmp_path).status()
    RunFolder(tmp_path).write_status(**{**status, "device": "cuda: Testor 3000"})
    assert RunFolder(tmp_path).is_trained(chosen, "0", 2)  # they compute nothing there


@pytest.mark.parametrize("begun", [True, False], ids=["bfloat16", "float32"])
def test_a_training_keeps_the_precision_that_another_processor_chose(tmp_path, monkeypatch, caplog, begun):
    def processor(has_bfloat16):
        for module in ("precision", "computing"):
            monkeypatch.setattr(f"harness.compute.{module}.multiplies_bfloat16", lambda device: has_bfloat16)

    data, chosen = patterns(), cell("bihm", checkpoint_every_s=1e9)
    for name, has_bfloat16 in (("begun", begun), ("other", not begun)):
        processor(has_bfloat16)
        train(chosen, data, tmp_path / name, CPU)
    assert weights(tmp_path / "begun") != weights(tmp_path / "other")
    processor(begun)
    train_until(chosen, tmp_path / "moved", 4, data)
    processor(not begun)
    assert train(chosen, data, tmp_path / "moved", CPU) == OK
    assert weights(tmp_path / "moved") == weights(tmp_path / "begun")
    word, other = ("bfloat16", "float32") if begun else ("float32", "bfloat16")
    assert RunFolder(tmp_path / "moved").status()["training_products"] == word
    (line,) = caplog.messages
    slow = " (slow on this processor)" if begun else ""
    assert line == f"{chosen.path}: continues with products in {word}, as it started, not {other}{slow}"


def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path):
    """One that knows neither how it was computed nor the states of PyTorch's own generators, and has no digest."""
    chosen = cell("bihm", checkpoint_every_s=1e9)
    train(chosen, patterns(), tmp_path / "undisturbed", CPU)
    run = tmp_path / "run"
    train_until(chosen, run, 4)
    path = RunFolder(run).checkpoint_file
    state = checkpoint.load(path, f"{chosen.training_digest} 0 cpu", load_file(path), ("update",))[1]
    del state["computing"]
    tensors = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("random.")}
    record = {"state": state, "digest": f"{chosen.training_digest} 0 cpu"}
    save_file(tensors, path, {"bihm-harness": json.dumps(record)})
    updates = []
    assert train(chosen, patterns(), run, CPU, stop=updates.append) == OK  # which says nothing
    assert updates[0] == 5
    assert weights(run) == weights(tmp_path / "undisturbed")


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_a_device_leaves_pytorch_as_it_was(before):
    """A notebook's own products after a training are made as they were before it."""
    torch.set_float32_matmul_precision(before)
    with contextlib.suppress(KeyError), on_device("cpu", 1, 2):
        assert torch.get_num_threads() == 2
        assert torch.get_float32_matmul_precision() in ("medium", "highest")  # whichever is exact and fast here
        raise KeyError
    assert torch.get_float32_matmul_precision() == before
    assert torch.get_num_threads() == 1
