"""What do deciding and learning cost in a table, call by call from Python, beside other bandit packages?

Ten options, a hundred context keys, rewards of 0 or 1, feedback right after each decision. Every library runs the
same loop over the same stream, in the way that its manual shows; one without keys gets a policy a key. What they
give for it differs: Capsa and gittins answer with the probability of the choice, river and obp with the choice alone.

obp needs NumPy 1. It lives in an environment made for this run, in a process of its own, which runs this same file,
takes its turn when asked to and times itself, so that the pipe is no part of its figure.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import time
import types
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from _measure import machine, report, store

OPTIONS = 10
KEYS = [f"k{number}" for number in range(100)]
STEPS = 5000
ROUNDS = 9
OBP = ("sb-obp==0.5.10", "numpy==1.26.4", "pyyaml==6.0.3", "scikit-learn==1.7.2")
BARS = [
    ("capsa EpsilonGreedy", "river EpsilonGreedy", 1 / 3),
    ("capsa EpsilonGreedy", "gittins", 1 / 4),
    ("capsa EpsilonGreedy", "obp EpsilonGreedy", 1 / 2),
    ("capsa Thompson", "obp BernoulliTS", 1 / 2),
]

# One pass over the stream, and what it took: microseconds a step.
Loop = Callable[[], None]
Contestant = Callable[[], float]


def stream() -> list[tuple[str, list[float]]]:
    """The context key of each step and what each option would earn there, alike in every process."""
    randoms = random.Random(7)
    shares = {key: [randoms.uniform(0.1, 0.9) for _ in range(OPTIONS)] for key in KEYS}
    keys = randoms.choices(KEYS, k=STEPS)
    return [(key, [float(randoms.random() < share) for share in shares[key]]) for key in keys]


# Each library is imported where it is used, for no process has all of them; and by name, for most have no types.


def capsa_loop(name: str) -> Loop:
    learner = getattr(importlib.import_module("capsa.learners"), name)(OPTIONS, seed=1)
    steps = stream()

    def loop() -> None:
        for key, rewards in steps:
            option, _ = learner.decide(key)
            learner.update(option, rewards[option], key)

    return loop


def river_loop() -> Loop:
    make = importlib.import_module("river.bandit").EpsilonGreedy
    policies = {key: make(epsilon=0.1, seed=1) for key in KEYS}
    arms = list(range(OPTIONS))
    steps = stream()

    def loop() -> None:
        for key, rewards in steps:
            policy = policies[key]
            arm = policy.pull(arms)
            policy.update(arm, rewards[arm])

    return loop


def gittins_loop() -> Loop:
    gittins = importlib.import_module("gittins")
    # "A bandit per user" of its manual: faster here than one large state that gets the key as a feature.
    states = {key: gittins.create(bits=8, horizon=1e12) for key in KEYS}
    nothing: dict[str, float] = {}
    candidates = [(f"option-{option}", nothing) for option in range(OPTIONS)]
    steps = stream()
    now = 0.0

    def loop() -> None:
        nonlocal now
        for key, rewards in steps:
            state = states[key]
            now += 1.0
            record = gittins.decide(state, nothing, candidates, now, "bench")
            gittins.learn(state, record.decision_id, rewards[record.chosen], now)

    return loop


def obp_loop(name: str, **settings: float) -> Loop:
    make = getattr(importlib.import_module("obp.policy.contextfree"), name)
    policies = {key: make(n_actions=OPTIONS, random_state=1, **settings) for key in KEYS}
    steps = stream()

    def loop() -> None:
        for key, rewards in steps:
            policy = policies[key]
            arm = policy.select_action()[0]
            policy.update_params(arm, rewards[arm])

    return loop


def timed(loop: Loop) -> float:
    """Microseconds a step of one pass."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter_ns()
        loop()
        return (time.perf_counter_ns() - start) / 1000 / STEPS
    finally:
        gc.enable()


def take_turns(contestants: dict[str, Contestant]) -> dict[str, list[float]]:
    """`_measure.alternate` for contestants that time themselves; the first pass, over new keys, does not count."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant()
    for _ in range(ROUNDS):
        for name, contestant in contestants.items():
            taken[name].append(contestant())
    return taken


def install_obp(folder: Path) -> Path:
    """An environment with obp and what its context-free policies import; gives its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    # Its own requirements include torch: not needed here.
    pip = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--retries=1",
        "--only-binary",
        ":all:",
    ]
    subprocess.run([*pip, "--no-deps", OBP[0]], check=True, capture_output=True, text=True)
    subprocess.run([*pip, *OBP[1:]], check=True, capture_output=True, text=True)
    return python


@contextmanager
def obp_process(python: Path) -> Iterator[tuple[dict[str, Contestant], dict[str, str]]]:
    """obp's contestants, and the versions in its environment."""
    with subprocess.Popen(
        [python, __file__, "answer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        asked, answers = child.stdin, child.stdout

        def ask(name: str) -> Any:
            print(name, file=asked, flush=True)
            answer = answers.readline()
            if not answer:
                raise RuntimeError(f"the process with obp ended before it answered {name!r}")
            return json.loads(answer)

        hello = ask("hello")
        yield {name: partial(ask, name) for name in hello["contestants"]}, hello["versions"]


def answer() -> None:
    """The other end of `obp_process`."""
    # The packages' own __init__ imports torch, 2 GB that these policies never touch.
    found = importlib.util.find_spec("obp")
    assert found is not None
    assert found.submodule_search_locations is not None
    for name, below in (("obp", ""), ("obp.policy", "policy")):
        package = types.ModuleType(name)
        package.__path__ = [str(Path(place, below)) for place in found.submodule_search_locations]
        sys.modules[name] = package
    loops = {
        "obp EpsilonGreedy": obp_loop("EpsilonGreedy", epsilon=0.1),
        "obp BernoulliTS": obp_loop("BernoulliTS"),
    }
    versions = {package: importlib.metadata.version(package) for package in ("sb-obp", "numpy")}
    for line in sys.stdin:
        name = line.strip()
        hello = {"contestants": list(loops), "versions": versions}
        print(json.dumps(hello if name == "hello" else timed(loops[name])), flush=True)


def measure(contestants: dict[str, Contestant], **around: Any) -> dict[str, Any]:
    taken = take_turns(contestants)
    return report(
        "Decide and learn, single calls, 10 options, 100 keys",
        taken,
        [bar for bar in BARS if bar[1] in taken],
        machine=machine("river", "gittins", "numpy"),
        **around,
    )


def main() -> dict[str, Any]:
    contestants: dict[str, Contestant] = {
        f"capsa {name}": partial(timed, capsa_loop(name))
        for name in ("EpsilonGreedy", "Thompson", "Ucb1", "SimpleWeighted")
    }
    contestants["river EpsilonGreedy"] = partial(timed, river_loop())
    contestants["gittins"] = partial(timed, gittins_loop())
    with tempfile.TemporaryDirectory(prefix="capsa-bench-obp-") as folder:
        try:
            python = install_obp(Path(folder))
        except (OSError, subprocess.CalledProcessError) as fault:
            why = (getattr(fault, "stderr", None) or str(fault)).strip().splitlines()[-1]
            print(f"obp is left out, its two bars are not measured: {why}")
            result = measure(contestants, left_out={"obp": why})
        else:
            with obp_process(python) as (obp, versions):
                result = measure(contestants | obp, obp_process=versions)
    store("tabular", result)
    return result


if __name__ == "__main__":
    if sys.argv[1:] == ["answer"]:
        answer()
    else:
        main()
