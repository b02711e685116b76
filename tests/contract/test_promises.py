"""The cases and the docstrings of the port say the same."""

import ast
import re
from collections import Counter

import pytest
from langswarm.core.session.actors import model
from langswarm.core.session.actors.ports import ISessionStorage
from langswarm.core.session.testing.storage_contract import CONTRACT, DURABILITY, StorageCase

from ..docs.blocks import ROOT

CASES = CONTRACT + DURABILITY
UNCHECKED = {
    "A place where sessions are kept.",
    "One runtime uses it at a time.",
    "A batch holds a session at most once.",
    (
        "Every method may raise `StorageError`; "
        "any other exception is taken as an outcome unknown and resolved with `read_back`."
    ),
    "The suite `langswarm.core.session.testing.storage_contract` checks all of this.",
}
"""What the port says of the runtime, or allows, or what nobody could break."""

ELSEWHERE = {
    "MessageQuery.since_us",
    "MessageQuery.until_us",
    "MessageQuery.after_seq",
    "MessageQuery.before_seq",
    "MessageQuery.message_id",
    "SessionWrite.after",
    "SessionWrite.documents_changed",
    "SessionWrite.expected_revision",
    "SessionWrite.opens_turn",
}
"""Fields that cases of `read_messages` and `commit` stand for."""


def one_line(text: str) -> str:
    return " ".join(text.split())


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=\.) (?=[A-Z])", one_line(text))


def docstrings() -> dict[str, str]:
    """Of the port and its methods, and of the fields of the values, by name."""
    found = {"ISessionStorage": one_line(ISessionStorage.__doc__ or "")}
    for name, value in vars(ISessionStorage).items():
        if callable(value) and value.__doc__ and not name.startswith("_"):
            found[f"ISessionStorage.{name}"] = one_line(value.__doc__)
    found |= fields_of(classes("actors/ports.py")["ISessionStorage"])
    for name, node in classes("actors/model.py").items():
        found[name] = one_line(getattr(model, name).__doc__ or "")
        found |= fields_of(node)
    return found


def classes(path: str) -> dict[str, ast.ClassDef]:
    nodes = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


def fields_of(node: ast.ClassDef) -> dict[str, str]:
    """What is said of the fields of a class, by their full names."""
    found: dict[str, str] = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            found[f"{node.name}.{field.target.id}"] = one_line(ast.literal_eval(text.value))
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case_stands_on_a_sentence_that_is_there(case: StorageCase) -> None:
    place, _, words = case.promise.partition(": ")
    assert words in docstrings()[place]


def test_every_sentence_of_the_port_has_a_case() -> None:
    promised = {case.promise.partition(": ")[2] for case in CASES}
    for place, text in docstrings().items():
        if place.startswith("ISessionStorage"):
            for sentence in sentences(text):
                assert sentence in promised | UNCHECKED, place


@pytest.mark.parametrize(
    "name",
    ["SessionQuery", "SessionPage", "MessageQuery", "UsageQuery", "UsageReport", "SessionWrite"],
)
def test_every_field_of_which_something_is_said_has_a_case(name: str) -> None:
    places = {case.promise.partition(": ")[0] for case in CASES}
    said = fields_of(classes("actors/model.py")[name])
    assert set(said) - places <= ELSEWHERE


def test_every_case_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(map(str, CASES)).items() if count > 1] == []


def test_the_documentation_names_cases_that_are_there() -> None:
    text = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
    named = set(re.findall(r"case `(\w+)`", text))
    assert named
    assert named <= {str(case) for case in CASES}
