"""`session-guard rule`."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from session_guard.registry import RuleLoadError, load_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.rule import Invalid, Rule, Valid


@click.command("rule")
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Explain a rule, named by CODE or by its name; without one, list them all."""
    try:
        rules = load_rules()
    except RuleLoadError as error:
        raise click.ClickException(str(error)) from error
    if code is None:
        for rule in rules:
            click.echo(f"{rule.code}  {rule.name}: {rule.summary}")
        return
    for rule in rules:
        if code.upper() == rule.code.upper() or code == rule.name:
            click.echo("\n".join(_page(rule)))
            return
    raise click.UsageError(f"there is no rule `{code}`{_nearest(code, rules)}")


def _nearest(code: str, rules: tuple[Rule, ...]) -> str:
    import difflib

    known = [word for rule in rules for word in (rule.code, rule.name)]
    near = difflib.get_close_matches(code.upper(), known) or difflib.get_close_matches(code, known)
    return f"; did you mean {' or '.join(f'`{word}`' for word in near)}?" if near else ""


def _page(rule: Rule) -> Iterator[str]:
    yield f"# {rule.name} ({rule.code})"
    yield f"\n{_unindented(rule.summary)}"
    yield f"\n## Why\n\n{_unindented(rule.why)}"
    yield f"\n## Fix\n\n{_unindented(rule.fix_safety)}"
    for invalid in rule.invalid:
        yield from _invalid(invalid)
    for valid in rule.valid:
        yield f"\n## Not reported{_setting(valid)}\n\n{_code(valid.code)}"
    if rule.references:
        yield "\n## References\n"
        yield from (f"- {reference}" for reference in rule.references)
    yield f"\nSince session-guard {rule.since}."


def _invalid(example: Invalid) -> Iterator[str]:
    yield f"\n## Reported{_setting(example)}\n\n{_code(example.code)}"
    if example.fixed is not None:
        command = "fix --unsafe-fixes" if example.unsafe else "fix"
        yield f"\nAfter `session-guard {command}`:\n\n{_code(example.fixed)}"


def _setting(example: Valid | Invalid) -> str:
    """Say what an example's project has that the usual one has not."""
    config = ", ".join(f"`{line}`" for line in example.config.split("\n") if line.strip())
    return f" with {config}" if config else ""


def _code(text: str) -> str:
    return textwrap.indent(_unindented(text), "    ")


def _unindented(text: str) -> str:
    return textwrap.dedent(text).strip("\n")
