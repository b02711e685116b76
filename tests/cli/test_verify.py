import pytest
from langswarm.core.session import Role, SessionMessage
from langswarm.core.session.cli.verify import difference_of_context, difference_of_messages

WANTED = [
    (Role.SYSTEM, "rules"),
    (Role.USER, "caf\u00e9?"),
    (Role.ASSISTANT, "yes, caf\u00e9"),
]


def history() -> list[SessionMessage]:
    return [
        SessionMessage("system", "rules", seq=1),
        SessionMessage("user", "caf\u00e9?", seq=2),
        SessionMessage("assistant", "yes, caf\u00e9", seq=3, finish_reason="stop"),
    ]


def test_same_history_has_no_difference() -> None:
    assert difference_of_messages(WANTED, history()) is None


@pytest.mark.parametrize(
    ("place", "field", "value", "says"),
    [
        (2, "content", "cafe\u0301?", "message 2 differs at character 3: 'e\u0301?' instead of"),
        (3, "content", "yes, caf", "message 3 differs at character 8: '' instead of '\u00e9'"),
        (1, "content", "rules ", "message 1 differs at character 5: ' ' instead of ''"),
        (1, "role", Role.USER, "message 1 has role 'user', not 'system'"),
        (3, "seq", 4, "message 3 has seq 4, not 3"),
        (3, "finish_reason", "interrupted", "message 3 has finish_reason 'interrupted', not"),
        (2, "finish_reason", "failed", "message 2 has finish_reason 'failed', not None"),
    ],
)
def test_changed_message_is_a_difference(place: int, field: str, value: object, says: str) -> None:
    messages = history()
    setattr(messages[place - 1], field, value)
    difference = difference_of_messages(WANTED, messages)
    assert difference is not None
    assert difference.startswith(says)


def test_missing_doubled_and_swapped_messages_are_differences() -> None:
    messages = history()
    assert difference_of_messages(WANTED, messages[:2]) == "it has 2 messages, the conversation 3"
    assert difference_of_messages(WANTED, []) == "it has 0 messages, the conversation 3"
    assert difference_of_messages(WANTED, messages[1:]) == "message 1 has seq 2, not 1"
    more = [*messages, SessionMessage("user", "more", seq=4)]
    assert difference_of_messages(WANTED, more) == "it has 4 messages, the conversation 3"
    swapped = [messages[0], messages[2], messages[1]]
    assert difference_of_messages(WANTED, swapped) == "message 2 has seq 3, not 2"


def test_context_is_compared_down_to_the_type_of_a_number() -> None:
    assert (
        difference_of_context({"a": 1, "b": [1.5, "\u00e9"]}, {"b": [1.5, "\u00e9"], "a": 1})
        is None
    )
    assert difference_of_context({"a": 1}, {}) == "the context lacks 'a'"
    assert difference_of_context({}, {"a": 1}) == "the context has 'a', which nobody set"
    for other in (1.0, True, "1"):
        difference = difference_of_context({"a": 1}, {"a": other})
        assert difference is not None
        assert difference.startswith("the context's 'a' differs at character")
