"""A public home on the loopback interface, a tiny data set that lives there, and a child process to try things in."""

import gzip
import hashlib
import multiprocessing
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from harness.data import DataSettings, Status, assembly, retrieval
from harness.data.entry import Entry, RawFile, Route

HOME = "https://home.invalid"


class Home:
    """A public home on the loopback interface, with faults to order."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.folder: Path | None = None  # an upstream/ tree to serve as GitHub and the MNIST hosts would
        self.faults: dict[str, str] = {}  # end of a path -> cut, empty, wrong, missing
        self.asked: Counter[str] = Counter()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def content(self, path: str) -> bytes | None:
        if path in self.files:
            return self.files[path]
        if self.folder is None:
            return None
        if path.startswith("/mnist/"):
            file = self.folder / path.removeprefix("/")
            return file.read_bytes() if file.is_file() else None
        owner, repository, _commit, *rest = path.removeprefix("/").split("/")
        file = self.folder / owner / repository / ("/".join(rest) + ".gz")
        return gzip.decompress(file.read_bytes()) if file.is_file() else None

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked[request.path] += 1
        fault = next((fault for end, fault in self.faults.items() if request.path.endswith(end)), None)
        content = self.content(request.path)
        if content is None or fault == "missing":
            request.send_error(404)
            return
        if fault == "empty":
            content = b""
        if fault == "wrong":
            content = content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[: len(content) // 2] if fault == "cut" else content)


TINY_ROWS = np.random.Generator(np.random.PCG64(5)).integers(0, 2, (60, 11), dtype=np.uint8)
TINY_PARTS = dict(zip(("train", "valid", "test"), np.split(TINY_ROWS, (30, 45)), strict=True))


def comma_text(rows: np.ndarray) -> bytes:
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


def tiny_entry(texts: dict[str, bytes], extra: tuple[Route, ...] = ()) -> Entry:
    files = tuple(
        RawFile(
            f"upstream/tiny/{part}.data",
            (f"{HOME}/tiny/{part}.data",),
            sha256=hashlib.sha256(text).hexdigest(),
        )
        for part, text in texts.items()
    )
    routes = (Route(assembly.from_comma_texts, files), *extra)
    return Entry("tiny", 11, (30, 15, 15), routes, source="-", licence="-", how_to_get="ask for it")


STAND_IN = Route(
    lambda _files, _columns: assembly.Content(*(1 - rows for rows in TINY_PARTS.values())),
    status=Status(official=False, note="the wrong way round"),
)


class Tiny:
    """A data set of 60 rows of 11 columns with one home, in a catalogue of its own."""

    def __init__(self, home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.folder, self.monkeypatch = home, folder, monkeypatch
        self.texts = {part: comma_text(rows) for part, rows in TINY_PARTS.items()}
        self.publish(self.texts)

    def publish(self, texts: dict[str, bytes], extra: tuple[Route, ...] = ()) -> None:
        """Let the home serve these texts, and the catalogue expect exactly them."""
        self.home.files = {f"/tiny/{part}.data": text for part, text in texts.items()}
        self.monkeypatch.setattr(retrieval, "CATALOGUE", {"tiny": tiny_entry(texts, extra)})

    def fill_mirror(self, folder: Path) -> Path:
        for part, text in self.texts.items():
            file = folder / "upstream" / "tiny" / f"{part}.data.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(gzip.compress(text))
        return folder

    def settings(self, **changes: object) -> DataSettings:
        values = {"cache": self.folder, "redirects": {HOME: self.home.base}, "timeout_s": 5.0}
        return DataSettings(**(values | changes))


def in_child(task, *arguments) -> object:
    """The result of the task in a forked process, or the exception it raised, as (type name, text)."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def run() -> None:
        try:
            theirs.send(task(*arguments))
        except Exception as error:
            theirs.send((type(error).__name__, str(error)))

    child = context.Process(target=run)
    child.start()
    assert ours.poll(60), "the child process gave no answer"
    answer = ours.recv()
    child.join()
    return answer
