"""One HTML file with all tables and figures, their captions, and where every number comes from.

Everything is inside the file, images too, so it can be mailed and read offline; nothing in it is a script. What it
shows was written by the workflow before: the report measures nothing.
"""

from harness.reporting.report.write import write_report

__all__ = ["write_report"]
