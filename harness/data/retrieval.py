"""Obtaining a data set: the sources in their order, each file verified before it is read, the result kept in the cache.

Order: a file that the user supplied, which is read each time and kept nowhere; an official copy from the cache, the
mirror folders, the public homes, the package; only then a stand-in from the same places. A damaged copy is logged and
the next source is tried.
"""

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.data import cache, outside, verify
from harness.data.assembly import Raw
from harness.data.catalogue import CATALOGUE
from harness.data.dataset import PARTS, Dataset, Status, content_digest, pack
from harness.data.download import UnobtainableError, download
from harness.data.entry import Entry, RawFile, Route, user_route
from harness.data.settings import DataSettings
from harness.errors import DataError, DataUnavailableError

logger = logging.getLogger(__name__)


def fetch(name: str, settings: DataSettings) -> Dataset:
    """The data set from the best source that has it, stored in the cache.

    Raises DataUnavailableError, which says how to get it, when no source has it; DataError when the only copies are
    damaged or the cache cannot be written.
    """
    if outside.is_outside(name, settings):
        return outside.read_outside(name, settings)
    entry = find(name)
    if name in settings.paths:
        return _from_user(entry, Path(settings.paths[name]))
    problems = _Problems()
    cached = _usable_cache(entry, settings, problems)
    if cached is not None and cached.status.official:
        return cached
    for official in (True, False):
        if cached is not None and not official:
            return cached
        routes = [route for route in entry.routes if route.status.official == official]
        for route, origin, files in _sources(routes, settings, problems):
            try:
                dataset = _assembled(entry, route, origin, files)
            except DataError as error:
                problems.add_damage(origin, error)
                continue
            cache.write(settings.cached(name), dataset)
            logger.info("%s: %s, from %s", name, dataset.status, origin)
            return dataset
    if problems.damaged:
        raise problems.damaged[0]
    tried = f" ({'; '.join(dict.fromkeys(problems.refused))})" if problems.refused else ""
    raise DataUnavailableError(f"{name} is not available here{tried}: {entry.how_to_get}")


class _Problems:
    """Problems with the sources tried so far: copies that are damaged, homes that gave none."""

    def __init__(self) -> None:
        self.damaged: list[DataError] = []
        self.refused: list[str] = []

    def add_damage(self, origin: str, error: DataError) -> None:
        logger.warning("%s: not used: %s", origin, error)
        self.damaged.append(error)

    def add_refusal(self, origin: str, error: UnobtainableError) -> None:
        logger.info("%s: not obtained: %s", origin, error)
        self.refused.append(str(error))


def load(name: str, settings: DataSettings) -> Dataset:
    """The data set from the user's file or the cache alone.

    Raises DataUnavailableError when it is not in the cache, DataError when it is damaged.
    """
    if outside.is_outside(name, settings):
        return outside.read_outside(name, settings)
    entry = find(name)
    if name in settings.paths:
        return _from_user(entry, Path(settings.paths[name]))
    cached = _read_cache(entry, settings)
    if cached is None:
        where = settings.cached(name).parent
        raise DataUnavailableError(f"{name} is not in the cache {where}: run `harness datasets --fetch {name}`")
    return cached


def obtain(name: str, settings: DataSettings, digest: str | None, told_by: object) -> Dataset:
    """The data set of this digest (None: of any), which ``told_by`` names, fetched again where the cache has it not.

    Raises DataError where what is found is other data, and what ``fetch`` raises.
    """
    try:
        data = load(name, settings)
        problem = None if digest in (None, data.digest) else f"the cache has content of digest {data.digest}"
    except (DataError, DataUnavailableError) as error:
        problem = str(error)
    if problem is None:
        return data
    if outside.is_outside(name, settings):
        raise DataError(name, f"content of digest {digest}, as {told_by} says", problem)
    logger.warning("%s: fetched again: %s", name, problem)
    data = fetch(name, settings)
    if digest not in (None, data.digest):
        raise DataError(f"{name} (from {data.origin})", f"content of digest {digest}, as {told_by} says", data.digest)
    return data


def find(name: str) -> Entry:
    """The catalogue's entry of this name; DataError naming those that exist."""
    if name not in CATALOGUE:
        raise DataError("data set", f"one of {', '.join(sorted(CATALOGUE))}", repr(name))
    return CATALOGUE[name]


def local_file(folder: Path, file: RawFile) -> Path | None:
    """Where the mirror folder has this file, plain or gzipped; None if it does not have it."""
    plain = Path(folder) / file.local
    return next((path for path in (plain, plain.with_name(plain.name + ".gz")) if path.is_file()), None)


