"""What a GPU would run, as far as a CPU can run it.

On the meta device every operation of an update and an estimate is dispatched with its shapes, types and devices, but
no number exists: whatever needs one on the host (and so could not be captured, or would wait for the device) fails.
And captured updates run with a stand-in for CUDA graphs: operations recorded on the CPU and made again on the same
memory, which catches anything that a replay would not repeat.
"""

import sys

import pytest
import torch
from enumerable import N_VISIBLE, small_model
from torch.utils._python_dispatch import TorchDispatchMode

from harness import gpu_kernels
from harness.method import Batch, ImportanceWeighted, Partitioned, Tractable
from harness.plugins.registry import build
from harness.training import program
from harness.training.step import EAGER_UPDATES, CudaGraph, UpdateStep

MODELS = {
    "bihm": {"layers": [6, 4]},
    "rws": {"layers": [6, 4]},
    "wake_sleep": {"layers": [6, 4]},
    "nvil": {"layers": [6, 4]},
    "vimco": {"layers": [6, 4]},
    "nade": {"hidden": 5},
    "vae": {"latent": 3, "hidden": [4]},
    "iwae": {"layers": [4, 3], "hidden": [[5], [4]]},
    "vae_hmc": {"latent": 3, "hidden": [4], "iterations": 2},
}
META = torch.device("meta")
N_ROWS, N_SAMPLES = 8, 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(seed, n=N_ROWS, dtype=torch.float64):
    return (torch.rand(n, N_VISIBLE, generator=generator(seed)) < 0.5).to(dtype)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
class TestOnMeta:
    def test_update(self, name, precision):
        step = UpdateStep(build(name, N_VISIBLE, MODELS[name]).to(META), precision)
        x = torch.empty(N_ROWS, N_VISIBLE, device=META)
        assert step.model.capturable
        loss = step._whole(Batch(x), N_SAMPLES, generator())
        assert (loss.device, loss.shape) == (META, ())
        assert all(tensor.device == META for tensor in (step.parameters.values, step.first, step.second))

    def test_estimates(self, name, precision):
        model = build(name, N_VISIBLE, MODELS[name]).to(META)
        UpdateStep(model, precision)
        x = torch.empty(N_ROWS, N_VISIBLE, device=META)
        found = []
        if isinstance(model, Tractable):
            found.append((model.log_prob(x), (N_ROWS,)))
        if isinstance(model, ImportanceWeighted):
            found.append((model.log_weights(x, N_SAMPLES, generator()), (N_ROWS, N_SAMPLES)))
        if isinstance(model, Partitioned):
            found.append((model.log_z2_weights(N_ROWS, N_SAMPLES, generator()), (N_ROWS, N_SAMPLES)))
        assert found
        for values, shape in [*found, (model.sample(N_ROWS, generator()), (N_ROWS, N_VISIBLE))]:
            assert (values.device, values.shape) == (META, shape)


def test_an_update_that_asks_for_a_number_fails_on_meta():
    """So the tests above can fail; and it is why this method is not captured."""
    step = UpdateStep(build("ssl_bihm", N_VISIBLE, {"layers": [6, 4], "gamma": 1.0}).to(META))
    batch = Batch(torch.empty(N_ROWS, N_VISIBLE, device=META), torch.zeros(N_ROWS, dtype=torch.int64, device=META))
    assert not step.model.capturable
    with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
        step._whole(batch, N_SAMPLES, generator())


