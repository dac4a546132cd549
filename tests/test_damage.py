"""Files of a run, damaged in every way: noticed, told in one line, made again; and places that cannot be written."""

import errno
import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from cells import cell, patterns, train_until
from safetensors.torch import load_file

from harness import atomic
from harness.cli import main
from harness.errors import DataError, HarnessError
from harness.evaluation import per_row
from harness.evaluation.evaluate import evaluate
from harness.evaluation.manifest import read_manifest, read_table
from harness.evaluation.perform import analyse_cell
from harness.evaluation.plan import Planned
from harness.reporting.publish import publish
from harness.settings.config import load_settings
from harness.storage import checkpoint, records, seals, snapshots
from harness.storage.collect import read_metrics
from harness.storage.runs import OK, RunFolder
from harness.training.state import new_model
from harness.training.train import train

CPU = torch.device("cpu")
CELL = cell(snapshots=3)
PLANNED = Planned("k_sensitivity", {"rows": 20, "ks": [1, 5]}, ())
MANIFEST_COPY = "analyses/analyses.json"
FLIPS = 200
JUNK = {
    "nothing": b"",
    "mapping": b"{}",
    "NULs": b"\0" * 300,
    "list": b"[1, 2]",
    "text": b"junk",
    "half": b'{"rows": [',
}


@pytest.fixture(scope="module", name="complete")
def _complete(tmp_path_factory):
    """All files that a run may leave: a trained, measured and analysed one, its last checkpoint, and a crash before."""
    folder = tmp_path_factory.mktemp("results")
    run = folder / CELL.path
    train_until(CELL, run, 75)
    content = RunFolder(run).checkpoint_file.read_bytes()
    train(CELL, patterns(), run, CPU)
    RunFolder(run).checkpoint_file.write_bytes(content)
    RunFolder(run).crashes.add("training ended with exit code 1")
    evaluate(run, CELL, patterns(), CPU, "smoke")
    analyse_cell(run, CELL, [PLANNED], patterns, CPU, strict=True)
    return folder


@pytest.fixture(scope="module", name="like")
def _like(complete):
    """Tensors of the checkpoint."""
    return load_file(RunFolder(complete / CELL.path).checkpoint_file)


def weights(load):
    model = new_model(CELL, 12)
    load(model)
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def content_of(run, name, like=None):
    """What the harness reads of a file of a run; raises DataError for a damaged one."""
    path, kind, folder = run / name, name if name == MANIFEST_COPY else name.partition("/")[0], RunFolder(run)
    return {
        MANIFEST_COPY: lambda: read_manifest(path),
        "rows.parquet": lambda: per_row.read(folder).to_pandas().to_json(),
        "crashes.json": lambda: records.read_json(path),
        "config.json": folder.config,
        "status.json": folder.status,
        "metrics.json": lambda: read_metrics([CELL], run.parents[3]).to_json(),
        "analyses.json": lambda: read_manifest(path),
        "analyses": lambda: read_table(path, read_manifest(folder.manifest_file)["analyses"][PLANNED.name]).to_json(),
        "curve.csv": lambda: pd.read_csv(folder.checked(path, folder.status())).to_json(),
        "model.safetensors": lambda: weights(lambda model: folder.load_model(model, folder.status()["model_sha256"])),
        "snapshots": lambda: weights(lambda model: folder.load_snapshot(int(path.stem), model, CELL)),
        "checkpoint.safetensors": lambda: restored(path, like),
    }[kind]()


def restored(path, like):
    """What a checkpoint gives back, as bytes."""
    loaded = checkpoint.load(path, f"{CELL.training_digest} 0 cpu", like, ("update",))
    if loaded is None:
        raise DataError(path, "a checkpoint", "none of use")
    return json.dumps(loaded[1], sort_keys=True), {name: each.numpy().tobytes() for name, each in loaded[0].items()}


def names_in(run):
    return sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())


