"""The order of the sources, files that users supply, the Toronto faces, and what the package costs to import."""

import dataclasses
import gzip
import io
import logging
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
from loopback import HOME, STAND_IN, TINY_PARTS

from harness.data import CATALOGUE, DataSettings, assembly, describe, fetch, is_local, load, retrieval
from harness.data.entry import Entry
from harness.errors import DataError, DataUnavailableError


def test_mirror_comes_before_download(tiny, tmp_path):
    dataset = fetch("tiny", tiny.settings(mirrors=(tmp_path / "none", tiny.fill_mirror(tmp_path / "m"))))
    assert dataset.origin == "mirror: tiny/train.data, tiny/valid.data, tiny/test.data"
    assert not tiny.home.asked


def test_official_download_comes_before_a_stand_in(tiny):
    tiny.publish(tiny.texts, extra=(STAND_IN,))
    assert fetch("tiny", tiny.settings()).origin.startswith("download: ")
    assert fetch("tiny", tiny.settings(cache=tiny.folder / "x", download=False)).origin == "embedded"


def test_cached_stand_in_gives_way_to_a_mirror_that_appears(tiny, tmp_path):
    tiny.publish(tiny.texts, extra=(STAND_IN,))
    settings = tiny.settings(download=False)
    assert fetch("tiny", settings).status == STAND_IN.status
    with_mirror = dataclasses.replace(settings, mirrors=(tiny.fill_mirror(tmp_path / "m"),))
    assert fetch("tiny", with_mirror).status.official
    assert load("tiny", settings).status.official


def test_damaged_mirror_file_is_named_and_passed_over(tiny, tmp_path, caplog):
    folder = tiny.fill_mirror(tmp_path / "m")
    bad = folder / "upstream" / "tiny" / "valid.data.gz"
    bad.write_bytes(gzip.compress(tiny.texts["valid"][:-1]))
    settings = tiny.settings(mirrors=(folder,))
    with caplog.at_level(logging.WARNING):
        assert fetch("tiny", settings).origin.startswith("download: ")
    assert f"{bad}: expected sha256 " in caplog.text
    with pytest.raises(DataError) as caught:
        fetch("tiny", tiny.settings(mirrors=(folder,), cache=tmp_path / "new", download=False))
    assert caught.value.file == str(bad)
    assert not (tmp_path / "new").exists()


def test_second_mirror_is_asked_when_the_first_is_damaged(tiny, tmp_path):
    first, second = tiny.fill_mirror(tmp_path / "1"), tiny.fill_mirror(tmp_path / "2")
    (first / "upstream" / "tiny" / "test.data.gz").write_bytes(b"")
    assert fetch("tiny", tiny.settings(mirrors=(first, second), download=False)).origin.startswith("mirror: ")


def test_unknown_name():
    for act in (fetch, load, is_local):
        with pytest.raises(DataError, match=r"expected one of accidents, ad, adult, .*, found 'mnits'"):
            act("mnits", DataSettings(cache="."))


def test_describe_covers_every_set_without_anything_at_hand(tmp_path):
    records = {record["name"]: record for record in describe(DataSettings(cache=tmp_path / "none", download=False))}
    assert set(records) == set(CATALOGUE)
    local = {name for name in records if is_local(name, DataSettings(cache=tmp_path / "none", download=False))}
    assert local == {"connect4", "ocr_letters", "binarized_mnist"}
    for name, record in records.items():
        assert record["available"] == "embedded" if name in local else record["available"].startswith("unavailable: ")
        assert record["licence"]
        assert record["source"]
    assert records["connect4"]["status"].startswith("stand-in: ")
    assert records["ocr_letters"]["status"] == "official"
    online = {record["name"]: record["available"] for record in describe(DataSettings(cache=tmp_path / "none"))}
    assert {name for name, where in online.items() if where == "download"} == set(CATALOGUE) - local - {
        "tfd",
        "faces48",
    }


def test_what_cannot_be_had_says_how_to_get_it(tmp_path):
    for name in set(CATALOGUE) - {"connect4", "ocr_letters", "binarized_mnist"}:
        with pytest.raises(DataUnavailableError) as caught:
            fetch(name, DataSettings(cache=tmp_path, download=False))
        assert CATALOGUE[name].how_to_get in str(caught.value)


def user_file(path, rows=TINY_PARTS) -> None:
    packed = {part: np.packbits(values, axis=1) for part, values in rows.items()}
    np.savez(path, n_features=np.int64(11), **packed)


def test_a_users_file_comes_first_and_is_read_again_when_it_changes(tiny, tmp_path):
    mine = tmp_path / "mine.npz"
    user_file(mine, {part: 1 - rows for part, rows in TINY_PARTS.items()})
    official = fetch("tiny", tiny.settings())
    settings = tiny.settings(paths={"tiny": mine})
    first = fetch("tiny", settings)
    assert first.origin == "user: mine.npz"
    assert str(first.status) == "stand-in: the user's file mine.npz, of unknown content"
    assert load("tiny", settings).digest == first.digest
    assert load("tiny", tiny.settings()).digest == official.digest, "who shares the cache is not served somebody's file"
    user_file(mine, {part: rows[::-1] for part, rows in TINY_PARTS.items()})
    assert fetch("tiny", settings).digest not in (first.digest, official.digest)
    assert fetch("tiny", tiny.settings()).digest == official.digest, "no longer pointed at, no longer used"


