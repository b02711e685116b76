"""The mock provider: predictable answers, scripted faults, settings that outlive the process."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any, get_args

import anyio
import pytest
from langswarm.core.session.actors.errors import ConfigurationError, ProviderCode, ProviderError
from langswarm.core.session.actors.model import PromptMessage, Role
from langswarm.core.session.actors.ports import (
    Completed,
    ProviderEvent,
    ProviderRequest,
    ProviderSettings,
    TextDelta,
)
from langswarm.core.session.adapters.providers import mock
from langswarm.core.session.adapters.providers.mock import (
    MockProvider,
    MockProviderSession,
    fault,
    hang,
    reply,
    truncate,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Settings(ProviderSettings):
    """Keeps what is set as JSON text, as a storage does."""

    def __init__(self) -> None:
        self.saved = "{}"

    def get(self, name: str) -> Any:
        return json.loads(self.saved).get(name)

    def set(self, name: str, value: Any) -> None:
        self.saved = json.dumps(json.loads(self.saved) | {name: value}, allow_nan=False)


class Conversation:
    """One session with the mock, turn after turn."""

    def __init__(self, provider: MockProvider, session_id: str = "s", **config: Any) -> None:
        self.provider = provider
        self.session_id = session_id
        self.config = config
        self.settings = Settings()
        self.turn_no = 0
        self.deltas: list[str] = []

    @property
    def view(self) -> MockProviderSession:
        return self.provider.session_view(self.settings)

    def request(self, *messages: PromptMessage) -> ProviderRequest:
        self.turn_no += 1
        return ProviderRequest(
            session_id=self.session_id,
            turn_id=f"{self.session_id}/{self.turn_no}",
            model="mock-model",
            messages=messages,
            config=self.config | json.loads(self.settings.saved),
            provider_session_id=None,
        )

    async def events(self, text: str = "Hello") -> list[ProviderEvent]:
        """All events of one turn; what had arrived before a failure is in `deltas`."""
        events: list[ProviderEvent] = []
        self.deltas.clear()
        async for event in self.provider.stream(self.request(user(text))):
            events.append(event)
            if isinstance(event, TextDelta):
                self.deltas.append(event.text)
        return events

    async def ask(self, text: str = "Hello") -> str:
        """The answer of one turn that must be complete."""
        events = await self.events(text)
        assert isinstance(events[-1], Completed)
        assert len(events) == len(self.deltas) + 1
        return "".join(self.deltas)

    async def code(self) -> ProviderCode | None:
        """The code of the error of one turn, None where there was none."""
        try:
            await self.events()
        except ProviderError as error:
            return error.code
        return None


def user(text: str) -> PromptMessage:
    return PromptMessage(role=Role.USER, content=text)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The sleeps that were asked for, in seconds; none of them takes time."""
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    monkeypatch.setattr(anyio, "sleep", nap)
    return naps


# ---------------------------------------------------------------- answers


async def test_the_default_answer_repeats_the_message_as_the_guide_prints_it() -> None:
    talk = Conversation(MockProvider())
    assert await talk.events("Test input") == [
        TextDelta("Mock response to: Test input"),
        Completed(input_tokens=2, output_tokens=7),
    ]


async def test_a_pattern_holds_from_the_next_turn_on() -> None:
    talk = Conversation(MockProvider())
    assert await talk.ask() == "Mock response to: Hello"
    talk.view.set_response_pattern("custom: {input}")
    assert await talk.ask() == "custom: Hello"
    talk.view.set_response_pattern("{input} {input} {other} {")
    assert await talk.ask() == "Hello Hello {other} {"


@pytest.mark.parametrize("text", ["{input}", "{}", "{0}", "{input!r:>{width}}", "%s", "\\1", "🦊{"])
async def test_a_message_is_taken_literally(text: str) -> None:
    assert await Conversation(MockProvider()).ask(text) == f"Mock response to: {text}"


async def test_the_last_user_message_is_answered_and_counted_whatever_surrounds_it() -> None:
    talk = Conversation(MockProvider(response_pattern="{input}"))
    request = talk.request(
        PromptMessage(role=Role.SYSTEM, content="s" * 1000),
        user("first"),
        PromptMessage(role=Role.ASSISTANT, content="answer"),
        user("second message"),
        PromptMessage(role=Role.SYSTEM, content="trailer"),
    )
    events = [event async for event in talk.provider.stream(request)]
    assert events == [TextDelta("second message"), Completed(input_tokens=3, output_tokens=3)]


