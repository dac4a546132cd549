"""The sets that come with the package, for a machine with neither mirror nor network.

Two small files, made by `build.py` from packages of the public registries, and the game of connect four, which needs
no file.
"""

from importlib import resources

import numpy as np

from harness.data import connect4
from harness.data.dataset import PARTS, Content, unpack

SEED = 20151106
CONNECT4_CUTS = (16_000, 20_000)


def connect4_seeded(_files: list, _columns: int) -> Content:
    """All rows of connect4 in the official sizes, under a fixed permutation of this project."""
    rows = connect4.positions()
    # RandomState, because its streams are frozen for all versions of numpy.
    order = np.random.RandomState(SEED).permutation(len(rows))
    return Content(*np.split(rows[order], CONNECT4_CUTS))


def ocr_letters(_files: list, columns: int) -> Content:
    """The official split of the letters."""
    return _stored("ocr_letters", columns)


def binarized_mnist_seeded(_files: list, columns: int) -> Content:
    """MNIST's images in the official order of rows, binarized once with this project's seed, and their digits."""
    return _stored("binarized_mnist", columns)


def _stored(name: str, columns: int) -> Content:
    with resources.files(__name__).joinpath(f"{name}.npz").open("rb") as file:
        arrays = dict(np.load(file, allow_pickle=False))
    labels = tuple(arrays.get(f"{part}_labels") for part in PARTS)
    return Content(*(unpack(arrays[part], columns, grey=False) for part in PARTS), labels)
