"""Download from homes on the loopback interface: the real upstream files, and every fault that a transfer can have."""

import gzip
import logging
import socket
import time

import numpy as np
import pytest
from loopback import HOME, STAND_IN, TINY_PARTS, comma_text

from harness.data import CATALOGUE, DataSettings, fetch, load
from harness.data.homes import GITHUB, LAROCHELLE, MNIST_HOMES
from harness.errors import DataError, DataUnavailableError

SERVED = ["adult", "connect4", "dna", "mushrooms", "nips", "ocr_letters", "rcv1", "binarized_mnist"]


def leftovers(settings: DataSettings) -> list[str]:
    return sorted(path.name for path in settings.cache.iterdir()) if settings.cache.exists() else []


@pytest.mark.parametrize("name", SERVED)
def test_upstream_files_over_http(name, mirror, home, tmp_path):
    home.folder = mirror / "upstream"
    redirects = {GITHUB: home.base, MNIST_HOMES[0]: f"{home.base}/mnist"}
    settings = DataSettings(cache=tmp_path / "cache", redirects=redirects)
    dataset = fetch(name, settings)
    assert dataset.origin.startswith("download: ")
    reference = fetch(name, DataSettings(cache=tmp_path / "other", mirrors=(mirror,), download=False))
    assert (dataset.digest, dataset.status) == (reference.digest, reference.status)
    assert leftovers(settings) == [f"{name}.npz"]
    asked = home.asked.total()
    assert fetch(name, settings).digest == dataset.digest
    if dataset.status.official:
        assert home.asked.total() == asked, "an official set in the cache needs no network"


def test_tiny_set_over_http(tiny):
    settings = tiny.settings()
    dataset = fetch("tiny", settings)
    for part, rows in TINY_PARTS.items():
        np.testing.assert_array_equal(getattr(dataset, part), rows)
        assert tiny.home.asked[f"/tiny/{part}.data"] == 1
    assert load("tiny", settings).digest == dataset.digest
    assert leftovers(settings) == ["tiny.npz"]


def test_gzipped_on_the_way(tiny):
    tiny.home.files["/tiny/train.data"] = gzip.compress(tiny.texts["train"])
    assert len(fetch("tiny", tiny.settings()).train) == 30


@pytest.mark.parametrize(
    ("fault", "expected", "found"),
    [
        ("cut", "the whole file", "a transfer that broke off"),
        ("wrong", "sha256 ", "sha256 "),
        ("empty", "a file with content", "an empty file"),
    ],
)
def test_faulty_transfer(tiny, fault, expected, found, caplog):
    tiny.home.faults["valid.data"] = fault
    settings = tiny.settings()
    with pytest.raises(DataError) as caught, caplog.at_level(logging.WARNING):
        fetch("tiny", settings)
    assert caught.value.file == f"{tiny.home.base}/tiny/valid.data"
    assert caught.value.expected.startswith(expected)
    assert caught.value.found.startswith(found)
    assert leftovers(settings) == []
    assert str(caught.value) in caplog.text
    tiny.home.faults.clear()
    assert fetch("tiny", settings).origin.startswith("download")


def test_missing_file(tiny):
    tiny.home.faults["test.data"] = "missing"
    with pytest.raises(DataUnavailableError, match=r"tiny/test\.data: HTTP status 404\): ask for it"):
        fetch("tiny", tiny.settings())
    assert leftovers(tiny.settings()) == []


def test_gzip_cut_off(tiny):
    tiny.home.files["/tiny/train.data"] = gzip.compress(tiny.texts["train"])[:-9]
    with pytest.raises(DataError, match=r"tiny/train\.data: expected a whole gzip file"):
        fetch("tiny", tiny.settings())


