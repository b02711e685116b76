import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from langswarm.core.session.cli import demo
from langswarm.core.session.cli.work import Job, work

Patch = Callable[[Job], None]


def _turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"user": user, "assistant": assistant} for user, assistant in pairs]


CONVERSATIONS: list[dict[str, Any]] = [
    {
        "id": "greetings",
        "language": "en",
        "title": "A long answer and one with braces",
        "system": "You are brief.\nAlways.",
        "context": {"units": "metric", "nested": {"list": [1, 1.5, True, None, "x"]}, "n": 3},
        "turns": _turns(
            ("Hello!", "Hello {input}, how can I help? " * 40),
            ("\ttabs\r\nand lines ", "```python\nprint('%s' % {})\n```\n"),
            ("Thanks", "."),
        ),
    },
    {
        "id": "日本語",
        "language": "ja",
        "title": "丁寧語",
        "system": None,
        "context": {"相手": "取引先", "絵文字": "👩‍👩‍👧"},
        "turns": _turns(
            (
                "「が」と「か゛」は同じですか。",
                "いいえ、e\u0301 と \u00e9 のように別の列です。" * 5,
            ),
            ("ありがとう 🙏🏽", "どういたしまして。"),
        ),
    },
    {
        "id": "שלום",
        "language": "he",
        "title": "rtl",
        "system": "ענה בעברית \u200f",
        "context": {},
        "turns": _turns(
            ("שלום, مرحبا", "שלום 123 \u200fabc\u200f"),
            ("עוד", "\u0000nul \ufeff inside"),
        ),
    },
    {"id": "one turn", "turns": _turns(("only", "this"))},
]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def input_file(tmp_path: Path) -> Path:
    path = tmp_path / "input.jsonl"
    lines = [json.dumps(line, ensure_ascii=False) for line in CONVERSATIONS]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> dict[str, Patch]:
    """The demo's parts without new processes; what is put in here runs before the part it names."""
    before: dict[str, Patch] = {}

    def run(job: Job) -> Iterator[dict[str, Any]]:
        if job.part in before:
            before[job.part](job)
        messages: list[dict[str, Any]] = []
        anyio.run(work, job, messages.append, backend=job.backend)
        yield from json.loads(json.dumps(messages))

    monkeypatch.setattr(demo, "in_new_process", run)
    return before
