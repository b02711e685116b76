"""A provider in 15 lines: whatever has an async function `send_message`.

    python examples/simple_provider.py
    python examples/simple_provider.py trio

It needs no key: the answer is made here. Where yours asks a service, put its client in place of
`upper()`; what it raises becomes a ProviderError.
"""

import sys

import anyio
from langswarm.core.session import create_session_manager


class Shouting:
    """Says everything again, louder."""

    async def send_message(self, messages: list[dict[str, str]], model: str) -> str:
        return f"{model}: {messages[-1]['content'].upper()}!"


async def main() -> None:
    async with create_session_manager(providers={"shouting": Shouting()}) as manager:
        session = await manager.create_session("ada", "shouting", "loud-1")
        print((await session.send_message("hello")).content)
        print((await session.send_message("how are you")).content)
        print(len(await session.get_messages()), "messages")


anyio.run(main, backend=sys.argv[1] if sys.argv[1:] else "asyncio")
