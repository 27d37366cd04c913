"""`motet doctor`."""

from __future__ import annotations

import anyio
import attrs
import click

from motet.cli import exits
from motet.cli.output import console, print_json
from motet.cli.root import app_option, json_option

__all__ = ["doctor"]

SIGNS = {"ok": "[green]ok[/green]  ", "warn": "[yellow]warn[/yellow]", "fail": "[red]fail[/red]"}


@click.command
@app_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Check python, the app, its tasks, the backend and its queues, and say what to do. Exit code 1 if any fails."""
    from motet.cli.checks import Finding, examine, machine

    found: list[Finding] = []

    def note(finding: Finding) -> None:
        found.append(finding)
        if not as_json:
            show(finding)

    async def look(target: str) -> None:
        async for finding in examine(target):
            note(finding)

    for finding in machine():
        note(finding)
    if target := ctx.find_root().obj:
        anyio.run(look, target)
    else:
        note(Finding("app", "fail", "not given", "-A module:attr (or file.py:attr), or set MOTET_APP"))
    if as_json:
        print_json([attrs.asdict(each) for each in found])
    ctx.exit(exits.FAILED if any(each.state == "fail" for each in found) else exits.OK)


def show(finding: object) -> None:
    from rich.markup import escape

    from motet.cli.checks import Finding

    assert isinstance(finding, Finding)
    out = console()
    out.print(f"{SIGNS[finding.state]}  {finding.check:<13} {escape(finding.text)}", soft_wrap=True)
    if finding.advice:
        out.print(f"[dim]{'':<6}{'':<13} -> {escape(finding.advice)}[/dim]", soft_wrap=True)
