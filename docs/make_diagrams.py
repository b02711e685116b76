"""Draws what the documentation takes from the code, so that the two cannot differ.

    python docs/make_diagrams.py

rewrites what stands between `<!-- made from the code: NAME -->` and `<!-- end -->` in the
Markdown files. A test compares the committed text with what this would write.
"""

from __future__ import annotations

import inspect
import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from langswarm.core.session.actors.limits import Limits
from langswarm.core.session.actors.stages import PHASES, TRANSITIONS
from langswarm.core.session.cli.app import app
from langswarm.core.session.environment import settings
from langswarm.core.session.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

State = TypeVar("State", bound=Enum)
Cause = TypeVar("Cause", bound=Enum)

DOCS = Path(__file__).parent

_PART = re.compile(r"(<!-- made from the code: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _words(name: Enum) -> str:
    return str(name.value)


def _node(name: Enum) -> str:
    return name.name.lower()


def diagram(ways: Mapping[tuple[State, Cause], State]) -> str:
    """A state diagram in Mermaid's language; a state without a way out is an end."""
    begin = next(iter(ways))[0]
    beginnings = {before for before, _ in ways}
    ends = dict.fromkeys(after for after in ways.values() if after not in beginnings)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {_node(begin)}"]
    for (before, why), after in ways.items():
        label = _words(why).replace(":", ",")  # a colon ends a label
        lines.append(f"    {_node(before)} --> {_node(after)} : {label}")
    lines.extend(f"    {_node(end)} --> [*]" for end in ends)
    return "\n".join([*lines, "```"])


def ways_table(ways: Mapping[tuple[State, Cause], State]) -> str:
    """What leads where, one way a row."""
    rows = (
        (_node(before), f"`{why.name}`", _words(why), _node(after))
        for (before, why), after in ways.items()
    )
    return table(("From", "Event", "What happens", "To"), rows)


def turn() -> str:
    """The way of a turn."""
    return f"{diagram(TRANSITIONS)}\n\n{ways_table(TRANSITIONS)}"


def actor() -> str:
    """The way of a session actor."""
    return f"{diagram(PHASES)}\n\n{ways_table(PHASES)}"


def _unit(name: str) -> str:
    for unit in ("seconds", "bytes"):
        if name.endswith(f"_{unit}"):
            return unit
    return "count"


def _shown(default: Any) -> str:
    return f"{default:,}" if isinstance(default, int) else f"{default:g}"


def limits() -> str:
    """Every bound with its unit, default and meaning."""
    rows = (
        (
            f"`{field.name}`",
            _unit(field.name),
            _shown(field.default),
            str(field.metadata["what"]),
        )
        for field in attrs.fields(Limits)
    )
    return table(("Keyword", "Unit", "Default", "What it bounds, and what happens beyond"), rows)


def variables() -> str:
    """Every variable with its type, default and meaning."""
    rows = (
        (
            f"`{each.variable}`",
            " or ".join(f"`{choice}`" for choice in each.choices) or each.kind,
            each.default or "-",
            each.what,
        )
        for each in settings()
    )
    return table(("Variable", "Value", "Default", "What it sets"), rows)


def _preset(name: str) -> str:
    rows = ((each.feature, f"`{each.name}`", f"`{each}`") for each in PRESETS[name])
    return table(("The guide's words", "Piece", "Value"), rows)


def development() -> str:
    """What this preset switches on."""
    return _preset("development")


def production() -> str:
    """What this preset switches on."""
    return _preset("production")


_ARGUMENT = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def commands() -> str:
    """Every command: what it does, its arguments and options."""
    return "\n\n".join(_command(name) for name in app if not name.startswith(("-", "_")))


def _command(name: str) -> str:
    command = app[name]
    text, _, arguments = (inspect.getdoc(command.default_command) or "").partition("\nArgs:\n")
    told = {key: " ".join(what.split()) for key, what in _ARGUMENT.findall(arguments)}
    options = command.assemble_argument_collection()
    usage = " ".join([*(each.names[0] for each in options if each.required), "[OPTIONS]"])
    rows = (
        (
            f"`{each.names[0]}`",
            "needed" if each.required else _default(each.field_info.default),
            told[each.field_info.name].replace("|", "\\|"),
        )
        for each in options
    )
    head = ("Argument", "Default", "Meaning")
    return f"### {name}\n\n`langswarm-session {name} {usage}`\n\n{text}\n{table(head, rows)}"


def _default(value: Any) -> str:
    return "-" if value in {None, False, ()} else f"`{value}`"


PARTS: dict[str, Callable[[], str]] = {
    "turn": turn,
    "actor": actor,
    "limits": limits,
    "variables": variables,
    "development": development,
    "production": production,
    "commands": commands,
}


def made_anew(text: str) -> str:
    """The text of a Markdown file with its made parts as they should be."""
    return _PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}\n{part[3]}", text)


def main() -> None:
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        made = made_anew(text)
        if made != text:
            path.write_text(made, encoding="utf-8")
            print(f"{path.relative_to(DOCS.parent)}: made anew")


if __name__ == "__main__":
    main()
