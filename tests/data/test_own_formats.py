"""Files of users: every format ends in the same data set, and every fault is named with file, expected and found."""

import gzip
import io
import pickle
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import scipy.sparse

from harness.data import outside, user_files
from harness.data.own import OwnData, from_arrays, read_own, split_arrays
from harness.errors import DataError

PARTS = ("train", "valid", "test")
SIZES = (24, 9, 11)
N = 10
RNG = np.random.default_rng(5)
ROWS = {part: (RNG.random((n, N)) < 0.4).astype(np.uint8) for part, n in zip(PARTS, SIZES, strict=True)}
for _rows in ROWS.values():  # so that every column is seen in sparse files, and lines begin with either digit
    _rows[0], _rows[1] = 1, 0
CLASSES = {part: np.arange(n) % 3 for part, n in zip(PARTS, SIZES, strict=True)}
NAMES = [f"x{i}" for i in range(N)]


def text(rows, separator=",", one="1", zero="0"):
    return "".join(separator.join(one if value else zero for value in row) + "\n" for row in rows)


def npy(rows):
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def mat(**variables):
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=True)
    return file.getvalue()


def parquet(columns):
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def libsvm(rows):
    lines = (" ".join(["+1" if row[0] else "-1", *(f"{i + 1}:1" for i in np.flatnonzero(row))]) for row in rows)
    return "\n".join(lines) + "\n"


def columns_of(rows, kind=np.int64):
    return {name: rows[:, i].astype(kind) for i, name in enumerate(NAMES)}


FORMATS = {
    "a.data": text,
    "blanks.amat": lambda rows: text(rows, " "),
    "aligned.txt": lambda rows: text(rows, "   ").replace("\n", "  \n  "),
    "semicolons.csv": lambda rows: text(rows, ";"),
    "semicolons, blanks.csv": lambda rows: text(rows, "; "),
    "tabs.tsv": lambda rows: text(rows, "\t"),
    "floats.csv": lambda rows: text(rows, ",", "1.0", "0.0"),
    "exponents.amat": lambda rows: text(rows, " ", "1.000e+00", "0.000e+00"),
    "quoted.csv": lambda rows: text(rows, ",", '"1"', '"0"'),
    "header.csv": lambda rows: ",".join(NAMES) + "\n" + text(rows),
    "quoted header.csv": lambda rows: ",".join(f'"{name}, or so"' for name in NAMES) + "\n" + text(rows),
    "counting header.csv": lambda rows: ",".join(map(str, range(N))) + "\n" + text(rows),
    "counting from one.txt": lambda rows: " ".join(map(str, range(1, N + 1))) + "\n" + text(rows, " "),
    "no last newline.data": lambda rows: text(rows)[:-1],
    "blank lines.data": lambda rows: "\n" + text(rows) + "\n\n",
    "windows.csv": lambda rows: text(rows).replace("\n", "\r\n"),
    "old mac.csv": lambda rows: text(rows).replace("\n", "\r"),
    "mark.csv": lambda rows: "\ufeff" + text(rows),
    "mark and header.csv": lambda rows: "\ufeff" + ";".join(NAMES) + "\r\n" + text(rows, ";").replace("\n", "\r\n"),
    "zipped.data.gz": lambda rows: gzip.compress(text(rows).encode()),
    "bytes.npy": npy,
    "bools.npy": lambda rows: npy(rows.astype(bool)),
    "floats.npy": lambda rows: npy(rows.astype(np.float32)),
    "fortran.npy": lambda rows: npy(np.asfortranarray(rows.astype(np.int64))),
    "images.npy": lambda rows: npy(rows.reshape(-1, 2, 5)),
    "one array.npz": lambda rows: npz(anything=rows),
    "packed.npz": lambda rows: npz(x=np.packbits(rows, axis=1), n_features=np.int64(N)),
    "integers.parquet": lambda rows: parquet(columns_of(rows)),
    "bools.parquet": lambda rows: parquet(columns_of(rows, bool)),
    "doubles.parquet": lambda rows: parquet(columns_of(rows, np.float64)),
    "index.parquet": lambda rows: parquet({**columns_of(rows), "__index_level_0__": np.arange(len(rows))}),
    "v5.mat": lambda rows: mat(X=rows),
    "sparse.mat": lambda rows: mat(X=scipy.sparse.csc_matrix(rows.astype(float))),
    "rows.libsvm": libsvm,
    "commented.libsvm": lambda rows: libsvm(rows).replace("\n", " # a row\n"),
}


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def written(folder, form, name="a.data"):
    return {part: str(write(folder / f"{part} {name}", form(rows))) for part, rows in ROWS.items()}


