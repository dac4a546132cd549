"""The data sets: the catalogue, where each comes from, and the verified rows themselves.

`fetch` finds a data set and keeps it in the cache, `load` reads it from there, `obtain` does what is needed of both.
Importing this package reads no data and loads neither torch nor pandas.
"""

from harness.data.catalogue import CATALOGUE
from harness.data.dataset import Dataset, Status
from harness.data.overview import cached_route, describe, is_local
from harness.data.retrieval import fetch, load, obtain
from harness.data.settings import DataSettings

__all__ = [
    "CATALOGUE",
    "DataSettings",
    "Dataset",
    "Status",
    "cached_route",
    "describe",
    "fetch",
    "is_local",
    "load",
    "obtain",
]
