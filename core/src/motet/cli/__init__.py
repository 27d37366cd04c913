"""The command line. `motet` and `python -m motet` are the same program.

A worker process imports this package too, so nothing is imported here: neither click nor rich, nor the app.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line, and exit with its code."""
    from motet.cli.root import cli

    cli(prog_name="motet")
