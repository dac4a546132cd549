"""Every set by way of the real mirror folder: sizes, means, an independent likelihood, one digest for all routes."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness.data import CATALOGUE, DataSettings, assembly, describe, fetch, is_local, load, retrieval
from harness.data.debd import ENTRIES
from harness.data.entry import Entry, Route
from harness.data.retrieval import local_file
from harness.settings.config import cells, load_settings

PARTS = ("train", "valid", "test")
SEEN_AS_BLOBS = {"msnbc", "kdd", "tretail", "kosarek", "msweb", "book", "tmovie", "cwebkb", "cr52", "c20ng", "ad"}
IN_MIRROR = sorted(set(CATALOGUE) - {"tfd"} - SEEN_AS_BLOBS)


@pytest.fixture(scope="module")
def facts(mirror):
    sources = json.loads((mirror / "SOURCES.json").read_text())
    texts = {name: {**data, "packed": True} for name, data in sources["debd"]["datasets"].items()}
    return {**sources["datasets"], **texts}


@pytest.fixture(scope="module")
def blobs(mirror):
    """Of the sets of DEBD that are not in the mirror: address of a file -> git's blob id."""
    found = json.loads((mirror / "SOURCES.json").read_text())["debd"]["not_obtained"]
    return {file["url"]: file["git_blob_sha1"] for files in found.values() for file in files}


@pytest.fixture(scope="module")
def settings(mirror, tmp_path_factory):
    return DataSettings(cache=tmp_path_factory.mktemp("cache"), mirrors=(mirror,), download=False)


@pytest.mark.parametrize("name", IN_MIRROR)
def test_sizes_means_and_likelihood(name, settings, facts):
    dataset, known = fetch(name, settings), facts[name]
    assert dataset.n_features == known["n_features"] == CATALOGUE[name].columns
    for part in PARTS:
        rows = getattr(dataset, part)
        assert rows.dtype == np.uint8
        assert rows.flags.c_contiguous
        assert len(rows) == known["rows"][part]
        assert rows.mean() == pytest.approx(known["mean"][part], abs=1e-9)
    assert dataset.status.official == known["status"].startswith("official")
    assert dataset.grey == (not known["packed"])
    if not dataset.grey:
        assert max(getattr(dataset, part).max() for part in PARTS) == 1
        p = (dataset.train.sum(0, dtype=np.float64) + 1) / (len(dataset.train) + 2)
        nll = -(dataset.test @ np.log(p) + (1 - dataset.test.astype(np.float64)) @ np.log1p(-p)).mean()
        assert nll == pytest.approx(known["independent_bernoulli_test_nll"], abs=1e-6)


@pytest.mark.parametrize("name", IN_MIRROR)
def test_the_cache_gives_back_the_same(name, settings):
    first, again = fetch(name, settings), load(name, settings)
    assert again.origin.startswith("cache: mirror: ")
    assert (again.digest, again.status, again.grey) == (first.digest, first.status, first.grey)
    for field in (*PARTS, *(f"{part}_labels" for part in PARTS)):
        np.testing.assert_array_equal(getattr(again, field), getattr(first, field))


def in_mirror(entry: Entry, mirror: Path) -> list[Route]:
    return [route for route in entry.routes if route.files and all(local_file(mirror, file) for file in route.files)]


@pytest.mark.parametrize("name", IN_MIRROR)
def test_every_route_in_the_mirror_ends_in_the_same_digest(name, mirror):
    entry = CATALOGUE[name]
    routes = in_mirror(entry, mirror)
    for route in routes:
        files = [retrieval._read_local(local_file(mirror, file), file) for file in route.files]
        assert retrieval._assembled(entry, route, "mirror", files).digest == route.digest
    assert len({route.digest for route in routes}) == 1


def test_each_set_with_upstream_copies_is_proven_by_two_routes(mirror):
    proven = {name for name, entry in CATALOGUE.items() if len(in_mirror(entry, mirror)) >= 2}
    upstream = {"adult", "connect4", "dna", "mushrooms", "nips", "ocr_letters", "rcv1", "binarized_mnist"}
    assert proven == upstream


def test_the_original_amat_texts_end_in_the_same_digest(mirror, settings):
    """The texts are not in the mirror, but their digests are known, so that they can be written out again."""
    entry = CATALOGUE["binarized_mnist"]
    route = next(route for route in entry.routes if route.assemble is assembly.from_mnist_amat)
    dataset = fetch(entry.name, settings)
    files = []
    for part, file in zip(PARTS, route.files[:3], strict=True):
        rows = getattr(dataset, part)
        text = np.full((len(rows), 2 * entry.columns), ord(" "), np.uint8)
        text[:, ::2] = rows + ord("0")
        text[:, -1] = ord("\n")
        files.append(retrieval._verified(part, text.tobytes(), file))
    files += [retrieval._read_local(local_file(mirror, file), file) for file in route.files[3:]]
    assert retrieval._assembled(entry, route, "home", files).digest == dataset.digest


def test_labels_of_binarized_mnist(settings):
    dataset = fetch("binarized_mnist", settings)
    assert (np.diff(dataset.test_labels.astype(int)) >= 0).all()
    assert np.bincount(dataset.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    together = np.bincount(dataset.train_labels) + np.bincount(dataset.valid_labels)
    assert together.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_every_catalogued_digest_agrees_with_the_mirrors_list(facts, blobs):
    """Sizes and digests in the catalogue were carried over from SOURCES.json without a slip."""
    known = {f["url"]: f for data in facts.values() for f in data["files"] if f.get("url")}
    bundles = {data["npz"]: data for data in facts.values() if "npz" in data}
    for entry in CATALOGUE.values():
        for file in (file for route in entry.routes for file in route.files):
            if entry.name in SEEN_AS_BLOBS:
                assert (file.size, file.sha256, file.git_blob) == (None, None, blobs.pop(file.urls[0]))
                continue
            fact = next((known[url] for url in file.urls if url in known), None) or bundles[file.local]
            assert (file.size, file.sha256) == (fact["bytes"], fact["sha256"])
            assert file.git_blob in (None, fact.get("git_blob_sha1"))
            assert file.verifiable
    assert not blobs


def test_the_wider_field_is_a_group_and_not_in_the_grid():
    settings = load_settings()
    assert set(settings["groups"]["debd"]) == {entry.name for entry in ENTRIES}
    assert len(ENTRIES) == 20
    assert not {cell.dataset for cell in cells(settings)} & set(settings["groups"]["debd"])


def test_dna_is_cut_where_the_literature_cuts_it():
    assert not any("DEBD" in url for url in CATALOGUE["dna"].urls)


@pytest.mark.parametrize("name", IN_MIRROR)
def test_is_local_and_describe(name, mirror, tmp_path):
    here = DataSettings(cache=tmp_path, mirrors=(mirror,), download=False)
    nowhere = DataSettings(cache=tmp_path, download=False)
    assert is_local(name, here)
    record = next(record for record in describe(here) if record["name"] == name)
    assert record["available"] == "mirror"
    fetch(name, here)
    assert is_local(name, nowhere)
    record = next(record for record in describe(nowhere) if record["name"] == name)
    assert record["available"] == "cache"
    dataset = load(name, nowhere)
    assert record["status"] == str(dataset.status)
    assert [record[part] for part in PARTS] == [len(getattr(dataset, part)) for part in PARTS]
