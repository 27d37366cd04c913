"""A Motet backend whose broker is a folder."""

from motet_folder.backend import FolderBackend, open

__all__ = ["FolderBackend", "open"]
