"""Names that become parts of paths, of shell commands and of Snakemake's wildcards: one alphabet for each kind.

Methods, data sets, groups and runs: letters, digits and ``_ . -``. Variants, which tables show, may have blanks, ``=``
and ``+`` as well. None of these but the blank means anything to a shell, to Snakemake (wildcards and format strings
have braces) or to a file system; in paths, blanks are underscores. Names begin with a letter, digit or ``_`` (``-``
would be an option, ``.`` a hidden file), end in neither a point nor a blank, and are of moderate length.
"""

from __future__ import annotations

import re

LONGEST = 100  # characters; file systems take 255 bytes, of which suffixes and the temporary name need some
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?")
_VARIANT = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.=+ -]*[A-Za-z0-9_=+-])?")


def wrong_name(name: str) -> str | None:
    """The fault of a name of a method, data set, group or run, ``expected ..., found ...``; None if it is fine."""
    return _wrong(name, _NAME, "letters, digits, _ . -")


def wrong_variant(name: str) -> str | None:
    """The fault of a name of a variant, ``expected ..., found ...``; None if it is fine."""
    return _wrong(name, _VARIANT, "letters, digits, spaces, _ . - = +")


def variant_folder(variant: str) -> str:
    """A variant's name in paths: ``default`` for '', blanks as underscores."""
    return variant.replace(" ", "_") or "default"


def _wrong(name: str, alphabet: re.Pattern[str], letters: str) -> str | None:
    if len(name) > LONGEST:
        return f"expected a name of at most {LONGEST} characters, found {len(name)}: {name[:20]!r}..."
    if alphabet.fullmatch(name):
        return None
    return f"expected {letters}, with a letter or digit first and no dot or space last, found {name!r}"
