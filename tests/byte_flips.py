"""Random flips of single bits in what a run leaves: none may change a number without being noticed.

Each trial flips one bit of one file of a finished run and calls the verbs that read it, as the workflow would: those
that show what there is, and before them, for a file in the folder of a cell, those that train, measure and analyse it
where the file is one that they go by. What they make is compared with what they made of the sound file: the same, or an
error, is fine; another number under exit code 0 is ``SILENT``. Before them stands what the workflow does when it
begins: to remove damaged tables, drawings and the like, which their verbs make again. A file that stays flipped and
changes nothing else is ``unread``. ``harness show`` is for the damaged folder itself, before any verb has mended it:
what it prints has to be the same, or an error.

    python tests/byte_flips.py --flips 200 --folder /somewhere/empty
"""

import argparse
import contextlib
import hashlib
import io
import json
import logging
import random
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from campaign import FIGURES, Campaign

from harness.cli import main as harness
from harness.storage.seals import discard_broken

SOUND, REFUSED, UNREAD, SILENT = "mended", "refused", "unread", "SILENT"
NOT_READ = ("logs", "settings")
READERS = {  # by the first part of a file's path: the verbs whose rules have it as input
    "runs": ("tables", "metrics", "figure", "report", "publish"),
    "data": ("tables", "metrics"),
    "searches": ("searches", "publish"),
    "searches.csv": ("publish",),
    "figures": ("report", "publish"),
    "tables": ("report",),
    "metrics.parquet": ("check", "overview", "compare"),
    "rows.parquet": ("check", "overview", "compare"),
}
OF_CELLS = ("run", "analyse", "show")
# Verbs that read no results of a run, or are parts of those above, or remove what there is.
LEFT_OUT = {
    *("datasets", "methods", "snakefile", "verify", "list", "new", "new-method", "new-dataset", "bench"),
    *("train", "evaluate", "trial", "budgets", "record-failure", "forget", "settings", "worker"),
}


@dataclass(frozen=True)
class Flip:
    """One trial: the file (below the run), the bit, and how it came out, with what was said or changed."""

    file: str
    byte: int
    outcome: str
    detail: str


class Flips:
    """A finished run, the verbs that read it, and what they make of it."""

    def __init__(self, folder: Path, seed: int):
        self.random = random.Random(seed)
        campaign = Campaign(folder, seed)
        self.run, self.sound = campaign.saved / "results" / "smoke", folder / "sound"
        shutil.copytree(self.run, self.sound)
        settings = json.loads(json.dumps(campaign.flow.settings))
        # those of the finished run, before the campaign changed them
        del settings["budgets"]["factorised"], settings["budgets"]["bihm"]["*"]["training"]["l1"]
        settings["analyses"]["k_sensitivity"]["connect4"]["rows"] = 20
        settings["searches"]["bihm"]["connect4"]["learning_rate"] = [0.01, 0.1]
        settings["data"]["cache"] = str(campaign.saved / "cache")
        self.settings = json.dumps(settings)
        self.files = sorted(
            path.relative_to(self.run)
            for path in self.run.rglob("*")
            if path.is_file() and path.stat().st_size and path.relative_to(self.run).parts[0] not in NOT_READ
        )
        self.expected = self.numbers(None)[1]

    def verbs(self, flipped: Path | None) -> list[list[str]]:
        """What the workflow calls when this file is another one than before (None: all), in its order."""
        calls = calls_of(self.run, self.sound, self.run.with_name("out"), self.settings)
        wanted = calls if flipped is None else READERS.get(flipped.parts[0], ())
        return [*self.cell_verbs(flipped), *([verb, *call] for verb in wanted for call in calls[verb])]

    def cell_verbs(self, flipped: Path | None) -> list[list[str]]:
        """What is called for the cells of a file: train and measure, unless that was done, and analyse."""
        parts = flipped.parts if flipped is not None else ()
        if parts[:1] == ("runs",):
            cells = [self.run.joinpath(*parts[:5])]
        elif parts[:1] == ("data",):
            cells = sorted(
                path.parent for path in self.run.glob(f"runs/{parts[1].partition('.')[0]}/*/*/*/config.json")
            )
        else:
            return []
        calls = []
        for cell in cells:
            dataset, method, _, seed = cell.parts[-4:]
            named = ["--settings", self.settings, "--dataset", dataset, "--method", method, "--seed", seed]
            named += ["--run", str(cell)]
            if parts[-1] != "metrics.json" and not any("analyses" in part for part in parts):
                calls.append(["run", *named, "--data-record", str(self.run / "data" / f"{dataset}.json")])
            if (cell / "analyses.json").exists():
                calls.append(["analyse", *named])
        return calls

    def numbers(self, flipped: Path | None) -> tuple[list[str], dict[str, str]]:
        """Every verb called once: what was refused, and the digests of all that they made or changed."""
        said, out = self.broken(), self.run.with_name("out")
        shutil.rmtree(out, ignore_errors=True)
        shown = self.shown(flipped)
        for call in self.verbs(flipped):
            told = io.StringIO()
            with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
                try:
                    code = harness(call)
                except Exception as error:  # a traceback is no refusal: it is told as what it is
                    code, told = 1, io.StringIO(f"TRACEBACK {type(error).__name__}: {error}")
            if code:
                said.append(f"{call[0]}: {told.getvalue().strip().splitlines()[-1][:200]}")
        found = {}
        for top in (out, self.run):
            for path in sorted(top.rglob("*")):
                if path.is_file():
                    found[str(path.relative_to(self.run.parent))] = _content(path)
        return said, found | shown

    def shown(self, flipped: Path | None) -> dict[str, str]:
        """What ``harness show`` prints of a file's cell (None: of all), without those that it refuses to show."""
        of_cell = flipped is not None and flipped.parts[0] == "runs"
        cells = [self.run.joinpath(*flipped.parts[:5])] if of_cell else []
        if flipped is None:
            cells = sorted(path.parent for path in self.run.glob("runs/*/*/*/*/config.json"))
        found = {}
        for cell in cells:
            told = io.StringIO()
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(told):
                if harness(["show", str(cell)]) == 0:
                    found[f"out/show {cell.relative_to(self.run)}"] = hashlib.sha256(
                        told.getvalue().encode()
                    ).hexdigest()
        return found

    def broken(self) -> list[str]:
        """What the workflow says of damaged tables, figures and so on when it begins, and removes."""
        told = io.StringIO()
        handler = logging.StreamHandler(told)
        logging.getLogger().addHandler(handler)
        for folder in ("", "tables", "figures", "check", "compare"):
            discard_broken(self.run / folder)
        logging.getLogger().removeHandler(handler)
        return told.getvalue().splitlines()[-1:]

    def flip(self) -> Flip:
        """One bit of one file, drawn evenly over files, then over bytes; the run is sound again afterwards."""
        name = self.random.choice(self.files)
        path = self.run / name
        content = bytearray(path.read_bytes())
        at, bit = self.random.randrange(len(content)), self.random.randrange(8)
        content[at] ^= 1 << bit
        path.write_bytes(content)
        said, found = self.numbers(name)
        other = sorted(key for key in found if found[key] != self.expected.get(key))
        other += sorted(key for key in self.expected if key not in found and not key.startswith("out/"))
        shutil.rmtree(self.run)
        shutil.copytree(self.sound, self.run)
        if said:
            return Flip(str(name), at, REFUSED, said[0])
        if not other:
            return Flip(str(name), at, SOUND, "")
        unread = other == [str(path.relative_to(self.run.parent))]
        return Flip(str(name), at, UNREAD if unread else SILENT, "" if unread else ", ".join(other[:4]))