class RecordedOperations(TorchDispatchMode):
    """Stands in for ``CudaGraph``: operations on the CPU, made again in their order on the same tensors.

    Capturing runs nothing on a GPU; here it does, so what it changes is put back.
    """

    def __init__(self, function, generator):
        super().__init__()
        self._operations = []
        before = generator.get_state()
        state = [tensor.clone() for tensor in self.persistent]
        with self:
            self._result = function()
        generator.set_state(before)
        for tensor, value in zip(self.persistent, state, strict=True):
            tensor.copy_(value)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self._operations.append((function, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, recorded in self._operations:
            again = function(*args, **kwargs)
            pairs = zip(*(r if isinstance(r, (tuple, list)) else (r,) for r in (recorded, again)), strict=True)
            for old, new in pairs:
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.detach().copy_(new)
        return self._result.clone()

    @staticmethod
    def warm_up(function):
        return function()


@pytest.mark.parametrize("name", MODELS)
def test_replayed_updates_equal_eager_ones(name):
    """Other batches, two learning rates, two batch sizes, estimates in between: the same parameters and losses."""
    values, losses = [], []
    for captured in (True, False):
        step = UpdateStep(small_model(name, 0, **MODELS[name]), "float32")
        if captured:
            flat = step.parameters
            persistent = (flat.values, flat.gradients, step.first, step.second, *step.model.buffers())
            step._graphs = type("Recorded", (RecordedOperations,), {"persistent": persistent})
        draws, found = generator(1), []
        for update in range(20):
            n_rows = N_ROWS if update < 14 else N_ROWS // 2
            batch = Batch(rows(update, n_rows))
            found.append(step.run(batch, N_SAMPLES, draws, 0.05 if update < 8 else 0.01, 1e-3).item())
            step.model.sample(100, generator(2))
        if captured:
            assert [c.n_eager for c in step._captured.values()] == [EAGER_UPDATES] * 2
        values.append(step.parameters.values.detach().clone())
        losses.append(found)
    assert torch.equal(*values)
    assert losses[0] == losses[1]


def recorded(step):
    """The stand-in for graphs of a step, which puts back what making its updates changes."""
    flat = step.parameters
    persistent = (flat.values, flat.gradients, step.first, step.second, *step.model.buffers())
    return type("Recorded", (RecordedOperations,), {"persistent": persistent})


@pytest.mark.parametrize("names", [("bihm", "nvil", "nade"), ("rws", "iwae"), ("vae", "vae_hmc", "vimco")])
def test_updates_of_a_program_equal_those_of_lone_steps(names, monkeypatch):
    """Branches are replayed in another order than that of their recording; one member comes late, one ends early."""

    class Branches:
        def __init__(self, parts):
            made.append([list(steps).index(part.generator) for part in parts])
            self.branches = [steps[part.generator]._graphs(part.function, part.generator) for part in parts]

        def replay(self):
            return [branch.replay() for branch in self.branches[::-1]][::-1]

    monkeypatch.setattr(program, "ParallelGraph", Branches)
    values, losses, made = [], [], []
    for by_program in (True, False):
        members = [(UpdateStep(small_model(name, 0, **MODELS[name]), "float32"), generator(9)) for name in names]
        steps = {draws: step for step, draws in members}
        for step, _ in members:
            step._graphs = recorded(step)
        shared, found = program.Program(), []
        for update in range(20):
            parts = {}
            for number, (step, draws) in enumerate(members):
                if (number == 0 and update < 5) or (number == 1 and update >= 14):
                    continue
                asked = Batch(rows(update + number)), N_SAMPLES, draws, 0.05 / (1 + update), 1e-3
                part = step.part(*asked) if by_program else None
                if part is None:
                    found.append((update, number, step.run(*asked).item()))
                else:
                    parts[number] = part
            if parts:
                found += [
                    (update, number, loss.item()) for number, loss in zip(parts, shared.update(parts), strict=True)
                ]
                for number in parts:
                    members[number][0].finish()
        values.append([step.parameters.values.detach().clone() for step, _ in members])
        losses.append(sorted(found))
    assert all(map(torch.equal, *values))
    assert losses[0] == losses[1]
    everyone = list(range(len(names)))
    assert made == [everyone[1:], everyone, [number for number in everyone if number != 1]]


def test_where_kernels_cannot_be_used_tensor_operations_do_the_work(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "triton", None)  # as where it is not installed
    for name in ("harness.gpu_kernels.bernoulli", "harness.gpu_kernels.adam"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert gpu_kernels._kernels.__wrapped__() is None
    assert "without Triton kernels" in caplog.text
    assert "triton" in caplog.text
    assert gpu_kernels.for_tensor(torch.zeros(2)) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captured updates need a CUDA device")
@pytest.mark.parametrize("name", MODELS)
def test_captured_updates_equal_eager_ones(name):
    values = []
    for captured in (True, False):
        step = UpdateStep(small_model(name, 0, **MODELS[name]).float().cuda(), "float32")
        step._graphs = CudaGraph if captured else None
        draws = torch.Generator(device="cuda").manual_seed(6)
        for update in range(10):
            step.run(Batch(rows(update, dtype=torch.float32).cuda()), N_SAMPLES, draws, 0.01, 1e-5)
        values.append(step.parameters.values.detach().clone())
    assert torch.allclose(*values, atol=1e-5)
