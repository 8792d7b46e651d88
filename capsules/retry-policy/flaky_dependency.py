"""A dependency that is sometimes slow and sometimes down, and what becomes of requests to it.

Nothing here knows Capsa. How long attempts take, and which of them are answered, is drawn before anybody chooses, so
every way to call is worked out from the same luck.

Not modelled: retries of this service make the dependency no slower.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Final, NamedTuple

TIMEOUT_MS: Final = {"1s": 1000.0, "2s": 2000.0, "5s": 5000.0}
RETRIES: Final = {"0": 0, "1": 1, "3": 3}
#: How long the service waits before a retry; twice as long before each further one.
BACKOFF_MS: Final = 100.0

ENDPOINTS: Final = ("search", "report", "payment")
#: From this load on a request counts as busy, as in the spec.
BUSY: Final = 0.8
#: The two reports on a request come at most this long after its end, each after a time of its own.
CALL_REPORTED_WITHIN_S: Final = 60.0
SUCCESS_REPORTED_WITHIN_S: Final = 240.0

_SECONDS_BETWEEN_REQUESTS: Final = 1.0
_REFUSED_MS: Final = 20.0


class Combination(NamedTuple):
    """A timeout and a number of retries, as the spec names them."""

    timeout: str
    retries: str

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"{self.timeout}, {self.retries} {'retry' if self.retries == '1' else 'retries'}"


#: The valid ones, as in the spec.
COMBINATIONS: Final = tuple(
    Combination(timeout, retries)
    for timeout in TIMEOUT_MS
    for retries in RETRIES
    if timeout == "1s" or retries != "3"
)


class Regime(NamedTuple):
    """How the dependency behaves in one place for a while.

    Attributes:
        name: What tables call it.
        median_ms: How long an attempt works, as a rule.
        request_spread: Sigma of its logarithm between requests: what is slow is as slow when it is tried again.
        attempt_spread: Sigma of its logarithm between attempts of one request.
        slow_share: Attempts that meet a slow replica, each by its own luck.
        slow_factor: How much longer these take.
        refused_share: Attempts that are refused at once, each by its own luck.
        stuck_share: Requests whose every attempt hangs.
    """

    name: str
    median_ms: float
    request_spread: float = 0.3
    attempt_spread: float = 0.3
    slow_share: float = 0.0
    slow_factor: float = 1.0
    refused_share: float = 0.0
    stuck_share: float = 0.0


HEALTHY: Final = Regime("healthy", 80, refused_share=0.005)
SLOW_TAIL: Final = Regime("slow tail", 90, slow_share=0.25, slow_factor=60)
SLOW_REPLICA: Final = Regime("slow replica", 1100, 0.15, 0.2, slow_share=0.15, slow_factor=5)
LONG_WORK: Final = Regime("long work", 1800, 0.5, 0.15)
PARTIAL_OUTAGE: Final = Regime("partial outage", 150, refused_share=0.5)
OVERLOADED: Final = Regime("overloaded", 200, stuck_share=0.5)


class World(NamedTuple):
    """Where the dependency is in which regime.

    Attributes:
        name: What the JSON calls it.
        title: What it is about.
        idle: The regime of each endpoint below the busy load.
        busy: The same from there on.
        incident: In the middle third of the requests an idle `search` is in this regime instead.
    """

    name: str
    title: str
    idle: dict[str, Regime]
    busy: dict[str, Regime]
    incident: Regime | None = None

    def regime(self, endpoint: str, load: float, passed: float) -> Regime:
        """What a request meets when `passed`, from 0 to 1, of all requests have been made."""
        idle = load < BUSY
        if self.incident and idle and endpoint == "search" and 1 / 3 <= passed < 2 / 3:
            return self.incident
        return (self.idle if idle else self.busy)[endpoint]


DIFFERS: Final = World(
    "differs",
    "The right combination differs by context",
    {"search": HEALTHY, "report": SLOW_REPLICA, "payment": PARTIAL_OUTAGE},
    {"search": SLOW_TAIL, "report": LONG_WORK, "payment": OVERLOADED},
)
INCIDENT: Final = DIFFERS._replace(
    name="incident",
    title="The same, but an idle search has a partial outage in the middle third",
    incident=PARTIAL_OUTAGE,
)
ALIKE: Final = World(
    "alike",
    "One combination is right everywhere",
    dict.fromkeys(ENDPOINTS, SLOW_TAIL),
    dict.fromkeys(ENDPOINTS, SLOW_TAIL),
)
WORLDS: Final = (DIFFERS, INCIDENT, ALIKE)


class Attempt(NamedTuple):
    """What one attempt comes to if the caller waits for it: an answer or a refusal after some time."""

    after_ms: float
    answers: bool


class Request(NamedTuple):
    """One request, and the attempts that it would meet one after the other.

    Attributes:
        at_s: When it is made.
        endpoint: What is called.
        load: How busy the dependency is.
        regime: What the caller cannot see.
        attempts: What as many attempts as can be made would come to.
        call_reported_after_s: From its end to the report of latency and attempts.
        success_reported_after_s: From its end to the report of success.
    """

    at_s: float
    endpoint: str
    load: float
    regime: Regime
    attempts: list[Attempt]
    call_reported_after_s: float
    success_reported_after_s: float


class Outcome(NamedTuple):
    """What came of a request, as the service reports it."""

    success: bool
    latency_ms: float
    attempts: int


def stream(world: World, requests: int, seed: int) -> list[Request]:
    """Requests at random times to random endpoints under random load.

    The same seed gives the same requests, luck and delays in every world.
    """
    chance = random.Random(seed)
    at_s = 0.0
    drawn = []
    for number in range(requests):
        at_s += chance.expovariate(1 / _SECONDS_BETWEEN_REQUESTS)
        endpoint = chance.choice(ENDPOINTS)
        load = round(chance.uniform(0.6, 0.99), 2)
        regime = world.regime(endpoint, load, number / requests)
        drawn.append(
            Request(
                at_s,
                endpoint,
                load,
                regime,
                _attempts(regime, chance),
                chance.uniform(0, CALL_REPORTED_WITHIN_S),
                chance.uniform(0, SUCCESS_REPORTED_WITHIN_S),
            )
        )
    return drawn


def _attempts(regime: Regime, chance: random.Random) -> list[Attempt]:
    """As many as can be made. What is drawn does not depend on the regime, only what is made of it."""
    stuck = chance.random() < regime.stuck_share
    request_luck = chance.normalvariate()
    attempts = []
    for _ in range(1 + max(RETRIES.values())):
        attempt_luck = chance.normalvariate()
        slow = chance.random() < regime.slow_share
        refused = chance.random() < regime.refused_share
        if stuck:
            attempts.append(Attempt(math.inf, answers=False))
        elif refused:
            attempts.append(Attempt(_REFUSED_MS, answers=False))
        else:
            spread = math.exp(regime.request_spread * request_luck + regime.attempt_spread * attempt_luck)
            factor = regime.slow_factor if slow else 1.0
            attempts.append(Attempt(regime.median_ms * spread * factor, answers=True))
    return attempts


def call(attempts: Sequence[Attempt], combination: Combination) -> Outcome:
    """What a service makes of a request: it tries until there is an answer or no retry is left."""
    timeout_ms = TIMEOUT_MS[combination.timeout]
    latency_ms = 0.0
    made = 0
    for attempt in attempts[: 1 + RETRIES[combination.retries]]:
        if made:
            latency_ms += BACKOFF_MS * 2 ** (made - 1)
        made += 1
        latency_ms += min(attempt.after_ms, timeout_ms)
        if attempt.answers and attempt.after_ms <= timeout_ms:
            return Outcome(True, latency_ms, made)
    return Outcome(False, latency_ms, made)
