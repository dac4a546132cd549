"""``harness compare`` of one run: which methods differ, as a page, csv tables and a critical-difference diagram."""

from harness.reporting.comparison.write import write_comparison

__all__ = ["write_comparison"]
