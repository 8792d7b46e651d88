"""What callers do: they decide, post what came of it, and send what nobody gave them."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Callable
from typing import Any, Final

from tests.simulation.checks import Violated, check_answer, check_decision, same
from tests.simulation.happened import WEIGHTS, Decided, Passed, Place, Post, Received, Refused, Repeated
from tests.simulation.installs import BASE, RETRIES, RETRIES_OPTIONS, ROUTER
from tests.simulation.model import GRACE_MS
from tests.simulation.stage import Stage

import capsa
from capsa.journal import StoreUnwritable

#: A key that an id has no room for.
LONG_KEY: Final = 200 * "k"
SUBJECTS: Final = ("ada", "bob", "eve")


class Callers:
    """Callers of the store of a stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def decide(self, place: Place | None = None, *, waits: bool = True) -> None:
        """One decision, and what will be posted about it.

        Args:
            place: Where; left out, anywhere.
            waits: Whether it may be one that is on disk before it is answered.
        """
        stage, chance = self._stage, self._stage.chance
        places = [of for of, capsule in stage.model.capsules.items() if waits or capsule.defaults is None]
        place = place or chance.choices(places, [1 if of == RETRIES else 2 for of in places])[0]
        capsule, model = stage.capsule(place), stage.model.capsules[place]
        options = {
            strategy: chance.sample(names, chance.randint(1, len(names)))
            for strategy, names in model.options.items()
        }
        narrowed = chance.random() < 0.3
        allowed = options if narrowed else model.options
        current = {strategy: chance.choice(names) for strategy, names in allowed.items()}
        say_current = chance.random() < 0.3
        one = len(options) == 1
        key, long = f"k{chance.randrange(6)}", waits and chance.random() < 0.05
        subject = chance.choice(SUBJECTS) if chance.random() < 0.3 else None
        decision = capsule.decide(
            {"task": key} if one else None,
            context_key=LONG_KEY if long else None,
            options=(next(iter(options.values())) if one else options) if narrowed else None,
            current=(next(iter(current.values())) if one else current) if say_current else None,
            subject=subject,
        )
        key = LONG_KEY if long else key if one else "default"
        check_decision(decision, model, key, allowed, current if say_current else None)
        if model.mode == "off":
            same("the id of a decision that is off", decision.id, None)
            return
        assert decision.id is not None
        if decision.id in model.decisions:
            raise Violated(f"the id {decision.id} was given before")
        decided = Decided(
            place=place,
            id=decision.id,
            key=key,
            choices=dict(decision.choices),
            decided_ms=stage.now_ms,
            deadline_ms=stage.now_ms + model.horizon_ms,
            defaults=model.defaults,
            carried=not long,
            subject=subject,
            sequence=stage.model.length(place[0]) + 1,
        )
        same("deadline", decision.deadline_ms, decided.deadline_ms)
        same("whether its id is enough", decision.is_in_id, not long and model.defaults is None)
        stage.add(place[0], decided)
        stage.given.append((place, decision.id))
        if not decision.is_in_id:
            stage.synced()
        self._plan_posts(decided)

    def _plan_posts(self, decided: Decided) -> None:
        """What will be sent about a decision, and when."""
        chance = self._stage.chance
        if chance.random() < 0.15:
            return
        taken = self._taken(decided)
        metrics = {name: round(chance.random(), 3) for name in WEIGHTS}
        if decided.place == RETRIES or chance.random() < 0.2:
            posts = [Post(reward=round(chance.uniform(-0.4, 0.6), 3), **taken)]
        elif chance.random() < 0.5:
            posts = [Post(outcome=metrics, **taken)]
        else:
            posts = [Post(outcome={name: value}, **taken) for name, value in metrics.items()]
            chance.shuffle(posts)
            if chance.random() < 0.3:
                posts.pop()
        for post in posts:
            self._plan(decided, post)
            while chance.random() < 0.4:
                self._plan(decided, post)
            if chance.random() < 0.2:
                self._plan(decided, self._contradiction(post))

    def _taken(self, decided: Decided) -> dict[str, Any]:
        """Mostly nothing is said; or something else was carried out, or nothing of ours."""
        chance = self._stage.chance
        match chance.randrange(8):
            case 0:
                return {"taken": None}
            case 1 if decided.place == RETRIES:
                return {
                    "taken": {strategy: chance.choice(names) for strategy, names in RETRIES_OPTIONS.items()}
                }
            case 1:
                return {"taken": chance.choice(BASE)}
            case _:
                return {}

    def _contradiction(self, post: Post) -> Post:
        if post.reward is not None:
            return dataclasses.replace(post, reward=post.reward - 0.001)
        assert post.outcome is not None
        match self._stage.chance.randrange(3):
            case 0:
                return Post(reward=0.25)
            case 1:
                return dataclasses.replace(post, taken=None if post.taken is not None else "cheap")
            case _:
                name = min(post.outcome)
                return dataclasses.replace(post, outcome={**post.outcome, name: 1 - post.outcome[name] / 2})

    def _plan(self, decided: Decided, post: Post) -> None:
        """At once, later, at the very end of the horizon, late, or so late that it is compared with nothing."""
        chance = self._stage.chance
        delay_ms = chance.choice([0, 1, 30_000, 600_000, 1_800_000, None])
        if delay_ms is None:
            delay_ms = decided.deadline_ms - decided.decided_ms + chance.choice([0, 1, 1_000_000])
            if chance.random() < 0.15:
                delay_ms += GRACE_MS + chance.choice([-1_000_000, 1, 2 * GRACE_MS])
        self._stage.post_later(decided, post, decided.decided_ms + delay_ms)

    def post_due(self) -> None:
        """Everything whose time has come."""
        while (due := self._stage.due_post()) is not None:
            self.post(*due)

    def post(self, place: Place, decision_id: str, post: Post) -> None:
        """One post, against what the model expects of it."""
        stage, model = self._stage, self._stage.model
        passed = model.passing_first(place, decision_id, stage.now_ms)
        if passed is not None:
            stage.add(place[0], passed)
        expected = model.expect(place, decision_id, post, stage.now_ms)
        if isinstance(expected, Refused) and place not in model.capsules:
            self._refused(lambda: stage.capsule(place), expected.error)
            return
        capsule = stage.capsule(place)
        before = capsule.state_hash
        try:
            answer = capsule.feedback(decision_id, **post.arguments())
        except StoreUnwritable:
            if isinstance(expected, Received):
                # Perhaps it is there all the same.
                stage.add(place[0], expected)
                stage.answers.pop(decision_id, None)
            raise
        except capsa.CapsaError as error:
            if not isinstance(expected, Refused):
                raise Violated(f"{post} for {decision_id} was refused, expected {expected}") from error
            same("the refusal", type(error), expected.error)
            if passed is None:
                same("the state after a refusal", capsule.state_hash, before)
            return
        if isinstance(expected, Refused):
            raise Violated(f"{post} for {decision_id} was {answer.status}, expected {expected}")
        if isinstance(expected, Repeated):
            stage.repeated[place] += 1
            same("status", answer.status, "repeated")
            check_answer(answer, expected.answer)
            stage.check_repeated(decision_id, answer)
        else:
            stage.add(place[0], expected)
            if not expected.forgotten:
                stage.answers[decision_id] = answer
            same("status", answer.status, expected.status)
            check_answer(answer, expected)
        if answer.status != "applied" and (passed is None or passed.status != "applied"):
            same(f"the state after {answer.status}", capsule.state_hash, before)
        # It was answered, so it and everything before it is on disk.
        stage.synced()

    def explicit(self) -> None:
        """Feedback on a choice that was not asked for here."""
        stage, chance = self._stage, self._stage.chance
        place = chance.choice(list(stage.model.capsules))
        options = stage.model.capsules[place].options
        strategy = chance.choice(list(options))
        option = chance.choice(options[strategy])
        reward, key = round(chance.uniform(-0.4, 0.6), 3), f"k{chance.randrange(6)}"
        expected = stage.model.expect_explicit(place, strategy, option, reward, key)
        stage.add(place[0], expected)
        answer = stage.capsule(place).feedback(
            strategy=strategy, option=option, reward=reward, context_key=key
        )
        same("status", answer.status, expected.status)
        check_answer(answer, expected)
        stage.synced()

    def nonsense(self) -> None:
        """What cannot be: refused, and nothing changes."""
        stage, chance = self._stage, self._stage.chance
        router = stage.capsule(ROUTER)
        before = self._seen(router)
        errors = capsa.errors
        wrong: list[tuple[type[capsa.CapsaError], Callable[[], object]]] = [
            (errors.UnknownDecision, lambda: router.feedback("nothing of ours", reward=0.0)),
            (errors.UnknownOption, lambda: router.decide({"task": "k1"}, options=["none"])),
            (errors.InvalidField, lambda: router.decide({"task": "k1"}, options=[])),
            (errors.UnknownField, lambda: router.update_learning(sleep=1)),
            (errors.UnknownTenant, lambda: stage.store.purge("nobody")),
            (errors.UnknownTenant, lambda: stage.store.erase_subject("ada", tenant="nobody")),
        ]
        first = stage.model.streams["default"].first
        known = [
            row.decided
            for row in stage.model.capsules[ROUTER].decisions.values()
            if not row.erased and row.decided.sequence >= first
        ]
        if known:
            known_id = chance.choice(known).id
            wrong.append((errors.RewardOutOfRange, lambda: router.feedback(known_id, reward=1e6)))
        error, call = chance.choice(wrong)
        self._refused(call, error)
        same("state and journal after a refusal", self._seen(router), before)

    def forge(self) -> None:
        """Ids that nobody gave: tampered with, of another capsule, of another tenant. One and the same answer."""
        stage, chance = self._stage, self._stage.chance
        if not stage.given:
            return
        given_at, given = chance.choice(stage.given)
        others = [place for place in stage.model.capsules if place != given_at]
        at = len("dec_") + chance.randrange(len(given) - len("dec_"))
        letters = string.ascii_letters + string.digits + "-_"
        other = chance.choice([letter for letter in letters if letter != given[at]])
        place, forged = chance.choice(
            [
                (given_at, given[:at] + other + given[at + 1 :]),
                (given_at, given[:at]),
                (given_at, given + other),
                (given_at, given.removeprefix("dec_")),
                (given_at, "dec_" + 32 * "0"),
                *((other_place, given) for other_place in others),
            ]
        )
        if place not in stage.model.capsules:
            return
        capsule = stage.capsule(place)
        before = self._seen(capsule)
        texts = set()
        for call in (
            lambda: capsule.feedback(forged, reward=0.0),
            lambda: capsule.story(forged),
            lambda: capsule.replay(forged),
            lambda: capsule.feedback("dec_", reward=0.0),
        ):
            texts.add(self._refused(call, capsa.errors.UnknownDecision))
        same("different answers to ids that are unknown", len(texts), 1)
        same("state and journal after a forged id", self._seen(capsule), before)

    def tell(self) -> None:
        """The story of some decision, and its replay."""
        stage, chance, model = self._stage, self._stage.chance, self._stage.model
        if not stage.given:
            return
        place, decision_id = chance.choice(stage.given)
        if place not in model.capsules:
            return
        capsule, stream = stage.capsule(place), model.streams[place[0]]
        row = model.capsules[place].decisions.get(decision_id)
        if row is None or row.erased or row.decided.sequence < stream.first:
            self._refused(lambda: capsule.story(decision_id), capsa.errors.UnknownDecision)
            self._refused(lambda: capsule.replay(decision_id), capsa.errors.UnknownDecision)
            return
        told, again = capsule.story(decision_id), capsule.replay(decision_id)
        same("whether the record is there", told.decision is not None, row.recorded)
        same("why not", [note[:21] for note in told.notes], [] if row.recorded else ["decision not recorded"])
        if told.decision is not None:
            same("the id in the story", told.decision.decision_id, decision_id)
            same("the choices in the story", told.decision.choices, row.decided.choices)
        posts = [
            event
            for _, event in stream.events[stream.first - 1 :]
            if isinstance(event, Received | Passed) and event.id == decision_id
        ]
        same("statuses in the story", [post.status for post in told.posts], [post.status for post in posts])
        same("rewards in the story", [post.reward for post in told.posts], [post.reward for post in posts])
        if row.recorded:
            same(
                "the id in a post",
                {post.decision_id for post in told.posts},
                {decision_id} if posts else set(),
            )
        same(f"differences of a replay {again}", again.differences, [])
        # Of several strategies there is nothing to compare where the state of that time is gone.
        if stream.whole or not row.recorded:
            same("what was compared", bool(again.compared), row.recorded)

    @staticmethod
    def _refused(call: Callable[[], object], error: type[capsa.CapsaError]) -> str:
        """Gives what the refusal says, without the value that it is about."""
        try:
            call()
        except capsa.CapsaError as caught:
            same("the refusal", type(caught), error)
            return f"{caught.detail} {caught.remedy}"
        raise Violated(f"{error.__name__} was expected")

    def _seen(self, capsule: capsa.Capsule) -> tuple[str, dict[str, int]]:
        journal = self._stage.store.journal
        return capsule.state_hash, {name: journal.length(name) for name in journal.streams()}
