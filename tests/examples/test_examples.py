"""The small examples run as their first lines say, on both event loops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def output_of(name: str, backend: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), backend],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
class TestExamples:
    def test_an_answer_is_shown_and_a_stopped_one_is_stored_as_shown(self, backend: str) -> None:
        *shown, whole, partial = output_of("streaming.py", backend)
        assert shown[:3] == [
            "> What is an actor?",
            "Mock response to: What is an actor?",
            "[stored]",
        ]
        assert shown[5] == "[stopped; this much is stored]"
        assert whole == "2 stop 'Mock response to: What is an actor?'"
        assert partial == f"4 interrupted {shown[4]!r}"
        assert shown[4].startswith("Mock response to")

    def test_a_reader_who_is_cut_off_gets_the_whole_text_once(self, backend: str) -> None:
        lines = output_of("resume_after_disconnect.py", backend)
        texts = [line.split(maxsplit=1)[1] for line in lines]
        assert len(texts) == 3
        assert texts[-1] == "'Mock response to: Which stars does a sailor know by name?'"
        assert all(texts[-1].startswith(text[:-1]) for text in texts)

    def test_a_class_with_one_async_function_is_a_provider(self, backend: str) -> None:
        assert output_of("simple_provider.py", backend) == [
            "loud-1: HELLO!",
            "loud-1: HOW ARE YOU!",
            "4 messages",
        ]

    def test_a_provider_streams_and_survives_an_answer_that_is_cut_off(self, backend: str) -> None:
        assert output_of("streaming_provider.py", backend) == [
            "'Owls see in the dark '",
            "truncated True",
            "'Still there '",
        ]
