"""A server that answers as OpenAI, its imitators and Anthropic do, on 127.0.0.1, with faults.

    with vendor_server() as server:
        OpenAIProvider("key", base_url=server.openai_url)
        AnthropicProvider("key", base_url=server.anthropic_url)

Beside a test: `from ..vendors import vendor_server`, or in a conftest.py
`from ..vendors.fixtures import vendor` for a fixture.
"""

from .answers import Answer, Asked
from .gates import Gate
from .server import Seen, VendorServer, vendor_server

__all__ = ["Answer", "Asked", "Gate", "Seen", "VendorServer", "vendor_server"]