async def test_a_window_without_a_user_message_is_answered_with_an_empty_input() -> None:
    talk = Conversation(MockProvider(response_pattern="<{input}>"))
    events = [event async for event in talk.provider.stream(talk.request())]
    assert events == [TextDelta("<>"), Completed(input_tokens=1, output_tokens=1)]


async def test_an_empty_answer_has_no_delta() -> None:
    talk = Conversation(MockProvider(response_pattern=""))
    assert await talk.events() == [Completed(input_tokens=1, output_tokens=1)]


# ---------------------------------------------------------------- chunks and delays


@pytest.mark.parametrize(
    ("size", "deltas"),
    [
        (None, ["0123456789"]),
        (1, list("0123456789")),
        (3, ["012", "345", "678", "9"]),
        (5, ["01234", "56789"]),
        (10, ["0123456789"]),
        (1_000_000, ["0123456789"]),
    ],
)
async def test_chunks_have_the_size_and_join_to_the_answer(
    size: int | None, deltas: list[str]
) -> None:
    talk = Conversation(MockProvider(response_pattern="{input}", chunk_size=2))
    talk.view.set_chunk_size(size)
    assert await talk.ask("0123456789") == "0123456789"
    assert talk.deltas == deltas


async def test_delays_come_once_before_the_answer_and_between_its_chunks(naps: list[float]) -> None:
    talk = Conversation(MockProvider(response_pattern="abcdef", chunk_size=2))
    await talk.ask()
    assert naps == []
    talk.view.set_response_delay(1500)
    talk.view.set_chunk_delay(20.5)
    await talk.ask()
    assert naps == [1.5, 0.0205, 0.0205]


async def test_an_error_comes_after_the_delay_of_an_answer(naps: list[float]) -> None:
    talk = Conversation(MockProvider(response_delay_ms=250, error_rate=1))
    assert await talk.code() == "overloaded"
    assert naps == [0.25]


async def test_a_real_delay_gives_way_to_other_tasks() -> None:
    talk = Conversation(MockProvider(response_delay_ms=1))
    others: list[str] = []

    async def other() -> None:
        others.append("ran")

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await talk.ask()
        assert others == ["ran"]


# ---------------------------------------------------------------- error rate


async def test_the_error_rate_fails_the_same_turns_in_every_run_and_about_that_share() -> None:
    async def run(rate: float) -> list[ProviderCode | None]:
        talk = Conversation(MockProvider())
        talk.view.set_error_rate(rate)
        return [await talk.code() for _ in range(400)]

    codes = await run(0.25)
    assert codes == await run(0.25)
    assert set(codes) == {None, "overloaded"}
    assert 70 <= codes.count("overloaded") <= 130
    assert set(await run(0)) == {None}
    assert set(await run(1)) == {"overloaded"}


async def test_sessions_fail_independently_of_each_other() -> None:
    provider = MockProvider(error_rate=0.5)
    talks = [Conversation(provider, name) for name in ("a", "b")]
    first, second = [[await talk.code() for _ in range(40)] for talk in talks]
    assert first != second


async def test_a_failure_by_rate_is_retryable_names_its_provider_and_has_no_text() -> None:
    talk = Conversation(MockProvider(error_rate=1, name="openai"))
    with pytest.raises(ProviderError, match="error_rate=1") as caught:
        await talk.events()
    assert caught.value.retryable
    assert caught.value.provider == "openai"
    assert talk.deltas == []


# ---------------------------------------------------------------- scripts


async def test_a_script_is_played_one_item_per_turn_and_then_the_pattern_answers() -> None:
    talk = Conversation(MockProvider())
    talk.view.set_script(["one {input}", fault("rate_limit"), reply("three"), reply("")])
    assert await talk.ask() == "one {input}"
    assert await talk.code() == "rate_limit"
    assert await talk.ask() == "three"
    assert await talk.events() == [Completed(input_tokens=1, output_tokens=1)]
    assert await talk.ask() == "Mock response to: Hello"
    assert await talk.ask() == "Mock response to: Hello"


