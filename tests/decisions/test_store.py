"""Stores: places, installs, isolation, threads, forks, closing, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.driven import loader
from tests.reference.clock import Clock

import capsa
from capsa import _native
from capsa.decisions._fold import Fold

SPEC = "name: router\noptions: [a, b, c]\ncontexts: [tier]\nreward_range: [0, 1]\n"

FORKED = """
import os, signal, sys
import capsa
store = capsa.open()
capsule = store.install("name: router\\noptions: [a, b]\\n")
decision = capsule.decide()
child = os.fork()
if child == 0:
    # The child ends here whatever happens: by itself, or by the alarm where it hangs.
    signal.alarm(20)
    try:
        {in_child}
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
_, status = os.waitpid(child, 0)
assert capsule.feedback(decision.id, reward=1.0).status == "applied"
sys.exit(os.waitstatus_to_exitcode(status))
"""
USES_OF_THE_PARENTS_STORE = """
        for use in [capsule.decide, capsule.report, lambda: capsule.learning, lambda: store.capsule("router"),
                    lambda: capsule.feedback(decision.id, reward=1.0),
                    lambda: store.install("name: other\\noptions: [a, b]\\n")]:
            try:
                use()
            except capsa.StoreForked as error:
                assert "capsa serve" in error.remedy
            else:
                raise AssertionError("it was used")
        store.close()
"""
A_STORE_OF_ITS_OWN = """
        for options in ("[a, b]", "[a, b, c]"):
            own = capsa.open().install(f"name: router\\noptions: {options}\\n")
            assert own.feedback(own.decide().id, reward=1.0).status == "applied"
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_store_is_not_used_after_a_fork() -> None:
    """Every use is a named error in the child; the parent goes on."""
    done = run(FORKED.replace("{in_child}", USES_OF_THE_PARENTS_STORE.strip()))
    assert done.returncode == 0, done.stderr


def test_a_child_can_open_a_store_of_its_own() -> None:
    """What the error after a fork advises."""
    done = run(FORKED.replace("{in_child}", A_STORE_OF_ITS_OWN.strip()))
    assert done.returncode == 0, done.stderr


def test_importing_is_cheap() -> None:
    """Neither a server, nor NumPy, nor a plotting library, nor the demo is loaded."""
    heavy = ("aiohttp", "numpy", "matplotlib", "scipy", "wasmtime", "capsa.demo", "capsa.cli", "yaml")
    code = f"import sys, capsa; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = run(code)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_a_closed_store_is_not_used(clock: Clock, tmp_path: Path, on_disk: bool) -> None:
    with capsa.open(tmp_path / "store" if on_disk else None, clock=clock) as store:
        capsule = store.install(SPEC)
        decision = capsule.decide()
        length = store.journal.length("default")
    for use in (
        capsule.decide,
        capsule.report,
        capsule.contexts,
        lambda: capsule.learning,
        lambda: capsule.update_learning(mode="off"),
        lambda: capsule.feedback(decision.id, reward=1.0),
        lambda: store.capsule("router"),
        lambda: store.install(SPEC),
        lambda: store.plan(SPEC),
        lambda: store.job("default").capsules(),
    ):
        with pytest.raises(capsa.StoreClosed) as caught:
            use()
        assert caught.value.remedy
    store.close()
    if on_disk:
        with capsa.open(tmp_path / "store") as again:
            assert again.journal.length("default") == length


def test_a_store_says_whether_it_is_kept(tmp_path: Path) -> None:
    with capsa.open(tmp_path / "store") as store:
        assert store.persistent
        assert "disk" in repr(store)
    with capsa.open() as store:
        assert not store.persistent
        assert "memory" in repr(store)


def test_installing_the_same_bytes_changes_nothing(store: capsa.Store, tmp_path: Path) -> None:
    """As a file, as text, as bytes of YAML or of the component."""
    file = tmp_path / "router.yaml"
    file.write_text(SPEC)
    capsule = store.install(file)
    capsule.feedback(capsule.decide().id, reward=1.0)
    state, length = capsule.state_hash, store.journal.length("default")
    component = _native.compile_spec(SPEC)
    sources: list[str | bytes] = [str(file), SPEC, SPEC.encode(), b"\xef\xbb\xbf" + SPEC.encode(), component]
    for source in sources:
        again = store.install(source)
        assert (again.version, again.state_hash) == (1, state)
        assert store.plan(source).unchanged
    assert store.journal.length("default") == length