def test_a_users_file_of_known_content_is_official(tmp_path, mirror):
    settings = DataSettings(cache=tmp_path, paths={"dna": mirror / "dna.npz"}, download=False)
    assert str(fetch("dna", settings).status) == "official"


def test_a_users_file_that_is_missing_or_bad(tiny, tmp_path):
    missing = tiny.settings(paths={"tiny": tmp_path / "mine.npz"})
    with pytest.raises(DataError, match=r"mine\.npz: expected the file configured for tiny, found No such file"):
        fetch("tiny", missing)
    (tmp_path / "mine.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"mine\.npz: expected a whole \.npz file"):
        fetch("tiny", missing)
    (tmp_path / "mine.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"mine\.npz: expected a file with content, found an empty file"):
        fetch("tiny", missing)


N_UNLABELLED = 12


@pytest.fixture
def tfd(monkeypatch, tmp_path):
    """Faces in the form of TFD_48x48.mat, but few of them: writes the file, gives the settings that point at it."""
    monkeypatch.setattr(assembly, "N_TFD_UNLABELLED", N_UNLABELLED)
    entry: Entry = dataclasses.replace(CATALOGUE["tfd"], rows=(N_UNLABELLED, None, None))
    monkeypatch.setattr(retrieval, "CATALOGUE", {"tfd": entry})

    def write(**changes: np.ndarray) -> DataSettings:
        generator = np.random.Generator(np.random.PCG64(1))
        count = N_UNLABELLED + 6
        folds = np.zeros((count, 5), np.uint8)
        folds[::3, 0] = [1, 1, 2, 1, 3, 3]
        variables = {
            "images": generator.integers(0, 256, (count, 48, 48), dtype=np.uint8),
            "labs_ex": np.where(folds[:, :1] > 0, np.arange(count)[:, None] % 7 + 1, -1).astype(np.int16),
            "folds": folds,
        } | changes
        content = io.BytesIO()
        scipy.io.savemat(content, variables)
        (tmp_path / "TFD_48x48.mat").write_bytes(content.getvalue())
        write.variables = variables
        return DataSettings(cache=tmp_path / "cache", download=False, paths={"tfd": tmp_path / "TFD_48x48.mat"})

    return write


def test_tfd(tfd, tmp_path):
    settings = tfd()
    images = tfd.variables["images"].reshape(-1, 2304)
    fold = tfd.variables["folds"][:, 0]
    dataset = fetch("tfd", settings)
    assert (dataset.grey, dataset.status.official) == (True, True)
    np.testing.assert_array_equal(dataset.train, images[fold == 0])
    np.testing.assert_array_equal(dataset.valid, images[fold == 2])
    np.testing.assert_array_equal(dataset.test, images[fold == 3])
    assert dataset.train_labels is None
    np.testing.assert_array_equal(dataset.test_labels, tfd.variables["labs_ex"][fold == 3, 0])
    assert dataset.train.flags.c_contiguous
    again = load("tfd", settings)
    assert (again.digest, again.origin) == (dataset.digest, "user: TFD_48x48.mat")
    without = DataSettings(cache=tmp_path / "cache", download=False)
    with pytest.raises(DataUnavailableError):  # its owners give it out on request: it is kept nowhere, for nobody
        fetch("tfd", without)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((18, 32, 32), np.uint8)}, "images: expected uint8 of shape [N, 48, 48], found uint8 of"),
        ({"images": np.zeros((18, 48, 48))}, "images: expected uint8 of shape [N, 48, 48], found float64 of"),
        ({"folds": np.ones((18, 5), np.uint8)}, "folds: expected 12 unlabelled images, found 0"),
        ({"folds": np.zeros((17, 5), np.uint8)}, "expected folds and labs_ex for 18 images"),
        ({"folds": np.array([0] * 12 + [1] * 6, np.uint8)[:, None]}, "images for validation (2) in the first fold"),
    ],
    ids=["size", "type", "folds", "lengths", "no valid"],
)
def test_tfd_of_another_form(tfd, changes, message):
    with pytest.raises(DataError) as caught:
        fetch("tfd", tfd(**changes))
    assert "TFD_48x48.mat" in str(caught.value)
    assert message in str(caught.value)


def test_tfd_cut_off(tfd):
    settings = tfd()
    path = settings.paths["tfd"]
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"TFD_48x48\.mat: expected a whole MATLAB v5 file"):
        fetch("tfd", settings)


def test_import_is_light():
    heavy = "('torch', 'pandas', 'scipy', 'pooch', 'requests')"
    code = f"import sys, harness.data; print(*(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_homes_of_the_tests_are_not_public():
    assert not any(HOME in url for entry in CATALOGUE.values() for url in entry.urls)
