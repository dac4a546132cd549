"""The readers on tiny files: what they accept, and what each says about a bad file."""

import gzip
import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import scipy.io

from harness.data import assembly, readers, verify
from harness.data.embedded.letters import read_objects
from harness.errors import DataError

ROWS = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
TEXT = {readers.read_comma_text: b"0,1,1\n1,0,0\n", readers.read_amat: b"0 1 1\n1 0 0\n"}
both_texts = pytest.mark.parametrize("read", TEXT)


def error_of(read, content: bytes, *more: object) -> DataError:
    with pytest.raises(DataError) as caught:
        read("a.data", content, *more)
    return caught.value


@both_texts
def test_text(read):
    rows = read("a.data", TEXT[read], 3)
    assert rows.dtype == np.uint8
    np.testing.assert_array_equal(rows, ROWS)


@both_texts
@pytest.mark.parametrize(("old", "new"), [(b"\n", b"\r\n"), (b"0\n", b"0"), (b"\n", b" \n")])
def test_text_with_odd_line_ends(read, old, new):
    np.testing.assert_array_equal(read("a.data", TEXT[read].replace(old, new), 3), ROWS)


@both_texts
@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_text_empty(read, content):
    assert error_of(read, content, 3).found == "an empty file"


@both_texts
def test_text_wrong_number_of_columns_names_the_line(read):
    error = error_of(read, TEXT[read], 4)
    assert (str(error.file), error.expected, error.found) == ("a.data, line 1", "4 columns", "3 columns")
    longer = TEXT[read] + TEXT[read][:5].replace(b"\n", b"") + TEXT[read][1:2] + b"1\n" + TEXT[read]
    assert str(error_of(read, longer, 3)) == "a.data, line 3: expected 3 columns, found 4 columns"


@both_texts
def test_text_of_the_right_size_but_wrong_shape(read):
    """Two lines of 2 and 4 columns have as many bytes as two of 3."""
    mark = TEXT[read][1:2]
    content = mark.join([b"0", b"1"]) + b"\n" + mark.join([b"1", b"0", b"0", b"1"]) + b"\n"
    assert str(error_of(read, content, 3)) == "a.data, line 1: expected 3 columns, found 2 columns"


@both_texts
@pytest.mark.parametrize("value", [b"2", b"x", b"-", b"\xff"])
def test_text_value_names_line_and_value(read, value):
    content = TEXT[read][:-2] + value + b"\n"
    error = error_of(read, content, 3)
    assert str(error.file) == "a.data, line 2"
    assert error.expected == "values that are 0 or 1"
    assert error.found == f"{value.decode(errors='replace')!r} in column 3"


@both_texts
def test_text_cut_off_in_a_line(read):
    error = error_of(read, TEXT[read][:-4], 3)
    assert str(error.file) == "a.data, line 2"
    assert "truncated" in error.found


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def made(**changes) -> bytes:
    arrays = {f"{part}_data": ROWS.astype(np.float32) for part in ("train", "valid", "test")}
    return npz(**(arrays | changes))


def test_made_npz():
    for rows in readers.read_made_npz("m.npz", made(), 3):
        assert rows.dtype == np.uint8
        np.testing.assert_array_equal(rows, ROWS)


def test_made_npz_faults():
    half = ROWS.astype(np.float32)
    half[1, 2] = 0.5
    wrong = error_of(readers.read_made_npz, made(valid_data=half), 3)
    assert str(wrong) == "a.data, valid_data, row 2: expected values that are 0 or 1, found 0.5 in column 3"
    assert error_of(readers.read_made_npz, made(), 4).found == "an array of shape (2, 3)"
    assert error_of(readers.read_made_npz, npz(train_data=ROWS), 3).found == "no valid_data, test_data"
    assert error_of(readers.read_made_npz, b"", 3).found == "an empty file"
    assert error_of(readers.read_made_npz, made()[:-30], 3).expected == "a whole .npz file"
    single = io.BytesIO()
    np.save(single, ROWS)
    assert error_of(readers.read_made_npz, single.getvalue(), 3).found == "a single numpy array (.npy)"
    assert error_of(readers.read_made_npz, made(test_data=ROWS[:0].astype(np.float32)), 3).found == "none"


def test_made_npz_is_never_unpickled():
    error = error_of(readers.read_made_npz, made(train_data=np.array([[{}]], dtype=object)), 3)
    assert error.expected == "a whole .npz file"


def mat(**variables) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=True)
    return file.getvalue()


def test_mat():
    np.testing.assert_array_equal(readers.read_mat("x.mat", mat(X=ROWS, Y=ROWS), ("X",))["X"], ROWS)


