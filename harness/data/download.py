"""A file from its public home, into memory: pooch transfers it, quickly given up where there is no network.

A host that cannot be reached is not asked again by this process. Nothing is written to disk, so nothing half-written
stays.
"""

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

_reachable: dict[tuple[str, int], bool] = {}


class UnreachableError(Exception):
    """The host of an address cannot be reached from here."""


def download(url: str, timeout_s: float) -> bytes:
    """The file at this address, not gzipped; UnreachableError without a connection, DataError if the transfer fails."""
    if not _can_reach(_endpoint(url), min(timeout_s, CONNECT_S)):
        raise UnreachableError(url)
    import pooch
    import requests

    logger.info("downloading %s", url)
    content = io.BytesIO()
    transfer = pooch.HTTPDownloader(progressbar=False, chunk_size=CHUNK, timeout=(timeout_s, timeout_s))
    try:
        transfer(url, content, None)
    except requests.HTTPError as error:
        raise DataError(url, "the file", f"HTTP status {error.response.status_code}") from error
    except requests.RequestException as error:
        found = f"a transfer that broke off after {content.tell()} bytes ({type(error).__name__})"
        raise DataError(url, "the whole file", found) from error
    return unzipped(url, content.getvalue())


def _endpoint(url: str) -> tuple[str, int]:
    """The host and port that a connection would go to: the proxy's, where one is set."""
    from requests.utils import get_environ_proxies, select_proxy

    address = urlsplit(select_proxy(url, get_environ_proxies(url)) or url)
    return address.hostname or "", address.port or (443 if address.scheme == "https" else 80)


def _can_reach(endpoint: tuple[str, int], wait_s: float) -> bool:
    if endpoint not in _reachable:
        found: list[bool] = []

        def connect() -> None:
            try:
                socket.create_connection(endpoint, timeout=wait_s).close()
                found.append(True)
            except OSError:
                found.append(False)

        # A thread, because looking up a name has no time limit of its own.
        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        thread.join(wait_s)
        _reachable[endpoint] = bool(found and found[0])
        if not _reachable[endpoint]:
            logger.info("%s port %d cannot be reached; it is not tried again", *endpoint)
    return _reachable[endpoint]
