"""Providers by name: what `providers={name: value}` may hold."""

from __future__ import annotations

import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session import ConfigurationError, MockProvider, create_session_manager
from langswarm.core.session import providers as module
from langswarm.core.session.providers import (
    Completed,
    IProvider,
    SimpleProvider,
    TextDelta,
    build_provider,
    list_providers,
    register_provider,
    unregister_provider,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langswarm.core.session.providers import ProviderEvent, ProviderRequest

CANARY = "sk-canary-0123456789abcdef"


class Parrot(IProvider):
    def __init__(self, word: str = "polly") -> None:
        self.word = word

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        yield TextDelta(self.word)
        yield Completed()


class Echo:
    async def send_message(self, messages: list[dict[str, str]]) -> str:
        return messages[-1]["content"]


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    registry: dict[str, Any] = {}
    monkeypatch.setattr(module, "_registered", registry)


class TestRegistering:
    async def test_a_registered_name_is_made_with_the_value_that_stands_there(self) -> None:
        register_provider("parrot", Parrot)
        provider = build_provider("parrot", "jack")
        async with create_session_manager(providers={"parrot": provider}) as manager:
            session = await manager.create_session("ada", "parrot", "grey")
            assert (await session.send_message("Hello")).content == "jack"

    @pytest.mark.parametrize("value", [None, "key", {"a": 1}, 5, Parrot()])
    def test_the_factory_gets_every_value_as_it_is(self, value: object) -> None:
        given: list[object] = []

        def factory(value: object) -> Parrot:
            given.append(value)
            return Parrot()

        register_provider("parrot", factory)
        build_provider("parrot", value)
        assert given == [value]

    def test_a_factory_may_return_what_has_a_send_message(self) -> None:
        register_provider("echo", lambda _: Echo())
        assert repr(build_provider("echo")) == "SimpleProvider(Echo, name='echo')"

    @pytest.mark.parametrize("made", [None, "text", Parrot, object()])
    def test_a_factory_that_returns_something_else_is_named(self, made: object) -> None:
        register_provider("odd", lambda _: made)
        with pytest.raises(ConfigurationError, match="'odd'"):
            build_provider("odd")

    def test_what_a_factory_raises_comes_out_with_a_note(self) -> None:
        def factory(value: object) -> object:
            raise OSError("no such model")

        register_provider("broken", factory)
        with pytest.raises(OSError, match="no such model") as caught:
            build_provider("broken")
        [note] = caught.value.__notes__
        assert "'broken'" in note

    def test_names_are_listed_and_can_be_taken_back(self) -> None:
        assert list_providers() == ["anthropic", "mock", "openai", "openai_chat"]
        register_provider("parrot", Parrot)
        assert "parrot" in list_providers()
        unregister_provider("parrot")
        assert "parrot" not in list_providers()
        with pytest.raises(ConfigurationError, match="'parrot'"):
            unregister_provider("parrot")

    @pytest.mark.parametrize("name", ["openai", "openai_chat", "anthropic", "mock"])
    def test_a_built_in_name_is_not_replaced(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="is built in"):
            register_provider(name, Parrot)

    def test_a_name_is_registered_once(self) -> None:
        register_provider("parrot", Parrot)
        with pytest.raises(ConfigurationError, match="already"):
            register_provider("parrot", Parrot)

    @pytest.mark.parametrize("name", ["", " a", "a b", "-a", "a\n", "a/b", "é", "a" * 101, 5, None])
    def test_a_name_is_a_plain_word(self, name: Any) -> None:
        with pytest.raises(ConfigurationError, match="a provider's name is"):
            register_provider(name, Parrot)

    def test_a_factory_can_be_called(self) -> None:
        factory: Any = Parrot()
        with pytest.raises(ConfigurationError, match="must be callable, not a Parrot"):
            register_provider("parrot", factory)


class TestBuilding:
    @pytest.mark.parametrize("name", ["openai", "mock", "mine"])
    def test_an_object_is_taken_under_any_name(self, name: str) -> None:
        parrot = Parrot()
        assert build_provider(name, parrot) is parrot

    @pytest.mark.parametrize("name", ["anthropic", "mine"])
    def test_an_object_with_a_send_message_is_wrapped(self, name: str) -> None:
        assert isinstance(build_provider(name, Echo()), SimpleProvider)

    @pytest.mark.parametrize("value", [Parrot, Echo])
    def test_a_class_in_place_of_an_object_is_named(self, value: object) -> None:
        with pytest.raises(ConfigurationError, match="make an object of it"):
            build_provider("mine", value)

    def test_the_mock_takes_its_options(self) -> None:
        assert isinstance(build_provider("mock"), MockProvider)
        assert isinstance(build_provider("mock", {"error_rate": 0.5}), MockProvider)
        with pytest.raises(ConfigurationError, match="error_rate must be"):
            build_provider("mock", {"error_rate": 5})

    def test_an_unknown_option_names_the_nearest(self) -> None:
        with pytest.raises(ConfigurationError, match="did you mean 'error_rate'"):
            build_provider("mock", {"error_rat": 0.5})

    def test_an_unknown_name_names_the_nearest(self) -> None:
        with pytest.raises(ConfigurationError, match="did you mean 'openai'"):
            build_provider("opnai", CANARY)

    @pytest.mark.parametrize("name", ["opnai", "mock", "mine"])
    @pytest.mark.parametrize("value", [CANARY, {"api_kee": CANARY}, [CANARY], CANARY.encode()])
    def test_no_error_shows_what_may_be_a_key(self, name: str, value: object) -> None:
        with pytest.raises(ConfigurationError) as caught:
            build_provider(name, value)
        assert CANARY not in f"{caught.value!r} {caught.value}"


@pytest.mark.parametrize("name", ["openai", "openai_chat", "anthropic"])
class TestVendors:
    @pytest.fixture(autouse=True)
    def _no_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for vendor in ("OPENAI", "ANTHROPIC"):
            monkeypatch.delenv(f"{vendor}_API_KEY", raising=False)
            monkeypatch.delenv(f"{vendor}_BASE_URL", raising=False)

    def test_a_key_makes_one(self, name: str) -> None:
        provider = build_provider(name, CANARY)
        assert CANARY not in f"{provider!r} {vars(provider)!r}"

    def test_options_make_one(self, name: str) -> None:
        options = {"api_key": CANARY, "timeout": 5, "base_url": "http://127.0.0.1:1/v1"}
        assert isinstance(build_provider(name, options), IProvider)

    def test_the_environment_makes_one(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigurationError, match="_API_KEY"):
            build_provider(name)
        for vendor in ("OPENAI", "ANTHROPIC"):
            monkeypatch.setenv(f"{vendor}_API_KEY", CANARY)
        assert isinstance(build_provider(name), IProvider)

    def test_an_unknown_option_names_the_nearest(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="did you mean 'max_retries'"):
            build_provider(name, {"api_key": CANARY, "max_retry": 5})

    @pytest.mark.parametrize(
        "value",
        [
            {"api_kee": CANARY},
            {"api_key": CANARY, "base_url": "http://example.com"},
            {"api_key": f"{CANARY}\nand more"},
            {"api_key": [CANARY]},
            f"{CANARY}\0",
            [CANARY],
        ],
    )
    def test_no_refusal_shows_a_key(self, name: str, value: object) -> None:
        with pytest.raises(ConfigurationError) as caught:
            build_provider(name, value)
        told = "".join(traceback.format_exception(caught.value))
        assert CANARY not in told


def test_names_are_known_without_loading_a_client() -> None:
    program = (
        "import sys\n"
        "from langswarm.core.session.providers import build_provider, list_providers\n"
        "build_provider('mock'), list_providers()\n"
        "print(sorted({'httpx', 'httpx2', 'genai_prices', 'inspect'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], check=True, stdout=subprocess.PIPE, timeout=100
    )
    assert set(eval(done.stdout)) <= {"inspect"}  # noqa: S307 - a list of names
