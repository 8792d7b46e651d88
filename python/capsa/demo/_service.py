"""A store in a process of its own: questions and answers are JSON, a line each. For the demo that kills it.

python -m capsa.demo._service FOLDER

Where the store cannot be used, the last line on standard error says why, and the exit code is 1.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import capsa
from capsa.demo._table import spec


def main() -> None:
    """Serves one store until its input ends."""
    try:
        with capsa.open(sys.argv[1]) as store:
            router = store.install(spec("llm-router"))
            for line in sys.stdin:
                print(json.dumps(_answer(router, json.loads(line))), flush=True)
    except (capsa.CapsaError, OSError) as error:
        sys.exit(" ".join(str(error).split()))


def _answer(router: capsa.Capsule, asked: dict[str, Any]) -> dict[str, Any]:
    match asked:
        case {"decide": fields}:
            decision = router.decide(fields)
            return {"id": decision.id, "option": decision.option}
        case {"feedback": decision_id, "outcome": outcome}:
            try:
                return {"status": router.feedback(decision_id, outcome=outcome).status}
            except capsa.UnknownDecision:
                return {"status": "unknown"}
    raise AssertionError(asked)


if __name__ == "__main__":
    main()
