"""The data sets: the catalogue, where each comes from, and the verified rows themselves.

`fetch` finds a data set and keeps it in the cache, `load` reads it from there, `obtain` does what is needed of both.
Importing this package reads no data and loads neither torch nor pandas.
"""

from harness.data.catalogue import CATALOGUE
from harness.data.dataset import Dataset, Status
from harness.data.outside import is_outside, title_of
from harness.data.overview import cached_route, describe, is_local
from harness.data.own import OwnData, from_arrays, split_arrays
from harness.data.retrieval import fetch, load, obtain
from harness.data.settings import DataSettings

__all__ = [
    "CATALOGUE",
    "DataSettings",
    "Dataset",
    "OwnData",
    "Status",
    "cached_route",
    "describe",
    "fetch",
    "from_arrays",
    "is_local",
    "is_outside",
    "load",
    "obtain",
    "split_arrays",
    "title_of",
]
