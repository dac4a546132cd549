"""The harness' own part in the benchmark: what training and evaluation call, called the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.bench import cases
from harness.bench.cases import Case
from harness.bench.labels import labels_of
from harness.estimators import importance_estimates, log_z2
from harness.estimators.chunks import pairs_at_once
from harness.method import Batch, Method
from harness.plugins.registry import build
from harness.settings.seeds import generator_for
from harness.training.program import Part, Program
from harness.training.step import UpdateStep


def update(case: Case, device: torch.device, precision: str = "auto") -> Callable[[Tensor], Tensor]:
    """One update on a batch x [B, D]: the step that training takes."""
    step = UpdateStep(build(case.method, case.n_visible, dict(case.model)).to(device), precision)
    generator = generator_for(device, case.key, "bench")

    def run(x: Tensor) -> Tensor:
        rates = case.learning_rate, case.mean_l1
        return step.run(Batch(x, labels_of(x, case)), case.n_samples, generator, *rates, untouched=True)

    return run


def together(case: Case, device: torch.device, n_models: int) -> Callable[[Tensor], list[Tensor]]:
    """One update of each of several models on the same batch x [B, D], as trainings side by side make them."""
    steps = [UpdateStep(build(case.method, case.n_visible, dict(case.model)).to(device)) for _ in range(n_models)]
    generators = [generator_for(device, case.key, "bench", member) for member in range(n_models)]
    program = Program()

    def run(x: Tensor) -> list[Tensor]:
        batch = Batch(x, labels_of(x, case))
        rates = case.learning_rate, case.mean_l1
        parts: dict[int, Part] = {}
        losses = []
        for member, (step, generator) in enumerate(zip(steps, generators, strict=True)):
            part = step.part(batch, case.n_samples, generator, *rates)
            if part is None:
                losses.append(step.run(batch, case.n_samples, generator, *rates))
            else:
                parts[member] = part
        if parts:
            losses += program.update(parts)
            for member in parts:
                steps[member].finish()
        return losses

    return run


def trained(case: Case, batches: list[Tensor], updates: int, learning_rate: float) -> Method:
    """The case's model after some updates on the batches in turn, from fixed seeds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(case.method, case.n_visible, dict(case.model)).to(batches[0].device)
    step = UpdateStep(model, "float32")
    generator = generator_for(batches[0].device, case.dataset, "bench training")
    for position in range(updates):
        batch = batches[position % len(batches)]
        step.run(Batch(batch), 10, generator, learning_rate, case.l1 / len(batch))
    return model


def loaded(case: Case, weights: Path, device: torch.device) -> Method:
    """The case's model with trained weights."""
    model = build(case.method, case.n_visible, dict(case.model))
    model.load_state_dict(load_file(weights))
    return model.to(device).eval()


def evaluation(case: Case, model: Method, x: Tensor) -> Callable[[], Any]:
    """Estimates of all rows x, or of 2 log Z, as the evaluation of a trained model makes them."""
    generator = generator_for(x.device, case.key, "bench")

    @torch.inference_mode()
    def evaluate() -> Any:
        if case.job == cases.LOG_Z2:
            return log_z2(model, case.n_samples, 1, generator, pairs_at_once(x.device))
        return importance_estimates(model, x, case.n_samples, generator, pairs_at_once(x.device))

    return evaluate