def calls_of(run: Path, sound: Path, out: Path, settings: str) -> dict[str, list[list[str]]]:
    """The arguments of each verb that reads the results of the run, which are to write below ``out``.

    sound: the same run, unharmed, for what compares two.
    """
    given, runs = ["--settings", settings], ["--runs", str(run / "runs")]
    pictures = [str(run / "figures" / f"{name}.png") for name in FIGURES]
    return {
        "tables": [[*given, *runs, "--output", str(out / "tables")]],
        "metrics": [[*given, *runs, "--output", str(out / "metrics.parquet")]],
        "searches": [[*given, "--trials", str(run / "searches"), "--output", str(out / "searches.csv")]],
        "figure": [[name, *given, *runs, "--output", str(out / "figures")] for name in FIGURES],
        "overview": [[str(run), *given, "--output", str(out / "overview")]],
        "compare": [
            [str(run), *given, "--output", str(out / "compare")],
            [str(run), str(sound), *given, "--output", str(out / "moved")],
        ],
        "check": [[str(run), "--output", str(out / "check")]],
        "report": [[*given, *runs, "--figures", *pictures, "--output", str(out / "report.html")]],
        "publish": [[*given, "--results", str(run), "--output", str(out / "published")]],
    }


def _content(path: Path) -> str:
    """Digest of a file, without what tells times."""
    content = path.read_bytes()
    if path.suffix == ".json":
        with contextlib.suppress(ValueError):
            content = json.dumps(_timeless(json.loads(content)), sort_keys=True).encode()
    if path.suffix in (".parquet", ".csv"):
        import pandas as pd

        with contextlib.suppress(Exception):
            frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, keep_default_na=False)
            content = frame.drop(columns=["seconds", "train_seconds"], errors="ignore").to_csv().encode()
    if path.suffix in (".html", ".png", ".pdf", ".md", ".tex"):
        return "drawn" if path.suffix in (".html", ".png", ".pdf") else hashlib.sha256(content).hexdigest()
    return hashlib.sha256(content).hexdigest()


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        timed = ("seconds", "train_seconds", "sha256", "files")  # digests of files that tell times, too
        kept = {key: each for key, each in value.items() if key not in timed}
        return {key: _timeless(each) for key, each in kept.items()}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    flips = Flips(options.folder, options.seed)
    found = []
    for _ in range(options.flips):
        found.append(flips.flip())
        print(json.dumps(found[-1].__dict__), flush=True)
    print(dict(Counter(each.outcome for each in found)))
    print("silent:", dict(Counter(Path(each.file).name for each in found if each.outcome == SILENT)))
    print("tracebacks:", sum("TRACEBACK" in each.detail for each in found))
    return int(any(each.outcome == SILENT for each in found))


if __name__ == "__main__":
    sys.exit(main())