def test_no_flipped_bit_in_any_file_changes_a_number_unnoticed(complete, like):
    run = complete / CELL.path
    names = names_in(run)
    assert len(names) == 14
    whole = {name: content_of(run, name, like) for name in names}
    rng = np.random.default_rng(0)
    noticed = 0
    for name in (names[i % len(names)] for i in range(FLIPS)):
        path = run / name
        before = path.read_bytes()
        flipped = bytearray(before)
        flipped[rng.integers(len(flipped))] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            found = content_of(run, name, like)
        except DataError as error:
            found, noticed = str(error), noticed + 1
        finally:
            path.write_bytes(before)
        assert found == whole[name] or found.startswith(f"{path}: expected ")
    assert noticed > 0.8 * FLIPS  # the others changed white space


@pytest.mark.parametrize("name", ["status.json", "metrics.json", "analyses.json", "crashes.json", "config.json"])
@pytest.mark.parametrize("junk", JUNK)
def test_records_that_are_none_are_named(complete, tmp_path, name, junk):
    run = copy_of(complete, tmp_path)
    (run / name).write_bytes(JUNK[junk])
    if name == "config.json" and junk == "mapping":
        return  # an old one that lacks everything, for the schema to say
    if name == "crashes.json":
        assert RunFolder(run).crashes.count() == 0
        return
    with pytest.raises(DataError, match=f"{name}: expected "):
        content_of(run, name)


def copy_of(complete, tmp_path):
    """The run in a folder of its own."""
    shutil.copytree(complete, tmp_path / "results")
    return tmp_path / "results" / CELL.path


@pytest.mark.parametrize("damaged", ["status.json", "model.safetensors", "curve.csv", "snapshots/90.safetensors"])
def test_a_damaged_training_is_done_again(complete, tmp_path, caplog, damaged):
    run = copy_of(complete, tmp_path)
    RunFolder(run).checkpoint_file.unlink()
    assert RunFolder(run).is_trained(CELL, "0")
    flip(run / damaged)
    assert not RunFolder(run).is_trained(CELL, "0")
    (line,) = caplog.messages
    assert line.startswith(f"{run / damaged}: expected ")
    assert line.endswith("; training starts again")
    assert train(CELL, patterns(), run, CPU) == OK
    assert (run / "model.safetensors").read_bytes() == (complete / CELL.path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("damaged", ["config.json", "status.json", "curve.csv", "metrics.json"])
def test_a_damaged_run_is_not_shown_as_if_it_were_sound(complete, tmp_path, capsys, damaged):
    run = copy_of(complete, tmp_path)
    assert main(["show", str(run)]) == 0
    capsys.readouterr()
    flip(run / damaged)
    assert main(["show", str(run)]) == 1
    assert f"{run / damaged}: expected " in capsys.readouterr().err


def flip(path):
    content = bytearray(path.read_bytes())
    place = next(i for i in range(len(content) // 2, len(content)) if chr(content[i]).isalnum())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damaged", "told"),
    [
        (["analyses/k_sensitivity.csv"], 1),
        (["analyses.json", MANIFEST_COPY], 2),
        (["analyses.json"], 0),  # the other record knows the same
    ],
    ids=["table", "both records", "one record"],
)
def test_a_damaged_analysis_is_done_again(complete, tmp_path, caplog, damaged, told):
    run = copy_of(complete, tmp_path)
    before = (run / "analyses/k_sensitivity.csv").read_bytes()
    for name in damaged:
        flip(run / name)
    analyse_cell(run, CELL, [PLANNED], patterns, CPU, strict=True)
    assert len(caplog.messages) == told
    assert all(any(line.startswith(f"{run / name}: expected ") for name in damaged) for line in caplog.messages)
    assert (run / "analyses/k_sensitivity.csv").read_bytes() == before
    assert read_manifest(RunFolder(run).manifest_file)["analyses"][PLANNED.name]["status"] == "ok"


@pytest.mark.parametrize(
    ("damaged", "left"),
    [
        ("status.json", set()),
        ("metrics.json", {"status.json", "analyses.json"}),
        ("analyses.json", {"status.json", "metrics.json"}),
        (None, {"status.json", "metrics.json", "analyses.json"}),
    ],
)
def test_the_workflow_makes_damaged_records_again(complete, tmp_path, caplog, damaged, left):
    run = copy_of(complete, tmp_path)
    if damaged:
        flip(run / damaged)
    RunFolder(run).discard_damaged()
    assert {name for name in ("status.json", "metrics.json", "analyses.json") if (run / name).exists()} == left
    assert len(caplog.messages) == bool(damaged)


def test_a_damaged_count_of_crashes_is_told_and_starts_again(tmp_path, caplog):
    RunFolder(tmp_path).crashes.add("once")
    RunFolder(tmp_path).crashes.add("twice")
    assert RunFolder(tmp_path).crashes.count() == 2
    flip(tmp_path / "crashes.json")
    assert RunFolder(tmp_path).crashes.count() == 0
    assert caplog.messages[0].endswith("counting starts again")
    RunFolder(tmp_path).crashes.add("again")
    assert RunFolder(tmp_path).crashes.count() == 1


def test_records_of_earlier_versions_are_read_as_they_stand(tmp_path):
    atomic.write_json(tmp_path / "old.json", {"rows": [1, 2]})
    assert records.read_json(tmp_path / "old.json") == {"rows": [1, 2]}
    atomic.write_json(tmp_path / "crashes.json", {"count": 3, "message": ""})
    assert RunFolder(tmp_path).crashes.count() == 3


def test_a_record_stays_readable_whatever_its_layout(tmp_path):
    value = {"b": [1.5, None, "ü"], "a": {"x": -0.0}}
    records.write_json(tmp_path / "new.json", value)
    assert records.read_json(tmp_path / "new.json") == value
    path = tmp_path / "new.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert records.read_json(path) == value
    for key in ("record", "sha256"):  # without one of its marks it is no record of an earlier version
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != key}))
        with pytest.raises(DataError, match="damaged or edited"):
            records.read_json(path)
        records.write_json(path, value)


