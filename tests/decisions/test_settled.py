"""What is answered is what was done, and what is no longer needed goes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import capsa
from capsa.decisions import _emptying

SPEC = "name: router\noptions: [a, b, c%d]\nreward: {quality: 1}\n"


def test_installs_at_once_are_each_told_their_own_version() -> None:
    """Not what was planned before another one came first."""
    with capsa.open() as store, ThreadPoolExecutor(4) as pool:
        job = store.tenant("default").job("default")
        told = list(pool.map(lambda number: job.installed((SPEC % number).encode()), range(8)))
        assert sorted(result.version for result in told) == list(range(1, 9))
        assert store.capsule("router").version == 8
        assert job.installed((SPEC % 0).encode()).version == 9
        again = job.installed((SPEC % 0).encode())
    assert (again.version, again.unchanged) == (9, True)


def test_components_of_no_capsule_are_let_go() -> None:
    """Those of earlier versions and of deleted capsules, with what else nothing needs."""
    with capsa.open() as store:
        for number in range(5):
            router = store.install((SPEC % number).encode())
        other = store.install((SPEC % 0).replace("router", "other").encode())
        other.delete()
        store.upkeep()
        assert set(store._components.held) == {router._state().native.component_digest}
        assert router.decide().option_name in ("a", "b", "c4")


@pytest.mark.parametrize("way", ["logs", "subject", "capsule"])
def test_taking_away_lets_others_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """No transaction grows with the history."""
    monkeypatch.setattr(_emptying, "ERASED_AT_ONCE", 4)
    with capsa.open(tmp_path / "store", upkeep=False) as store:
        router = store.install((SPEC % 0).encode())
        for _ in range(30):
            router.feedback(router.decide(subject="ann").id, outcome={"quality": 1})
        jobs: list[int] = []
        commit = store.journal._writer._commit  # type: ignore[attr-defined]

        def counted(group: Any) -> None:
            jobs.append(len(group.jobs))
            commit(group)

        monkeypatch.setattr(store.journal._writer, "_commit", counted)  # type: ignore[attr-defined]
        if way == "logs":
            router.purge_logs()
        elif way == "subject":
            store.erase_subject("ann")
        else:
            router.delete()
    assert sum(jobs) >= 60
    assert max(jobs) <= 5
