"""The ``harness`` command line: every rule of the workflow calls one of these verbs, so each step can be run by hand.

Errors that a user can mend are one line on standard error and exit code 1, or 3 where settings or arguments are wrong;
a run that ends in an expected way (unavailable data, divergence, time limit) exits 0 and says so in its
``status.json``. Imports that cost time happen in the verb that needs them.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import Sequence

from harness import __version__
from harness.cli import about, cells, compare, gather, kinds, new_dataset, show
from harness.errors import HarnessError, InterruptedMeasuringError

UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)  # of a folder, not of the program
STOPPED = 143  # shells' code for SIGTERM


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        code = options.verb(options) or 0
        sys.stdout.flush()
        return code
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # whoever reads what is printed has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except SystemExit as error:  # of a method's code: no verb of ours ends like this
        found = f"sys.exit({error.code!r})"
        print(f"harness: expected a method that returns or raises an error, found {found}", file=sys.stderr)
        return 1
    except InterruptedMeasuringError as error:
        print(f"harness: {error}", file=sys.stderr)
        return STOPPED
    except OSError as error:
        if error.errno not in UNUSABLE or not error.filename:
            raise
        print(f"harness: {error.filename}: expected a writable place, found {error.strerror}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="harness", description=__doc__.partition("\n")[0])
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for group in (about, kinds, cells, gather, show, compare, new_dataset):
        group.add(verbs)
    return parser
