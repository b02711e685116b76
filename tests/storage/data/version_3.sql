-- A file as version 3 made it, with what it may hold. Never changed.
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
CREATE TABLE provider_purges (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    provider TEXT NOT NULL,
    provider_session_id TEXT NOT NULL,
    queued_us INTEGER NOT NULL,
    due_us INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    last_error TEXT,
    UNIQUE (provider, provider_session_id)
) STRICT;
CREATE INDEX provider_purges_due ON provider_purges (due_us);
CREATE TABLE claims (
    scope TEXT NOT NULL,
    method TEXT NOT NULL,
    key TEXT NOT NULL,
    payload_hash BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    session_id TEXT NOT NULL,
    result INTEGER NOT NULL,
    PRIMARY KEY (scope, method, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_created ON claims (created_us);
PRAGMA application_id = 1280529235;
PRAGMA user_version = 3;
INSERT INTO sessions VALUES
    (1, 'first', 'ann', 'active', 'mock', 'mock-model', NULL, 0, 0, 3, 1, 2, 1, 0, 2, 1, 1, 0, 1, 0, 0, 5, 7, 900, 1700000000000000, 1700000000000000, 0, NULL),
    (2, 'open', 'bob', 'active', 'mock', 'mock-model', 'conv_1', 0, 1, 2, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1700000000000000, 1700000000000000, 0, NULL);
INSERT INTO session_documents VALUES
    (1, '{"tags":["a","b"]}', NULL, NULL, '{"k":1}', 1, 0, NULL),
    (2, '{"a": 1}', NULL, NULL, NULL, 0, 0, NULL);
INSERT INTO messages VALUES
    (4294967297, 'user', 'Hello', 1700000001000000, 1, NULL, NULL, NULL, NULL, 0, NULL, 0, 0, NULL),
    (4294967298, 'assistant', 'Good day', 1700000002000000, 1, NULL, '{"x":1}', 'msg_1', NULL, 7, 'stop', 0, 0, NULL),
    (8589934593, 'user', 'Anybody?', 1700000001000000, 1, NULL, NULL, NULL, NULL, 0, NULL, 0, 0, NULL);
INSERT INTO turns VALUES
    (4294967297, 'completed', 1, 0, 1700000000000000, 1700000000000005, NULL, NULL, NULL, 5, 7, 'k', X'00FF', 0, NULL),
    (8589934593, 'open', 1, 0, 1700000000000000, 0, 'Half an', NULL, NULL, 0, 0, NULL, NULL, 0, NULL);
INSERT INTO provider_purges VALUES
    (1, 'mock', 'conv_0', 15, 16, 2, 'gone away');
INSERT INTO claims VALUES
    ('first', 'send_message', 'k', X'00FF', 1700000000000000, 'first', 1),
    ('user:ann', 'create_session', 'c', X'01', 1700000000000000, 'first', 0);