def test_mat_faults():
    assert error_of(readers.read_mat, b"", ("X",)).found == "an empty file"
    assert error_of(readers.read_mat, mat(Y=ROWS), ("X",)).found == "no X"
    assert error_of(readers.read_mat, mat(X=np.arange(5000))[:-40], ("X",)).expected == "a whole MATLAB v5 file"
    assert error_of(readers.read_mat, b"0 1 1\n", ("X",)).expected == "a whole MATLAB v5 file"


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3)])
def test_idx(shape):
    values = np.arange(6, dtype=np.uint8).reshape(shape)
    np.testing.assert_array_equal(readers.read_idx("i", idx(values)), values)


def test_idx_faults():
    content = idx(np.arange(6, dtype=np.uint8))
    assert error_of(readers.read_idx, b"").found == "an empty file"
    assert error_of(readers.read_idx, content[:-1]).found == "5 values"
    assert error_of(readers.read_idx, content[:6]).expected == "an idx file of unsigned bytes"
    assert error_of(readers.read_idx, b"\0\0\x0d" + content[3:]).expected == "an idx file of unsigned bytes"


def test_gzip_is_transparent_and_its_truncation_is_named():
    whole = gzip.compress(b"0,1\n" * 1000)
    assert verify.unzipped("f", whole) == b"0,1\n" * 1000
    assert verify.unzipped("f", b"0,1\n") == b"0,1\n"
    assert "end or break early" in error_of(verify.unzipped, whole[:-20]).found
    assert error_of(verify.unzipped, whole[:20] + b"\xff" + whole[21:]).expected == "a whole gzip file"


def test_verification():
    known = {"sha256": None, "git_blob": "ce013625030ba8dba906f756967f9e9ca394464a"}  # of "hello\n", as git says
    verify.check("f", b"hello\n", **known)
    assert error_of(lambda f, c: verify.check(f, c, **known), b"hullo\n").expected == f"git blob {known['git_blob']}"
    assert error_of(lambda f, c: verify.check(f, c, sha256="00", git_blob=None), b"x").expected == "sha256 00"
    assert error_of(lambda f, c: verify.check(f, c, sha256="00", git_blob=None), b"").found == "an empty file"
    assert error_of(lambda f, c: verify.check(f, c, sha256="0", git_blob=None, size=9), b"x").found == "1 bytes"


def bundle(**changes) -> bytes:
    packed = np.packbits(ROWS, axis=1)
    return npz(**({"train": packed, "valid": packed, "test": packed, "n_features": np.int64(3)} | changes))


def test_bundle():
    content = assembly.from_bundle([assembly.Raw("b.npz", bundle())], 3)
    np.testing.assert_array_equal(content.valid, ROWS)
    assert content.labels == (None, None, None)


def test_bundle_faults():
    def read(name: str, content: bytes) -> object:
        return assembly.from_bundle([assembly.Raw(name, content)], 3)

    assert error_of(read, bundle(n_features=np.int64(4))).found == "4 columns"
    assert error_of(read, bundle(test=np.zeros((2, 2), np.uint8))).found == "an array of shape (2, 2)"
    labels = {f"{part}_labels": np.arange(2) for part in ("train", "valid", "test")}
    assert [each.tolist() for each in read("b.npz", bundle(**labels)).labels] == [[0, 1]] * 3
    for changed, message in (
        ({"train_labels": np.arange(3)}, "a.data, train_labels: expected 2 labels, found shape (3,)"),
        ({"test_labels": None}, "a.data: expected labels for all three parts, or for none, found no test_labels"),
        ({"train_labels": None, "valid_labels": None}, "found no train_labels, valid_labels"),
        ({"train_labels": np.array([1, 2])}, "labels 0 .. 1, as the training rows have 2 classes, found 2"),
        ({"test_labels": np.array([0, 2])}, "a.data, test_labels: expected labels 0 .. 1, as the training rows"),
        ({"valid_labels": np.array([-1, 0])}, "found -1"),
        ({"train_labels": np.array([0.0, 1.0])}, "labels as whole numbers, found float64"),
        ({"train_labels": np.array(["a", "b"])}, "labels as whole numbers, found <U1"),
        ({"train_labels": np.array([0, 300])}, "a.data, train_labels: expected labels 0 .. 1"),
    ):
        arrays = {name: values for name, values in (labels | changed).items() if values is not None}
        assert message in str(error_of(read, bundle(**arrays)))


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.bool_, np.uint16])
def test_packed_arrays_of_another_type(kind):
    content = bundle(valid=np.packbits(ROWS, axis=1).astype(kind))
    error = error_of(lambda name, data: assembly.from_bundle([assembly.Raw(name, data)], 3), content)
    expected = f"a.data, valid: expected packed bits as uint8 (numpy.packbits), found {np.dtype(kind)}"
    assert str(error) == expected


