"""How programs are made, from a source of choices: Hypothesis, or a random generator.

Every choice is "one of these", and the first is the plainest: so that Hypothesis shrinks towards
it. A program has some groups of verbs and lacks others, so that few get in each other's way.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Protocol, TypeVar

from .disk import COMMIT_FAULTS, READ_FAULTS
from .program import FOREVER, Fault, Program, Settings, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

IDLE_TIMES = (FOREVER, 1.0, 0.2, 0.0)
PATIENCE = (1.0, 0.25, 0.1, 0.0)
MOST_STEPS = 12
READS = ("load", "messages", "readback", "open", "unfinished")
GO_ON = (False, True, True, True, True, True, True)

ALWAYS = ("send", "post", "post", "gap")
SOMETIMES = (
    ("cut", "take"),
    ("put", "put", "put", "note", "conf"),
    ("arch", "open"),
    ("clear", "read", "make"),
    ("evict", "crash", "crash"),
    ("kill", "stop"),
)
VERBS = tuple(
    ALWAYS + sum(groups, ())
    for count in range(len(SOMETIMES) + 1)
    for groups in combinations(SOMETIMES, count)
)
BEHAVIOURS_OF = (
    ("ok", "slow", "slow"),
    ("ok", "slow", "long", "late", "hang"),
    ("ok", "slow", "fail", "half", "trunc", "bug", "deny", "veto", "stall"),
)

CALM = (
    *("send", "send", "post", "post", "post", "note", "put", "conf", "clear"),
    *("arch", "open", "gap", "gap", "read"),
)
CALM_BEHAVIOURS = ("ok", "ok", "ok", "slow", "fail", "half", "trunc", "bug", "deny", "veto")


class Pick(Protocol):
    """Chooses one of the options."""

    def __call__(self, options: Sequence[T], /) -> T: ...


def wild_program(pick: Pick) -> Program:
    """Everything that the promises allow, all at once or a part of it."""
    settings = Settings(
        sessions=pick((1, 1, 2, 2, 3)),
        idle=pick(IDLE_TIMES),
        live=pick((100, 2, 1)),
        box=pick((100, 100, 2, 1)),
        restarts=pick((100, 1, 0)),
        latency=pick((0.0, 0.0, 0.05, 2.0)),
        window=pick((1_000_000, 400, 0)),
        batch=pick((1000, 1)),
        guests=pick((0, 1, 2, 3)),
        skew=pick((0.0, 0.0, 3600.0)),
        faults=_faults(pick, pick((0, 0, 1, 2, 3))),
    )
    make = _Steps(pick, settings, pick(VERBS), pick(BEHAVIOURS_OF), wild=True)
    least = pick((1, 4, 6))
    return Program(settings, tuple(make.client(least) for _ in range(pick((1, 2, 3)))))


def calm_program(pick: Pick) -> Program:
    """One client and nothing that goes wrong outside: what it is told depends on no schedule."""
    settings = Settings(sessions=pick((1, 1, 2)), idle=0.2, guests=pick((0, 3)))
    make = _Steps(pick, settings, CALM, CALM_BEHAVIOURS, wild=False)
    return Program(settings, (make.client(pick((1, 6))),))


def mixed_program(pick: Pick, program: Program, between: Sequence[tuple[Step, ...]]) -> Program:
    """The same with some of these steps put in between the client's own."""
    (client,) = program.clients
    mixed: list[Step] = []
    for step in client:
        mixed += (*pick(((), (), *between)), step)
    mixed += pick(((), (), *between))
    return Program(program.settings, (tuple(mixed),))


def _faults(pick: Pick, count: int) -> tuple[Fault, ...]:
    """Planned faults of the disk."""
    faults: dict[tuple[str, int], Fault] = {}
    for _ in range(count):
        method = pick(("commit", "commit", "commit", "commit", *READS))
        kinds = COMMIT_FAULTS if method == "commit" else READ_FAULTS
        number = pick(range(1, 21 if method == "commit" else 9))
        faults[method, number] = Fault(method, number, pick(kinds))
    return tuple(faults.values())


class _Steps:
    """Makes the steps of the clients of one program."""

    def __init__(
        self,
        pick: Pick,
        settings: Settings,
        verbs: Sequence[str],
        behaviours: Sequence[str],
        *,
        wild: bool,
    ) -> None:
        self._pick = pick
        self._sessions = range(settings.sessions)
        self._gaps = _gaps(settings.idle)
        self._verbs = verbs
        self._behaviours = behaviours
        self._soon = ("", "soon", "soon") if wild else ("",)
        self._impatience: tuple[float | None, ...] = (None, *PATIENCE) if wild else (None,)

    def client(self, least: int) -> tuple[Step, ...]:
        """`least` steps or more."""
        steps: list[Step] = []
        while len(steps) < least or (len(steps) < MOST_STEPS and self._pick(GO_ON)):
            steps.append(self._step())
        return tuple(steps)

    def _step(self) -> Step:
        pick = self._pick
        verb = pick(self._verbs)
        if verb == "gap":
            return Step(verb, value=pick(self._gaps))
        if verb in {"kill", "stop"}:
            how = pick(("", "now")) if verb == "stop" else ""
            return Step(verb, None, how, pick((0.1, 0.0)))
        if verb == "take":
            return Step(verb)
        session = pick(self._sessions)
        if verb in {"send", "post"}:
            return Step(verb, session, pick(self._behaviours))
        if verb == "cut":
            return Step(verb, session, pick(self._behaviours), pick(PATIENCE))
        return self._other_step(verb, session)

    def _other_step(self, verb: str, session: int) -> Step:
        pick = self._pick
        if verb in {"read", "evict", "crash"}:
            return Step(verb, session)
        if verb == "conf":
            return Step(verb, session, pick(self._soon), pick((1.0, 3.0, 8.0)))
        if verb in {"put", "note"}:
            return Step(verb, session, pick(self._soon), pick(self._impatience))
        return Step(verb, session, pick(self._soon))


def _gaps(idle: float) -> tuple[float, ...]:
    """Sleeps that straddle the idle time, and one that is longer than anything."""
    around = () if idle in {0.0, FOREVER} else (idle - 0.01, idle, idle + 0.01)
    return (0.0, 0.1, 0.25, *(round(gap, 2) for gap in around), 6.0)
