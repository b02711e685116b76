"""A preset switches on what it lists, and nothing else; what is given wins."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    ConfigurationError,
    InMemorySessionStorage,
    ISessionLifecycleHook,
    ISessionMiddleware,
    ProviderError,
    SessionManager,
    SQLiteSessionStorage,
    create_session_manager,
)
from langswarm.core.session.errors import RateLimitedError
from langswarm.core.session.factory import KEY_VARIABLES
from langswarm.core.session.hooks import Alert, AlertHook, ErrorTrackingHook, MetricsHook
from langswarm.core.session.middleware import LoggingMiddleware, RateLimitMiddleware
from langswarm.core.session.presets import PRESETS, Piece, arguments_of
from langswarm.core.session.providers import MockProvider, fault
from langswarm.core.session.runtime.cleanup import CleanupRules, cleanup_rules

from .helpers import PATIENCE_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from langswarm.core.session.presets import Arguments

LOGGER = "langswarm.core.session"
GUIDE = {
    "development": [
        "In-memory storage",
        "Mock provider",
        "Debug logging",
        "Detailed error messages",
        "No rate limiting",
    ],
    "production": [
        "SQLite storage with connection pooling",
        "Real providers",
        "Automatic session cleanup",
        "Error tracking and alerts",
        "Performance monitoring",
        "Rate limiting protection",
    ],
}
NOTHING: dict[str, Any] = {
    "storage": None,
    "storage_config": None,
    "providers": None,
    "cleanup_config": None,
    "event_previews": None,
    "middleware": (),
    "hooks": (),
    "on_alert": None,
}


def filled(preset: str, **given: Any) -> Arguments:
    return arguments_of(preset, **{**NOTHING, **given})


def piece(preset: str, name: str) -> Piece:
    (found,) = [each for each in PRESETS[preset] if each.name == name]
    return found


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in KEY_VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestTable:
    @pytest.mark.parametrize("preset", PRESETS)
    def test_has_what_the_guide_lists(self, preset: str) -> None:
        assert list(dict.fromkeys(each.feature for each in PRESETS[preset])) == GUIDE[preset]

    @pytest.mark.parametrize("preset", PRESETS)
    def test_of_every_guest_is_what_the_manager_shows(self, preset: str) -> None:
        made = filled(preset).preset
        for each in PRESETS[preset]:
            if isinstance(each.value, type):
                assert isinstance(getattr(made, each.name), each.value)
            elif hasattr(made, each.name):
                assert getattr(made, each.name) is each.value is None

    def test_has_the_defaults_that_guests_have_alone(self) -> None:
        """What is documented of the guests holds for them in a preset as well."""
        for name in ("rate_limit", "alerts", "metrics", "slow_turns", "error_tracking"):
            shown = piece("production", name)
            defaults: dict[str, object] = shown.value.__init__.__kwdefaults__ or {}
            for option, value in shown.options.items():
                assert defaults.get(option, value) == value

    def test_shows_each_value_as_code(self) -> None:
        assert str(piece("development", "message_log")) == (
            "LoggingMiddleware(level=logging.DEBUG, contents=True)"
        )
        assert str(piece("production", "storage")) == "'sqlite'"


class TestDevelopment:
    async def test_runs_as_the_guide_prints_it(self) -> None:
        manager = create_session_manager(preset="development", providers={"mock": None})
        async with manager:
            session = await manager.create_session("dev_user", "mock", "mock-model")
            assert (await session.send_message("Hi")).content == "Mock response to: Hi"
            assert manager.preset is not None
            assert manager.preset.name == "development"

    async def test_logs_what_is_said_at_debug_and_errors_in_full(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        mock = MockProvider(script=["fine", fault("auth")])
        with caplog.at_level(logging.DEBUG, LOGGER):
            async with create_session_manager(
                preset="development", providers={"mock": mock}
            ) as manager:
                session = await manager.create_session("u", "mock", "m")
                await session.send_message("the question")
                with pytest.raises(ProviderError):
                    await session.send_message("the other")
        records = {record.name: record for record in caplog.records}
        said = [record for record in caplog.records if record.name == f"{LOGGER}.messages"]
        assert {record.levelno for record in said} == {logging.DEBUG}
        assert "'the question'" in said[0].getMessage()
        error = records[f"{LOGGER}.errors"]
        assert error.levelno == logging.ERROR
        assert error.exc_info is not None
        assert error.__dict__["session_id"] == session.session_id
        assert error.__dict__["code"] == "ProviderError:auth"

    async def test_puts_the_beginning_of_messages_into_events(self) -> None:
        async with create_session_manager(preset="development") as manager:
            events = manager.session_events(types=["message_sent"])
            session = await manager.create_session("u", "mock", "m")
            await session.send_message("the question")
            with anyio.fail_after(PATIENCE_SECONDS):
                assert (await anext(events)).message_preview == "the question"

    async def test_limits_no_rate(self) -> None:
        burst = piece("production", "rate_limit").options["user_burst"]
        async with create_session_manager(preset="development") as manager:
            session = await manager.create_session("u", "mock", "m")
            for _ in range(burst + 1):
                await session.send_message("again")


class TestProduction:
    async def test_keeps_sessions_in_the_default_file(self, in_folder: Path) -> None:
        async with create_session_manager(preset="production") as manager:
            session = await manager.create_session("u", "mock", "m", session_id="kept")
            await session.send_message("Hello")
        assert (in_folder / "langswarm-session.db").exists()
        async with create_session_manager(preset="production") as manager:
            assert (await manager.get_session("kept")).message_count == 2

    async def test_counts_keeps_errors_and_alerts_in_the_log(
        self, in_folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        mock = MockProvider(script=[fault("auth"), fault("auth"), "fine"])
        with caplog.at_level(logging.DEBUG, LOGGER):
            async with create_session_manager(
                preset="production", providers={"mock": mock}
            ) as manager:
                session = await manager.create_session("u", "mock", "m")
                for _ in range(2):
                    with pytest.raises(ProviderError):
                        await session.send_message("a secret question")
                await session.send_message("Hello")
        preset = manager.preset
        assert preset is not None
        assert preset.metrics is not None
        assert preset.metrics.snapshot().events["message_received"] == 1
        assert preset.error_tracking is not None
        assert preset.error_tracking.counts() == {"ProviderError:auth": 2}
        assert preset.alerts is not None
        assert preset.alerts.suppressed == 1
        alerts = [each for each in caplog.records if each.name == f"{LOGGER}.alerts"]
        assert len(alerts) == 1
        assert alerts[0].__dict__["session_id"] == session.session_id
        assert alerts[0].__dict__["kind"] == "ProviderError:auth"
        assert "secret question" not in caplog.text

    async def test_calls_who_asks_for_alerts(self, in_folder: Path) -> None:
        alerts: list[Alert] = []
        async with create_session_manager(
            preset="production",
            providers={"mock": MockProvider(script=[fault("auth")])},
            on_alert=alerts.append,
        ) as manager:
            session = await manager.create_session("u", "mock", "m")
            with pytest.raises(ProviderError):
                await session.send_message("Hello")
        assert [alert.kind for alert in alerts] == ["ProviderError:auth"]

    async def test_refuses_users_who_send_too_many(self, in_folder: Path) -> None:
        burst = piece("production", "rate_limit").options["user_burst"]
        async with create_session_manager(preset="production") as manager:
            session = await manager.create_session("u", "mock", "m")

            async def send(messages: int) -> None:
                for _ in range(messages):
                    await session.send_message("again")

            with pytest.raises(RateLimitedError):
                await send(2 * burst + 2)
            other = await manager.create_session("v", "mock", "m")
            await other.send_message("Hello")

    @pytest.mark.parametrize("preset", [None, "production", "development"])
    def test_has_the_vendors_whose_keys_are_there(
        self, preset: str | None, in_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As every manager, but for those of development, that is given no providers."""
        del in_folder

        def names(**given: Any) -> set[str]:
            return set(create_session_manager(preset=preset, **given)._anchor.host.providers)

        assert names() == {"mock"}
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-the-environment")
        vendors = {"anthropic"} if preset != "development" else set[str]()
        assert names() == {"mock"} | vendors
        assert names(providers={"mock": None}) == {"mock"}

    def test_a_vendor_that_nobody_has_asked_for_stops_no_start(
        self, in_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What is wrong is logged; who asks for it by name gets the error."""
        del in_folder
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-the-environment")
        monkeypatch.setenv("OPENAI_API_KEY", "another-key-of-the-environment")
        monkeypatch.setenv("OPENAI_BASE_URL", "ftp://nowhere")
        manager = create_session_manager(preset="production")
        assert set(manager._anchor.host.providers) == {"mock", "anthropic"}
        assert "OPENAI_BASE_URL" in caplog.text or "base_url" in caplog.text
        assert "key-of-the-environment" not in caplog.text
        with pytest.raises(ConfigurationError):
            create_session_manager(providers={"openai": None})

    async def test_cleans_up_by_itself(self, in_folder: Path) -> None:
        async with create_session_manager(preset="production") as manager:
            assert manager._anchor.host.cleanup == cleanup_rules(
                piece("production", "cleanup_config").value
            )
        async with create_session_manager(preset="production", cleanup_config={}) as manager:
            assert manager._anchor.host.cleanup == CleanupRules()

    def test_waits_for_the_process_before_it(self) -> None:
        assert filled("production").storage_config == {"pool_size": 2, "lock_wait_seconds": 30.0}


class TestGuide:
    """The blocks of "Configuration Presets", with paths and keys of a test."""

    async def test_production_configuration(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-openai")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key-of-anthropic")
        prod_manager = create_session_manager(
            preset="production",
            providers={
                "openai": os.getenv("OPENAI_API_KEY"),
                "anthropic": os.getenv("ANTHROPIC_API_KEY"),
            },
            storage_config={
                "db_path": tmp_path / "data.db",
                "pool_size": 20,
                "backup_enabled": True,
            },
        )
        async with prod_manager:
            for provider in ("openai", "anthropic", "mock"):
                await prod_manager.create_session("user123", provider, "a-model")
        assert (tmp_path / "data.db").exists()

    async def test_custom_configuration(self, tmp_path: Path) -> None:
        metrics = MetricsHook()
        custom_manager = create_session_manager(
            storage="sqlite",
            storage_config={
                "db_path": tmp_path / "custom_sessions.db",
                "enable_wal": True,
                "pool_size": 15,
            },
            providers={"openai": "a-key-of-openai", "anthropic": "a-key-of-anthropic"},
            middleware=[LoggingMiddleware()],
            hooks=[metrics],
            cleanup_config={"archive_after_days": 14, "delete_after_days": 60},
        )
        async with custom_manager:
            session = await custom_manager.create_session("user123", "mock", "mock-model")
            await session.send_message("Hello!")
        assert metrics.snapshot().events["message_received"] == 1
        assert custom_manager.preset is None


class TestWhatIsGiven:
    def test_completes_the_storage_config_key_by_key(self, tmp_path: Path) -> None:
        given = {"db_path": tmp_path / "x.db", "pool_size": 20, "backup_enabled": True}
        made = filled("production", storage_config=given)
        assert made.storage_config == {**given, "lock_wait_seconds": 30.0}

    def test_another_storage_has_none_of_the_presets_config(self) -> None:
        assert filled("production", storage="memory").storage_config is None
        storage = InMemorySessionStorage()
        made = filled("production", storage=storage)
        assert (made.storage, made.storage_config) == (storage, None)
        assert filled("development", storage="sqlite").storage == "sqlite"

    def test_replaces_the_cleanup_as_a_whole(self) -> None:
        assert filled("production", cleanup_config={}).cleanup_config == {}
        kept = {"archive_after_days": 1}
        assert filled("production", cleanup_config=kept).cleanup_config == kept
        assert filled("development").cleanup_config is None

    def test_turns_previews_off_and_on(self) -> None:
        assert not filled("development", event_previews=False).event_previews
        assert filled("production", event_previews=True).event_previews
        assert not filled("production").event_previews

    def test_guests_stand_between_the_rate_limit_and_the_log(self) -> None:
        class Own(ISessionMiddleware):
            pass

        own = Own()
        kinds = [type(each) for each in filled("production", middleware=[own]).middleware]
        assert kinds == [RateLimitMiddleware, Own]
        kinds = [type(each) for each in filled("development", middleware=[own]).middleware]
        assert kinds == [Own, LoggingMiddleware]

    def test_guest_of_a_class_stands_for_that_of_the_preset(self) -> None:
        class Own(ISessionLifecycleHook):
            pass

        limit, metrics, own = RateLimitMiddleware(user_burst=1), MetricsHook(), Own()
        made = filled("production", middleware=[limit], hooks=[own, metrics])
        assert made.middleware == (limit,)
        assert made.hooks[-2:] == (own, metrics)
        assert [type(each) for each in made.hooks[:-2]].count(MetricsHook) == 0
        assert {type(each) for each in made.hooks[:-2]} >= {AlertHook, ErrorTrackingHook}
        assert (made.preset.rate_limit, made.preset.metrics) == (limit, metrics)

    def test_limits_are_arguments_as_ever(self) -> None:
        with pytest.raises(ConfigurationError, match="mailbox_size must be 1 or more"):
            SessionManager(preset="development", mailbox_size=0)


class TestRefusals:
    def test_unknown_preset_is_named_with_the_nearest(self) -> None:
        with pytest.raises(ConfigurationError, match="'produktion'; did you mean 'production'"):
            create_session_manager(preset="produktion")

    def test_unknown_keyword_is_named_with_the_nearest(self) -> None:
        with pytest.raises(ConfigurationError, match="'presett'; did you mean 'preset'"):
            create_session_manager(presett="production")  # type: ignore[arg-type]

    def test_unknown_key_of_a_storage_is_named_with_the_nearest(self) -> None:
        with pytest.raises(ConfigurationError, match="'db_pth'; did you mean 'db_path'"):
            create_session_manager("sqlite", storage_config={"db_pth": "x"})
        with pytest.raises(ConfigurationError, match="'memory' has no 'db_path'"):
            create_session_manager(storage_config={"db_path": "x"})

    def test_value_that_a_storage_refuses_does_not_show(self) -> None:
        from langswarm.core.session import StorageFactory  # noqa: PLC0415 - registers a name

        def factory(**config: str) -> SQLiteSessionStorage:
            raise TypeError("something is missing")

        StorageFactory.register_backend("refusing", factory)
        with pytest.raises(ConfigurationError, match="refused password") as caught:
            create_session_manager("refusing", storage_config={"password": "s3cr3t"})
        assert "s3cr3t" not in str(caught.value)

    @pytest.mark.parametrize("preset", [None, "development"])
    def test_alerts_need_a_preset_that_has_them(self, preset: str | None) -> None:
        with pytest.raises(ConfigurationError, match="add an AlertHook"):
            create_session_manager(preset=preset, on_alert=print)