@pytest.mark.parametrize("n_features", [np.array([3, 3]), np.array("3"), np.float64(np.nan), np.float64(3)])
def test_numbers_of_columns_that_are_none(n_features):
    error = error_of(
        lambda name, data: assembly.from_bundle([assembly.Raw(name, data)], 3), bundle(n_features=n_features)
    )
    assert str(error).startswith("a.data, n_features: expected a whole number, found")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"0,1,1\n1,0,0\n", "a text of numbers (.data, .amat, .csv)"),
        (b"0 1 1\n1 0 0\n", "a text of numbers (.data, .amat, .csv)"),
        (b"+1 3:1 7:1\n-1 2:1\n", "a text in the form of libsvm (label column:value ...)"),
        (b"-1 3:0.5 7:1e-3 \n", "a text in the form of libsvm (label column:value ...)"),
        (pickle.dumps({"train": [1, 2]}), "a pickle, which is never read, as it may run code"),
        (b"\x93NUMPY\x01\x00", "a single numpy array (.npy)"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"PAR1....", "a parquet file"),
        (b"MATLAB 5.0 MAT-file", "a MATLAB file"),
        (b"<html>", "a text"),
        ("größer".encode(), "a text"),
        (bytes(range(128, 256)) * 2 + b"x", "a pickle, which is never read, as it may run code"),
        (b"\xfe\xff\x00\x00" * 9, "a file of another kind, which starts with feff0000"),
    ],
)
def test_a_file_of_another_form_is_told_which_form_is_read(content, found):
    error = error_of(readers.read_npz, content, ("train", "valid"))
    assert str(error) == f"a.data: expected an .npz file (numpy.savez) with the arrays train, valid, found {found}"


def npy_header(shape, kind="|u1"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def zipped(member: bytes, zeros: int = 0) -> bytes:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("train.npy", "w", force_zip64=True) as out,
    ):
        out.write(member)
        for _ in range(zeros >> 20):
            out.write(bytes(1 << 20))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(npy_header((10**15, 16))), "a.data, train: expected 16000000000000000 bytes for uint8 of shape"),
        (zipped(npy_header((2**62, 16), "<f8")), "a.data, train: expected"),
        (
            zipped(npy_header((5, 3)) + bytes(14)),
            "a.data, train: expected 15 bytes for uint8 of shape (5, 3), found 14",
        ),
    ],
)
def test_headers_that_declare_other_than_is_there(content, message):
    tracemalloc.start()
    assert message in str(error_of(readers.read_npz, content, ("train",)))
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_more_than_fits_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr(readers, "MOST_BYTES", 10 << 20)
    content = zipped(npy_header((20 << 20,)), zeros=20 << 20)
    assert len(content) < 100_000
    tracemalloc.start()
    assert "expected at most 10485760 bytes of arrays, found 2097" in str(
        error_of(readers.read_npz, content, ("train",))
    )
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def test_gzip_and_matlab_files_that_hold_too_much_are_refused(monkeypatch):
    monkeypatch.setattr(verify, "MOST_BYTES", 1 << 20)
    with pytest.raises(
        DataError, match=r"z\.gz: expected at most 1048576 bytes, unpacked, found more, of \d+ packed ones"
    ):
        verify.unzipped("z.gz", gzip.compress(bytes(20 << 20)))
    monkeypatch.setattr(readers, "MOST_BYTES", 1000)
    assert "at most 1000 values, found 2000 declared" in str(
        error_of(readers.read_mat, mat(x=np.zeros((40, 50))), ("x",))
    )
    assert readers.read_mat("m", mat(x=np.zeros((4, 5)), y=np.zeros((40, 50))), ("x",))["x"].shape == (4, 5)


def test_objects_are_read_as_data():
    """The protocol-2 form of {'a': [1, 2], 'b': array([1, 2], '<i8')} as Python 2 wrote it."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02i8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
        b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0tb"
    )
    found = read_objects("o", b"\x80\x02}(U\x01a](K\x01K\x02eU\x01b" + array + b"u.")
    assert found["a"] == [1, 2]
    np.testing.assert_array_equal(found["b"], np.array([1, 2]))


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\nU\x02lsq\x00\x85R.",
        b"\x80\x02cnumpy\nndarray\nK\x01\x85R.",
        b"\x80\x02cnumpy\ndtype\nU\x01OK\x00K\x01\x87R.",
        b"\x80\x02}K\x01b.",
        b"\x80\x02K\x01",
        b"\x80\x02e.",
        b"",
    ],
    ids=["system", "call", "object dtype", "state of a dict", "no end", "no mark", "empty"],
)
def test_objects_that_are_more_than_data_are_refused(content):
    assert error_of(read_objects, content).expected == "plain lists, dicts and arrays"
