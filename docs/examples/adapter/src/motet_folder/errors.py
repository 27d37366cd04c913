from collections.abc import Iterator
from contextlib import contextmanager

from motet.errors import Rejected, Unavailable

TABLE = {
    PermissionError: (Rejected, "no permission: grant this user write access to the folder"),
    NotADirectoryError: (Rejected, "the path leads through a file: choose another folder"),
    OSError: (Unavailable, "the file system failed; look at the system's log"),
}


@contextmanager
def translated() -> Iterator[None]:
    """Let no exception of the file system cross a port."""
    try:
        yield
    except OSError as error:
        kind, advice = next(TABLE[each] for each in type(error).__mro__ if each in TABLE)
        raise kind(f"{error}: {advice}") from error
