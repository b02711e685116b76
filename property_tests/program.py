"""Programs that the simulated world runs: a few settings, and clients that take steps.

A program is a value with a text form, so that a failing example is one line:

    sessions=1 idle=0.2 live=1 | post0:slow put0 gap@0.2 | cut0:ok@0.1 kill

`parse` reads what `str` writes. Times are virtual seconds.
"""

from __future__ import annotations

import re

import attrs

FOREVER = 1e9
MIDDLEWARE = 1
HOOK = 2
SHOWING = 4

BEHAVIOURS = (
    "ok",  # answers at once
    "slow",  # three pieces, 0.3 s in all
    "long",  # as slow, but after 3 s: longer than a session may be idle
    "fail",  # an error before any text
    "half",  # an error after a piece
    "hang",  # a piece, then nothing until it is cancelled
    "trunc",  # text, but the stream ends without Completed
    "bug",  # raises something that is no ProviderError
    "deny",  # the middleware refuses the message (without middleware: as ok)
    "late",  # all but too late, and the middleware takes its time over the answer
    "veto",  # the middleware refuses the answer (without middleware: as ok)
    "stall",  # the middleware hangs (without middleware: as ok)
)
TALKING = ("send", "post", "cut")
AGAIN = ("retry", "again")
ADDED = ("note", "say", "reply")
PLAIN = (*ADDED, "put", "conf", "clear", "arch", "open", "make", "rew", *AGAIN)
_STEP = re.compile(r"([a-z]+)(\d+)?(?::([a-z]+))?(?:#([a-z]\d+))?(?:~([\d.e+]+))?(?:@([\d.e+]+))?")


@attrs.frozen
class Step:
    """One thing that a client does.

    send, post (no waiting), cut (the caller is cancelled after `value` s): a message. take:
    withdraw the client's last posted one. note: a system message. say, reply: add_message() of a
    user and of an assistant, written `timeout` seconds ago. put: a context update. retry,
    again: run the last turn again, as retry() and regenerate() do. rew: rewind to the seq `value`.
    halt: stop the turn that runs. follow: the turn that runs or the last one, for `value` s or to
    its end; `how` "on" goes on where the client was in the turn that it followed last, "back" a
    few events before. conf: max_messages becomes `value`. clear, arch, open: as the API calls
    them. make: create the session once more. read: history, context, metrics. evict, crash: the
    session's actor. fork: a copy of the session up to the seq `value`. tidy: archive what was not
    used for `value` s (`how` "dry": count it). gap: sleep `value` s. kill: after `value` s the
    process dies and a new one starts. stop: after `value` s the process closes in good order
    (`how` "now": without waiting for turns) and a new one starts.

    Changes with `how` "soon" are calls of a task of their own: the client goes on without waiting.
    """

    verb: str
    session: int | None = None
    how: str = ""
    value: float | None = None
    key: str = ""
    """A letter and a digit: the idempotency key, and which payload comes under it."""
    timeout: float | None = None
    """The call's own, in seconds."""

    def __str__(self) -> str:
        session = "" if self.session is None else str(self.session)
        how = f":{self.how}" if self.how else ""
        value = "" if self.value is None else f"@{self.value:g}"
        key = f"#{self.key}" if self.key else ""
        timeout = "" if self.timeout is None else f"~{self.timeout:g}"
        return f"{self.verb}{session}{how}{key}{timeout}{value}"

    @classmethod
    def parse(cls, text: str) -> Step:
        match = _STEP.fullmatch(text)
        if match is None:
            raise ValueError(f"no step: {text!r}")
        verb, session, how, key, timeout, value = match.groups()
        return cls(
            verb,
            None if session is None else int(session),
            how or "",
            None if value is None else float(value),
            key or "",
            None if timeout is None else float(timeout),
        )


@attrs.frozen
class Fault:
    """The `number`-th call of a storage method goes wrong in this way; see `Disk`."""

    method: str
    number: int
    kind: str

    def __str__(self) -> str:
        return f"{self.method}.{self.number}.{self.kind}"

    @classmethod
    def parse(cls, text: str) -> Fault:
        method, number, kind = text.split(".")
        return cls(method, int(number), kind)


@attrs.frozen(kw_only=True)
class Settings:
    """The limits and the surroundings of one run."""

    sessions: int = 1
    idle: float = FOREVER
    live: int = 100
    box: int = 100
    restarts: int = 100
    latency: float = 0.0
    """Of each storage call, in seconds."""
    window: int = 32 * 1024 * 1024
    """Bytes of cached prompt windows."""
    batch: int = 1000
    """Writes that are committed together at most."""
    guests: int = 0
    """The sum of 1: with middleware, 2: with a hook, 4: the middleware lets answers be seen early.
    """
    check: float = 1.0
    """Seconds between checkpoints of an answer; 0: there are none."""
    ticks: int = 1
    """Microseconds that the wall clock goes on with each look at it; 0: it may stand still."""
    skew: float = 0.0
    """Seconds by which the wall clock of each process is behind that of the one before."""
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        changed: list[str] = []
        for field in attrs.fields(Settings):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            if field.name == "faults":
                changed.append("faults=" + ",".join(map(str, self.faults)))
            else:
                changed.append(f"{field.name}={value}")
        return " ".join(changed)

    @classmethod
    def parse(cls, text: str) -> Settings:
        values: dict[str, object] = {}
        for item in text.split():
            name, _, value = item.partition("=")
            if name == "faults":
                values[name] = tuple(map(Fault.parse, value.split(",")))
            else:
                whole = isinstance(getattr(cls(), name), int)
                values[name] = int(value) if whole else float(value)
        return cls(**values)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@attrs.frozen
class Program:
    """Settings and clients; all clients run at the same time, each its own steps one by one."""

    settings: Settings
    clients: tuple[tuple[Step, ...], ...]

    def __str__(self) -> str:
        parts = [str(self.settings), *(" ".join(map(str, steps)) for steps in self.clients)]
        return " | ".join(parts)

    @classmethod
    def parse(cls, text: str) -> Program:
        settings, *clients = text.split("|")
        return cls(
            Settings.parse(settings),
            tuple(tuple(map(Step.parse, client.split())) for client in clients),
        )

    def with_settings(self, **changes: float) -> Program:
        """The same steps in other surroundings."""
        return attrs.evolve(self, settings=attrs.evolve(self.settings, **changes))  # type: ignore[arg-type]
