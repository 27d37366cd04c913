from collections.abc import Iterator
from contextlib import contextmanager

from motet.errors import Rejected, Unavailable, UsageError

TABLE = {
    PermissionError: (Rejected, "no permission: grant this user write access to the folder"),
    NotADirectoryError: (Rejected, "the path leads through a file: choose another folder"),
    OSError: (Unavailable, "the file system failed; look at the system's log"),
}


class Client:
    """What every call of a client's ports is made in."""

    closed = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Refuse a closed client (B4), and let no exception of the file system cross a port (B2)."""
        if self.closed:
            raise UsageError("this folder backend is closed")
        try:
            yield
        except OSError as error:
            kind, advice = next(TABLE[each] for each in type(error).__mro__ if each in TABLE)
            raise kind(f"{error}: {advice}") from error
