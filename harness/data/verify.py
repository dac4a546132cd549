"""Is this the very file that was meant? By sha256, or git's blob id where only that is known, before it is parsed."""

import gzip
import hashlib
import io
import zlib

from harness.errors import DataError

MOST_BYTES = 2**31  # unpacked
GZIP_MAGIC = b"\x1f\x8b"


def unzipped(file: object, content: bytes) -> bytes:
    """The content without its gzip wrapping, if it has one; DataError if the wrapping is damaged."""
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            found = stream.read(MOST_BYTES + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(file, "a whole gzip file", f"{len(content)} bytes that end or break early ({error})") from error
    if len(found) > MOST_BYTES:
        raise DataError(file, f"at most {MOST_BYTES} bytes, unpacked", f"more, of {len(content)} packed ones")
    return found


def git_blob_id(content: bytes) -> str:
    """The SHA-1 by which git names this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def check(file: object, content: bytes, *, sha256: str | None, git_blob: str | None, size: int | None = None) -> None:
    """DataError unless the content has the size and the digests that are known (None: unknown, not checked)."""
    if not content:
        raise DataError(file, "a file with content", "an empty file")
    if size is not None and len(content) != size:
        raise DataError(file, f"{size} bytes", f"{len(content)} bytes")
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise DataError(file, f"sha256 {sha256}", f"sha256 {found}")
    if git_blob is not None and sha256 is None and (found := git_blob_id(content)) != git_blob:
        raise DataError(file, f"git blob {git_blob}", f"git blob {found}")
