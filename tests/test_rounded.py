"""Rounded weights are those of the update, and gradients in their data type those of its products, nothing older."""

import copy
import mmap
from pathlib import Path

import numpy as np
import pytest
import torch
from cells import cell, patterns
from torch import nn

from harness.blocks.perceptron import Passes, perceptron
from harness.blocks.scratch import Scratch
from harness.method import Batch, Method
from harness.plugins.registry import build, method_class
from harness.settings.parts import Phase
from harness.training.rounded import Rounded
from harness.training.step import UpdateStep
from harness.training.train import train

N_VISIBLE, CPU = 12, torch.device("cpu")
VALUE = 2.0**-4
MODELS = {
    "vae": {"latent": 3, "hidden": [6, 5]},
    "iwae": {"layers": [4, 2], "hidden": [[6, 5], [3]]},
    "bihm": {"layers": [6, 4]},
    "label_mlp": {"hidden": 5, "n_classes": 3, "dropout": 0.2},
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(n=20):
    return Batch((torch.rand(n, N_VISIBLE, generator=generator()) < 0.5).float(), torch.arange(n) % 3)


def model_of(name="vae"):
    torch.manual_seed(0)
    return build(name, N_VISIBLE, MODELS[name])


def rounded_values(step):
    return step.parameters.values[: len(step.parameters.rounded)].bfloat16()


@pytest.mark.parametrize("name", MODELS)
def test_that_nothing_touched_a_model_changes_no_bit(name):
    values = []
    for untouched in (False, True):
        step, draws = UpdateStep(model_of(name), "bfloat16"), generator(1)
        for n in (20, 20, 7, 20):
            step.run(batch(n), 2, draws, 0.01, 1e-3, untouched)
            if name != "bihm":  # whose code runs as an update begins
                assert torch.equal(step.parameters.rounded, rounded_values(step))
        values.append(step.parameters.values)
    assert torch.equal(*values)


def by_numpy(model):
    model.encoders[0][0].weight.detach().numpy()[:] = VALUE


def in_place(model):
    model.encoders[0][0].weight.data.fill_(VALUE)


def by_another_tensor(model):
    model.encoders[0][0].weight.data = torch.full_like(model.encoders[0][0].weight, VALUE)


def by_a_state(model):
    model.load_state_dict({name: torch.full_like(value, VALUE) for name, value in model.state_dict().items()})


@pytest.mark.parametrize("by_loss", [False, True])
@pytest.mark.parametrize("change", [by_numpy, in_place, by_a_state])
def test_weights_changed_between_updates_are_rounded_again(change, by_loss):
    model = model_of()
    step, draws = UpdateStep(model, "bfloat16"), generator(1)
    for _ in range(2):
        step.run(batch(), 1, draws, 0.01, 0.0, untouched=True)
    change(model)
    if by_loss:
        step.loss(batch(), 1, draws)
    else:
        step.run(batch(), 1, draws, 0.0, 0.0)
    assert (step.parameters.rounded_weights[model.encoders[0][0].weight].value == VALUE).all()
    assert torch.equal(step.parameters.rounded, rounded_values(step))


@pytest.mark.parametrize("change", [by_numpy, in_place, by_another_tensor, by_a_state])
def test_weights_that_a_hook_changes_are_rounded_again(change):
    """Whatever the caller says: the hook is the method's own."""

    class Hooked(method_class("vae")):
        def after_update(self, update):
            if update == 2:
                change(self)

    values = []
    for untouched in (False, True):
        torch.manual_seed(0)
        step, draws = UpdateStep(Hooked(N_VISIBLE, **MODELS["vae"]), "bfloat16"), generator(1)
        for _ in range(4):
            step.run(batch(), 1, draws, 0.01, 0.0, untouched)
        values.append(step.parameters.values)
    assert torch.equal(*values)


class Once(Method):
    """Its gradient is a product in the first update and none in later ones, or is written to the memory itself."""

    name = "once"

    def __init__(self, keeps_memory=False):
        super().__init__(N_VISIBLE)
        self.weight = nn.Parameter(torch.ones(3, N_VISIBLE))
        self.keeps_memory, self.n_updates = keeps_memory, 0

    def multiply_in(self, dtype, weights):
        self.rounded = weights[self.weight]
        self.memory = self.rounded.gradient if self.keeps_memory else None

    def accumulate_gradients(self, batch, n_samples, generator):
        self.n_updates += 1
        if self.keeps_memory:
            self.memory += 1.0
        elif self.n_updates == 1:
            self.rounded.add_product(torch.ones(4, 3, dtype=torch.bfloat16), torch.ones(4, N_VISIBLE))
        return torch.zeros(())


def moments(model, n_updates):
    """The first moments of the weight after each update."""
    step, found = UpdateStep(model, "bfloat16"), []
    for _ in range(n_updates):
        step.run(batch(), 1, generator(), 0.01, 0.0, untouched=True)
        found.append(step.first[: model.weight.numel()].clone())
    return found


def test_a_weight_without_a_product_has_no_gradient():
    first, second, third = moments(Once(), 3)
    assert torch.allclose(first, torch.tensor(0.4))  # 1 - beta1 times four rows
    assert torch.equal(second, 0.9 * first)
    assert torch.equal(third, 0.9 * second)


def test_memory_that_a_method_keeps_is_cleared_for_it():
    found = moments(Once(keeps_memory=True), 3)
    for update, moment in enumerate(found, start=1):
        assert torch.allclose(moment, torch.tensor(1.0 - 0.9**update))


def own_pages(tensor):
    """Bytes of the pages under a tensor that nothing else has; a page that nobody wrote to is shared by all such."""
    size = mmap.PAGESIZE
    first, last = tensor.data_ptr() // size, (tensor.data_ptr() + tensor.nbytes - 1) // size
    with Path("/proc/self/pagemap").open("rb") as file:
        file.seek(8 * first)
        entries = np.frombuffer(file.read(8 * (last - first + 1)), np.uint64)
    return int((entries >> np.uint64(56) & np.uint64(1)).sum()) * size


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="this system does not tell of pages")
def test_gradients_that_nobody_writes_to_take_no_memory():
    step = UpdateStep(build("vae", 784, {"latent": 10, "hidden": [100, 100]}), "bfloat16")
    for _ in range(3):
        step.run(Batch((torch.rand(20, 784, generator=generator()) < 0.5).float()), 1, generator(), 0.01, 1e-3)
    values, gradients = step.parameters.values, step.parameters.gradients
    assert own_pages(values) >= values.nbytes
    biases = gradients[step.parameters.n_weights :]
    assert 0 < own_pages(gradients) <= biases.nbytes + 2 * mmap.PAGESIZE