@pytest.fixture(name="stopped")
def _stopped(complete, tmp_path):
    """A run whose training was stopped: a checkpoint and two snapshots."""
    run = copy_of(complete, tmp_path)
    for name in ("status.json", "model.safetensors", "curve.csv", "snapshots/90.safetensors"):
        (run / name).unlink()
    return run


def rewritten(path, change):
    """Let ``change`` alter the tensors, and write them as a checkpoint that is whole."""
    digest = f"{CELL.training_digest} 0 cpu"
    tensors, state = checkpoint.load(path, digest, load_file(path), ("update",))
    change(tensors, state)
    checkpoint.save(path, tensors, state, digest)


SPOILT = {
    "flipped": (flip, "damaged"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "NULs": (lambda path: path.write_bytes(b"\0" * 4096), "cannot be read"),
    "junk": (lambda path: path.write_bytes(b"junk" * 100), "cannot be read"),
    "half": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "cannot be read"),
    "a tensor is missing": (
        lambda path: rewritten(path, lambda tensors, state: tensors.pop("adam.first")),
        "tensor adam.first: expected .* of torch.float32, found none",
    ),
    "another shape": (
        lambda path: rewritten(path, lambda tensors, state: tensors.update({"model.p_bias.0": torch.zeros(3)})),
        r"tensor model\.p_bias\.0: expected \[12\] of torch\.float32, found \[3\]",
    ),
    "another type": (
        lambda path: rewritten(path, lambda tensors, state: tensors.update({"adam.step": torch.tensor(1.0)})),
        "tensor adam.step: expected .*int64, found .*float32",
    ),
    "no position": (
        lambda path: rewritten(path, lambda tensors, state: state.pop("phase")),
        "state: expected phase, found none",
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_checkpoint_of_no_use_is_told_and_training_starts_again(complete, stopped, caplog, how):
    spoil, message = SPOILT[how]
    path = RunFolder(stopped).checkpoint_file
    spoil(path)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert train(CELL, patterns(), stopped, CPU) == OK
    (line,) = caplog.messages
    assert re.fullmatch(f"{path}: {message}.*; training starts again", line)
    expected = complete / CELL.path
    for name in ("model.safetensors", *(f"snapshots/{u}.safetensors" for u in snapshots.updates(CELL.training))):
        assert (stopped / name).read_bytes() == (expected / name).read_bytes()


LIMITED = """
import resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from cells import cell, patterns
from harness.errors import HarnessError
from harness.training.train import train
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))  # the most that a file may have
try:
    chosen = cell(model={{"layers": [40, 20]}}, checkpoint_every_s={every})
    train(chosen, patterns(), Path({run!r}), torch.device("cpu"))
except HarnessError as error:
    print(error)
"""


@pytest.mark.parametrize(("every", "file"), [(0.0, "checkpoint.safetensors"), (1e9, "model.safetensors")])
def test_a_disk_that_takes_no_more_is_told_in_one_line(tmp_path, every, file):
    """The operating system itself refuses: a limit on the size of files, instead of on their sum."""
    program = LIMITED.format(tests=str(Path(__file__).parent), every=every, run=str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}/run/{file}: expected to write it, found File too large\n"
    assert not (tmp_path / "run" / file).exists()
    assert not list((tmp_path / "run").glob(".*.part"))


def test_results_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(HarnessError, match=f"{tmp_path}/file/run: expected to change .*, found Not a directory"):
        train(cell(), patterns(), tmp_path / "file" / "run", CPU)

    def refuse(self, *arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(HarnessError, match=f"{tmp_path}/run: .*Read-only file system"):
        train(cell(), patterns(), tmp_path / "run", CPU)


def test_sealed_files_tell_when_they_were_damaged(tmp_path, caplog):
    sound, flipped, free = (tmp_path / name for name in ("sound.csv", "flipped.csv", "free.csv"))
    for path in (sound, flipped, free):
        path.write_text("1,2")
    seals.seal("made", [sound, flipped])
    flipped.write_text("1,3")
    seals.check_seal(sound)
    seals.check_seal(free)
    with pytest.raises(DataError, match=r"flipped\.csv: expected sha256 .*, found "):
        seals.check_seal(flipped)
    seals.discard_broken(tmp_path)
    assert [path.name for path in tmp_path.glob("*.csv")] == ["free.csv"]
    assert "flipped.csv: expected sha256" in caplog.text
    sound.write_text("1,2")
    seals.seal("made", [sound])
    record = tmp_path / seals.FOLDER / "made.json"
    record.write_text(record.read_text().replace("sound", "sounD"))
    with pytest.raises(DataError, match=r"made\.json: expected the content that was written"):
        seals.check_seal(sound)
    seals.discard_broken(tmp_path)
    assert not record.exists()
    assert sound.exists()


@pytest.mark.parametrize("name", ["figure_3_4.csv", "figure_3_4.rst", "figure_3_4.png"])
def test_a_damaged_figure_is_neither_published_nor_reported(tmp_path, name, complete):
    results = tmp_path / "results"
    shutil.copytree(complete, results / "runs")
    figures = [results / "figures" / f"figure_3_4.{form}" for form in ("csv", "png", "rst")]
    for path in figures:
        path.parent.mkdir(exist_ok=True)
        path.write_text("of a figure")
    seals.seal("figure_3_4", figures)
    (results / "figures" / name).write_text("of b figure")
    with pytest.raises(DataError, match=f"{name}: expected sha256"):
        publish([CELL], [], load_settings({"preset": "smoke"}), results, tmp_path / "published")
    assert not (tmp_path / "published").exists()
