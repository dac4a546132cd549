"""The kind of a file, for messages to users whose file is of another kind than the one that is read."""

import re

_MAGICS = (
    (b"PK", "a zip archive"),
    (b"\x93NUMPY", "a single numpy array (.npy)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"MATLAB 5.0", "a MATLAB file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a parquet file"),
    (b"\x80", "a pickle, which is never read, as it may run code"),
)
_LIBSVM = re.compile(rb"[-+]?[\d.]+( +\d+:[-+.\deE]+)+\s*")
_DIGITS = re.compile(rb"[-+.\deE]+([ ,;\t]+[-+.\deE]+)*\s*")


def found(content: bytes) -> str:
    """The kind of a file with this content, in words."""
    if not content:
        return "an empty file"
    for magic, words in _MAGICS:
        if content.startswith(magic):
            return words
    line = content[:100_000].lstrip().split(b"\n", 1)[0]
    if _LIBSVM.fullmatch(line):
        return "a text in the form of libsvm (label column:value ...)"
    if _DIGITS.fullmatch(line):
        return "a text of numbers (.data, .amat, .csv)"
    try:
        content[:1000].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(content[:1000]) - 4:
            return f"a file of another kind, which starts with {content[:4].hex()}"
    return "a text"