def _sources(
    routes: list[Route], settings: DataSettings, problems: _Problems
) -> Iterator[tuple[Route, str, list[Raw]]]:
    """The files of each route from the mirrors, then from the homes, then nothing but the package; verified."""
    for folder in settings.mirrors:
        for route in routes:
            paths = [local_file(folder, file) for file in route.files]
            if not paths or not all(paths):
                continue
            origin = f"mirror: {_names(route)}"
            try:
                files = [_read_local(path, file) for path, file in zip(paths, route.files, strict=True)]
            except DataError as error:
                problems.add_damage(origin, error)
            else:
                yield route, origin, files
    for route in routes:
        if settings.download and route.downloadable:
            origin = f"download: {_names(route)}"
            try:
                files = [_download(file, settings) for file in route.files]
            except UnobtainableError as error:
                problems.add_refusal(origin, error)
            except DataError as error:
                problems.add_damage(origin, error)
            else:
                yield route, origin, files
    for route in routes:
        if route.embedded:
            yield route, "embedded", []


def _names(route: Route) -> str:
    return ", ".join(file.local.removeprefix("upstream/") for file in route.files)


def _read_local(path: Path, file: RawFile) -> Raw:
    try:
        if (size := path.stat().st_size) > verify.MOST_BYTES:
            raise DataError(path, f"at most {verify.MOST_BYTES} bytes", f"{size}")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(path, "a file that can be read", error.strerror) from error
    return _verified(str(path), content, file)


def _download(file: RawFile, settings: DataSettings) -> Raw:
    failure: Exception | None = None
    for public in file.urls:
        url = settings.address(public)
        try:
            return _verified(url, download(url, settings.timeout_s), file)
        except (UnobtainableError, DataError) as error:
            # A home that answers wrongly tells more than one that does not answer.
            failure = error if failure is None or isinstance(error, DataError) else failure
    raise failure


def _verified(name: str, content: bytes, file: RawFile) -> Raw:
    content = verify.unzipped(name, content)
    verify.check(name, content, sha256=file.sha256, git_blob=file.git_blob, size=file.size)
    return Raw(name, content)


def _assembled(entry: Entry, route: Route, origin: str, files: list[Raw]) -> Dataset:
    *parts, labels = route.assemble(files, entry.columns)
    parts = [np.ascontiguousarray(rows) for rows in parts]
    where = ", ".join(file.name for file in files) or entry.name
    for part, rows, expected in zip(PARTS, parts, route.rows or entry.rows, strict=True):
        if expected is not None and len(rows) != expected:
            raise DataError(where, f"{expected} rows in {part}", f"{len(rows)}")
    packed = [pack(rows, entry.grey) for rows in parts]
    digest = content_digest(packed, labels, entry.columns, entry.grey, entry.unordered)
    if route.digest is not None and digest != route.digest:
        raise DataError(where, f"content of digest {route.digest}", f"digest {digest}")
    return Dataset(entry.name, *parts, entry.grey, *labels, route.status, origin, digest)


def _usable_cache(entry: Entry, settings: DataSettings, problems: _Problems) -> Dataset | None:
    try:
        stored = _read_cache(entry, settings)
    except DataError as error:
        problems.add_damage("cache", error)
        return None
    return stored


def _read_cache(entry: Entry, settings: DataSettings) -> Dataset | None:
    path = settings.cached(entry.name)
    dataset = cache.read(path, entry.name, entry.columns, entry.grey, entry.unordered)
    if dataset is None:
        return None
    route = route_of(entry, cache.Claim(dataset.status, dataset.digest))
    rows = tuple(len(getattr(dataset, part)) for part in PARTS)
    expected = (route.rows or entry.rows) if route else (None, None, None)
    if route is None or any(n not in (None, m) for n, m in zip(expected, rows, strict=True)):
        raise DataError(path, f"content that the catalogue knows for {entry.name}", f"digest {dataset.digest}")
    return dataclasses.replace(dataset, status=route.status)


def route_of(entry: Entry, claim: cache.Claim) -> Route | None:
    """The route that ends in the content of a file in the cache, which decides what the content is.

    Where no route is known to end in this digest, one to content that nobody here has seen, if that is what the file
    claims to be.
    """
    known = (route for route in entry.routes if route.digest == claim.digest)
    unseen = (
        route for route in entry.routes if route.digest is None and route.status.official == claim.status.official
    )
    return next(known, None) or next(unseen, None)


def _status_of(entry: Entry, dataset: Dataset) -> Status:
    """What the catalogue says of this content today, which may be more than was known when it was stored."""
    known = (route.status for route in entry.routes if route.digest == dataset.digest)
    return next(known, dataset.status)


def _from_user(entry: Entry, path: Path) -> Dataset:
    """The file the user points at."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "No such file or directory"
        raise DataError(path, f"the file configured for {entry.name}", found)
    file = _read_local(path, RawFile(path.name))
    dataset = _assembled(entry, user_route(entry, path), f"user: {path.name}", [file])
    dataset = dataclasses.replace(dataset, status=_status_of(entry, dataset))
    logger.info("%s: read from %s, digest %s", entry.name, path, dataset.digest)
    return dataset
