"""The tables, and why they look like this.

One b-tree per table, no secondary index on the path of a turn. The primary key of `messages` and
`turns` is computed: `session_key << 32 | seq`. So the rows of a session lie side by side in the
order of their `seq`; the last twenty are one descent and one or two pages, "newest n" is a scan
backwards, uniqueness of (session, seq) costs nothing. Room: 2^31 sessions, 2^32 messages each.

Rejected, all measured at 2 million messages: a rowid table with a unique index over
(session_key, seq) writes two b-trees per message and reads each message with a descent of its
own, ten times slower from a cold cache; WITHOUT ROWID with that composite key stores it twice
over on inner pages and writes twice as much; one append-only log for all sessions writes a tenth
but cannot read a session without an index or a fold into this very table.

What it costs: writes of many sessions touch as many leaf pages, so a message costs about one page
of WAL once there are more live sessions than fit on a page.

`session_documents` holds what is large and rarely changes, apart from the small row that each
commit rewrites: the bytes written per turn do not grow with the context.

AUTOINCREMENT: a key is never used again, so that a stale key can never reach another session.

Times are microseconds since the epoch. NULL in a JSON column means an empty object. Columns that
a codec may encode (encryption, compression) are ANY: text while `codec` is 0, else bytes;
`key_id` names the key. Only open turns are in the index `turns_open`: it is how a start finds
what a kill has left behind, at a price that does not depend on how much is stored.

`provider_purges` is the outbox of conversations that are kept by a provider and are to be deleted
there: whoever deletes the session here adds a row in the same transaction.

`claims` says what was done under an idempotency key. It is found by all three parts of its name,
so these are its b-tree, without a rowid beside it; `claims_created` is how the old ones are swept.
Both cost what they cost only where a call has such a key.

`session_tags` repeats the tags of a session's config, to be found by tag and by session. A tag is
ANY because it may be the hash of one. No column that every commit rewrites is in an index of
`sessions`: what is asked of these is asked of each session that a list meets.

`usage_users` and `usage_days` are sums, kept up by every commit that adds to a day's figures: of a
user, and of all. A column for each count and each class of answer times, so that SQL adds them up.
The day comes first in their keys: what is written today lies side by side, and the rows of a month
are one range. A row that is there is changed in place, in some 4 us. To read 30 days of 100,000
rows of users takes 30 ms, all of it for counting different users.

`search` and `search_pending` are the index of words, which follows behind the commits: see the
module `search`.

The tables are a ladder: STEPS[n] leads from version n to version n + 1, and a new file climbs all
of it. Everything is created in one transaction before the switch to WAL, so a file on disk is
either empty or recognisably ours, also after a kill in mid-creation. A step that has been released
is never changed; what is wrong in one is mended by the next.
"""

from __future__ import annotations

from ....actors.model import LATENCY_BOUNDS_MS

APPLICATION_ID = 0x4C535353
"""Marks the file as ours, in its header ("LSSS")."""

SEQ_BITS = 32
SEQ_MAX = (1 << SEQ_BITS) - 1

COUNTERS = (
    "user_messages",
    "assistant_messages",
    "system_messages",
    "completed_turns",
    "failed_turns",
    "interrupted_turns",
    "input_tokens",
    "output_tokens",
    "response_us",
)

LATENCY_CLASSES = tuple(f"latency_{place}" for place in range(len(LATENCY_BOUNDS_MS) + 1))
"""A column for each class of answer times."""

USAGE_COUNTS = ("sessions", *COUNTERS, *LATENCY_CLASSES)
"""What is added up of a day."""

_COUNTER_COLUMNS = "".join(f"    {name} INTEGER NOT NULL,\n" for name in COUNTERS)

_SESSIONS_AND_MESSAGES = (
    f"""
CREATE TABLE sessions (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    status TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    provider_session_id TEXT,
    synced_seq INTEGER NOT NULL,
    dirty INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    last_turn_no INTEGER NOT NULL,
    open_turn_no INTEGER NOT NULL,
    visible_messages INTEGER NOT NULL,
{_COUNTER_COLUMNS}    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    codec INTEGER NOT NULL DEFAULT 0,
    key_id TEXT
) STRICT
""",
    """
CREATE INDEX sessions_user ON sessions (user_id, key)
""",
    """
CREATE TABLE session_documents (
    session_key INTEGER PRIMARY KEY,
    config ANY,
    provider_config ANY,
    provider_settings ANY,
    context ANY,
    context_version INTEGER NOT NULL,
    codec INTEGER NOT NULL DEFAULT 0,
    key_id TEXT
) STRICT
""",
    """
CREATE TABLE messages (
    id INTEGER PRIMARY KEY, -- session_key << 32 | seq
    role TEXT NOT NULL,
    content ANY NOT NULL,
    created_us INTEGER NOT NULL,
    turn_no INTEGER NOT NULL,
    message_id TEXT,
    metadata ANY,
    provider_message_id TEXT,
    provider_metadata ANY,
    token_count INTEGER NOT NULL,
    finish_reason TEXT,
    hidden_by INTEGER NOT NULL,
    codec INTEGER NOT NULL DEFAULT 0,
    key_id TEXT
) STRICT
""",
    """
CREATE TABLE turns (
    id INTEGER PRIMARY KEY, -- session_key << 32 | turn_no
    state TEXT NOT NULL,
    user_seq INTEGER NOT NULL,
    replaces INTEGER NOT NULL,
    opened_us INTEGER NOT NULL,
    closed_us INTEGER NOT NULL,
    partial_text ANY,
    error_code TEXT,
    error_text ANY,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    idempotency_key TEXT,
    payload_hash BLOB,
    codec INTEGER NOT NULL DEFAULT 0,
    key_id TEXT
) STRICT
""",
    """
CREATE INDEX turns_open ON turns (state) WHERE state = 'open'
""",
)