def test_a_next_version_is_planned_and_installed(store: capsa.Store) -> None:
    capsule = store.install(SPEC)
    capsule.feedback(capsule.decide().id, reward=1.0)
    length = store.journal.length("default")
    plan = store.plan(SPEC.replace("[a, b, c]", "[d, b, a]"))
    assert (plan.capsule, plan.version, plan.unchanged) == ("router", 2, False)
    assert any("d" in change and "new" in change for change in plan.changes)
    assert any("c" in change and "no longer" in change for change in plan.changes)
    assert (store.journal.length("default"), capsule.version) == (length, 1)
    assert store.install(SPEC.replace("[a, b, c]", "[d, b, a]")).version == 2
    assert capsule.version == 2
    assert store.install(SPEC).version == 3


@pytest.mark.parametrize(
    ("old", "new", "pointer"),
    [
        ("contexts: [tier]", "contexts: [tier, task]", "/contexts"),
        ("reward_range: [0, 1]", "reward_range: [0, 2]", "/reward_range"),
        ("contexts: [tier]", "contexts: [tier]\nreward: {quality: 1}", "/reward"),
    ],
)
def test_an_install_does_not_change_what_was_learned_means(
    store: capsa.Store, old: str, new: str, pointer: str
) -> None:
    """With history it is a conflict that changes nothing; without, it is installed."""
    changed = SPEC.replace(old, new)
    fresh = store.job("fresh").install(SPEC)
    assert store.job("fresh").install(changed).version == 2
    assert fresh.version == 2
    capsule = store.install(SPEC)
    capsule.decide()
    before = (capsule.state_hash, store.journal.length("default"), capsule.version)
    for refused in (store.install, store.plan):
        with pytest.raises(capsa.InstallConflict) as caught:
            refused(changed)
        assert caught.value.pointer == pointer
    assert [event.type for event in store.journal.read("default")].count("refused") == 1
    assert (capsule.state_hash, store.journal.length("default") - 1, capsule.version) == before


def test_an_override_outlives_an_install(store: capsa.Store) -> None:
    capsule = store.install(SPEC)
    capsule.update_learning(rails={"min_exploration": 0.5}, mode="shadow")
    store.install(SPEC.replace("[a, b, c]", "[a, b]"))
    learning = capsule.learning
    assert (learning["rails"]["min_exploration"], learning["mode"]) == (0.5, "shadow")


def test_tenants_and_jobs_learn_by_themselves(store: capsa.Store) -> None:
    places = [store.tenant(tenant).job(job) for tenant in ("acme", "default") for job in ("one", "two")]
    capsules = [place.install(SPEC) for place in places]
    capsules[0].feedback(option="b", reward=1.0, context_key="k")
    assert len({capsule.state_hash for capsule in capsules}) == 2
    assert [len(capsule.contexts()) for capsule in capsules] == [1, 0, 0, 0]
    assert store.journal.streams() == ["acme", "default"]
    assert places[0].capsules() == ["router"]
    assert store.job("three").capsules() == []
    for event in store.journal.read("acme"):
        assert (event.stream, event.principal) == ("acme", "local")
    with pytest.raises(capsa.UnknownJob):
        store.tenant("acme").job("three").capsule("router")
    with pytest.raises(capsa.UnknownTenant):
        store.tenant("nobody").job("one").capsule("router")
    with pytest.raises(capsa.UnknownCapsule):
        places[0].capsule("other")


def test_events_name_their_principal_and_time(clock: Clock) -> None:
    with capsa.open(clock=clock, principal="key ops-1") as store:
        capsule = store.install(SPEC)
        clock.forward(1.5)
        capsule.decide()
        *_, installed, decided = store.journal.read("default")
        assert (installed.type, decided.type) == ("installed", "decided")
        assert decided.time_ms - installed.time_ms == 1500
        assert {installed.principal, decided.principal} == {"key ops-1"}
        capsule.update_learning(mode="off")
        assert capsule.learning["overridden"]["mode"]["by"] == "key ops-1"


