"""Looks for keys in everything that anybody may print, log, store or send."""

from __future__ import annotations

import base64
import copy
import logging
import pickle
import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

KEY = 'sk-Heron/q7+Zx9"Wv3=Lk5%Tn1_Gb8'
"""The provider's."""
GATEWAY_KEY = 'gw.Osprey/4+Fd6"Yh2=Ns7%Pc0_Jm9'
"""In `headers=`."""
WINDOW = 12
"""So many characters of a key are too many."""
_TESTS = str(Path(__file__).parents[2])
_MAX_OBJECTS = 50_000
_ESCAPE = re.compile(r"\\+u00([0-9a-f]{2})")


def _traces_of(key: str) -> Iterator[str]:
    """The key in small letters, backwards too, and in base64 whatever stands before it."""
    plain = key.lower()
    yield from (plain, plain[::-1])
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + key.encode()).decode().lower()
        yield coded[4:-4]


def _windows(trace: str, size: int, step: int) -> list[str]:
    return [trace[at : at + size] for at in range(0, len(trace) - size + 1, step)]


TRACES = [trace for key in (KEY, GATEWAY_KEY) for trace in _traces_of(key)]
WINDOWS = [part for trace in TRACES for part in _windows(trace, WINDOW, 1)]
BLOCKS = [part for trace in TRACES for part in _windows(trace, WINDOW // 2, WINDOW // 2)]
"""Each window holds one of them as a whole."""
_seen: set[int] = set()


def where(text: str) -> str | None:
    """The neighbourhood of a key in a text, however it is written; None: there is none."""
    low = text.lower()
    plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), low)
    plain = plain.replace("\\", "").lower()
    quoted = unquote(unquote(plain)).lower()
    for form in dict.fromkeys((low, plain, quoted, quoted.replace("+", " "))):
        if not any(block in form for block in BLOCKS):
            continue
        for wanted in WINDOWS:
            at = form.find(wanted)
            if at >= 0:
                return f"{wanted!r} in ...{form[max(0, at - 200) : at + 100]}"
    return None


def assert_hidden(*texts: str) -> None:
    """Nobody who reads these texts learns a key, or 12 characters of it."""
    new = [text for text in texts if hash(text) not in _seen]  # most texts are told by many
    found = where("\n".join(new))
    assert found is None, found
    _seen.update(map(hash, new))


# ---------------------------------------------------------------- errors


def errors_behind(error: BaseException) -> list[BaseException]:
    """The error, its causes and contexts and the members of groups, each once."""
    found: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or any(each is other for other in found):
            continue
        found.append(each)
        todo += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            todo += cast("BaseExceptionGroup[BaseException]", each).exceptions
    return found


def shown_of(error: BaseException) -> Iterator[str]:
    """All that can be printed of an error; of the frames, those that are not the tests' own."""
    for each in errors_behind(error):
        yield from (str(each), repr(each), repr(each.args), repr(vars(each)))
        yield repr(getattr(each, "__notes__", ()))
        for frame, line in traceback.walk_tb(each.__traceback__):
            if frame.f_code.co_filename.startswith(_TESTS):
                continue
            for name, value in frame.f_locals.items():
                yield f"{frame.f_code.co_qualname}:{line} {name} = {_repr(value)}"
    yield "".join(traceback.format_exception(error))
    for other in (copy.copy(error), copy.deepcopy(error)):
        yield f"{other} {other!r} {vars(other)!r}"
    try:
        yield pickle.dumps(error).decode("latin-1")
    except (TypeError, AttributeError):  # not every library's exceptions can be pickled
        return


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - as a printer of tracebacks does
        return f"<no repr: {error!r}>"


# ---------------------------------------------------------------- objects


def shown_of_objects(*roots: object) -> Iterator[str]:
    """What a debugger that opens our objects, field by field, prints of all others in them."""
    todo: list[object] = list(roots)
    seen: dict[int, object] = {}
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each
        assert len(seen) < _MAX_OBJECTS
        yield _repr(each)
        if isinstance(each, dict):
            fields = cast("dict[object, object]", each)
            todo += [*fields.keys(), *fields.values()]
        elif isinstance(each, list | tuple | set | frozenset):
            todo += cast("Iterable[object]", each)
        elif type(each).__module__.startswith("langswarm"):
            todo += _fields_of(each)
            if attrs.has(type(each)):
                yield _repr(attrs.asdict(cast("Any", each), recurse=False))


def _fields_of(value: object) -> Iterator[object]:
    if type(value).__name__ == "Secret":
        return
    yield from getattr(value, "__dict__", {}).values()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            field = getattr(value, f"_{kind.__name__}{name}" if name[:2] == "__" else name, None)
            if field is not None and not callable(field):
                yield field


# ---------------------------------------------------------------- logs and files


def shown_of_logs(records: Iterable[logging.LogRecord]) -> Iterator[str]:
    """What any handler may write of these records."""
    formatter = logging.Formatter("%(name)s %(message)s")
    for record in records:
        yield formatter.format(record)
        yield repr(vars(record))
        if record.exc_info and record.exc_info[1] is not None:
            yield from shown_of(record.exc_info[1])


def shown_of_files(folder: Path) -> Iterator[str]:
    """The bytes of all files of a folder: databases, their logs, backups."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.read_bytes().decode("latin-1")
