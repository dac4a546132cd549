"""Locations of the files that come with the harness, and the base of relative paths: in a checkout and from a wheel.

In a checkout, methods, workflow and published results are folders of their own at its root, and relative paths count
from there. A wheel holds those folders below ``harness/shipped/``; relative paths then count from the current folder.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "workflows" / "config.yaml").is_file() else None
ROOT = CHECKOUT or Path()  # of relative paths: of results, and of those in settings
_SHIPPED = CHECKOUT or PACKAGE / "shipped"
METHODS = _SHIPPED / "methods"
WORKFLOWS = _SHIPPED / "workflows"
SNAKEFILE = WORKFLOWS / "Snakefile"
PUBLISHED = CHECKOUT / "results" / "published" if CHECKOUT else _SHIPPED / "published"