@pytest.mark.parametrize("with_inputs", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_passes_by_kept_memory_are_those_of_the_products(activation, with_inputs):
    """Batches of several sizes in turns, and after the weights are rounded anew, in place or to other memory."""
    torch.manual_seed(0)
    layers = perceptron([5, 7, 6, 4], activation)
    weights = [module.weight for module in layers if isinstance(module, nn.Linear)]
    results = []
    for kept in (True, False):
        passes, found = Passes(layers, Scratch(), "p"), []
        for scale in (1.0, 2.0):
            rounded = {
                weight: Rounded((scale * weight).detach().bfloat16(), weight.new_zeros(weight.shape).bfloat16())
                for weight in weights
            }
            passes.use_rounded(rounded)
            for n in (9, 3, 9, 0, 9):
                for parameter in layers.parameters():
                    parameter.grad = torch.zeros_like(parameter)
                for each in rounded.values():
                    each.begin_update()
                    each.value += 0.125
                inputs = torch.randn(n, 5, generator=generator(n)).bfloat16()
                with torch.no_grad():
                    assert (passes._plan(inputs) is not None) or not kept
                    if not kept:
                        passes._rounding = None
                    passed = passes.forward(inputs)
                    found += [each.clone() for each in (*passed.seen, passed.product)]
                    missed = passed.product if n == 9 else passed.product.clone()
                    back = passes.add_gradients(passed, missed.fill_(0.5), with_inputs)
                assert (back is not None) == with_inputs
                found += [back.clone()] if with_inputs else []
                found += [each.gradient.clone() for each in rounded.values()]
                found += [parameter.grad for parameter in layers.parameters()]
        results.append(found)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_copies_and_threads_have_plans_of_their_own():
    model = model_of("iwae")
    step = UpdateStep(model, "bfloat16")
    step.run(batch(), 2, generator(), 0.01, 0.0)
    copied = copy.deepcopy(model)
    assert model._scratch.plans
    assert not copied._scratch.plans
    with pytest.raises(AttributeError):  # what nobody rounds
        copied.accumulate_gradients(batch(), 2, generator())


@pytest.mark.parametrize("average", [None, 0.9])
def test_trainings_say_truly_that_nothing_touched_the_model(average, tmp_path, monkeypatch):
    """Looks, snapshots, checkpoints, averages and the weights that a phase goes back to: the same to the last byte."""
    phases = (Phase(30, 1e-2, 2), Phase(20, 1e-3, 2))
    rest = {"average": average, "checkpoint_every_s": 1e9, "precision": "bfloat16"}
    chosen = cell("vae", phases=phases, validate_every=7, snapshots=5, **rest)
    run, said, files = UpdateStep.run, [], []

    def told(step, *arguments):
        said.append(arguments[5])
        return run(step, *arguments)

    def never_told(step, *arguments):
        return run(step, *arguments[:5])

    for replaced in (told, never_told):
        monkeypatch.setattr(UpdateStep, "run", replaced)
        folder = tmp_path / replaced.__name__
        train(chosen, patterns(), folder, CPU)
        files.append((folder / "model.safetensors").read_bytes())
    assert files[0] == files[1]
    assert len(said) == 50
    assert 0 < sum(said) < 50


def test_a_look_between_two_updates_is_no_secret(tmp_path, monkeypatch):
    """A method whose validation changes its weights is trained on the changed ones."""

    class Changing(method_class("vae")):
        def validation_loss(self, batch, n_samples, generator):
            self.encoders[0][0].weight.data += 0.25
            return torch.zeros(len(batch.x))

    chosen = cell("vae", phases=(Phase(8, 1e-2, 1),), validate_every=3, checkpoint_every_s=1e9, precision="bfloat16")
    monkeypatch.setattr("harness.training.state.build", lambda name, n_visible, model: Changing(n_visible, **model))
    rounded, begin = [], UpdateStep._gradients

    def gradients(step, *arguments):
        loss = begin(step, *arguments)
        rounded.append(torch.equal(step.parameters.rounded, rounded_values(step)))
        return loss

    monkeypatch.setattr(UpdateStep, "_gradients", gradients)
    train(chosen, patterns(), tmp_path, CPU)
    assert rounded == [True] * 8
