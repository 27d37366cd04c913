"""The exit codes, and which error means which."""

from __future__ import annotations

from motet.errors import BackendError, MotetError, StateLost, UnknownRun, UsageError

__all__ = ["FAILED", "HELP", "INTERRUPTED", "OK", "UNAVAILABLE", "UNKNOWN", "USAGE", "code_of"]

OK = 0
FAILED = 1
USAGE = 2
UNAVAILABLE = 3
UNKNOWN = 4
INTERRUPTED = 130

HELP = """\
Exit codes: 0 well; 1 what was asked for failed (the run failed, a check failed, a wait timed out); 2 wrong usage,
application path, task or argument; 3 the backend is unavailable or refused; 4 no such run; 130 interrupted."""


def code_of(error: MotetError) -> int:
    """Say with which code an error ends the program."""
    match error:
        case UsageError():
            return USAGE
        case UnknownRun() | StateLost():
            return UNKNOWN
        case BackendError():
            return UNAVAILABLE
        case _:
            return FAILED
