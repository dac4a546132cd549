"""A file from its public home, into memory: pooch transfers it, quickly given up where there is no network.

A host that cannot be reached is not asked again by this process. Nothing is written to disk, so nothing half-written
stays.
"""

import contextlib
import io
import logging
import socket
import threading
from urllib.parse import urlsplit

from harness.data.verify import unzipped
from harness.errors import DataError

logger = logging.getLogger(__name__)

CONNECT_S = 1.5  # time for a second attempt of TCP to open the connection
CHUNK = 1 << 16

_reachable: dict[str, bool] = {}  # by scheme, host and port


class UnobtainableError(Exception):
    """The home cannot be reached from here, or does not hand out the file."""


def download(url: str, timeout_s: float) -> bytes:
    """The file at this address, not gzipped; UnobtainableError if there is none, DataError if only a part arrives."""
    home = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    if home not in _reachable:
        _reachable[home] = _connects(url, min(timeout_s, CONNECT_S))
    if not _reachable[home]:
        raise UnobtainableError(f"no connection to {home}")
    import pooch
    import requests

    logger.info("downloading %s", url)
    content = io.BytesIO()
    transfer = pooch.HTTPDownloader(progressbar=False, chunk_size=CHUNK, timeout=(timeout_s, timeout_s))
    try:
        transfer(url, content, None)
    except requests.HTTPError as error:
        raise UnobtainableError(f"{url}: HTTP status {error.response.status_code}") from error
    except requests.RequestException as error:
        if not content.tell() and not isinstance(error, requests.exceptions.ChunkedEncodingError):
            raise UnobtainableError(f"{url}: {type(error).__name__}") from error
        found = f"a transfer that broke off after {content.tell()} bytes ({type(error).__name__})"
        raise DataError(url, "the whole file", found) from error
    return unzipped(url, content.getvalue())


def _connects(url: str, wait_s: float) -> bool:
    """Whether a connection to the host of this address, or to the proxy that is set for it, opens in time."""
    from requests.utils import get_environ_proxies, select_proxy

    address = urlsplit(select_proxy(url, get_environ_proxies(url)) or url)
    endpoint = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    opened = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError):
            socket.create_connection(endpoint, timeout=wait_s).close()
            opened.set()

    # A thread, because looking up a name has no time limit of its own.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(wait_s)
    return opened.is_set()
