"""The sentences that cases stand on, word by word.

They are in the docstrings of the port and of its values, or in the list of what a provider must do
in docs/how-to/write-a-provider.md ("Write a provider"). The project's tests compare them.
"""

from __future__ import annotations

_PORT = "IProvider"
_PAGE = "Write a provider"

MANY_AT_ONCE = f"{_PORT}: One object serves all sessions of its name, many turns at once."

ANSWER = f"{_PORT}.stream: Answer one turn: text deltas, then one `Completed` as the last event."
CLOSED_ALWAYS = (
    f"{_PORT}.stream: The runtime iterates it in one task, closes it always, and cancels it when "
    "the turn is interrupted or `turn_timeout_seconds` pass."
)
ERRORS = (
    f"{_PORT}.stream: Raise `ProviderError`; any other exception becomes one of code `internal`."
)
CHECK = (
    f"{_PORT}.check_config: Refuse a session's provider_config that cannot be right: "
    "ConfigurationError."
)
CLOSE = f"{_PORT}.aclose: Release connections: the runtime leaves the event loop."
GO_ON = f"{_PORT}.aclose: More turns may follow later."
DELETE = (
    f"{_PORT}.delete_conversation: Delete a conversation of the provider's own; one that is gone "
    "already is deleted."
)

DELTA = "TextDelta: A piece of the answer, in order."
CUT = "Completed: A stream that ends without it was cut off and is a failure."
STARTED = (
    "ConversationStarted: The provider has made a conversation for this turn; told at once, before "
    "anything can fail."
)
SESSION_ID = (
    "ProviderRequest.provider_session_id: The provider's own conversation, where it keeps one; "
    "None: start afresh."
)

NO_REPEAT = f"{_PAGE}: Never ask the vendor again once a piece of the answer was yielded."
BOUNDS = (
    f"{_PAGE}: Counts of tokens are ints from 0 to 2^53, ids and `finish_reason` are short texts, "
    "`metadata` holds JSON values."
)
REQUESTS = f"{_PAGE}: Leave the request as it is, and do not keep it."
BOUNDED = (
    f"{_PAGE}: Closing the generator, and obeying a cancellation, takes moments, also while the "
    "vendor says nothing, and leaves no request running."
)
USABLE = f"{_PAGE}: After a turn that was cancelled at any point the next one is answered."
NOT_HELD_UP = f"{_PAGE}: A turn that waits for its vendor does not hold up another."
STALLS = f"{_PAGE}: A vendor that falls silent is an error, if you watch for it."
NAMES = (
    f"{_PAGE}: An unknown key in a provider_config is refused with the nearest one that there is."
)
SECRETS = f"{_PAGE}: A key shows up in no repr, no error and no log."
FRESH = f"{_PAGE}: A conversation that the vendor has lost is begun afresh with the whole window."
