"""The SQLite backend of Motet."""