_PROVIDER_PURGES = (
    """
CREATE TABLE provider_purges (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    provider TEXT NOT NULL,
    provider_session_id TEXT NOT NULL,
    queued_us INTEGER NOT NULL,
    due_us INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    last_error TEXT,
    UNIQUE (provider, provider_session_id)
) STRICT
""",
    """
CREATE INDEX provider_purges_due ON provider_purges (due_us)
""",
)

_CLAIMS = (
    """
CREATE TABLE claims (
    scope TEXT NOT NULL,
    method TEXT NOT NULL,
    key TEXT NOT NULL,
    payload_hash BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    session_id TEXT NOT NULL,
    result INTEGER NOT NULL,
    PRIMARY KEY (scope, method, key)
) STRICT, WITHOUT ROWID
""",
    """
CREATE INDEX claims_created ON claims (created_us)
""",
)

_USAGE_COLUMNS = "".join(f"    {name} INTEGER NOT NULL,\n" for name in USAGE_COUNTS)

_TAGS_AND_USAGE = (
    """
ALTER TABLE sessions ADD COLUMN auto_archive_seconds INTEGER NOT NULL DEFAULT 0
""",
    """
ALTER TABLE sessions ADD COLUMN latencies TEXT NOT NULL DEFAULT ''
""",
    """
CREATE TABLE session_tags (
    tag ANY NOT NULL,
    session_key INTEGER NOT NULL,
    PRIMARY KEY (tag, session_key)
) STRICT, WITHOUT ROWID
""",
    """
CREATE INDEX session_tags_session ON session_tags (session_key)
""",
    """
INSERT OR IGNORE INTO session_tags (tag, session_key)
SELECT tags.value, d.session_key FROM session_documents AS d
JOIN json_each(iif(d.codec = 0 AND json_valid(d.config), d.config, NULL), '$.tags') AS tags
WHERE tags.type = 'text'
""",
    f"""
CREATE TABLE usage_users (
    day INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
{_USAGE_COLUMNS}    PRIMARY KEY (day, user_id, provider, model)
) STRICT, WITHOUT ROWID
""",
    """
CREATE INDEX usage_users_user ON usage_users (user_id, day)
""",
    f"""
CREATE TABLE usage_days (
    day INTEGER NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
{_USAGE_COLUMNS}    PRIMARY KEY (day, provider, model)
) STRICT, WITHOUT ROWID
""",
)

CREATE_SEARCH = """
CREATE VIRTUAL TABLE search USING fts5 (
    words, content = '', columnsize = 0, detail = none, tokenize = 'ascii'
)
"""

_SEARCH = (
    """
CREATE TABLE search_pending (
    session_key INTEGER PRIMARY KEY,
    from_seq INTEGER NOT NULL
) STRICT
""",
    CREATE_SEARCH,
    """
INSERT INTO search_pending (session_key, from_seq) SELECT key, 1 FROM sessions WHERE last_seq > 0
""",
)

_ENCRYPTION = (
    """
CREATE TABLE encryption_keys (
    key_id TEXT PRIMARY KEY,
    fingerprint BLOB NOT NULL
) STRICT, WITHOUT ROWID
""",
    """
ALTER TABLE session_documents ADD COLUMN revision INTEGER NOT NULL DEFAULT 0
""",
    """
ALTER TABLE claims ADD COLUMN codec INTEGER NOT NULL DEFAULT 0
""",
    """
ALTER TABLE claims ADD COLUMN key_id TEXT
""",
)

STEPS = tuple(
    tuple(statement.strip() for statement in step)
    for step in (
        _SESSIONS_AND_MESSAGES,
        _PROVIDER_PURGES,
        _CLAIMS,
        (*_TAGS_AND_USAGE, *_SEARCH, *_ENCRYPTION),
    )
)
USER_VERSION = len(STEPS)


def climb(version: int) -> tuple[str, ...]:
    """The statements that lead from a version to the next, its number included."""
    marks = () if version else (f"PRAGMA application_id = {APPLICATION_ID}",)
    return (*STEPS[version], *marks, f"PRAGMA user_version = {version + 1}")


CREATE = tuple(statement for version in range(USER_VERSION) for statement in climb(version))
"""All of it, for a new file; to be run within one transaction."""
