"""A rollback journal beside a file, and whose file it was before what was cut off.

What a kill leaves of a transaction in rollback mode is a file that is half old, half new, and a
journal of the old pages. SQLite rolls it back when somebody who may write opens the file, and that
we may do to our own file only. So the mark of the program is looked up where it is sure to be: in
the old first page, if the journal has it, else in the file.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from .schema import APPLICATION_ID

_MAGIC = bytes.fromhex("d9d505f920a163d7")
_HEADER = struct.Struct(">8sIIIII")
"""Magic, records, nonce, pages of the file before, bytes of a sector, bytes of a page."""
_NUMBER = struct.Struct(">I")
_MARK = slice(68, 72)
"""Of the first page: the application id."""
_TABLES = slice(103, 105)
"""Of the first page: how many cells it has, each of them a table or an index."""
_NONE = b"\0\0"


def is_hot(path: str) -> bool:
    """Whether a transaction was cut off; a journal that is kept for the next has no magic."""
    try:
        with Path(f"{path}-journal").open("rb") as journal:
            return journal.read(len(_MAGIC)) == _MAGIC
    except FileNotFoundError:
        return False


def is_of_ours(path: str) -> bool:
    """Whether the file was ours, or empty, before the transaction that was cut off."""
    with Path(f"{path}-journal").open("rb") as journal:
        header = journal.read(_HEADER.size)
        if len(header) < _HEADER.size:
            header = header.ljust(_HEADER.size, b"\0")
        _, _, _, pages_before, sector_bytes, page_bytes = _HEADER.unpack(header)
        if not pages_before:
            return True
        first = _first_page(journal, sector_bytes, page_bytes)
    if first is None:
        with Path(path).open("rb") as file:
            first = file.read(_TABLES.stop)
    is_empty = pages_before == 1 and first[_TABLES] == _NONE and not any(first[_MARK])
    return is_empty or first[_MARK] == _NUMBER.pack(APPLICATION_ID)


def _first_page(journal: BinaryIO, sector_bytes: int, page_bytes: int) -> bytes | None:
    journal.seek(sector_bytes)
    while page_bytes:
        record = journal.read(_NUMBER.size + page_bytes + _NUMBER.size)
        if len(record) < _NUMBER.size + page_bytes:
            break
        if _NUMBER.unpack_from(record) == (1,):
            return record[_NUMBER.size :]
    return None
