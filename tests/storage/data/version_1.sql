-- A file as version 1 made it, with what it may hold. Never changed.
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
    user_messages INTEGER NOT NULL,
    assistant_messages INTEGER NOT NULL,
    system_messages INTEGER NOT NULL,
    completed_turns INTEGER NOT NULL,
    failed_turns INTEGER NOT NULL,
    interrupted_turns INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    response_us INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    codec INTEGER NOT NULL DEFAULT 0,
    key_id TEXT
) STRICT;
CREATE INDEX sessions_user ON sessions (user_id, key);
CREATE TABLE session_documents (
    session_key INTEGER PRIMARY KEY,
    config ANY,
    provider_config ANY,
    provider_settings ANY,
    context ANY,
    context_version INTEGER NOT NULL,
    codec INTEGER NOT NULL DEFAULT 0,
    key_id TEXT
) STRICT;
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
) STRICT;
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
) STRICT;
CREATE INDEX turns_open ON turns (state) WHERE state = 'open';
PRAGMA application_id = 1280529235;
PRAGMA user_version = 1;
INSERT INTO sessions VALUES
    (1, 'first', 'ann', 'active', 'mock', 'm', NULL, 0, 0, 3, 1, 2, 1, 0, 2, 1, 1, 0, 1, 0, 0, 5, 7, 900, 10, 20, 0, NULL),
    (2, 'open', 'bob', 'active', 'mock', 'm', 'conv_1', 0, 1, 2, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 11, 21, 0, NULL);
INSERT INTO session_documents VALUES
    (1, '{"tags":["a","b"]}', NULL, NULL, '{"k":1}', 1, 0, NULL),
    (2, NULL, NULL, NULL, NULL, 0, 0, NULL);
INSERT INTO messages VALUES
    (4294967297, 'user', 'Hello', 12, 1, NULL, NULL, NULL, NULL, 0, NULL, 0, 0, NULL),
    (4294967298, 'assistant', 'Good day', 13, 1, NULL, '{"x":1}', 'msg_1', NULL, 7, 'stop', 0, 0, NULL),
    (8589934593, 'user', 'Anybody?', 14, 1, NULL, NULL, NULL, NULL, 0, NULL, 0, 0, NULL);
INSERT INTO turns VALUES
    (4294967297, 'completed', 1, 0, 12, 13, NULL, NULL, NULL, 5, 7, NULL, NULL, 0, NULL),
    (8589934593, 'open', 1, 0, 14, 0, 'Half an', NULL, NULL, 0, 0, NULL, NULL, 0, NULL);
