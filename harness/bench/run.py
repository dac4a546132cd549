"""The benchmark from start to end: prepare, measure case by case, write."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from harness.bench import agreement, cases, floor, memory, plots, report, scaling
from harness.bench.agreement import Agreement
from harness.bench.cases import Case
from harness.bench.contenders import AbsentError, Job, Workload, job, our_float32_products, with_setting
from harness.bench.findings import Absence, CaseFindings, Findings
from harness.bench.timing import Effort, time_in_turns
from harness.bench.workloads import Workloads
from harness.blocks.small_layers import one_by_one
from harness.compute.processors import n_processors
from harness.compute.provenance import choose_device, describe_device, git_commit, versions
from harness.data import DataSettings

logger = logging.getLogger(__name__)

SCALING = "scaling"  # the word on the command line for how cost grows
FLOOR = "floor"  # its name among the jobs of a case
MEASURED_PACKAGES = ("numba", "pyro-ppl", "pythae")


@dataclass(frozen=True)
class Plan:
    """The plan of a benchmark: its cases, and whether it measures how cost grows.

    quick: a few calls each, for a check that everything works; numbers are then worth little.
    """

    cases: Sequence[Case]
    with_scaling: bool
    device: torch.device
    quick: bool = False

    @property
    def effort(self) -> Effort:
        return Effort(rounds=2, block_s=0.0, total_s=2.0) if self.quick else Effort()

    @property
    def scaling_effort(self) -> Effort:
        return replace(self.effort, rounds=min(self.effort.rounds, 7), total_s=10.0)


def plan(keys: Sequence[str] | None, long: bool, quick: bool, device: str, threads: int | None) -> Plan:
    """The plan that the command line asks for; sets PyTorch's number of threads (None: all cores of this process).

    Raises ConfigError that names an unknown case.
    """
    torch.set_num_threads(threads or n_processors())
    with_scaling = not keys or SCALING in keys
    chosen = cases.chosen([key for key in keys or () if key != SCALING], long) if keys != [SCALING] else []
    return Plan(chosen, with_scaling, choose_device(device), quick)


def bench(plan: Plan, settings: DataSettings, output: Path) -> bool:
    """Measure and write everything into the folder ``output``; False when contenders disagree on results."""
    facts = (
        f"harness {versions()['harness']} ({git_commit()[:12] or 'no checkout'})",
        describe_device(plan.device) + _threads(plan.device),
        f"Python {versions()['python']}",
        f"torch {torch.__version__}",
        *_packages(),
        f"float32 products: {our_float32_products(plan.device)}",
    )
    findings = Findings(device=plan.device.type + _threads(plan.device), facts=facts)
    if plan.quick:
        findings.notes.append("measured with `--quick`: a few calls each, which proves nothing about speed")
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as folder:
        workloads = Workloads(settings, Path(folder), plan.device, training_updates=20 if plan.quick else 500)
        for case in plan.cases:
            workload = workloads.of(case)
            found = measure(workload, plan.effort)
            findings.cases.append(found)
            findings.agreements += _agreements(workload)
            _log(found)
        if plan.with_scaling:
            base = next(case for case in cases.cases() if case.key == scaling.CASE)
            for point in scaling.measure(base, workloads, plan.scaling_effort):
                findings.points.append(point)
                logger.info("%s %g: %s %.2f ms", point.axis, point.value, point.contender, point.timing.median_ms)
        findings.cases = _with_peaks(findings.cases, workloads)
        findings.notes += workloads.notes
    for path in [*report.write(findings, output), *plots.write(findings, output)]:
        logger.info("%s", path)
    return all(agreed.holds for agreed in findings.agreements)


def measure(workload: Workload, effort: Effort) -> CaseFindings:
    """Times and floor of a case."""
    case, device = workload.case, workload.x.device
    jobs: dict[str, Job] = {}
    absences = []
    for contender in case.contenders:
        try:
            jobs[contender] = job(contender, workload)
        except AbsentError as absent:
            absences.append(Absence(contender, str(absent)))
    replay = None if case.only_long else _floor(workload)
    turns = time_in_turns(jobs if replay is None else {**jobs, FLOOR: replay}, device, effort, workload.units)
    floor_timing = turns.timings.pop(FLOOR, None)
    return CaseFindings(case, turns.timings, floor_timing, {}, tuple(absences), turns.disturbance)


def _with_peaks(found: list[CaseFindings], workloads: Workloads) -> list[CaseFindings]:
    """The findings with peak memory, which several processes at a time may measure: when all timing is over."""
    workers = 1 if workloads.device.type == "cuda" else n_processors()
    with ThreadPoolExecutor(workers) as pool:
        pending = []
        for each in found:
            workload = workloads.of(each.case)
            rows = workloads.stored(workload)
            names = list(each.timings)
            pending.append((each, names, [pool.submit(memory.peak_mb, name, workload, rows) for name in names]))
        return [
            replace(each, peaks_mb=dict(zip(names, (peak.result() for peak in peaks), strict=True)))
            for each, names, peaks in pending
        ]


def _floor(workload: Workload) -> Job | None:
    ours = job(cases.OURS, workload)
    ours()
    with one_by_one():  # products that ours makes in a kernel of its own count as well
        replay = floor.floor_of(ours)
    return None if replay is None else with_setting(our_float32_products(workload.x.device), replay)


def _agreements(workload: Workload) -> list[Agreement]:
    if cases.TEXTBOOK not in workload.case.contenders:
        return []
    if workload.case.job == cases.EVALUATION:
        return [agreement.of_log_p(workload)]
    return [agreement.of_log_z2(workload)] if workload.case.job == cases.LOG_Z2 else []


def _log(found: CaseFindings) -> None:
    for contender, timing in found.timings.items():
        ratio = found.faster_by(contender)
        logger.info("%s: %s %.3f ms, %.2f times ours", found.case.title, contender, timing.median_ms, ratio)
    for absence in found.absences:
        logger.info("%s: without %s: %s", found.case.title, absence.contender, absence.reason)


def _threads(device: torch.device) -> str:
    if device.type != "cpu":
        return ""
    n = torch.get_num_threads()
    return f", {n} thread{'s' if n > 1 else ''}"


def _packages() -> list[str]:
    found = []
    for name in MEASURED_PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return found