@pytest.mark.parametrize(
    ("part", "text", "message"),
    [
        ("train", comma_text(TINY_PARTS["train"][:, 1:]), "train.data, line 1: expected 11 columns, found 10 columns"),
        ("valid", comma_text(TINY_PARTS["valid"]).replace(b"1", b"7"), "expected values that are 0 or 1, found '7'"),
        ("test", comma_text(TINY_PARTS["test"])[:-4], "line 15: expected 11 columns, found 10 columns"),
        ("test", comma_text(TINY_PARTS["train"]), "expected 15 rows in test, found 30"),
        ("train", b"", "train.data: expected a file with content, found an empty file"),
    ],
    ids=["columns", "value", "truncated", "rows", "empty"],
)
def test_right_digest_of_bad_content(tiny, part, text, message):
    """Verification cannot help where the catalogue itself names a bad file; the readers must."""
    tiny.publish(tiny.texts | {part: text})
    with pytest.raises(DataError) as caught:
        fetch("tiny", tiny.settings())
    assert message in str(caught.value)
    assert leftovers(tiny.settings()) == []


def test_fault_of_a_download_leads_to_the_stand_in_and_back(tiny, caplog):
    """A stand-in serves while the official files cannot be had, and gives way as soon as they can."""
    tiny.publish(tiny.texts, extra=(STAND_IN,))
    tiny.home.faults["train.data"] = "cut"
    with caplog.at_level(logging.WARNING):
        assert not fetch("tiny", tiny.settings()).status.official
    assert "broke off" in caplog.text
    assert not load("tiny", tiny.settings()).status.official
    tiny.home.faults.clear()
    assert not fetch("tiny", tiny.settings(download=False)).status.official
    assert fetch("tiny", tiny.settings()).status.official
    assert load("tiny", tiny.settings()).status.official


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


# A name that does not resolve, an address that does not answer, a port that refuses.
NOWHERE = ["https://home.invalid", "http://192.0.2.1", closed_port()]


@pytest.mark.parametrize("nowhere", NOWHERE, ids=["name", "silence", "refused"])
def test_without_network_it_gives_up_quickly_and_once(tiny, nowhere, caplog):
    tiny.publish(tiny.texts, extra=(STAND_IN,))
    settings = tiny.settings(redirects={HOME: nowhere}, timeout_s=60.0)
    started = time.perf_counter()
    assert not fetch("tiny", settings).status.official
    assert time.perf_counter() - started < 2
    started = time.perf_counter()
    assert fetch("tiny", settings).origin.startswith("cache")
    assert time.perf_counter() - started < 0.1
    assert not caplog.records, "being offline is no reason to warn"


def test_without_network_the_message_tells_how_to_get_it(tiny):
    with pytest.raises(DataUnavailableError, match=r"tiny is not available here \(no connection to .*\): ask for it"):
        fetch("tiny", tiny.settings(redirects={HOME: closed_port()}))


def test_download_is_not_tried_when_it_is_not_wanted(tiny):
    with pytest.raises(DataUnavailableError):
        fetch("tiny", tiny.settings(download=False))
    assert not tiny.home.asked


def test_a_second_address_is_tried_for_a_file(tmp_path, mirror, home):
    """The labels of MNIST have two homes; the first is out of order."""
    home.folder = mirror / "upstream"
    redirects = {GITHUB: home.base, MNIST_HOMES[0]: f"{home.base}/gone/away/now", MNIST_HOMES[1]: f"{home.base}/mnist"}
    settings = DataSettings(cache=tmp_path, redirects=redirects | {LAROCHELLE: closed_port()})
    dataset = fetch("binarized_mnist", settings)
    assert dataset.status.official
    assert dataset.origin.startswith("download: mingzhang-yin")


def test_redirects_replace_the_longest_beginning():
    settings = DataSettings(cache=".", redirects={"http://a/": "http://x/", "http://a/b/": "http://y/"})
    assert settings.address("http://a/b/c") == "http://y/c"
    assert settings.address("http://a/c") == "http://x/c"
    assert settings.address("http://b/c") == "http://b/c"


def test_every_home_is_pinned_or_proven():
    for entry in CATALOGUE.values():
        for route in entry.routes:
            for file in route.files:
                assert file.verifiable
                assert all(len(url.split("/")[5]) == 40 for url in file.urls if url.startswith(GITHUB))
