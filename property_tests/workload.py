"""How programs are made, from a source of choices: Hypothesis, or a random generator.

Every choice is "one of these", and the first is the plainest: so that Hypothesis shrinks towards
it. A program has some groups of verbs and lacks others, so that few get in each other's way.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Protocol, TypeVar

import attrs

from .disk import COMMIT_FAULTS, READ_FAULTS
from .program import ADDED, AGAIN, FOREVER, TALKING, Fault, Program, Settings, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

IDLE_TIMES = (FOREVER, 1.0, 0.2, 0.0)
PATIENCE = (1.0, 0.25, 0.1, 0.0)
TIMEOUTS = (0.15, 0.5, 4.0, 0.0)
KEYS = ("", "b1", "b1", "c1")
KEYED_BEHAVIOURS = ("ok", "slow", "fail", "half", "hang", "bug")
KEYS_TOLD_APART = ("", "a1", "a1", "a2")
PLACES = (2.0, 0.0, 1.0, 3.0, 4.0, 7.0)
MOST_STEPS = 12
WRITES = ("commit", "commit", "commit", "commit", "checkpoint")
READS = ("load", "messages", "readback", "open", "unfinished", "turn", "claim")
MOST_CALLS = {"commit": 20, "checkpoint": 2}
"""Of a method: which of its calls may fail, else of the first 8."""
GO_ON = (False, True, True, True, True, True, True)

AVOIDED = {"note": "put", "stop": "kill"}
"""Where turns are run again or looked up: what takes the place of what."""
ALONE = {"retry": "send", "again": "send"}
"""Where they are not."""
SCENE = "scene"
"""Stands for a few steps that belong together: see `_Steps._scene`."""
ALWAYS = ("send", "post", "post", "gap", SCENE)
SOMETIMES = (
    ("cut", "take"),
    ("put", "put", "put", "note", "say", "reply", "conf"),
    ("arch", "open", "tidy"),
    ("clear", "read", "make", "fork"),
    ("retry", "again", "rew"),
    ("halt", "follow", "follow"),
    (SCENE, SCENE),
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
    *("send", "send", "post", "post", "post", "note", "say", "reply", "put", "conf", "clear"),
    *("arch", "open", "gap", "gap", "read", "retry", "again", "rew"),
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
        guests=pick((0, 1, 2, 3, 4 + 1)),
        check=pick((1.0, 0.1, 0.1, 0.0)),
        skew=pick((0.0, 0.0, 3600.0)),
        faults=_faults(pick, pick((0, 0, 1, 2, 3))),
    )
    make = _Steps(pick, settings, pick(VERBS), pick(BEHAVIOURS_OF), wild=True)
    least = pick((1, 4, 6))
    return Program(settings, tuple(make.client(least) for _ in range(pick((1, 2, 3)))))


def tidying_program(pick: Pick) -> Program:
    """Sessions that are used again just while they are tidied up."""
    settings = Settings(
        sessions=3, latency=pick((0.05, 0.05, 0.0)), idle=pick(IDLE_TIMES), live=pick((100, 2))
    )
    age, rest = pick((0.2, 0.25)), pick((0.25, 0.5))

    def again(session: int) -> Step:
        return Step(pick(("say", "put", "send")), session, pick(("ok", "slow")))

    users = [
        (
            Step("say", session),
            Step("gap", value=rest + pick((0.0, 0.05, 0.1, 0.15))),
            *(_plain(again(session)) for _ in range(pick((0, 1, 2)))),
        )
        for session in range(3)
    ]
    cleaner = Step("gap", value=rest + pick((0.0, 0.05, 0.1))), Step("tidy", value=age)
    return Program(settings, (cleaner, *users))


def _plain(step: Step) -> Step:
    """Only messages have a way in which they are answered."""
    return step if step.verb in TALKING else attrs.evolve(step, how="")


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
        method = pick((*WRITES, *READS))
        kinds = COMMIT_FAULTS if method in WRITES else READ_FAULTS
        number = pick(range(1, MOST_CALLS.get(method, 8) + 1))
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
        self._timeouts: tuple[float | None, ...] = (None, None, None)
        if wild and not settings.latency:
            self._timeouts = pick((self._timeouts, (None, None, *TIMEOUTS)))
        # Whether turns are run again or looked up.
        self._prepares = pick((False, True))
        self._keys = pick(((), KEYS)) if self._prepares else ()
        # Two messages under one key are never under way at once: one client, one by one.
        self._first_keys = pick((self._keys, KEYS_TOLD_APART)) if self._prepares else ()
        self._keyed_verbs = pick((("send", "post"), ("send", "cut"))) if wild else ("send",)
        self._behaviours_of = {key: pick(KEYED_BEHAVIOURS) for key in ("a1", "a2", "b1", "c1")}
        # How long ago what is added was written, and what a clean-up leaves: in seconds.
        self._ages = (0.0, *_gaps(settings.idle))
        self._is_first = True
        self._is_slow = settings.latency > 0

    def client(self, least: int) -> tuple[Step, ...]:
        """`least` steps or more."""
        steps: list[Step] = []
        while len(steps) < least or (len(steps) < MOST_STEPS and self._pick(GO_ON)):
            verb = self._allowed(self._pick(self._verbs))
            steps += self._scene() if verb == SCENE else (self._step(verb),)
        self._is_first = False
        return tuple(steps)

    def _allowed(self, verb: str) -> str:
        """Without the combinations that still break promises: see the findings that are open."""
        return (AVOIDED if self._prepares else ALONE).get(verb, verb)

    def _scene(self) -> tuple[Step, ...]:  # noqa: PLR0911 - one for each case
        """What chance alone would seldom put together."""
        pick = self._pick
        session = pick(self._sessions)
        how, seconds = pick(("slow", "hang", "half")), pick((0.15, 1.3))
        match pick(self._scenes()):
            case "followed":
                left = Step("follow", session, "", 0.15)
                back = Step("follow", session, pick(("on", "back")))
                return (
                    Step("post", session, pick(("slow", "hang"))),
                    left,
                    *self._interlude(),
                    back,
                )
            case "killed":
                return Step("post", session, how), Step("kill", value=seconds)
            case "repeated":
                again = Step(
                    "send", session, how, None, {"slow": "d1", "hang": "e1"}.get(how, "f1")
                )
                first = attrs.evolve(again, verb=pick(("send", "post")))
                return (first, *self._interlude(), again)
            case "hidden":
                hides = pick((Step("rew", session, "", pick(PLACES)), Step("again", session)))
                talk = Step("send", session, "ok")
                return talk, hides, talk
            case "tidied":
                talk = Step("post", session, "slow")
                used = Step(pick(("say", "put")), session, "soon")
                gap, tidy = Step("gap", value=0.25), Step("tidy", value=pick((0.2, 0.1)))
                return pick(((talk, gap, tidy), (gap, used, tidy), (gap, used, tidy)))
            case "conflict":
                one, other = Step("send", session, "ok", None, "g1"), Step("send", session, "slow")
                return one, attrs.evolve(other, key="g2")
            case _:
                late = Step("post", session, "ok", timeout=None if self._is_slow else 0.15)
                return Step("post", session, how), late

    def _scenes(self) -> tuple[str, ...]:
        scenes = ("followed", "killed", "expired", "tidied")
        if not self._prepares:
            return scenes
        more = ("followed", "killed", "repeated", "hidden")
        return (*scenes, *more, "conflict") if self._is_first else (*scenes, *more)

    def _interlude(self) -> tuple[Step, ...]:
        return self._pick(((), (Step("gap", value=0.1),), (Step("kill", value=0.15),)))

    def _step(self, verb: str) -> Step:
        pick = self._pick
        if verb == "gap":
            return Step(verb, value=pick(self._gaps))
        if verb in {"kill", "stop"}:
            how = pick(("", "now")) if verb == "stop" else ""
            return Step(verb, None, how, pick((0.1, 0.0)))
        if verb in {"take", "tidy"}:
            is_tidy = verb == "tidy"
            how = pick(("", "", "dry")) if is_tidy else ""
            return Step(verb, None, how, pick(self._ages) if is_tidy else None)
        session = pick(self._sessions)
        if verb in TALKING:
            return self._message(verb, session)
        if verb in {"read", "evict", "crash", "halt"}:
            return Step(verb, session)
        return self._other_step(verb, session)

    def _message(self, verb: str, session: int) -> Step:
        pick = self._pick
        key = self._key(verb)
        how = self._behaviours_of[key] if key else pick(self._behaviours)
        patience = pick(PATIENCE) if verb == "cut" else None
        timeout = None if key else pick(self._timeouts)
        return Step(verb, session, how, patience, key, timeout)

    def _key(self, verb: str) -> str:
        if self._is_first and verb == "send" and self._first_keys is KEYS_TOLD_APART:
            return self._pick(KEYS_TOLD_APART)
        return self._pick(self._keys) if self._keys and verb in self._keyed_verbs else ""

    def _other_step(self, verb: str, session: int) -> Step:
        pick = self._pick
        if verb == "conf":
            return Step(verb, session, pick(self._soon), pick((1.0, 3.0, 8.0)))
        if verb == "fork":
            return Step(verb, session, "", pick((None, *PLACES)))
        if verb == "rew":
            return Step(verb, session, pick(self._soon), pick(PLACES))
        if verb == "follow":
            return Step(verb, session, pick(("", "on", "on", "back")), pick((None, *PATIENCE)))
        if verb in AGAIN:
            patience = pick(self._impatience)
            return Step(verb, session, pick(self._soon), patience, "", pick(self._timeouts))
        patience = pick(self._impatience) if verb in {"put", *ADDED} else None
        ago = pick((None, 3600.0)) if verb in {"say", "reply"} else None
        return Step(verb, session, pick(self._soon), patience, "", ago)


def _gaps(idle: float) -> tuple[float, ...]:
    """Sleeps that straddle the idle time, and one that is longer than anything."""
    around = () if idle in {0.0, FOREVER} else (idle - 0.01, idle, idle + 0.01)
    return (0.0, 0.1, 0.25, *(round(gap, 2) for gap in around), 6.0)
