"""The cache: complete or absent, whatever goes wrong while it is written, and never trusted unread."""

import errno
import json
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loopback import STAND_IN, TINY_PARTS, in_child

from harness.data import Dataset, DataSettings, Status, cache, fetch, is_local, load, obtain, retrieval
from harness.data.dataset import content_digest, pack
from harness.errors import DataError, DataUnavailableError

NOBODY = 65534


def dataset(**changes) -> Dataset:
    parts = list(TINY_PARTS.values())
    labels = [np.arange(len(rows), dtype=np.uint8) for rows in parts]
    digest = content_digest([pack(rows, grey=False) for rows in parts], labels, 11, False)
    made = Dataset("tiny", *parts, False, *labels, Status(True, "so so"), "mirror: x", digest)
    return replace(made, **changes)


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "down" / "tiny.npz"
    cache.write(path, dataset())
    found = cache.read(path, "tiny", 11, False)
    assert (found.status, found.origin) == (Status(True, "so so"), "cache: mirror: x")
    np.testing.assert_array_equal(found.test, TINY_PARTS["test"])
    np.testing.assert_array_equal(found.valid_labels, np.arange(15))
    assert cache.claim(path) == (found.status, found.digest)


def test_nothing_there(tmp_path, tiny):
    assert cache.read(tmp_path / "tiny.npz", "tiny", 11, False) is None
    assert cache.claim(tmp_path / "tiny.npz") is None
    with pytest.raises(DataUnavailableError, match="run `harness datasets --fetch tiny`"):
        load("tiny", tiny.settings())