async def test_a_reply_has_its_own_chunks_delay_and_finish_reason(naps: list[float]) -> None:
    talk = Conversation(MockProvider(chunk_size=3, response_delay_ms=1000))
    talk.view.set_script(
        [
            reply(chunks=["a", "", "bcdefgh"], delay_ms=0, finish_reason="length"),
            reply("abcdefgh"),
        ]
    )
    assert await talk.events() == [
        TextDelta("a"),
        TextDelta(""),
        TextDelta("bcdefgh"),
        Completed(finish_reason="length", input_tokens=1, output_tokens=2),
    ]
    assert naps == []
    assert await talk.ask() == "abcdefgh"
    assert talk.deltas == ["abc", "def", "gh"]
    assert naps == [1.0]


@pytest.mark.parametrize("code", get_args(ProviderCode))
async def test_a_fault_is_a_provider_error_of_its_code(code: ProviderCode) -> None:
    talk = Conversation(MockProvider(script=[fault(code)]))
    with pytest.raises(ProviderError) as caught:
        await talk.events()
    assert caught.value.code == code
    assert caught.value.provider == "mock"
    assert caught.value.retryable == (
        code in {"rate_limit", "overloaded", "locked", "timeout", "connection", "truncated"}
    )
    assert caught.value.retry_after_seconds is None


async def test_a_fault_says_what_it_is_told_to_say_after_so_many_chunks() -> None:
    talk = Conversation(MockProvider(response_pattern="abcdefgh", chunk_size=2))
    told = fault("auth", "no", retryable=True, retry_after_seconds=2.5, after_chunks=3)
    talk.view.set_script([told, fault("auth", after_chunks=99)])
    with pytest.raises(ProviderError, match=r"^no$") as caught:
        await talk.events()
    assert caught.value.retryable
    assert caught.value.retry_after_seconds == 2.5
    assert talk.deltas == ["ab", "cd", "ef"]
    assert await talk.code() == "auth"
    assert talk.deltas == ["ab", "cd", "ef", "gh"]


async def test_hang_waits_until_it_is_cancelled_and_the_next_turn_is_the_next_item() -> None:
    talk = Conversation(MockProvider(response_pattern="abcd", chunk_size=2))
    talk.view.set_script([hang(after_chunks=1), "next"])
    ended: list[str] = []

    async def turn() -> None:
        await talk.events()
        ended.append("by itself")

    async with anyio.create_task_group() as group:
        group.start_soon(turn)
        await anyio.wait_all_tasks_blocked()
        assert talk.deltas == ["ab"]
        group.cancel_scope.cancel()
    assert ended == []
    assert await talk.ask() == "next"


async def test_truncate_ends_without_completed() -> None:
    talk = Conversation(MockProvider(script=[truncate("half an ans"), truncate("")]))
    assert await talk.events() == [TextDelta("half an ans")]
    assert await talk.events() == []


async def test_the_error_rate_spares_scripted_turns() -> None:
    talk = Conversation(MockProvider(error_rate=1, script=["fine"]))
    assert await talk.ask() == "fine"
    assert await talk.code() == "overloaded"


async def test_a_new_script_takes_the_place_of_the_old_one_even_if_it_reads_the_same() -> None:
    talk = Conversation(MockProvider())
    talk.view.set_script(["1", "2"])
    assert await talk.ask() == "1"
    talk.view.set_script(["1", "2"])
    assert [await talk.ask(), await talk.ask()] == ["1", "2"]
    talk.view.set_script(["3", "4"])
    assert await talk.ask() == "3"
    talk.view.set_script([])
    assert await talk.ask() == "Mock response to: Hello"


async def test_the_default_script_is_played_by_each_session_on_its_own() -> None:
    provider = MockProvider(script=["1", "2"])
    left, right = Conversation(provider, "left"), Conversation(provider, "right")
    assert [await left.ask(), await right.ask()] == ["1", "1"]
    assert [await left.ask(), await right.ask()] == ["2", "2"]
    assert [await left.ask("x"), await right.ask("x")] == ["Mock response to: x"] * 2


async def test_a_saved_script_starts_again_in_a_new_process_and_a_new_one_is_told_from_it() -> None:
    before = Conversation(MockProvider())
    before.view.set_script(["old 1", "old 2"])
    assert await before.ask() == "old 1"

    after = Conversation(MockProvider())
    after.settings = before.settings
    assert await after.ask() == "old 1"
    after.view.set_script(["new 1", "new 2"])
    assert [await after.ask(), await after.ask()] == ["new 1", "new 2"]


