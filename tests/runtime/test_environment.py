"""What variables and mappings set is what the manager has; what they cannot set is an error."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from langswarm.core.session import (
    ConfigurationError,
    InMemorySessionStorage,
    ISessionStorage,
    Limits,
    SessionManager,
    SQLiteSessionStorage,
    StorageFactory,
    create_session_manager,
)
from langswarm.core.session.environment import (
    PREFIX,
    Setting,
    settings,
    settings_from_environment,
    settings_from_mapping,
)
from langswarm.core.session.factory import KEY_VARIABLES
from langswarm.core.session.runtime.cleanup import CleanupRules

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-canary-0123456789abcdefghijklmnop"
TEXTS: dict[str, tuple[str, object]] = {
    "switch": ("Yes", True),
    "whole number": (" 9000000 ", 9_000_000),
    "number": ("1.5", 1.5),
}


def environ(**variables: str) -> dict[str, str]:
    return {f"{PREFIX}{name}": value for name, value in variables.items()}


def held(found: dict[str, Any], setting: Setting) -> object:
    value = found[setting.keyword]
    return value if setting.key is None else value[setting.key]


class TestEverySetting:
    @pytest.mark.parametrize("setting", settings(), ids=lambda each: each.variable)
    def test_says_what_it_does(self, setting: Setting) -> None:
        assert setting.what

    @pytest.mark.parametrize(
        "setting",
        [each for each in settings() if each.kind in TEXTS],
        ids=lambda each: each.variable,
    )
    def test_is_read_by_its_type(self, setting: Setting) -> None:
        text, value = TEXTS[setting.kind]
        found = held(settings_from_environment({setting.variable: text}), setting)
        assert (found, type(found)) == (value, type(value))
        for wrong in ("maybe", "1.5.1", "nan"):
            with pytest.raises(ConfigurationError) as caught:
                settings_from_environment({setting.variable: wrong})
            assert setting.variable in str(caught.value)
            assert repr(wrong) in str(caught.value)

    @pytest.mark.parametrize("setting", settings(), ids=lambda each: each.variable)
    def test_is_not_set_by_nothing(self, setting: Setting) -> None:
        for empty in ("", "  "):
            assert settings_from_environment({setting.variable: empty}) == {}

    def test_is_an_argument_of_the_manager(self) -> None:
        known = {field.name for field in attrs.fields(Limits)}
        for each in settings():
            if each.keyword not in known:
                assert each.keyword in SessionManager.__init__.__wrapped__.__kwdefaults__ or (  # type: ignore[attr-defined]
                    each.keyword == "storage"
                )

    def test_of_the_cleanup_is_there(self) -> None:
        keys = {each.key for each in settings() if each.keyword == "cleanup_config"}
        assert keys == {field.name for field in attrs.fields(CleanupRules)}

    def test_of_the_limits_is_there(self) -> None:
        assert {field.name for field in attrs.fields(Limits)} <= {
            each.keyword for each in settings()
        }


class TestVariables:
    async def test_make_the_manager_that_they_say(self, tmp_path: Path) -> None:
        path = tmp_path / "from-variables.db"
        variables = environ(
            STORAGE="sqlite",
            STORAGE_CONFIG_DB_PATH=str(path),
            STORAGE_CONFIG_POOL_SIZE="2",
            PROVIDERS="mock",
            MAX_MESSAGE_BYTES="5",
        )
        async with SessionManager.from_environment(variables) as manager:
            session = await manager.create_session("u", "mock", "m")
            with pytest.raises(ValueError, match="5 bytes"):
                await session.send_message("too long")
        assert path.exists()

    def test_of_the_process_are_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(f"{PREFIX}MAILBOX_SIZE", "7")
        assert settings_from_environment()["mailbox_size"] == 7
        assert create_session_manager(**settings_from_environment()).preset is None

    def test_of_others_are_left_alone(self) -> None:
        assert settings_from_environment({"LANGSWARM_OTHER": "x", "PATH": "/bin"}) == {}

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("MAILBOX_SISE", "MAILBOX_SIZE"),
            ("STORAGE_DB_PATH", "STORAGE_CONFIG_DB_PATH"),
            ("CLEANUP_CONFIG_ARCHIVE_AFTER", "CLEANUP_CONFIG_ARCHIVE_AFTER_DAYS"),
            ("mailbox_size", "MAILBOX_SIZE"),
        ],
    )
    def test_unknown_one_is_named_with_the_nearest(self, name: str, near: str) -> None:
        for value in ("3", ""):
            with pytest.raises(ConfigurationError) as caught:
                settings_from_environment({f"{PREFIX}{name}": value})
            said = str(caught.value)
            assert said == f"there is no setting {PREFIX}{name}; did you mean {PREFIX}{near}?"

    @pytest.mark.parametrize(
        ("name", "value", "says"),
        [
            ("PRESET", "prod", "there are development, production"),
            ("PRESET", "produktion", "did you mean 'production'?"),
            ("STORAGE", "sqllite", "did you mean 'sqlite'?"),
            ("PROVIDERS", "openai,antropic", "did you mean 'anthropic'?"),
        ],
    )
    def test_unknown_value_is_named_with_the_nearest(
        self, name: str, value: str, says: str
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            settings_from_environment({f"{PREFIX}{name}": value, "OPENAI_API_KEY": KEY})
        assert says in str(caught.value)
        assert f"{PREFIX}{name}" in str(caught.value)

    def test_value_that_a_limit_refuses_is_an_error_of_the_manager(self) -> None:
        with pytest.raises(ConfigurationError, match="mailbox_size must be 1 or more"):
            SessionManager.from_environment(environ(MAILBOX_SIZE="0"))

    def test_config_of_a_registered_storage_is_read_by_its_types(self) -> None:
        def factory(*, shards: int, region: str = "eu", verbose: bool = False) -> ISessionStorage:
            del shards, region, verbose
            return InMemorySessionStorage()

        StorageFactory.register_backend("sharded", factory)
        config = environ(STORAGE_CONFIG_SHARDS="3", STORAGE_CONFIG_VERBOSE="on")
        found = settings_from_environment({**environ(STORAGE="sharded"), **config})
        assert found["storage_config"] == {"shards": 3, "verbose": True}
        SessionManager.from_environment({**environ(STORAGE="sharded"), **config})


class TestWhatIsGiven:
    def test_wins_over_variables(self) -> None:
        variables = environ(STORAGE="sqlite", STORAGE_CONFIG_DB_PATH="x.db", MAILBOX_SIZE="0")
        manager = SessionManager.from_environment(variables, storage="memory", mailbox_size=5)
        assert manager.statistics() is None

    def test_completes_the_storage_config(self, tmp_path: Path) -> None:
        variables = environ(STORAGE="sqlite", STORAGE_CONFIG_POOL_SIZE="0")
        path = tmp_path / "x.db"
        with pytest.raises(ConfigurationError, match="pool_size"):
            SessionManager.from_environment(variables, storage_config={"db_path": path})
        given = {"db_path": path, "pool_size": 1}
        SessionManager.from_environment(variables, storage_config=given)

    def test_storage_object_takes_no_config_of_variables(self, tmp_path: Path) -> None:
        variables = environ(STORAGE="sqlite", STORAGE_CONFIG_DB_PATH="x.db")
        storage = SQLiteSessionStorage(tmp_path / "own.db")
        SessionManager.from_environment(variables, storage=storage)


KEYS: list[tuple[dict[str, Any], str]] = [
    ({"mailbox_sise": 1}, "'mailbox_sise'; did you mean 'mailbox_size'"),
    ({"cleanup_confg": {}}, "'cleanup_confg'; did you mean 'cleanup_config'"),
    ({"storage": "sqlit"}, "'sqlit'; did you mean 'sqlite'"),
    ({"preset": "producton"}, "'producton'; did you mean 'production'"),
    ({"storage_config": {"path": 1}}, "'path'; there are none"),
    (
        {"storage": "sqlite", "storage_config": {"pol_size": 1}},
        "'pol_size'; did you mean 'pool_size'",
    ),
    (
        {"cleanup_config": {"archive_after": 1}},
        "'archive_after'; did you mean 'archive_after_days'",
    ),
    ({"providers": {"antropic": None}}, "'antropic'; did you mean 'anthropic'"),
    ({"providers": {"mock": {"scrpt": []}}}, "'scrpt'; did you mean 'script'"),
    (
        {"providers": {"openai": {"api_key": KEY, "base_ulr": "x"}}},
        "'base_ulr'; did you mean 'base_url'",
    ),
]


class TestUnknownKeys:
    @pytest.mark.parametrize(("keywords", "says"), KEYS, ids=[says for _, says in KEYS])
    def test_of_a_manager_are_named_with_the_nearest(
        self, keywords: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            create_session_manager(**keywords)
        assert says in str(caught.value)
        assert KEY not in str(caught.value)

    async def test_of_a_session_are_named_with_the_nearest(self) -> None:
        vendor = {"api_key": KEY, "base_url": "http://127.0.0.1:1"}
        async with create_session_manager(providers={"openai": vendor}) as manager:
            create = manager.create_session
            with pytest.raises(ConfigurationError, match="'nmae'; did you mean 'name'"):
                await create("u", "mock", "m", session_config={"nmae": "x"})
            with pytest.raises(
                ConfigurationError, match="'temprature'; did you mean 'temperature'"
            ):
                await create("u", "openai", "m", provider_config={"temprature": 1})
            session = await create("u", "mock", "m")
            with pytest.raises(ConfigurationError, match="'tag'; did you mean 'tags'"):
                await session.update_config({"tag": ["x"]})


class TestMapping:
    async def test_makes_the_manager_that_it_says(self, tmp_path: Path) -> None:
        mapping = {
            "storage": "sqlite",
            "storage_config": {"db_path": str(tmp_path / "x.db"), "enable_wal": "no"},
            "providers": ["mock"],
            "mailbox_size": "12",
            "idle_seconds": 3,
            "preset": "",
            "event_previews": None,
        }
        found = settings_from_mapping(mapping)
        assert found["storage_config"]["enable_wal"] is False
        assert (found["mailbox_size"], found["idle_seconds"]) == (12, 3)
        assert not found.keys() & {"preset", "event_previews"}
        async with SessionManager.from_mapping(mapping) as manager:
            session = await manager.create_session("u", "mock", "m")
            await session.send_message("Hello")

    @pytest.mark.parametrize(
        ("mapping", "says"),
        [
            ({"storrage": "x"}, "the configuration has no 'storrage'; did you mean 'storage'?"),
            (
                {"storage_config": {"pool": 1}},
                "storage_config has no 'pool'; did you mean 'pool_size'?",
            ),
            ({"storage_config": "x.db"}, "storage_config must be a mapping, not a str"),
            ({"mailbox_size": "many"}, "mailbox_size must be a whole number, not 'many'"),
            (
                {"storage_config": {"pool_size": "two"}},
                "storage_config['pool_size'] must be a whole number, not 'two'",
            ),
        ],
    )
    def test_what_is_wrong_is_named(self, mapping: dict[str, Any], says: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            SessionManager.from_mapping(mapping)
        assert str(caught.value) == says


class TestKeys:
    def test_come_from_the_process_without_being_touched(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv(f"{PREFIX}PROVIDERS", "openai, mock")
        assert settings_from_environment() == {"providers": {"openai": None, "mock": None}}

    @pytest.mark.parametrize("name", ["ENCRYPTION_KEY", "ENCRYPTION_KEYS", "SQLCIPHER_KEY"])
    def test_of_encryption_are_texts_that_do_not_show(self, name: str) -> None:
        found = settings_from_environment(environ(**{f"STORAGE_CONFIG_{name}": KEY}))
        assert found["storage_config"] == {name.lower(): KEY}
        assert KEY not in repr(found)
        mapping = {"storage_config": {name.lower(): KEY}}
        assert KEY not in repr(settings_from_mapping(mapping))

    @pytest.mark.parametrize("vendor", KEY_VARIABLES)
    def test_of_a_mapping_make_the_vendor_and_do_not_show(self, vendor: str) -> None:
        variables = {**environ(PROVIDERS=vendor), KEY_VARIABLES[vendor]: KEY}
        found = settings_from_environment(variables)
        assert list(found["providers"]) == [vendor]
        assert KEY not in repr(found)
        create_session_manager(**found)

    def test_of_a_mapping_go_to_its_own_base_url(self) -> None:
        variables = {
            **environ(PROVIDERS="openai_chat"),
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": "http://example.org",
        }
        with pytest.raises(ConfigurationError, match=r"https.*'example\.org'"):
            settings_from_environment(variables)

    def test_say_who_is_there_in_production(self) -> None:
        variables = {**environ(PRESET="production"), "ANTHROPIC_API_KEY": KEY}
        assert list(settings_from_environment(variables)["providers"]) == ["anthropic"]

    def test_that_are_missing_are_named(self) -> None:
        with pytest.raises(ConfigurationError, match="'openai' needs OPENAI_API_KEY"):
            settings_from_environment(environ(PROVIDERS="openai"))

    @pytest.mark.parametrize(
        "variables",
        [
            environ(OPENAI_API_KEY=KEY),
            environ(PROVIDERS=KEY),
            environ(PRESET=KEY),
            environ(STORAGE=KEY),
            environ(MAILBOX_SIZE=KEY),
            environ(EVENT_PREVIEWS=KEY),
            {**environ(MAILBOX_SISE="1", PROVIDERS="openai"), "OPENAI_API_KEY": KEY},
        ],
        ids=lambda each: next(iter(each)),
    )
    def test_in_the_wrong_place_do_not_show(self, variables: dict[str, str]) -> None:
        with pytest.raises(ConfigurationError) as caught:
            SessionManager.from_environment(variables)
        told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        frames = [each for each in told.stack if "/tests/" not in each.filename]
        shown = [str(caught.value), *(str(frame.locals) for frame in frames)]
        assert not [text for text in shown if KEY in text]
