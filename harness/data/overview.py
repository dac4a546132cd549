"""The list of `harness datasets`: every data set, whether it is available here and from where, without reading any."""

from pathlib import Path

from harness.data import cache, outside
from harness.data.catalogue import CATALOGUE
from harness.data.entry import Entry, Route, user_route
from harness.data.retrieval import find, local_file, route_of
from harness.data.settings import DataSettings


def is_local(name: str, settings: DataSettings, official: bool = False) -> bool:
    """Whether `fetch` can succeed now without a network, with official data if asked for; looks at names of files."""
    if outside.is_outside(name, settings):
        return not official
    available, route = _where(find(name), settings)
    here = available in ("cache", "user", "mirror", "embedded")
    return here and (not official or (route is not None and route.status.official))


def describe(settings: DataSettings) -> list[dict]:
    """One record per data set: name, columns, rows of train, valid and test, status, available, licence, source."""
    others = outside.outside_names(settings)
    built_in = [_record(entry, settings) for name, entry in CATALOGUE.items() if name not in others]
    return built_in + [outside.describe_outside(name, settings) for name in others]


def cached_route(name: str, settings: DataSettings, digest: str | None = None) -> Route | None:
    """How what the cache has of a data set came there, by the digest that it claims; None where it has none.

    digest: None too where it claims another one.
    """
    claim = cache.claim(settings.cached(name))
    return route_of(find(name), claim) if claim is not None and digest in (None, claim.digest) else None


def _record(entry: Entry, settings: DataSettings) -> dict:
    available, route = _where(entry, settings)
    rows = (route.rows if route else None) or entry.rows
    return {
        "name": entry.name,
        "columns": entry.columns,
        **dict(zip(("train", "valid", "test"), rows, strict=True)),
        "status": str(route.status if route else entry.status),
        "available": available,
        "licence": entry.licence,
        "source": entry.source,
    }


def _where(entry: Entry, settings: DataSettings) -> tuple[str, Route | None]:
    """Where the data set is, nearest first, and the route that leads to it as far as names of files tell."""
    if entry.name in settings.paths:
        path = Path(settings.paths[entry.name])
        return ("user", user_route(entry, path)) if path.is_file() else (f"unavailable: no file {path}", None)
    stored = cached_route(entry.name, settings)
    for official in (True, False):
        routes = [route for route in entry.routes if route.status.official == official]
        if stored is not None and stored.status.official == official:
            return "cache", stored
        for folder in settings.mirrors:
            for route in routes:
                if route.files and all(local_file(folder, file) for file in route.files):
                    return "mirror", route
        for route in routes:
            if route.embedded:
                return "embedded", route
    for route in entry.routes:
        if settings.download and route.downloadable:
            return "download", route
    return f"unavailable: {entry.how_to_get}", None
