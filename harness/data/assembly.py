"""From the raw files of one route to the rows of a data set: which file becomes which part, and what is cut or added.

Every function here takes the verified files of a route, in the order the catalogue lists them, and the number of
columns.
"""

from typing import NamedTuple

import numpy as np

from harness.data import connect4, mnist_order, readers
from harness.data.dataset import PARTS, Content, unpack
from harness.errors import DataError

N_MNIST = mnist_order.N_TRAIN + mnist_order.N_VALID
N_TFD_UNLABELLED = 98_058
MOST_CLASSES = 256  # labels are kept as bytes
RCV1_STAND_IN_CUTS = (2_000, 2_500)


class Raw(NamedTuple):
    """A file as it was found: what to call it in a message, and its bytes."""

    name: str
    content: bytes


def from_bundle(files: list[Raw], columns: int) -> Content:
    """One .npz in the mirror's form: packed parts, perhaps labels."""
    (file,) = files
    arrays = readers.read_npz(file.name, file.content, (*PARTS, "n_features"))
    n_features = arrays["n_features"]
    if n_features.shape or n_features.dtype.kind not in "iu":
        raise DataError(f"{file.name}, n_features", "a whole number", f"{n_features.dtype} of shape {n_features.shape}")
    if n_features != columns:
        raise DataError(file.name, f"{columns} columns", f"{n_features} columns")
    for part in PARTS:
        if arrays[part].dtype != np.uint8:
            raise DataError(f"{file.name}, {part}", "packed bits as uint8 (numpy.packbits)", str(arrays[part].dtype))
        readers.check_shape(f"{file.name}, {part}", arrays[part], (columns + 7) // 8)
    return Content(*(unpack(arrays[part], columns, grey=False) for part in PARTS), _bundled_labels(file.name, arrays))


def from_grey_bundle(files: list[Raw], columns: int) -> Content:
    """One .npz in the mirror's form of grey levels."""
    (file,) = files
    arrays = readers.read_npz(file.name, file.content, PARTS)
    for part in PARTS:
        readers.check_shape(f"{file.name}, {part}", arrays[part], columns)
        if arrays[part].dtype != np.uint8:
            raise DataError(f"{file.name}, {part}", "grey levels as uint8", str(arrays[part].dtype))
    return Content(*(arrays[part] for part in PARTS), _bundled_labels(file.name, arrays))


def _bundled_labels(name: str, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray | None, ...]:
    """Labels of all parts, or of none: classes 0 .. n-1, each of them among the training rows."""
    keys = [f"{part}_labels" for part in PARTS]
    if not any(key in arrays for key in keys):
        return (None, None, None)
    if missing := [key for key in keys if key not in arrays]:
        raise DataError(name, "labels for all three parts, or for none", f"no {', '.join(missing)}")
    for part, key in zip(PARTS, keys, strict=True):
        values = arrays[key]
        if values.shape != arrays[part].shape[:1]:
            raise DataError(f"{name}, {key}", f"{len(arrays[part])} labels", f"shape {values.shape}")
        if values.dtype.kind not in "iu":
            raise DataError(f"{name}, {key}", "labels as whole numbers", str(values.dtype))
    n_classes = len(np.unique(arrays[keys[0]]))
    if n_classes > MOST_CLASSES:
        raise DataError(f"{name}, {keys[0]}", f"at most {MOST_CLASSES} classes", f"{n_classes}")
    for key in keys:
        if strange := sorted(set(np.unique(arrays[key]).tolist()) - set(range(n_classes))):
            expected = f"labels 0 .. {n_classes - 1}, as the training rows have {n_classes} classes"
            raise DataError(f"{name}, {key}", expected, f"{strange[0]}")
    return tuple(arrays[key].astype(np.uint8) for key in keys)


def from_comma_texts(files: list[Raw], columns: int) -> Content:
    """Three texts of digits and commas: train, valid, test."""
    return Content(*(readers.read_comma_text(file.name, file.content, columns) for file in files))


def from_made(files: list[Raw], columns: int) -> Content:
    """MADE's .npz of all three parts."""
    (file,) = files
    return Content(*readers.read_made_npz(file.name, file.content, columns))


def from_comma_texts_and_rules(files: list[Raw], columns: int) -> Content:
    """connect4's official train and valid; test is what is left of the positions that the rules allow."""
    train, valid = (readers.read_comma_text(file.name, file.content, columns) for file in files)
    seen = {row.tobytes() for part in (train, valid) for row in np.packbits(part, axis=1)}
    packed = np.packbits(connect4.positions(), axis=1)
    left = np.array([row.tobytes() not in seen for row in packed])
    if left.sum() != len(packed) - len(train) - len(valid):
        found = f"{len(packed) - left.sum()} of {len(train) + len(valid)}"
        raise DataError(files[0].name, "only positions that the rules allow, each once", found)
    return Content(train, valid, connect4.positions()[left])


def from_rcv1_valid(files: list[Raw], columns: int) -> Content:
    """The official validation rows of rcv1, cut in the official proportions into three parts."""
    (file,) = files
    rows = readers.read_comma_text(file.name, file.content, columns)
    return Content(*np.split(rows, RCV1_STAND_IN_CUTS))


def from_mnist_mat(files: list[Raw], columns: int) -> Content:
    """Binarized MNIST as three MATLAB files with the variable X, then MNIST's train and test labels."""
    *parts, train_digits, test_digits = files
    rows = [readers.bits(file.name, readers.read_mat(file.name, file.content, ("X",))["X"], columns) for file in parts]
    return Content(*rows, _mnist_labels(train_digits, test_digits))


def from_mnist_amat(files: list[Raw], columns: int) -> Content:
    """Binarized MNIST as Larochelle's three texts, then MNIST's train and test labels."""
    *parts, train_digits, test_digits = files
    rows = [readers.read_amat(file.name, file.content, columns) for file in parts]
    return Content(*rows, _mnist_labels(train_digits, test_digits))


def _mnist_labels(train_file: Raw, test_file: Raw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    train_digits, test_digits = (readers.read_idx(file.name, file.content) for file in (train_file, test_file))
    if train_digits.shape != (N_MNIST,):
        raise DataError(train_file.name, f"{N_MNIST} labels", f"an array of shape {train_digits.shape}")
    train, valid, test = mnist_order.row_order(train_digits, test_digits)
    return train_digits[train], train_digits[valid], test_digits[test]


def from_tfd(files: list[Raw], columns: int) -> Content:
    """The Toronto Face Database's TFD_48x48.mat.

    train: the 98,058 images without an expression label (fold value 0), as in the thesis. valid and test: the
    labelled images that the data base's own first fold sets aside for validation (2) and for testing (3); labels are
    given for those alone.
    """
    (file,) = files
    found = readers.read_mat(file.name, file.content, ("images", "labs_ex", "folds"))
    images, expressions, folds = found["images"], found["labs_ex"].reshape(-1), found["folds"]
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1] * images.shape[2] != columns:
        raise DataError(f"{file.name}, images", "uint8 of shape [N, 48, 48]", f"{images.dtype} of {images.shape}")
    if folds.ndim != 2 or len(folds) != len(images) or len(expressions) != len(images):
        expected = f"folds and labs_ex for {len(images)} images"
        raise DataError(file.name, expected, f"shapes {folds.shape} and {expressions.shape}")
    first_fold = folds[:, 0]
    if (count := int((first_fold == 0).sum())) != N_TFD_UNLABELLED:
        raise DataError(f"{file.name}, folds", f"{N_TFD_UNLABELLED} unlabelled images", f"{count}")
    train, valid, test = (images[first_fold == fold].reshape(-1, columns) for fold in (0, 2, 3))
    for part, rows in (("validation (2)", valid), ("test (3)", test)):
        if not len(rows):
            raise DataError(f"{file.name}, folds", f"images for {part} in the first fold", "none")
    labels = (expressions[first_fold == fold].astype(np.uint8) for fold in (2, 3))
    return Content(train, valid, test, (None, *labels))