def reading(**entry):
    return read_own(OwnData.from_settings("mine", entry))


EXPECTED = from_arrays(OwnData("mine"), ROWS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_the_same_data_set(name, tmp_path):
    found = reading(**written(tmp_path, FORMATS[name], name))
    for part in PARTS:
        np.testing.assert_array_equal(getattr(found, part), ROWS[part])
        assert getattr(found, part).dtype == np.uint8
    assert found.digest == EXPECTED.digest
    assert found.status.official is None


def test_packed_arrays_need_the_number_of_columns(tmp_path):
    files = written(tmp_path, lambda rows: npy(np.packbits(rows, axis=1)), "packed.npy")
    assert reading(**files, columns=N).digest == EXPECTED.digest
    with pytest.raises(DataError, match=r"values that are 0 or 1"):
        reading(**files)


def test_one_file_may_hold_all_parts(tmp_path):
    packed = {part: np.packbits(rows, axis=1) for part, rows in ROWS.items()}
    for content in (npz(**ROWS), npz(**packed, n_features=np.int64(N)), mat(**ROWS)):
        assert reading(file=str(write(tmp_path / "all", content))).digest == EXPECTED.digest
    made = npz(**{f"{part}_data": rows.astype(np.float32) for part, rows in ROWS.items()})
    assert reading(file=str(write(tmp_path / "made", made))).digest == EXPECTED.digest


def test_hdf_files_of_matlab_are_read_or_say_what_to_install(tmp_path):
    try:
        import h5py
    except ImportError:
        with pytest.raises(
            DataError, match=r"a\.mat: expected h5py .* pip install h5py.*-v7.*, found no h5py installed"
        ):
            reading(file=str(write(tmp_path / "a.mat", b"MATLAB 7.3 MAT-file" + bytes(600))), split=[0.8, 0.1, 0.1])
        return
    for part, rows in ROWS.items():
        with h5py.File(tmp_path / part, "w") as archive:
            archive["X"] = rows.T
    assert reading(**{part: str(tmp_path / part) for part in PARTS}).digest == EXPECTED.digest


def test_labels_become_classes_wherever_they_are(tmp_path):
    words = {part: [f"{'cab'[i]} class" for i in values] for part, values in CLASSES.items()}
    expected = from_arrays(OwnData("mine"), ROWS | {f"{part}_labels": values for part, values in words.items()})
    np.testing.assert_array_equal(expected.train_labels[:3], [2, 0, 1])  # in the order of the words
    in_text = {}
    for part, rows in ROWS.items():
        lines = [f"{word},{line}" for word, line in zip(words[part], text(rows).splitlines(), strict=True)]
        in_text[part] = str(
            write(tmp_path / f"{part}.csv", "\n".join(["kind,", *lines]).replace("kind,", "kind," + ",".join(NAMES), 1))
        )
    assert reading(**in_text, labels="kind").digest == expected.digest
    assert reading(**in_text, labels=1).digest == expected.digest
    tables = {
        part: str(write(tmp_path / f"{part}.parquet", parquet({**columns_of(rows), "kind": words[part]})))
        for part, rows in ROWS.items()
    }
    assert reading(**tables, labels="kind").digest == expected.digest
    assert reading(**tables, labels=-1).digest == expected.digest
    plain = written(tmp_path, text)
    beside = {part: str(write(tmp_path / f"{part}.labels", "\n".join(words[part]))) for part in PARTS}
    assert reading(**plain, labels=beside).digest == expected.digest
    whole = npz(**ROWS, **{f"{part}_kind": np.array(words[part]) for part in PARTS})
    assert reading(file=str(write(tmp_path / "all.npz", whole)), labels="kind").digest == expected.digest
    assert expected.digest != EXPECTED.digest


def test_libsvm_labels_are_read_where_they_are_asked_for(tmp_path):
    files = written(tmp_path, libsvm)
    assert reading(**files).train_labels is None
    found = reading(**files, labels="label")
    np.testing.assert_array_equal(found.train_labels, ROWS["train"][:, 0])


def test_sparse_files_may_lack_columns_on_the_right(tmp_path):
    narrow = {part: rows.copy() for part, rows in ROWS.items()}
    narrow["valid"][:, -1] = narrow["test"][:, -2:] = 0
    files = {part: str(write(tmp_path / part, libsvm(rows))) for part, rows in narrow.items()}
    assert reading(**files).digest == from_arrays(OwnData("mine"), narrow).digest
    assert reading(**files, columns=N + 1).n_features == N + 1


def levels(part):
    return (np.arange(ROWS[part].size).reshape(ROWS[part].shape) * 5) % 256


@pytest.mark.parametrize(
    "form",
    [
        lambda values: npy(values.astype(np.uint8)),
        lambda values: npy(values / 255),
        lambda values: "".join(" ".join(map(str, row)) + "\n" for row in values),
        lambda values: npy((values.astype(np.uint8)).reshape(-1, 2, 5)),
    ],
    ids=["bytes", "shares", "text", "images"],
)
def test_grey_levels_are_bytes(form, tmp_path):
    files = {part: str(write(tmp_path / part, form(levels(part)))) for part in PARTS}
    found = reading(**files, grey=True)
    assert found.grey
    for part in PARTS:
        np.testing.assert_array_equal(getattr(found, part), levels(part))
    with pytest.raises(DataError, match="grey levels"):
        reading(**files)


def test_one_file_is_split_by_a_seed_alone(tmp_path):
    together = np.concatenate([ROWS[part] for part in PARTS])
    path = str(write(tmp_path / "all.csv", text(together)))
    found = reading(file=path, split=[0.8, 0.1, 0.1])
    assert [len(getattr(found, part)) for part in PARTS] == [35, 5, 4]
    again = split_arrays(OwnData("other", split=(0.8, 0.1, 0.1)), together)
    assert again.digest == found.digest
    assert reading(file=path, split=[0.8, 0.1, 0.1], seed=1).digest != found.digest
    assert [len(getattr(reading(file=path, split=[30, 4, 10]), part)) for part in PARTS] == [30, 4, 10]
    sorted_rows = sorted(row.tobytes() for part in PARTS for row in getattr(found, part))
    assert sorted_rows == sorted(row.tobytes() for row in together)


def test_a_part_may_be_a_share_of_the_training_rows(tmp_path):
    files = written(tmp_path, text)
    found = reading(**{**files, "valid": 0.25})
    assert (len(found.train), len(found.valid), len(found.test)) == (18, 6, 11)
    found = reading(**{**files, "valid": 3, "test": 5})
    assert (len(found.train), len(found.valid), len(found.test)) == (16, 3, 5)
    rows = [row.tobytes() for part in PARTS for row in getattr(found, part)]
    assert sorted(rows) == sorted(row.tobytes() for row in ROWS["train"])
    arrays = from_arrays(OwnData("mine"), {"train": ROWS["train"], "valid": 3, "test": 5})
    assert arrays.digest == found.digest


GOOD = text(ROWS["train"])
LINES = GOOD.splitlines()
WRONG = {  # file name: content, what is expected, what is found
    "empty.data": ("", "a text of numbers, libsvm, .npy, .npz, .parquet or .mat file", "an empty file"),
    "blank.data": ("\n \n", "rows of numbers separated by", "an empty file"),
    "two.data": (GOOD.replace("1", "2", 1), "values that are 0 or 1", "'2' in column 1 (grey levels? say grey: true)"),
    "word.data": (GOOD + "0,yes" + ",0" * (N - 2) + "\n", "values that are 0 or 1", "'yes' in column 2"),
    "first word.data": ("0,x" + ",1" * (N - 2) + "\n" + GOOD, "or a header of names", "'x' in column 2"),
    "hole.csv": (GOOD + "0,," + ",".join("0" * (N - 2)) + "\n", "values that are 0 or 1", "'' in column 2"),
    "nan.csv": (GOOD + "nan" + ",0" * (N - 1) + "\n", "values that are 0 or 1", "'nan' in column 1"),
    "short.data": (GOOD + "0,1\n" + GOOD, f"{N} columns, as in the first line", "2 columns"),
    "long.data": (GOOD + LINES[0] + ",1\n" + GOOD, f"{N} columns", f"{N + 1} columns"),
    "cut.data": (GOOD[:-5], f"{N} columns", f"{N - 2} columns in the last line (a truncated file?)"),
    "header alone.csv": (",".join(NAMES), "at least one row below the header", "none"),
    "glued.txt": ("0110010011\n1110000000\n", "digits separated by commas", "'0110010011' in column 1"),
    "decimal commas.csv": ("0,0;1,0\n1,0;0,0\n", "values that are 0 or 1", "'0,0' in column 1"),
    "index.csv": (
        "," + ",".join(NAMES) + "\n" + "".join(f"{i},{line}\n" for i, line in enumerate(LINES)),
        "0 or 1",
        "'2'",
    ),
    "utf16.csv": (GOOD.encode("utf-16"), "text in UTF-8", "UTF-16"),
    "binary.data": (b"\x00\x01\x02\x03" * 50, "rows of numbers", "a file of another kind, which starts with 00010203"),
    "no header.csv": ("NA," * (N - 1) + "NA\n" + GOOD, "or a header of names", "'NA' in column 1"),
    "years.csv": (
        "id," + ",".join(map(str, range(1990, 1989 + N))) + "\n" + GOOD,
        "say header: true",
        "'id' in column 1",
    ),
    "page.html": ("<!DOCTYPE html>\n<p>Not found</p>\n", "0 or 1", "column 1"),
    "cut.data.gz": (gzip.compress(GOOD.encode())[:-9], "a whole gzip file", "end or break early"),
    "rows.pkl": (pickle.dumps(ROWS["train"]), ".npz, .parquet or .mat file", "a pickle, which is never read"),
    "objects.npy": (
        npy(np.array([[{}]], dtype=object)),
        "a whole .npy file of numbers",
        "cannot be read (Object arrays",
    ),
    "cut.npy": (npy(ROWS["train"])[:-3], "a whole .npy file", "cannot be read"),
    "flat.npy": (npy(ROWS["train"][0]), "at least one row of at least one column", f"an array of shape ({N},)"),
    "no rows.npy": (npy(ROWS["train"][:0]), "at least one row", f"an array of shape (0, {N})"),
    "words.npy": (npy(np.array([["a", "b"]])), "numbers", "<U1"),
    "half.npy": (npy(ROWS["train"] * 0.5), "values that are 0 or 1", "0.5 in column 1"),
    "minus.npy": (npy(ROWS["train"].astype(int) - 1), "values that are 0 or 1", "-1 in column"),
    "cut.npz": (npz(x=ROWS["train"])[:-30], "a whole .npz file", "cannot be read"),
    "two arrays.npz": (
        npz(x=ROWS["train"], y=ROWS["test"]),
        "one matrix, or the name of one",
        f"x (24, {N}), y (11, {N})",
    ),
    "padding.npz": (
        npz(x=np.full((9, 2), 255, np.uint8), n_features=np.int64(N)),
        "then zeros",
        "a one beyond the last",
    ),
    "sheet.xlsx": (b"PK\x03\x04" + bytes(60), "a whole .npz file", "cannot be read"),
    "cut.parquet": (parquet(columns_of(ROWS["train"]))[:-20], "a whole .parquet file", "cannot be read"),
    "hole.parquet": (parquet({"a": [0, None, 1]}), "a value in every row", "none in row 2"),
    "words.parquet": (parquet({"a": ["0", "1"]}), "numbers", "string"),
    "cut.mat": (mat(X=np.arange(5000))[:-40], "a whole MATLAB v5 file", "cannot be read"),
    "zero.libsvm": ("1 0:1 2:1\n-1 1:1\n", "columns counted from 1", "column 0"),
    "counts.libsvm": ("1 1:3 2:1\n-1 1:1\n", "values that are 0 or 1", "'3' in column 1"),
    "qid.libsvm": ("1 1:1 2:1\n1 qid:3 2:1\n", "a label, then column:value", "'qid:3'"),
    "wide.data": (text(np.hstack([ROWS["train"], ROWS["train"]])), f"{2 * N} columns, as in", f"{N} columns"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_malformed_file_is_refused_with_file_expected_and_found(name, tmp_path):
    content, expected, found = WRONG[name]
    files = written(tmp_path, text)
    path = write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        reading(**{**files, "train": str(path)})
    error = caught.value
    assert str(error.expected).find(expected) >= 0, str(error)
    assert str(error.found).find(found) >= 0, str(error)
    named = path if name != "wide.data" else tmp_path / "valid a.data"
    assert str(error.file).startswith(str(named)), str(error)
    assert "\n" not in str(error)


def test_lines_and_rows_are_named(tmp_path):
    files = written(tmp_path, text)
    lines = [*LINES[:7], "7" + LINES[7][1:], *LINES[8:]]
    for content, where in (
        ("\n".join(lines), "line 8"),
        ("\n\n" + ",".join(NAMES) + "\n" + "\n".join(lines), "line 11"),
    ):
        with pytest.raises(DataError, match=where):
            reading(**{**files, "train": str(write(tmp_path / "t", content))})
    rows = ROWS["train"].astype(int)
    rows[7, 3] = 7
    with pytest.raises(DataError, match=r"t, row 8: expected values that are 0 or 1, found 7 in column 4"):
        reading(**{**files, "train": str(write(tmp_path / "t", npy(rows)))})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"split": [0.8, 0.1]}, "a split into train, valid and test"),
        ({"split": [0.8, 0.1, 0.2]}, r"shares that add up to 1, .*found \[0.8, 0.1, 0.2\]"),
        ({"split": [20, 2, 1]}, r"numbers that add up to 24, found \[20, 2, 1\]"),
        ({"split": [0.98, 0.01, 0.01]}, "rows enough for"),
        ({}, "arrays train, valid and test, or a `split` for a file of all rows, found one table"),
        (
            {"split": [0.8, 0.1, 0.1], "labels": "kind"},
            "labels: expected one column 'kind', found 0 of them, no header",
        ),
        ({"split": [0.8, 0.1, 0.1], "labels": 11}, "labels: expected a column 1 .. 10, or -1 for the last, found 11"),
        ({"split": [0.8, 0.1, 0.1], "columns": 12}, "expected 12 columns, found 10 columns"),
    ],
)
def test_splits_and_labels_that_do_not_fit_are_named(entry, message, tmp_path):
    path = write(tmp_path / "all.csv", text(ROWS["train"]))
    with pytest.raises(DataError, match=message) as caught:
        reading(file=str(path), **entry)
    assert str(path) in str(caught.value)


