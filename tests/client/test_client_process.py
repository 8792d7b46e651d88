"""The client and the life of its process: forks, and the end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import pytest
from tests.client.sockets import Listener, silent
from tests.server.serving import INPUT, KEY, Served

from capsa.client import Client


def run(script: str, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """A Python process of its own, with every warning an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "CAPSA_ADMIN_KEY": KEY},
        check=False,
    )


def test_a_fork_begins_anew_and_leaves_the_rest_to_its_parent(served: Served) -> None:
    """The child has its own connections; what waited before the fork is sent by the parent, once."""
    ended = run(
        """
        import gc, os, sys, threading
        from capsa.client import Client
        client = Client(sys.argv[1])
        capsule = client.capsule("router")
        ids = [capsule.decide({"task_type": "legal"}).id for _ in range(4)]
        nowhere = Client("http://127.0.0.1:1", queue=10)
        nowhere.capsule("router").feedback(ids[0], reward=1)
        assert nowhere.queue.waiting == 1
        child = os.fork()
        if child == 0:
            assert (client.queue.waiting, nowhere.queue.waiting) == (0, 0)
            assert capsule.feedback(ids[1], reward=1).status == "applied"
            assert [t.name for t in threading.enumerate()].count("capsa-client") == 1
            del client, capsule
            gc.collect()
            # Ends as a program does, with everything that is done at exit.
            sys.exit(0)
        # The parent's connection still works, after what the child did with its copy of it.
        for _ in range(3):
            assert capsule.decide({"task_type": "legal"}).id
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert capsule.feedback(ids[2], reward=1).status == "applied"
        assert nowhere.queue.waiting == 1
        assert nowhere.close(0.1) == 1
        print("ok")
        """,
        served.url,
    )
    assert (ended.returncode, ended.stdout) == (0, "ok\n"), ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Unclosed" not in ended.stderr
    with Client(served.url, KEY) as client:
        assert client.capsule("router").report().feedback.applied == 2


def test_a_fork_while_other_threads_are_calling(served: Served) -> None:
    """Whatever lock is held at that moment, the child goes on."""
    ended = run(
        """
        import os, sys, threading, time
        from capsa.client import Client
        client = Client(sys.argv[1])
        capsule = client.capsule("router")
        stop = threading.Event()
        def call():
            while not stop.is_set():
                assert capsule.decide({"task_type": "legal"}, timeout=20).id
        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        for _ in range(10):
            child = os.fork()
            if child == 0:
                decision = capsule.decide({"task_type": "legal"}, timeout=20)
                os._exit(0 if decision.id else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        stop.set()
        for thread in threads:
            thread.join()
        assert client.close() == 0
        print("ok")
        """,
        served.url,
    )
    assert (ended.returncode, ended.stdout) == (0, "ok\n"), ended.stderr


def test_what_waits_is_sent_at_exit(served: Served) -> None:
    """Nobody closes the client; the server comes back while the process ends."""
    with Client(served.url, KEY) as client:
        ids = [client.capsule("router").decide(INPUT).id or "" for _ in range(3)]
    served.kill()
    script = """
        import sys
        from capsa.client import Client
        capsule = Client(sys.argv[1].replace("127.0.0.1", "localhost")).capsule("router")
        for decision_id in sys.argv[2:]:
            assert capsule.feedback(decision_id, reward=1).status == "queued"
        print("ends", flush=True)
        """
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), served.url, *ids],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CAPSA_ADMIN_KEY": KEY},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ends\n"
    served.start()
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    assert "Traceback" not in complaints
    with Client(served.url, KEY) as client:
        assert client.capsule("router").report().feedback.applied == 3


@pytest.mark.parametrize("where", ["closed", "silent"])
def test_the_end_is_bounded(where: str) -> None:
    """A server that never answers does not keep the process."""
    with Listener(silent) as listener:
        begun = time.monotonic()
        ended = run(
            """
            import sys
            from capsa.client import Client
            client = Client(sys.argv[1], timeout=0.2)
            print(client.capsule("router").feedback("dec_x", reward=1).status)
            """,
            listener.url if where == "silent" else "http://127.0.0.1:1",
        )
        assert (ended.returncode, ended.stdout) == (0, "queued\n"), ended.stderr
        assert time.monotonic() - begun < 50
    assert "1 feedbacks were not sent" in ended.stderr
    assert KEY not in ended.stderr


def test_threads_that_still_call_at_the_end_raise_nothing(served: Served) -> None:
    """A process that ends by an exception, with threads that still call."""
    ended = run(
        """
        import sys, threading, time
        from capsa.client import Client
        capsule = Client(sys.argv[1]).capsule("router", timeout=1, default="balanced")
        def call():
            while True:
                capsule.decide({})
        for _ in range(3):
            threading.Thread(target=call, daemon=True).start()
        time.sleep(0.3)
        raise SystemExit(3)
        """,
        served.url,
    )
    assert ended.returncode == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Fatal" not in ended.stderr


def test_signals_interrupt_a_call() -> None:
    """Control-C comes through, and the call is cancelled."""
    with Listener(silent) as listener:
        ended = run(
            """
            import signal, sys
            from capsa.client import Client
            client = Client(sys.argv[1], timeout=30)
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            def interrupt(*_):
                raise KeyboardInterrupt
            signal.signal(signal.SIGALRM, interrupt)
            try:
                client.capsule("router").decide()
            except KeyboardInterrupt:
                print("interrupted")
            print(client.close())
            """,
            listener.url,
            timeout=25,
        )
        assert ended.stdout == "interrupted\n0\n", ended.stderr


def test_importing_capsa_does_not_load_the_client() -> None:
    ended = run("import capsa, sys; print('aiohttp' in sys.modules)")
    assert ended.stdout == "False\n", ended.stderr
