"""Installs and changes of the policy while calls run: none fails, and each is of one version from end to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import cbor2
import pytest
from tests.sandbox.guests import call, script, send
from tests.sandbox.outside import Asked, Site, answer
from tests.tools.making import KEEPING, component, echo, journal, opened, outside, policy, says, together
from tests.tools.ways import Way

import capsa
from capsa.tools import Invoked

THREADS: Final = 8
VERSIONS: Final = 12


def under_load(
    invoke: Callable[[], Invoked], change: Callable[[int], object], count: int
) -> list[list[Invoked]]:
    """What eight threads are answered, each in order, while something is changed so many times."""
    stop = threading.Event()
    answers: list[list[Invoked]] = [[] for _ in range(THREADS)]
    failed: list[BaseException] = []

    def calls(mine: list[Invoked]) -> None:
        try:
            while not stop.is_set():
                mine.append(invoke())
        except BaseException as error:  # noqa: BLE001 - the test says what it was
            failed.append(error)

    threads = [threading.Thread(target=calls, args=(mine,)) for mine in answers]
    for thread in threads:
        thread.start()
    try:
        for number in range(count):
            before = [len(mine) for mine in answers]
            change(number)
            until = time.monotonic() + 10
            # Some of them were made in between.
            while sum(map(len, answers)) < sum(before) + 4 and time.monotonic() < until and not failed:
                time.sleep(0.001)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    return answers


@pytest.mark.parametrize("way", ["memory, threads", "folder, threads"], indirect=True)
def test_installs_under_load(way: Way) -> None:
    """Each call is of one version, which answers its own number; no thread goes back to an older one."""
    tried = way.install(says("tool", "1"))
    answers = under_load(tried.invoke, lambda number: way.install(says("tool", str(number + 2))), VERSIONS)
    seen: set[int] = set()
    for mine in answers:
        versions = [made.version for made in mine]
        assert versions == sorted(versions)
        assert [made.output for made in mine] == versions
        seen |= set(versions)
    assert len(seen) > VERSIONS // 2
    assert tried.invoke().version == VERSIONS + 1
    # The journal says the same, and the install of each version stands before its first call.
    told = {made.id[4:]: made.version for mine in answers for made in mine}
    installed = 0
    for event in journal(way.store, "installed", "invoked"):
        said = cbor2.loads(event.payload)
        if event.type == "installed":
            installed = said["version"]
        elif said["id"].hex() in told:
            assert said["version"] == told[said["id"].hex()] <= installed
    assert way.store.rebuild().equal


@pytest.mark.parametrize("way", ["memory, threads", "folder, threads"], indirect=True)
def test_policies_under_load(way: Way) -> None:
    """Each call goes by one of them, and no thread goes back to an older one."""
    tried = way.install(component("tool", script(call("kv.set", "k", "v"), call("config.get", "number")), "idempotent", config=["number"], **KEEPING))  # fmt: skip

    def allowed(number: int) -> dict[str, Any]:
        # One that may keep, and one that may only read, by turns.
        access = "read_write" if number % 2 else "read"
        return policy("deterministic" if number % 3 == 2 else "fast", {"concurrency": 50}, kv={"access": access}, config={"number": str(number)})  # fmt: skip

    digests = [tried.set_policy(allowed(0)).effective_digest]
    answers = under_load(tried.invoke, lambda number: digests.append(tried.set_policy(allowed(number + 1)).effective_digest), VERSIONS)  # fmt: skip
    assert len(set(digests)) == VERSIONS + 1
    for mine in answers:
        numbers = [digests.index(made.policy_digest) for made in mine]
        assert numbers == sorted(numbers)
        for number, made in zip(numbers, mine, strict=True):
            assert made.output == ["ok" if number % 2 else "denied", str(number)]
            assert made.engine == ("deterministic" if number % 3 == 2 else "fast")
    assert way.store.rebuild().equal


def test_secrets_and_both_under_load(tmp_path: Path) -> None:
    """Recorded calls replay to the same, whatever was installed while they ran."""
    with opened(tmp_path / "store") as store:
        tried = store.install(says("tool", "1"))
        allowed = policy("deterministic", {"concurrency": 50})
        tried.set_policy(allowed)
        store.tenant("default").set_secret("key", "value-0")

        def change(number: int) -> None:
            match number % 3:
                case 0:
                    store.install(says("tool", str(number + 2)))
                case 1:
                    tried.set_policy(policy("deterministic", {"concurrency": 50, "cpu_ms": 10 + number}))
                case _:
                    store.tenant("default").set_secret("key", f"value-{number}")

        answers = under_load(lambda: tried.invoke(record=True), change, 6)
        made = [one for mine in answers for one in mine]
        assert len({one.version for one in made}) > 1
        for one in made[:: max(1, len(made) // 40)]:
            again = tried.replay_invocation(one.id)
            assert (again.same, again.output) == (True, one.output)


class Waiting:
    """A site whose answers wait until they are let go."""

    def __init__(self) -> None:
        self.came = threading.Semaphore(0)
        self.go = threading.Event()
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def answers(self, _: Asked) -> Iterator[bytes]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self.came.release()
        assert self.go.wait(20)
        with self._lock:
            self._now -= 1
        yield answer(b"1")


@pytest.fixture
def waiting() -> Iterator[tuple[Waiting, Site]]:
    made = Waiting()
    with Site({"/": made.answers}) as site:
        try:
            yield made, site
        finally:
            made.go.set()


def waits(site: Site, *more: Any) -> bytes:
    return component("tool", script(send(f"http://127.0.0.1:{site.port}/"), *more), "read", **outside(site))


def test_a_call_that_runs_during_an_install_is_of_its_own_version(waiting: tuple[Waiting, Site]) -> None:
    """In its answer, in its record, and in its recording."""
    made, site = waiting
    with opened() as store:
        tried = store.install(waits(site))
        before = tried.set_policy(policy("deterministic", **outside(site)))
        ended: list[Any] = []
        thread = threading.Thread(
            target=lambda: ended.extend(together(1, lambda _: tried.invoke(record=True)))
        )
        thread.start()
        assert made.came.acquire(timeout=20)
        store.install(echo("tool"))
        tried.set_policy(policy("deterministic", {"cpu_ms": 7}))
        assert tried.invoke(5).output == 5, "nobody waits for it"
        made.go.set()
        thread.join()
        [answered] = ended
        assert isinstance(answered, Invoked)
        assert (answered.output, answered.version, answered.effect) == ([1], 1, "read")
        assert answered.policy_digest == before.effective_digest
        row = tried.invocation(answered.id)
        assert (row.capsule_version, row.policy_digest) == (1, before.effective_digest)
        again = tried.replay_invocation(answered.id)
        assert (again.same, again.output) == (True, [1])


def test_the_limit_on_calls_at_once_holds_whatever_changes(waiting: tuple[Waiting, Site]) -> None:
    """Of eight that begin together, also where nobody has called it yet; and after a change while they run."""
    made, site = waiting
    with opened() as store:
        tried = store.install(waits(site))
        tried.set_policy(policy(limits={"concurrency": 2}, **outside(site)))
        ended: list[Any] = []
        thread = threading.Thread(target=lambda: ended.extend(together(8, lambda _: tried.invoke())))
        thread.start()
        for _ in range(2):
            assert made.came.acquire(timeout=20)
        for change in (
            lambda: tried.set_policy(policy(limits={"concurrency": 2, "cpu_ms": 7}, **outside(site))),
            lambda: store.install(waits(site, send(f"http://127.0.0.1:{site.port}/"))),
            lambda: store.tenant("default").set_secret("key", "value"),
        ):
            change()
            with pytest.raises(capsa.Overloaded) as refused:
                tried.invoke()
            assert "2" in refused.value.detail
        made.go.set()
        thread.join()
        assert made.most == 2
        assert sum(isinstance(each, Invoked) for each in ended) == 2
        assert sum(isinstance(each, capsa.Overloaded) for each in ended) == 6
        # Those never began: nothing of them is recorded.
        assert len(tried.invocations()) == 2
        assert tried.invoke().output == [1, 1]
