"""What looks for keys finds them: else the other tests here would say nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import attrs
import pytest
from langswarm.core.session import ProviderError
from langswarm.core.session.adapters.http.options import HttpOptions

from .echoing import forms_of
from .looking import (
    GATEWAY_KEY,
    KEY,
    assert_hidden,
    shown_of,
    shown_of_files,
    shown_of_logs,
    shown_of_objects,
    where,
)

if TYPE_CHECKING:
    from pathlib import Path


@attrs.define
class Holder:
    """As if it were of the package."""

    value: object
    __module__ = "langswarm.made_up"


@pytest.mark.parametrize("key", [KEY, GATEWAY_KEY])
def test_a_key_is_found_in_every_form_that_a_server_echoes(key: str) -> None:
    for form in forms_of(key):
        assert where(f"before {form} after") is not None, form
    assert where(key[::-1]) is not None
    assert where(key[5:17]) is not None
    assert where(key[5:16]) is None


def test_a_key_is_found_wherever_an_error_has_it() -> None:
    def failed(cause: Exception | None = None) -> ProviderError:
        error = ProviderError("failed", code="auth", provider="p")
        error.__cause__ = cause
        return error

    noted, attributed, grouped = failed(), failed(), ExceptionGroup("", [OSError(KEY)])
    noted.add_note(KEY)
    attributed.request = KEY  # type: ignore[attr-defined]
    for error in (
        noted,
        attributed,
        failed(OSError(KEY)),
        failed(grouped),
        failed(OSError(1, KEY)),
    ):
        with pytest.raises(AssertionError):
            assert_hidden(*shown_of(error))


def test_a_key_is_found_in_objects_logs_and_files(tmp_path: Path) -> None:
    plain = {"given": [HttpOptions(base_url="https://example.com"), Holder({"x": (KEY,)})]}
    (tmp_path / "x.db").write_bytes(b"\0" + KEY.encode() + b"\xff")
    record = logging.LogRecord("x", 10, "x", 1, "%s", ({"key": KEY},), None)
    for shown in (shown_of_objects(plain), shown_of_files(tmp_path), shown_of_logs([record])):
        with pytest.raises(AssertionError):
            assert_hidden(*shown)
