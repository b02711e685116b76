"""Storages that find the wrong sessions and messages by their metadata and by what was said."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

import attrs
from langswarm.core.session import InMemorySessionStorage as Good
from langswarm.core.session import StorageError
from langswarm.core.session.actors.model import Committed
from langswarm.core.session.actors.words import words_of

from .wrong_lists import ListsOtherwise
from .wrong_storages import everything

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session.actors.model import (
        MessageQuery,
        MessageRecord,
        SessionPage,
        SessionQuery,
        SessionRecord,
        SessionWrite,
    )
    from langswarm.core.session.actors.ports import WriteOutcome


def _object(value: object) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


# ---------------------------------------------------------------- metadata


class _Matches(ListsOtherwise):
    """Compares metadata in its own way, that of sessions and that of messages."""

    def matches(self, values: dict[str, Any], key: str, text: str) -> bool:
        raise NotImplementedError

    def _has(self, values: object, wanted: tuple[tuple[str, str], ...]) -> bool:
        known = _object(values)
        return not wanted or (
            known is not None and all(self.matches(known, *one) for one in wanted)
        )

    async def found(self, query: SessionQuery) -> Sequence[SessionRecord]:
        wide = await everything(self, attrs.evolve(query, metadata=()))
        return [one for one in wide if self._has(self._metadata(one), query.metadata)]

    def _metadata(self, record: SessionRecord) -> object:
        return json.loads(self._entries[record.key].stored.documents.config).get("metadata")

    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        wide = await super().read_messages(key, attrs.evolve(query, metadata=(), limit=None))
        found = [one for one in wide if self._has(json.loads(one.metadata), query.metadata)]
        return found if query.limit is None else found[len(found) - query.limit :]


class TakesKeysForPaths(_Matches):
    def matches(self, values: dict[str, Any], key: str, text: str) -> bool:
        inner: object = values
        for name in key.removeprefix("$.").split("."):
            known = _object(inner)
            if known is None or name not in known:
                return False
            inner = known[name]
        return bool(inner == json.loads(text))


class TakesTrueForOne(_Matches):
    def matches(self, values: dict[str, Any], key: str, text: str) -> bool:
        return key in values and values[key] == json.loads(text)


class TakesTrueForOneWithin(_Matches):
    def matches(self, values: dict[str, Any], key: str, text: str) -> bool:
        asked = json.loads(text)
        same = isinstance(asked, bool) is isinstance(values.get(key), bool)
        return key in values and same and values[key] == asked


class ComparesJsonAsText(_Matches):
    def matches(self, values: dict[str, Any], key: str, text: str) -> bool:
        return key in values and json.dumps(values[key]) == text


class ComparesWithoutTypes(_Matches):
    def matches(self, values: dict[str, Any], key: str, text: str) -> bool:
        asked = json.loads(text)
        value = values.get(key)
        return key in values and (value == asked or str(value) == str(asked))


class TakesNothingForNull(_Matches):
    def _has(self, values: object, wanted: tuple[tuple[str, str], ...]) -> bool:
        known = _object(values) or {}
        return all(known.get(key) == json.loads(text) for key, text in wanted)

    def matches(self, values: dict[str, Any], key: str, text: str) -> bool:
        raise AssertionError


class ComparesTheFirstValue(_Matches):
    def _has(self, values: object, wanted: tuple[tuple[str, str], ...]) -> bool:
        return super()._has(values, wanted[:1])

    def matches(self, values: dict[str, Any], key: str, text: str) -> bool:
        return key in values and json.dumps(values[key]) == text


class FindsConfigAsMetadata(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        for entry in self._entries.values():
            documents = entry.stored.documents
            config = json.loads(documents.config)
            if isinstance(config.get("metadata"), dict):
                config["metadata"] = {**config, **config["metadata"]}
                documents = attrs.evolve(documents, config=json.dumps(config))
                entry.stored = attrs.evolve(entry.stored, documents=documents)
        return outcomes


class ChokesOnOddMetadata(_Matches):
    def _has(self, values: object, wanted: tuple[tuple[str, str], ...]) -> bool:
        if wanted and values is not None and _object(values) is None:
            raise StorageError("malformed JSON", code="corrupt")
        return super()._has(values, wanted)

    def matches(self, values: dict[str, Any], key: str, text: str) -> bool:
        return key in values and json.dumps(values[key]) == text


class KnowsTheFirstMetadata(_Matches):
    """An index that is written once."""

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[int, object] = {}

    def _metadata(self, record: SessionRecord) -> object:
        found = super()._metadata(record)
        return found if found is None else self._first.setdefault(record.key, found)

    def matches(self, values: dict[str, Any], key: str, text: str) -> bool:
        return key in values and json.dumps(values[key]) == text


class LimitsBeforeMetadata(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        newest = await super().read_messages(key, attrs.evolve(query, metadata=()))
        matching = await super().read_messages(key, attrs.evolve(query, limit=None))
        return [one for one in newest if one in matching]


# ---------------------------------------------------------------- texts


class _Searches(ListsOtherwise):
    """Decides in its own way whether a message has a text."""

    def says(self, content: str, text: str) -> bool:
        raise NotImplementedError

    def texts_of(self, record: SessionRecord) -> list[str]:
        messages = self._entries[record.key].messages
        return [one.content for one in messages if not one.hidden_by]

    async def found(self, query: SessionQuery) -> Sequence[SessionRecord]:
        wide = await everything(self, attrs.evolve(query, text=None))
        text = query.text
        return [
            one
            for one in wide
            if text is None or any(self.says(content, text) for content in self.texts_of(one))
        ]


def _right(content: str, text: str) -> bool:
    words = set(words_of(text))
    return bool(words) and words.issubset(words_of(content))


class FindsEveryText(_Searches):
    def says(self, content: str, text: str) -> bool:
        return True


class FindsNoText(_Searches):
    def says(self, content: str, text: str) -> bool:
        return False


class FindsPartsOfWords(_Searches):
    def says(self, content: str, text: str) -> bool:
        said = " ".join(words_of(content))
        words = words_of(text)
        return bool(words) and all(word in said for word in words)


class FindsThePhrase(_Searches):
    def says(self, content: str, text: str) -> bool:
        wanted = f" {' '.join(words_of(text))} "
        return bool(wanted.strip()) and wanted in f" {' '.join(words_of(content))} "


class MindsAccents(_Searches):
    def says(self, content: str, text: str) -> bool:
        words = re.findall(r"[^\W_]+", text.casefold())
        return bool(words) and set(words).issubset(re.findall(r"[^\W_]+", content.casefold()))


class EndsWordsAtBlanks(_Searches):
    def says(self, content: str, text: str) -> bool:
        words = text.casefold().split()
        return bool(words) and set(words).issubset(content.casefold().split())


class TakesSymbolsForLetters(_Searches):
    """As `unicode61` does with those that are newer than itself."""

    def says(self, content: str, text: str) -> bool:
        return _right(re.sub("[\U0001f910-\U0001f9ff]", "x", content), text)


class TakesWordsForOperators(_Searches):
    def says(self, content: str, text: str) -> bool:
        if " OR " in text:
            return any(self.says(content, part) for part in text.split(" OR "))
        return _right(content, text)


class TakesStarsForAnything(_Searches):
    def says(self, content: str, text: str) -> bool:
        if text.endswith("*") and (words := words_of(text)):
            return any(word.startswith(words[-1]) for word in words_of(content))
        return _right(content, text)


class ChokesOnQuotes(_Searches):
    def says(self, content: str, text: str) -> bool:
        if text.count('"') % 2:
            raise StorageError("unterminated string", code="io")
        return _right(content, text)


class FindsNoWordsEverywhere(_Searches):
    def says(self, content: str, text: str) -> bool:
        return set(words_of(text)).issubset(words_of(content))


class FindsTheBeginning(_Searches):
    def says(self, content: str, text: str) -> bool:
        return _right(content[:10_000], text)


class _Collects(_Searches):
    """Has other texts than those of the visible messages."""

    def says(self, content: str, text: str) -> bool:
        return _right(content, text)


class FindsWordsOverAllMessages(_Collects):
    def texts_of(self, record: SessionRecord) -> list[str]:
        return [" ".join(super().texts_of(record))]


class FindsHiddenTexts(_Collects):
    def texts_of(self, record: SessionRecord) -> list[str]:
        return [one.content for one in self._entries[record.key].messages]


class FindsQuestionsOnly(_Collects):
    def texts_of(self, record: SessionRecord) -> list[str]:
        messages = self._entries[record.key].messages
        return [one.content for one in messages if one.role == "user" and not one.hidden_by]


class _Indexes(_Collects):
    """Has a copy of the texts, which is written beside the commits."""

    def __init__(self) -> None:
        super().__init__()
        self._index: dict[int, list[str]] = {}

    def texts_of(self, record: SessionRecord) -> list[str]:
        return self._index.get(record.key, [])

    def add(self, write: SessionWrite) -> None:
        entry = self._by_id.get(write.after.record.session_id)
        if entry is not None:
            shown = (one.content for one in write.messages if not one.hidden_by)
            self._index.setdefault(entry.key, []).extend(shown)


class FindsWhatWasCleared(_Indexes):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, Committed):
                self.add(write)
        return outcomes


class FindsWhatItRefused(_Collects):
    def __init__(self) -> None:
        super().__init__()
        self._refused_texts: list[str] = []

    def texts_of(self, record: SessionRecord) -> list[str]:
        return [*super().texts_of(record), *self._refused_texts]

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        for write, outcome in zip(writes, outcomes, strict=True):
            if not isinstance(outcome, Committed):
                self._refused_texts += [one.content for one in write.messages]
        return outcomes


class FindsTextsOneCommitLate(_Collects):
    def __init__(self) -> None:
        super().__init__()
        self._before: dict[int, list[str]] = {}

    def texts_of(self, record: SessionRecord) -> list[str]:
        return self._before.get(record.key, [])

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        self._before = {
            key: [one.content for one in entry.messages if not one.hidden_by]
            for key, entry in self._entries.items()
        }
        return await super().commit(writes)


class ForgetsTextsWhenClosed(_Collects):
    _forgotten = 0

    def texts_of(self, record: SessionRecord) -> list[str]:
        return [] if record.key <= self._forgotten else super().texts_of(record)

    async def close(self) -> None:
        self._forgotten = self._last_key
        await super().close()


class SaysThatItSearchesNoText(Good):
    """And searches all the same, or takes the condition for none."""

    searches_text = False


class RefusesTextsInItsOwnWords(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        if query.text is not None:
            raise StorageError("no such column: text", code="io")
        return await super().list_sessions(query)
