"""The demo with a server: it is killed in the middle, nothing acknowledged is lost, and no server is left behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import capsa
from capsa import demo
from capsa.demo import _experiments, _hero, _over_http, _served, _simulation, _table, _text


@pytest.fixture(scope="module")
def printed() -> list[str]:
    return []


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, printed: list[str]) -> demo.DemoResult:
    """The whole demo on a part of the table, which is too short to learn much."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "prompts", lambda: _table.prompts()[::5])
        return demo.run(tmp_path_factory.mktemp("demo") / "new", 2, printed.append, in_process=False)


def test_everything_holds_but_what_so_few_requests_can_teach(result: demo.DemoResult) -> None:
    failed = [claim.text for claim in result.claims if not claim.holds]
    assert [text for text in failed if not text.startswith("by tier")] == []
    assert len(result.claims) == 9
    assert result.ok is (not failed)


def test_the_server_was_killed_in_the_middle_of_every_stream(result: demo.DemoResult) -> None:
    found = result.interruption
    assert found is not None
    assert found.capsules == 9 * 2
    assert found.changed == 0
    requests = result.experiments[0].decisions // 2
    # Half of the requests were decided, of which most have their outcome.
    assert 9 * 2 * (requests // 2 - _simulation.LONGEST_DELAY) < found.learned[0] < 9 * 2 * (requests // 2)
    assert found.learned[0] == found.learned[1] <= found.acknowledged
    assert found.seconds > 0


def test_every_outcome_was_learned_once_all_the_same(result: demo.DemoResult) -> None:
    for experiment in result.experiments:
        assert experiment.learned == experiment.decisions == 2 * len(_table.prompts()[::5])
        assert experiment.reward_gap < 1e-12
    restart = result.restart
    assert restart.kills == restart.sent_again == 2
    assert restart.acknowledged == restart.requests == 300
    assert restart.lost == restart.unknown == restart.doubled == restart.faults == 0
    assert result.classic.kept is True


def test_it_says_what_it_did(result: demo.DemoResult, printed: list[str]) -> None:
    text = "\n".join(printed)
    assert "kill -9 of the server" in text
    assert "18 of 18 capsules have the state hash they had" in text
    assert len(re.findall(r"^  decide   ", text, re.MULTILINE)) == 3
    assert (
        len(re.findall(r"^  feedback .* -> applied, reward .*, on disk as event \d+$", text, re.MULTILINE))
        == 3
    )
    assert all(f"[{number}/9] at half time" in printed for number in range(1, 10))
    assert all(str(claim) in printed for claim in result.claims)
    assert Path(result.picture).read_bytes().startswith(b"\x89PNG")


def test_claims_of_the_kill_can_fail(result: demo.DemoResult) -> None:
    assert result.interruption is not None
    replace = msgspec.structs.replace
    faults = [
        (result.classic, replace(result.interruption, changed=1), "killed in the middle"),
        (result.classic, replace(result.interruption, learned=(7, 6)), "killed in the middle"),
        (result.classic, replace(result.interruption, acknowledged=0), "killed in the middle"),
        (replace(result.classic, kept=False), result.interruption, "classic: a kill"),
    ]
    for classic, interruption, start in faults:
        claims = _text.claims(result.experiments, classic, result.restart, interruption)
        [failed] = [each.text for each in claims if not each.holds and not each.text.startswith("by tier")]
        assert failed.startswith(start)


def test_a_group_is_told_of_what_came_before_it_and_of_nothing_else() -> None:
    """In process, so that what is sent can be seen: batches of 10, every outcome once, none before its time."""
    seen: list[tuple[str, int]] = []
    decided: list[str] = []
    store = capsa.open(seed=0)
    capsule = store.install(_table.spec("llm-router"))

    class Watched:
        report = staticmethod(capsule.report)
        decide = staticmethod(capsule.decide)
        feedback = staticmethod(capsule.feedback)

        def decide_batch(self, requests: list[dict[str, object]]) -> list[object]:
            made = capsule.decide_batch(requests)
            decided.extend(str(each.id) for each in made if isinstance(each, capsa.Decision))
            seen.append(("decide", len(requests)))
            return list(made)

        def feedback_batch(self, events: list[dict[str, object]]) -> list[object]:
            for event in events:
                # It was decided at least one request ago.
                assert decided.index(str(event["decision_id"])) <= len(decided) - 1
            seen.append(("feedback", len(events)))
            return list(capsule.feedback_batch(events))

    table = _table.prompts()[:95]
    course = _simulation.Course(table, 0, tuple(_simulation.TIER_FACTOR), None)
    passing = _simulation.Pass(Watched(), course, group=10)
    passing.advance(47)
    told = passing.posts
    run = passing.finish()
    assert [size for what, size in seen if what == "decide"] == [10, 10, 10, 10, 7, 10, 10, 10, 10, 8]
    assert seen[0][0] == "decide"
    assert 0 < told < run.posts == sum(size for what, size in seen if what == "feedback")
    assert run.learned == len(table)
    for at, request in enumerate(run.requests):
        assert run.keys[at] == request.tier
    store.close()


def test_groups_and_single_requests_tell_the_same() -> None:
    """The same seed: the same requests, delays and outcomes; only the draws may differ."""
    runs = []
    for group in (1, 10):
        with capsa.open(seed=0) as store:
            course = _simulation.Course(
                _table.prompts()[:95], 3, tuple(_simulation.TIER_FACTOR), "mistral_large"
            )
            router = store.install(_table.spec("llm-router"))
            runs.append(_simulation.Pass(router, course, group=group).finish())
    one, many = runs
    assert (one.requests, one.rewards, one.posts, one.learned) == (
        many.requests,
        many.rewards,
        many.posts,
        many.learned,
    )


def test_hero_holds_its_claims() -> None:
    printed: list[str] = []
    found = demo.hero(printed.append)
    assert [claim.text for claim in found.claims if not claim.holds] == []
    assert found.ok
    assert found.classic.kept is True
    assert found.classic.weights["support-low-cost"] == pytest.approx([0.98 + 0.02 / 3, 0.02 / 3, 0.02 / 3])
    assert found.classic.weights["legal-high-accuracy"] == pytest.approx(
        [0.02 / 3, 0.02 / 3, 0.98 + 0.02 / 3]
    )
    assert found.chosen["support-low-cost"]["cheap_fast"] >= 90
    assert all(sum(counts.values()) == 100 for counts in found.chosen.values())
    assert sum("kill -9" in line for line in printed) == 1
    few = {**found.chosen, "legal-high-accuracy": {"expensive_accurate": 89, "balanced": 11}}
    assert not _hero._choice_claim(few).holds


def test_what_hero_lost_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that comes back with another store has kept nothing."""
    with (
        _served.Served(tmp_path / "served") as served,
        _over_http.OverHttp(served, lambda _line: None) as over,
    ):
        restart = over.restart

        def restart_elsewhere() -> None:
            served.store = tmp_path / "other"
            restart()
            over.install("classic", _table.spec("classic"))

        monkeypatch.setattr(over, "restart", restart_elsewhere)
        _, learned = _hero.lesson(over)
    assert learned.kept is False
    assert [claim.holds for claim in _text.classic_claims(learned)] == [False, True, False]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`capsa demo hero`, which has its server."""
    process = subprocess.Popen(
        # Where the tests run in the background, Ctrl-C is ignored from the start.
        ["env", "--default-signal=INT", sys.executable, "-m", "capsa", "demo", "hero"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**_environment(), "TMPDIR": str(tmp_path)},
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 130), (signal.SIGKILL, -9)],
)
def test_no_server_is_left_behind(
    running: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Whatever ends the demo ends its server too; and but for kill -9, which nobody hears of, its folder is gone."""
    assert running.stdout is not None
    found = re.search(r"at http://127\.0\.0\.1:(\d+)", running.stdout.readline())
    assert found is not None
    port = int(found[1])
    assert _answers(port)
    # Its client is at work.
    assert any("support-low-cost" in line for line in running.stdout)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == code
    # The client may say before what became of the feedback that was under way.
    assert said.endswith("interrupted\n") or code != 130
    assert "Traceback" not in said
    deadline = time.monotonic() + 30
    while _answers(port):
        assert time.monotonic() < deadline, "the server goes on"
        time.sleep(0.05)
    if number != signal.SIGKILL:
        assert list(tmp_path.iterdir()) == []


def test_a_server_that_ends_by_itself_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    with pytest.raises(FileExistsError):
        _served.Served(tmp_path / "served")
    served = _served.Served(tmp_path / "mine")
    served.store.mkdir()
    (served.store / "note").write_text("mine")
    with pytest.raises(capsa.HostFault) as failed, served:
        pass
    assert f"{served.store} holds other things and no store" in failed.value.detail
    assert "exit code 1" in failed.value.detail
    assert "\n" not in failed.value.detail
    assert "set TMPDIR to a folder on a local disk" in (failed.value.remedy or "")


def test_a_server_that_dies_under_way_ends_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        _served.Served(tmp_path / "served") as served,
        _over_http.OverHttp(served, lambda _line: None) as over,
    ):
        # It is killed at half time, and does not come back.
        monkeypatch.setattr(served, "start", lambda: 0.0)
        routing = over.route([(_experiments.BY_TIER, None)], _table.prompts()[:40], 2)
        with pytest.raises(capsa.HostFault, match="the demo's server failed"):
            next(routing)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CAPSA_")}
