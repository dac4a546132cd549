"""Where data sets may be looked for and kept: frozen values that the configuration fills in once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.data.own import OwnData


@dataclass(frozen=True)
class DataSettings:
    """Where to look.

    `mirrors` are folders with bundles (`adult.npz`, ...) or an `upstream/` tree; `paths` maps a data set to a file
    that the user obtained; `timeout_s` is how long a home may stay silent during a download. `redirects` maps the
    beginning of an address to what replaces it, for a site with its own copy of the public homes. `own` has the user's
    data sets, which come before those of the catalogue; `known` the digests that they, and those of plugins, must have.
    """

    cache: Path
    mirrors: tuple[Path, ...] = ()
    download: bool = True
    paths: Mapping[str, Path] = field(default_factory=dict)
    timeout_s: float = 20.0
    redirects: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, OwnData] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)

    def cached(self, name: str) -> Path:
        """The file in the cache that holds this data set."""
        return Path(self.cache) / f"{name}.npz"

    def address(self, url: str) -> str:
        """Where to ask for this public address; the longest matching redirect wins."""
        for prefix in sorted(self.redirects, key=len, reverse=True):
            if url.startswith(prefix):
                return self.redirects[prefix] + url.removeprefix(prefix)
        return url
