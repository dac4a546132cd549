"""The data sets: what there is, where each comes from, and the verified rows themselves.

`fetch` obtains a data set and keeps it in the cache, `load` reads it from there. Importing this package reads no data
and loads neither torch nor pandas.
"""

from harness.data.catalogue import CATALOGUE
from harness.data.dataset import Dataset, Status
from harness.data.overview import describe, is_local
from harness.data.retrieval import fetch, load
from harness.data.settings import DataSettings

__all__ = ["CATALOGUE", "DataSettings", "Dataset", "Status", "describe", "fetch", "is_local", "load"]