@given(seed=st.integers(-(2**63), 2**63), calls=st.integers(1, 30))
def test_a_seed_repeats_the_draws(seed: int, calls: int) -> None:
    """The same calls at the same times: the same ids and options."""
    runs = []
    for _ in range(2):
        with capsa.open(seed=seed, clock=lambda: 1.8e9) as store:
            capsule = store.install(SPEC)
            runs.append([(d.id, d.option) for d in (capsule.decide() for _ in range(calls))])
    assert runs[0] == runs[1]
    assert len({decision_id for decision_id, _ in runs[0]}) == calls


def test_eight_threads_lose_nothing(host: _native.Host) -> None:
    """Decisions and feedback from eight threads, settings and installs between: counts add up, and refold."""
    threads, each = 8, 150
    sources = [SPEC, SPEC.replace("[a, b, c]", "[c, a, b]")]
    with capsa.open() as store:
        capsule = store.install(SPEC)
        faults: list[BaseException] = []
        shared = [decision.id for decision in (capsule.decide(context_key="shared") for _ in range(each))]
        statuses: list[str] = []

        def work(number: int) -> None:
            try:
                for at in range(each):
                    decision = capsule.decide({"tier": f"t{at % 5}"})
                    capsule.feedback(decision.id, reward=at % 2)
                    # Every thread reports on the same decisions: each counts once.
                    statuses.append(capsule.feedback(shared[at], reward=1.0).status)
                    if number == 0 and at % 50 == 0:
                        capsule.update_learning(rails={"min_exploration": at / 1000})
                    if number == 1 and at % 50 == 0:
                        store.install(sources[at // 50 % 2])
            except BaseException as error:
                faults.append(error)
                raise

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert faults == []
        report = capsule.report()
        assert report.decisions == (threads + 1) * each
        assert report.feedback.applied == (threads + 1) * each
        assert (report.feedback.pending, report.feedback.repeated) == (0, (threads - 1) * each)
        assert (statuses.count("applied"), statuses.count("repeated")) == (each, (threads - 1) * each)
        assert sum(row.rewards for row in capsule.contexts()) == (threads + 1) * each
        assert sum(option.rewards for option in report.strategies[0].options) == (threads + 1) * each
        events = list(store.journal.read("default"))
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert report.sequence == len(events)
        fold = Fold(loader(host, *sources), _native.Keyring())
        for event in events:
            fold.apply(event)
        (again,) = fold.capsules.values()
        assert again.native.state_hash == capsule.state_hash


def test_decisions_under_concurrency_replay(host: _native.Host) -> None:
    """A decision that was recorded after others had learned names the learner version that it read."""
    with capsa.open(clock=lambda: 1.8e9) as store:
        capsule = store.install(SPEC)

        def work() -> None:
            for _ in range(100):
                capsule.feedback(capsule.decide(context_key="k").id, reward=1.0)

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        fold = Fold(loader(host, SPEC), _native.Keyring())
        events = list(store.journal.read("default"))
        by_version: dict[int, list[capsa.Decision]] = {}
        state = store._fold.capsules["default", "default", "router"].native
        for event in events:
            if event.type == "decided":
                decision = state.read_decision(event)
                by_version.setdefault(decision.learner_version, []).append(decision)
        replayed = 0
        for event in events:
            if event.type == "decided":
                continue
            if event.type != "outcome_received":
                fold.apply(event)
            else:
                state_then = next(iter(fold.capsules.values())).native
                for decision in by_version.pop(state_then.learner_version, []):
                    again = state_then.decide(decision.nonce, 1_800_000_000_000, None, context_key="k")
                    assert again.payload == decision.payload
                    replayed += 1
                state_then.apply(event)
        assert replayed == 400 - sum(map(len, by_version.values()))
        assert sum(map(len, by_version.values())) <= 4
