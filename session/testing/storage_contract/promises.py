"""The sentences of the port and of its values that cases stand on, word by word.

The project's tests compare them with the docstrings, both ways: no sentence here that is not
there, and none of the port without a case.
"""

from __future__ import annotations

_PORT = "ISessionStorage"

READS_AT_ONCE = (
    f"{_PORT}: The runtime calls `commit` from one task only, never twice at once; reads come from "
    "many tasks at once."
)
CANCELLING = (
    f"{_PORT}: Cancelling a call must never leave half a write: either the whole batch is decided "
    "later, or nothing of it happens."
)
AS_GIVEN = (
    f"{_PORT}: What is stored comes back as it was given: every character of a text and of an id, "
    "every integer up to 2^63-1."
)

OPEN = f"{_PORT}.open: Make ready for use."
OPEN_AGAIN = f"{_PORT}.open: Called before anything else, also after `close`; idempotent."
CLOSE = f"{_PORT}.close: Finish what was handed over and release everything."
CLOSE_AGAIN = f"{_PORT}.close: Idempotent; `open` may follow."
CLOSED = (
    f"{_PORT}.close: Until then every call that stores or reads raises StorageError of code "
    "`closed`."
)

COMMIT = (
    f"{_PORT}.commit: Commit many writes together; each is atomic, and all named Committed are "
    "durable (G3)."
)
FAILS_ALONE = (
    f"{_PORT}.commit: A write that cannot be stored fails alone: its outcome is a StorageError, or "
    "a Conflict where another revision or epoch is stored."
)
OUTCOMES = f"{_PORT}.commit: Returns the outcomes in the order of the writes."

LOAD = (
    f"{_PORT}.load: The sessions as last committed, None for unknown ones, in the order of the ids."
)
READ_BACK = (
    f"{_PORT}.read_back: As `load`, but ordered behind every commit that was handed over before, "
    "decided or not."
)
RESOLVED = (
    f"{_PORT}.read_back: This is how an outcome-unknown commit is resolved before the caller is "
    "answered."
)
UNFINISHED = (
    f"{_PORT}.load_unfinished: Up to `limit` sessions whose turn is still open: the process before "
    "was killed."
)
READ_MESSAGES = (
    f"{_PORT}.read_messages: The newest `query.limit` matching messages of the session `key`, in "
    "`seq` order."
)
LIST = (
    f"{_PORT}.list_sessions: A page of sessions, newest first: by key, which rises with every new "
    "one."
)
O_LIMIT = (
    f"{_PORT}.list_sessions: It reads O(limit), however many sessions there are (see "
    "`SessionPage`)."
)
FOUND_AT_ONCE = (
    f"{_PORT}.list_sessions: What was committed before the call is found, by its text as well."
)
SEARCHES_TEXT = (
    f"{_PORT}.searches_text: Whether `SessionQuery.text` is understood; else a "
    "ConfigurationError says why not."
)
USAGE_SUMS = f"{_PORT}.read_usage: The sums of what writes have added as `usage`."
ERASE_USER = (
    f"{_PORT}.erase_user: Delete what is kept of a user beside sessions: usage, and the claims of "
    "creations."
)
ERASED_FROM_SUMS = (
    f"{_PORT}.erase_user: What the sums over all users hold of this user is taken out of them."
)
ERASED_FOR_GOOD = f"{_PORT}.erase_user: Durable like a commit."
READ_TURN = (
    f"{_PORT}.read_turn: The turn of that number of the session `key`, open or closed; None: there "
    "is none."
)
FIND_CLAIM = (
    f"{_PORT}.find_claim: What was last done under this idempotency key; None: nothing, or it was "
    "swept."
)
SWEEP = (
    f"{_PORT}.sweep_claims: Delete up to `limit` claims that were made before `before_us`; returns "
    "how many."
)
SWEPT_FOR_GOOD = f"{_PORT}.sweep_claims: Durable like a commit."
SWEEP_IN_STEPS = (
    f"{_PORT}.sweep_claims: Done in steps that let commits through in between: none waits for more "
    "than 50 ms and a sync."
)
LOAD_PURGES = (
    f"{_PORT}.load_purges: Up to `limit` purges that are due at `now_us`, the one that is due "
    "longest first."
)
SETTLE = (
    f"{_PORT}.settle_purge: Take a purge off the queue, or with `retry_us` make it due again then."
)
RETRY = f"{_PORT}.settle_purge: What is due again has one more attempt and `error` as its last one."
SETTLED_FOR_GOOD = f"{_PORT}.settle_purge: Durable like a commit."
NOT_QUEUED = f"{_PORT}.settle_purge: A purge that is not in the queue is left at that."

