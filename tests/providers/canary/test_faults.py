"""A server that tells the key in whatever it answers makes it show nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .echoing import ADDRESSES, ALL, BROKEN, STATUSES
from .kinds import KINDS
from .watching import assert_seen_in_its_header_only, watched

if TYPE_CHECKING:
    from pathlib import Path

    from ...vendors import VendorServer


@pytest.mark.parametrize("name", KINDS)
async def test_no_fault_of_a_server_that_echoes_the_key_makes_it_show(
    name: str, library: str, vendor: VendorServer, tmp_path: Path
) -> None:
    kind = KINDS[name]
    provider = kind.provider(kind.url(vendor), library)
    async with watched(tmp_path, {"p": provider}) as (manager, watch):
        session = await manager.create_session("ada", "p", "m", provider_config=kind.config)
        assert await watch.ask(session, "Hello") is not None
        for place, fault in enumerate(ALL.values()):
            kind.script(vendor, fault)
            turn = watch.follow if (library == "httpx") == (place % 2) else watch.ask
            await turn(session, "Hello")
            vendor.clear_scripts()
        assert await watch.ask(session, "Hello") is not None
        await watch.look_around(manager, session, session.inspect(), provider)
    assert len(watch.errors) > len(ALL) / 2
    assert sum("[secret]" in str(error) for error in watch.errors) > len(STATUSES) / 2
    assert_seen_in_its_header_only(vendor, kind)


@pytest.mark.parametrize("name", ["native", "assistants"])
async def test_no_fault_of_what_comes_before_an_answer_makes_the_key_show(
    name: str, library: str, vendor: VendorServer, tmp_path: Path
) -> None:
    kind = KINDS[name]
    provider = kind.provider(kind.url(vendor), library)
    async with watched(tmp_path, {"p": provider}) as (manager, watch):
        session = await manager.create_session("ada", "p", "m", provider_config=kind.config)
        for fault in (STATUSES | ADDRESSES | BROKEN).values():
            vendor.script(fault, path=kind.place, method="POST")
            await watch.ask(session, "Hello")
            vendor.clear_scripts()
        assert await watch.ask(session, "Hello") is not None
        await watch.look_around(manager, session, session.inspect(), provider)
    assert len(watch.errors) > len(STATUSES)
    assert_seen_in_its_header_only(vendor, kind)
