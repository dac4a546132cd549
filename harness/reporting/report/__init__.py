"""One HTML file with a summary, all tables and figures, and where every number comes from.

Everything is inside the file: images, the configuration and learning curve of every run, the data of the figures, and
the script that sorts and filters tables. So it can be mailed and read offline, and a browser is told to load nothing
else. Files of runs are linked beside that, where they lie next to it. What it shows was written by the workflow before:
the report measures nothing.
"""

from harness.reporting.report.write import OfUsers, write_report

__all__ = ["OfUsers", "write_report"]