HEALTH = f"{_PORT}.health: How it is, from what is known already: plain, cheap, never raises."
OPTIMIZE = f"{_PORT}.optimize: Tidy up, in steps that let commits through in between."
BACKUP = f"{_PORT}.backup: Write all that is committed to a new file, while commits go on."
NO_BACKUP = (
    f"{_PORT}.backup: Raises ConfigurationError where there is nothing to write to a file, or one "
    "is there."
)
VERIFY = f"{_PORT}.verify: Look at everything that is stored, while commits go on."

ROTATE = (
    f"{_PORT}.rotate_keys: Encrypt everything with the current key, in steps that let commits "
    "through in between."
)
NO_ROTATION = (
    f"{_PORT}.rotate_keys: Raises ConfigurationError where nothing is encrypted record by record."
)

WRITE_ORDER = (
    "SessionWrite: Order within the write: clear, hide, insert messages, mark, turns, claim, "
    "purges, tags, usage, session, erase."
)
CLEAR = (
    "SessionWrite.clear_through_seq: Delete all messages up to this seq, hidden ones too; 0: none."
)
HIDES = (
    "SessionWrite.hides: (first_seq, last_seq, by), both inclusive: the visible ones among them "
    "get `hidden_by=by`."
)
MARKS = "SessionWrite.marks: (seq, finish_reason) of stored messages to change."
TURN = (
    "SessionWrite.turn: Insert this turn where `opens_turn`, else update the stored one of the "
    "same number."
)
CLAIM = (
    "SessionWrite.claim: Put; it replaces the stored one of the same scope, method and key, "
    "whoever wrote that."
)
PURGES = "SessionWrite.purges: Queue these; one that is there already stays as it is."
PAST_TURNS = (
    "SessionWrite.past_turns: Insert these turns, which have ended: of a session that is created "
    "with a history."
)
TAGS = "SessionWrite.tags: The session's tags from now on, each once; None: they stay as they are."
USAGE = "SessionWrite.usage: Added to what is stored for its day, user, provider and model."
ERASES = (
    "SessionWrite.erases: Delete everything that is stored of the session, claims of its scope "
    "included."
)
CONFLICT = (
    "Conflict: The write was refused: the storage holds another revision (0: no such session) or "
    "epoch."
)
FOR_PROMPT = (
    "MessageQuery.for_prompt: Only user and assistant messages that a prompt may hold: those of "
    "failed turns are not."
)
OF_TURN = "MessageQuery.turn_no: Only messages of this turn."
OF_METADATA = (
    "MessageQuery.metadata: (key, JSON text of the value): its metadata has all of these at the "
    "top."
)
EVERY_CONDITION = "SessionQuery: A session matches that fulfils every condition that is given."
ALL_USERS = "SessionQuery.user_id: None: of all users."
NOT_DELETED = "SessionQuery.status: None: all but the deleted ones."
ACTIVE_SINCE = "SessionQuery.active_since_us: Inclusive, on the time of the last commit."
ALL_TAGS = "SessionQuery.tags: It has all of these."
CONFIG_METADATA = (
    'SessionQuery.metadata: (key, JSON text of the value): the "metadata" of its config has all of '
    "these at the top."
)
TEXT = "SessionQuery.text: Words that one of its visible messages has, all of them: see `words_of`."
NO_WORDS = "SessionQuery.text: A text without words matches no session."
IDLE_SINCE = "SessionQuery.idle_since_us: Exclusive: the last commit was before this."
BEFORE_KEY = "SessionQuery.before_key: Exclusive; `next_key` of the page before."
SHORT_PAGE = (
    "SessionPage: A storage looks at a bounded number of sessions for one page, so that a rare "
    "match among many sessions holds nothing up: a page may be shorter than its limit, even empty, "
    "and not the last."
)
NEXT_KEY = "SessionPage.next_key: `before_key` of the next page; None: this was the last one."
BOTH_DAYS = "UsageQuery: Which days' figures to sum up; both days are included."
ONE_USER = "UsageQuery.user_id: None: of all users."
DAYS = (
    "UsageReport.days: One of each day, provider and model that has any, in this order; `user_id` "
    'is "".'
)
ACTIVE_USERS = "UsageReport.active_users: Different users over all of these days."
ACTIVE_BY_DAY = (
    "UsageReport.active_users_by_day: (day, different users), in the order of the days that have "
    "any."
)