async def test_places_in_scripts_are_bounded_and_the_least_recently_asked_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mock, "MAX_SCRIPTED_SESSIONS", 2)
    provider = MockProvider(script=["1", "2", "3"])
    a, b, c = [Conversation(provider, name) for name in "abc"]
    assert [await talk.ask() for talk in (a, b, a, c)] == ["1", "1", "2", "1"]
    assert await a.ask() == "3"
    assert await b.ask() == "1"


async def test_turns_of_many_sessions_at_once_do_not_mix() -> None:
    provider = MockProvider(response_pattern="{input}", chunk_size=1, chunk_delay_ms=0.001)
    answers: dict[str, str] = {}

    async def turn(name: str) -> None:
        talk = Conversation(provider, name)
        talk.view.set_script([f"scripted {name}"])
        answers[name] = f"{await talk.ask()}, {await talk.ask(name)}"

    async with anyio.create_task_group() as group:
        for name in "abcdefgh":
            group.start_soon(turn, name)
    assert answers == {name: f"scripted {name}, {name}" for name in "abcdefgh"}


# ---------------------------------------------------------------- settings


async def test_settings_go_before_provider_config_and_that_before_the_defaults() -> None:
    provider = MockProvider(response_pattern="default", chunk_size=2)
    assert await Conversation(provider).ask() == "default"
    talk = Conversation(provider, response_pattern="configured", chunk_size=None)
    assert await talk.ask() == "configured"
    assert talk.deltas == ["configured"]
    talk.view.set_response_pattern("set")
    assert await talk.ask() == "set"


async def test_every_option_may_stand_in_provider_config(naps: list[float]) -> None:
    talk = Conversation(
        MockProvider(),
        response_pattern="abcd",
        response_delay_ms=100,
        chunk_size=2,
        chunk_delay_ms=10,
        error_rate=1,
        script=["hello", reply("x")],
    )
    assert await talk.ask() == "hello"
    assert naps == [0.1, 0.01, 0.01]
    assert await talk.ask() == "x"
    assert await talk.code() == "overloaded"


async def test_options_of_a_vendor_are_ignored() -> None:
    talk = Conversation(MockProvider(), temperature=0.7, max_tokens=5, tools=[{"type": "x"}])
    assert await talk.ask() == "Mock response to: Hello"


async def test_all_that_is_set_survives_as_json_in_another_provider_object() -> None:
    first = Conversation(MockProvider())
    first.view.set_response_pattern("kept: {input}")
    first.view.set_chunk_size(4)
    first.view.set_script([fault("locked"), truncate("t"), hang(), reply(chunks=("a",))])
    second = Conversation(MockProvider())
    second.settings = first.settings
    assert await second.code() == "locked"
    assert await second.events() == [TextDelta("t")]
    with anyio.CancelScope() as scope:
        scope.cancel()
        await second.events()
    assert await second.ask() == "a"
    assert await second.ask() == "kept: Hello"
    assert second.deltas == ["kept", ": He", "llo"]


NONSENSE: list[tuple[Callable[[MockProviderSession], object], str]] = [
    (lambda view: view.set_response_pattern(5), "response_pattern must be a text .*, not 5"),  # type: ignore[arg-type]
    (lambda view: view.set_response_pattern("\ud800"), r"without lone surrogates, not '\\ud800'"),
    (
        lambda view: view.set_response_pattern("x" * 1_000_001),
        r"1000000 characters, not 'xxx.*\.{3}$",
    ),
    (lambda view: view.set_response_delay(-1), "response_delay_ms .*, not -1"),
    (lambda view: view.set_response_delay(600_001), "from 0 to 600000, not 600001"),
    (lambda view: view.set_response_delay(math.nan), "not nan"),
    (lambda view: view.set_response_delay(True), "not True"),
    (lambda view: view.set_response_delay("1"), "not '1'"),  # type: ignore[arg-type]
    (lambda view: view.set_chunk_delay(math.inf), "chunk_delay_ms .*, not inf"),
    (lambda view: view.set_chunk_size(0), "chunk_size .*, not 0"),
    (lambda view: view.set_chunk_size(1_000_001), "not 1000001"),
    (lambda view: view.set_chunk_size(2.0), r"not 2\.0"),  # type: ignore[arg-type]
    (lambda view: view.set_error_rate(1.01), r"error_rate .*, not 1\.01"),
    (lambda view: view.set_error_rate(-0.01), r"not -0\.01"),
    (lambda view: view.set_error_rate(math.nan), "not nan"),
    (lambda view: view.set_script("reply"), "script must be a list .*, not 'reply'"),
    (lambda view: view.set_script(["x"] * 1_001), "at most 1000 items"),
    (lambda view: view.set_script(["x", 7]), r"script\[1\] must be a text, or what .*, not 7"),  # type: ignore[list-item]
    (lambda view: view.set_script([{"kind": "repl"}]), "one of reply, fault, hang, .*'repl'"),
    (lambda view: view.set_script([{"text": "x"}]), r"script\[0\]\['kind'\] must .*, not None"),
    (lambda view: view.set_script([{"kind": "hang", "text": "x"}]), "no fields but after_chunks"),
    (lambda view: view.set_script([{"kind": "fault"}]), "a fault with a field code"),
    (lambda view: view.set_script([{"kind": "reply"}]), "either a text or chunks"),
]


