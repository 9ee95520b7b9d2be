"""The errors of HeirFlow, each with the exit code that the command line ends with.

    HeirflowError                1
      ConfigError               78   bad configuration
        timings.UnsafeTimings   78   numbers that cannot keep the promises
      LostLead                  75   another term has begun
      CommandNotFound          127   the command does not exist
      CommandNotRunnable       126   the command exists and cannot be executed
      stores.StoreUnavailable   69   the store does not answer
        stores.StoreRefuses     77   it refuses this user, password, database or right
      stores.StoreMisfit        78   the store answers and cannot be used

Each message is one plain sentence that a person can act on.
"""

from __future__ import annotations


class HeirflowError(Exception):
    """Something that a person can act on: the message is one plain sentence without a traceback."""

    exit_code = 1


class ConfigError(HeirflowError):
    """A setting that cannot be right."""

    exit_code = 78


class LostLead(HeirflowError):
    """Another member leads by now, or nobody: what was done in the name of this lead must not be kept."""

    exit_code = 75


class CommandNotFound(HeirflowError):
    """The command to run does not exist."""

    exit_code = 127


class CommandNotRunnable(HeirflowError):
    """The command to run exists and cannot be executed."""

    exit_code = 126


def first_line(error: BaseException) -> str:
    """What somebody else's error says, on one line: a driver's own words instead of SQLAlchemy's, without numbers and details."""
    cause: BaseException = getattr(error, "orig", None) or error
    said = " ".join(str(arg) for arg in cause.args if not isinstance(arg, (int, dict))).strip()
    return said.splitlines()[0].strip() if said else type(cause).__name__
