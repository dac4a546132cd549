"""The errors that users meet, each naming the file or key, what was expected and what was found."""


class HarnessError(Exception):
    """Bad input from outside (a file, the configuration, the command line); printed without a traceback.

    exit_code: of the command line. The workflow stops where a cell ends with that of ConfigError, since a mistake in
    the settings has to be corrected by hand; any other end of a cell is reported in the tables.
    """

    exit_code = 1


class ConfigError(HarnessError):
    """A configuration key that is unknown, missing or of the wrong type."""

    exit_code = 3


class DataError(HarnessError):
    """A data file that is not what it should be."""

    def __init__(self, file: object, expected: object, found: object):
        self.file, self.expected, self.found = file, expected, found
        super().__init__(f"{file}: expected {expected}, found {found}")


class DataUnavailableError(HarnessError):
    """A data set that none of the sources has; the message says how to get it."""


class InterruptedMeasuringError(Exception):
    """The process was asked to end while it measured; what was measured so far is on disk."""