def test_digest_is_of_the_content_alone():
    def digest(**changes) -> str:
        parts = [pack(changes.get(part, rows), grey=False) for part, rows in TINY_PARTS.items()]
        return content_digest(parts, changes.get("labels", [None] * 3), 11, False, changes.get("unordered", ()))

    upside_down = TINY_PARTS["test"][::-1]
    assert digest() == digest()
    assert digest() != digest(test=upside_down)
    assert digest(unordered=("test",)) == digest(unordered=("test",), test=upside_down)
    assert digest(unordered=("test",)) != digest(unordered=("test",), train=TINY_PARTS["train"][::-1])
    assert digest() != digest(labels=[np.zeros(30, np.uint8), None, None])


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_damaged_copy_is_replaced_with_a_warning(tiny, damage, caplog):
    settings = tiny.settings()
    good = fetch("tiny", settings)
    path = settings.cached("tiny")
    content = path.read_bytes()
    if damage == "other":
        with path.open("wb") as file:
            np.savez(file, train=np.zeros(3))
    else:
        at = content.index(np.packbits(TINY_PARTS["train"], axis=1).tobytes())
        flipped = content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]
        path.write_bytes({"cut": content[: len(content) // 2], "flip": flipped, "empty": b""}[damage])
    with pytest.raises(DataError, match=str(path)):
        load("tiny", settings)
    with caplog.at_level(logging.WARNING):
        assert fetch("tiny", settings).digest == good.digest
    assert str(path) in caplog.text
    assert load("tiny", settings).digest == good.digest


def test_content_of_another_digest_than_its_header_says(tmp_path):
    cache.write(tmp_path / "tiny.npz", dataset(digest="0" * 64))
    with pytest.raises(DataError, match="expected content of digest 000"):
        cache.read(tmp_path / "tiny.npz", "tiny", 11, False)


def test_content_that_the_catalogue_does_not_know(tiny):
    """A stand-in of an earlier version, say."""
    known = replace(STAND_IN, digest="1" * 64)
    tiny.publish(tiny.texts, extra=(known,))
    cache.write(tiny.settings().cached("tiny"), dataset(status=Status(False, "old")))
    with pytest.raises(DataError, match="expected content that the catalogue knows for tiny"):
        load("tiny", tiny.settings())


def test_a_forged_claim_to_be_official_is_not_believed(tiny):
    """Neither of known content, whose status the catalogue knows, nor of unknown content, nor of an old user's file."""
    tiny.publish(tiny.texts)
    official = fetch("tiny", tiny.settings()).digest
    entry = retrieval.CATALOGUE["tiny"]
    routes = (replace(entry.routes[0], digest=official), replace(STAND_IN, digest=dataset().digest))
    tiny.monkeypatch.setattr(retrieval, "CATALOGUE", {"tiny": replace(entry, routes=routes)})
    path = tiny.settings().cached("tiny")
    cache.write(path, dataset(status=Status(True)))
    assert load("tiny", tiny.settings()).status == STAND_IN.status
    assert not is_local("tiny", tiny.settings(), official=True)
    other = dataset(train=1 - TINY_PARTS["train"])
    packed = [pack(getattr(other, part), grey=False) for part in ("train", "valid", "test")]
    labels = [other.train_labels, other.valid_labels, other.test_labels]
    cache.write(path, replace(other, digest=content_digest(packed, labels, 11, False)))
    with pytest.raises(DataError, match="expected content that the catalogue knows for tiny"):
        load("tiny", tiny.settings())
    assert not is_local("tiny", tiny.settings(download=False), official=True)
    assert fetch("tiny", tiny.settings()).digest == official


def test_what_an_earlier_version_kept_of_a_users_file_is_not_served(tiny):
    path = tiny.settings().cached("tiny")
    cache.write(path, dataset())
    with np.load(path) as archive:
        arrays = dict(archive)
    header = {**json.loads(arrays["header"].tobytes()), "stamp": "mine.npz 300 1"}
    np.savez(path, **{**arrays, "header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    with pytest.raises(DataError, match="expected a copy of tiny from one of its sources"):
        load("tiny", tiny.settings())
    assert cache.claim(path) is None
    assert fetch("tiny", tiny.settings()).origin.startswith("download: ")


@pytest.mark.parametrize("damage", ["gone", "half", "stand-in"])
def test_what_a_record_speaks_of_is_fetched_again(tiny, damage, caplog):
    """A cache that was emptied, damaged or filled with something else after the record was written."""
    tiny.publish(tiny.texts, extra=(STAND_IN,))
    settings = tiny.settings()
    good = fetch("tiny", settings)
    path = settings.cached("tiny")
    if damage == "gone":
        path.unlink()
    elif damage == "half":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
        fetch("tiny", tiny.settings(download=False))
    with caplog.at_level(logging.WARNING):
        assert obtain("tiny", settings, good.digest, "record.json").digest == good.digest
    assert "tiny: fetched again: " in caplog.text
    assert load("tiny", settings).digest == good.digest
    with pytest.raises(DataError, match=r"expected content of digest 000, as record\.json says"):
        obtain("tiny", settings, "000", "record.json")


def written_or_not(folder: Path) -> object:
    """In a child: the names left in the folder, after the error of a fetch that needs no file."""
    try:
        fetch("connect4", DataSettings(cache=folder, download=False))
    except DataError as error:
        return str(error.file), error.expected, error.found, sorted(os.listdir(folder)) if folder.is_dir() else []
    return "no error"


@pytest.fixture
def open_folder():
    """A folder that another user can reach, as pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_directory_without_write_permission(open_folder):
    def as_nobody(folder: Path) -> object:
        if os.geteuid() == 0:  # permission bits do not bind root
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        else:
            folder.chmod(0o555)
        return written_or_not(folder)

    file, expected, found, left = in_child(as_nobody, open_folder)
    assert file == str(open_folder / "connect4.npz")
    assert (expected, found, left) == ("a cache directory to write to", "Permission denied", [])


def test_cache_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    _, expected, found, _ = written_or_not(tmp_path / "file" / "cache")
    assert (expected, found) == ("a cache directory to write to", "Not a directory")


def test_full_disk(tmp_path):
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", tmp_path]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only; test_file_too_large covers the same path")
    try:
        kept = tmp_path / "kept"
        kept.write_bytes(b"x" * 1000)
        file, expected, found, left = written_or_not(tmp_path)
        assert file == str(tmp_path / "connect4.npz")
        assert expected.startswith("room for ")
        assert found == "No space left on device"
        assert left == ["kept"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_file_too_large(tmp_path):
    def limited(folder: Path) -> object:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        return written_or_not(folder)

    _, expected, found, left = in_child(limited, tmp_path)
    assert expected.startswith("room for ")
    assert (found, left) == ("File too large", [])


def test_what_a_killed_writer_left_is_swept_away(tmp_path):
    abandoned, recent = tmp_path / ".tiny-1.part", tmp_path / ".tiny-2.part"
    for path in (abandoned, recent):
        path.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    cache.write(tmp_path / "tiny.npz", dataset())
    assert sorted(os.listdir(tmp_path)) == [recent.name, "tiny.npz"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failure_at_the_last_moment_leaves_the_old_copy(tiny, monkeypatch, call, number):
    tiny.publish(tiny.texts, extra=(STAND_IN,))
    settings = tiny.settings()
    old = fetch("tiny", tiny.settings(download=False))

    def fail(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(cache.os, call, fail)
        with pytest.raises(DataError, match=f"expected room for .* found {os.strerror(number)}"):
            fetch("tiny", settings)
    assert os.listdir(settings.cache) == ["tiny.npz"]
    assert load("tiny", settings).digest == old.digest


def test_short_writes_are_continued(tmp_path, monkeypatch):
    """The system may take fewer bytes than it is given."""
    real_open = open

    class Slow:
        def __init__(self, *arguments: object, **options: object) -> None:
            self.file = real_open(*arguments, **options)

        def __enter__(self) -> "Slow":
            return self

        def __exit__(self, *_error: object) -> None:
            self.file.close()

        def write(self, content: memoryview) -> int:
            return self.file.write(content[:100])

        def fileno(self) -> int:
            return self.file.fileno()

    monkeypatch.setattr(cache, "open", Slow, raising=False)
    cache.write(tmp_path / "tiny.npz", dataset())
    monkeypatch.undo()
    assert cache.read(tmp_path / "tiny.npz", "tiny", 11, False).digest == dataset().digest


def test_several_processes_at_once(tmp_path):
    settings = DataSettings(cache=tmp_path, download=False)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.starmap(digest_of, [("ocr_letters", settings)] * 8, chunksize=1)
    assert len(set(found)) == 1
    assert os.listdir(tmp_path) == ["ocr_letters.npz"]
    assert load("ocr_letters", settings).digest == found[0]


def digest_of(name: str, settings: DataSettings) -> str:
    return retrieval.fetch(name, settings).digest
