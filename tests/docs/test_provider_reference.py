"""What the reference says of the providers is what their code says."""

import inspect
import re

import attrs
import pytest
from langswarm.core.session.adapters.http.options import HttpOptions
from langswarm.core.session.adapters.providers.anthropic import AnthropicProvider
from langswarm.core.session.adapters.providers.anthropic import options as anthropic
from langswarm.core.session.adapters.providers.anthropic import stream as anthropic_stream
from langswarm.core.session.adapters.providers.checks import RUNTIME_KEYS
from langswarm.core.session.adapters.providers.openai import OpenAIProvider, responses
from langswarm.core.session.adapters.providers.openai import config as openai
from langswarm.core.session.adapters.providers.openai_chat import OpenAIChatProvider
from langswarm.core.session.adapters.providers.openai_chat import options as openai_chat
from langswarm.core.session.adapters.providers.openai_chat import stream as chat_stream
from langswarm.core.session.providers import IProvider, list_providers

from .blocks import ROOT

PAGE = (ROOT / "docs/reference/providers.md").read_text(encoding="utf-8")
TABLES = {
    "openai": openai.TABLE,
    "openai_chat": openai_chat.TABLE,
    "anthropic": anthropic.TABLE,
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    _, _, after = PAGE.partition(f"\n## {heading}\n")
    part = after.partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cell: str) -> list[str]:
    return re.findall(r"`([a-z_]+)`", cell)


def test_every_keyword_of_the_connection_has_its_default() -> None:
    told = {names(row[0])[0]: row[1] for row in rows("Keywords of the connection")}
    fields = attrs.fields(HttpOptions)
    assert set(told) == {field.name for field in fields}
    for field in fields:
        if isinstance(field.default, int | float):
            assert told[field.name] == f"{field.default:g}"
        elif isinstance(field.default, str):
            assert told[field.name] == field.default


@pytest.mark.parametrize("cls", [OpenAIProvider, OpenAIChatProvider, AnthropicProvider])
def test_every_keyword_of_a_class_is_there(cls: type[IProvider]) -> None:
    told: dict[str, set[str]] = {}
    last = ""
    for row in rows("Keywords of each class"):
        last = row[0].strip("`") or last
        told.setdefault(last, set()).update(names(row[1]))
    parameters = inspect.signature(cls).parameters.values()
    real = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD}
    assert told[cls.__name__] == real - {"base_url"}


@pytest.mark.parametrize(("place", "provider"), list(enumerate(TABLES, 1)))
def test_every_key_of_a_provider_config_is_there(place: int, provider: str) -> None:
    told = {names(row[0])[0] for row in rows("provider_config") if row[place]}
    assert told == {*TABLES[provider], *RUNTIME_KEYS}


def test_every_built_in_provider_is_there() -> None:
    first = PAGE.partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)`", first, re.MULTILINE)) == list_providers()


def test_every_finish_reason_that_is_made_here_is_there() -> None:
    told = {names(row[0])[0] for row in rows("finish_reason")}
    made = {
        *responses.FINISH_REASONS.values(),
        *chat_stream.FINISH_REASONS.values(),
        *anthropic_stream.FINISH_REASONS.values(),
    }
    assert made <= told
    for place, reasons in ((2, responses.FINISH_REASONS), (4, anthropic_stream.FINISH_REASONS)):
        cells = " ".join(row[place] for row in rows("finish_reason"))
        assert [reason for reason in reasons if reason not in cells] == []


def test_fields_of_metadata_are_named_once() -> None:
    told = [name for row in rows("provider_metadata") for name in names(row[0])]
    assert len(told) == len(set(told))
