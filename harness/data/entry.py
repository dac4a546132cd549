"""The form of the catalogue: an entry for each data set, and the routes by which it can be obtained.

A route is some files, each with what proves it right, and the function that makes rows of them. Its `digest` is that of
the content it must end in (see `dataset.content_digest`), so every route to a data set is proven to give identical
bits; None where nobody here has ever seen the content.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.data import assembly
from harness.data.assembly import Raw
from harness.data.dataset import Content, Status

OFFICIAL = Status(official=True)


@dataclass(frozen=True)
class RawFile:
    """A file of a public home: where a mirror folder keeps it, its addresses, and what proves it right."""

    local: str  # relative to a mirror folder, where it may also be gzipped as `<local>.gz`
    urls: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None

    @property
    def verifiable(self) -> bool:
        """Whether a digest of the file is known."""
        return bool(self.sha256 or self.git_blob)


@dataclass(frozen=True)
class Route:
    """One way to a data set; without files, one that needs nothing but the package itself."""

    assemble: Callable[[list[Raw], int], Content]
    files: tuple[RawFile, ...] = ()
    status: Status = OFFICIAL
    digest: str | None = None
    rows: tuple[int | None, int | None, int | None] | None = None  # None: those of the entry

    @property
    def embedded(self) -> bool:
        """Whether it can be taken without any file from outside."""
        return not self.files

    @property
    def downloadable(self) -> bool:
        """Whether every file has a public address and a digest that proves it."""
        return bool(self.files) and all(file.urls and file.verifiable for file in self.files)


@dataclass(frozen=True)
class Entry:
    """A data set of the catalogue; sizes are those of the official set."""

    name: str
    columns: int
    rows: tuple[int | None, int | None, int | None]  # train, valid, test; None: not fixed
    routes: tuple[Route, ...]
    source: str
    licence: str
    how_to_get: str
    grey: bool = False
    unordered: tuple[str, ...] = ()  # the parts whose official order of rows is unknown
    classes: int | None = None  # of the labels that training rows have; None: they have none
    from_user: Route | None = None  # how to read a file that only users have; None: a bundle like the mirror's

    @property
    def status(self) -> Status:
        """The status of the best version that can be obtained."""
        routes = [*self.routes, *filter(None, [self.from_user])]
        return next((route.status for route in routes if route.status.official), routes[0].status)

    @property
    def urls(self) -> tuple[str, ...]:
        """Every public address that is tried."""
        return tuple(url for route in self.routes for file in route.files for url in file.urls)


def user_route(entry: Entry, file: Path) -> Route:
    """How to read a file that the user supplies for this data set."""
    if entry.from_user is not None:
        return entry.from_user
    status = Status(official=False, note=f"the user's file {file.name}, of unknown content")
    assemble = assembly.from_grey_bundle if entry.grey else assembly.from_bundle
    return Route(assemble, status=status, rows=(None, None, None))