def test_labels_that_do_not_fit_are_named(tmp_path):
    files = written(tmp_path, text)
    beside = {part: str(write(tmp_path / f"{part}.l", "\n".join(map(str, CLASSES[part])))) for part in PARTS}
    write(tmp_path / "valid.l", "0\n1\n")
    with pytest.raises(DataError, match=r"valid a\.data, labels: expected 9 labels, found shape \(2,\)"):
        reading(**files, labels=beside)
    write(tmp_path / "valid.l", "0\n" * 8 + "7\n")
    with pytest.raises(DataError, match=r"labels that training rows have \(0.0, 1.0, 2.0\), found 7.0"):
        reading(**files, labels=beside)


def test_a_file_that_is_missing_is_named(tmp_path):
    files = written(tmp_path, text)
    with pytest.raises(
        DataError, match=re.escape(f"{tmp_path}/no: expected a file that can be read, found No such file")
    ):
        reading(**{**files, "valid": str(tmp_path / "no")})
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}: expected a file, found a folder")):
        reading(**{**files, "valid": str(tmp_path)})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"train": "a", "valid": "b"}, "expected train, valid and test, or one file, found no test"),
        ({"train": "a", "file": "b"}, "expected a file, or train, valid and test, found train, file"),
        ({"train": "a", "valid": "b", "test": "c", "split": [1, 1, 1]}, "expected a file to split, found none"),
        ({"file": "a", "split": [0.5, 0.5]}, "expected a split into three, train, valid and test, found 2"),
    ],
)
def test_entries_that_name_no_data_set(entry, message):
    assert outside.fault_of(entry) == message


def test_what_is_too_large_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(user_files.verify, "MOST_BYTES", 100)
    files = written(tmp_path, text)
    with pytest.raises(DataError, match=r"at most 100 bytes, found 480"):
        reading(**files)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((ROWS["train"], ROWS["valid"]), "mine: expected arrays train, valid and test, found tuple"),
        ({**ROWS, "tset": ROWS["test"]}, "expected arrays .*, found tset"),
        ({**ROWS, "test": ROWS["test"][:, :3]}, "mine, test: expected 10 columns, as in mine, train, found 3 columns"),
        (
            {**ROWS, "valid": ROWS["valid"] * 2},
            "mine, valid, row 1: expected values that are 0 or 1, found 2 in column 1",
        ),
        ({**ROWS, "valid": [[0, 1], [1]]}, "mine, valid: expected a rectangular array of numbers"),
        ({"train": ROWS["train"], "valid": 0.1}, "expected a part test, found none"),
        ({**ROWS, "train_labels": CLASSES["train"]}, "labels for all three parts, or for none, found none"),
    ],
)
def test_wrong_arrays_are_named(arrays, message):
    with pytest.raises(DataError, match=message):
        from_arrays(OwnData("mine"), arrays)