@pytest.mark.parametrize(("call", "words"), NONSENSE)
def test_a_wrong_value_is_refused_by_name_and_changes_nothing(
    call: Callable[[MockProviderSession], object], words: str
) -> None:
    talk = Conversation(MockProvider())
    with pytest.raises(ConfigurationError, match=words):
        call(talk.view)
    assert talk.settings.saved == "{}"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (reply, "either a text or chunks"),
        (lambda: reply("x", chunks=["x"]), "either a text or chunks"),
        (lambda: reply(chunks="xyz"), r"reply\['chunks'\] must be a list of .*, not 'xyz'"),
        (lambda: reply(chunks=["x"] * 10_001), "at most 10000 texts"),
        (lambda: reply(chunks=["x" * 500_001] * 2), "at most 1000000 characters in total"),
        (lambda: reply("x", delay_ms=-1), r"reply\['delay_ms'\] .*, not -1"),
        (lambda: reply("x", finish_reason=""), r"reply\['finish_reason'\] .*, not ''"),
        (lambda: fault("teapot"), r"fault\['code'\] must be one of auth, .*, not 'teapot'"),  # type: ignore[arg-type]
        (lambda: fault("auth", retryable=1), "True or False, not 1"),  # type: ignore[arg-type]
        (lambda: fault("auth", retry_after_seconds=-2), "seconds from 0 to 600000, not -2"),
        (lambda: fault("auth", after_chunks=-1), "from 0 to 10000, not -1"),
        (lambda: hang(after_chunks=True), "not True"),
        (lambda: truncate(None), "a truncate with a field text"),  # type: ignore[arg-type]
        (lambda: MockProvider(error_rate=2), "error_rate .*, not 2"),
        (lambda: MockProvider(script=[fault("auth"), {"kind": "x"}]), r"script\[1\]\['kind'\]"),
    ],
)
def test_a_wrong_argument_is_refused_where_it_is_given(
    make: Callable[[], object], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        make()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"response_delay_ms": "slow"}, "^response_delay_ms .*, not 'slow'$"),
        ({"mock_error_rate": 3}, "^mock_error_rate .*, not 3$"),
        ({"script": 5}, "^script .*, not 5$"),
        ({"script": [{"kind": "oops"}]}, r"^script\[0\]\['kind'\] .*, not 'oops'$"),
        ({"mock_script": {"items": ["x"]}}, r"^script\['id'\] .*, not None$"),
    ],
)
async def test_a_wrong_value_in_the_configuration_fails_the_turn_and_names_it(
    config: dict[str, Any], words: str
) -> None:
    with pytest.raises(ProviderError, match=words) as caught:
        await Conversation(MockProvider(), **config).events()
    assert caught.value.code == "invalid_request"
    assert not caught.value.retryable


# ---------------------------------------------------------------- cost


def test_the_mock_loads_no_module_beyond_the_ports_and_anyio() -> None:
    program = """
import sys
import anyio
import langswarm.core.session.actors.errors
import langswarm.core.session.actors.ports
before = set(sys.modules)
import langswarm.core.session.adapters.providers.mock
print(sorted(name for name in set(sys.modules) - before if not name.startswith("langswarm.")))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100
    )
    assert ran.stdout.strip() == "[]"
