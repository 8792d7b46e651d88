"""``capsa upkeep``: one round, for stores that no service has open."""

from __future__ import annotations

from tests.cli.store_line import Line, decided

import capsa


def test_a_round_signs_what_was_written_and_says_what_it_did(line: Line) -> None:
    decision = decided(line)
    line.json("feedback", "router", decision, "--reward", "0.5")
    done = line.json("upkeep")
    assert done == {"horizons": 0, "checkpoints": 1, "snapshots": 0, "cut": 0}
    assert line.run("upkeep") == 0
    assert "0 horizons dealt with" in line.out
    assert line.run("audit verify") == 0
    assert "it proves nothing" not in line.out


def test_a_wrong_retention_is_refused_before_anything_is_done(line: Line) -> None:
    decided(line)
    assert line.run("upkeep", "--retention", "soon") == 1
    assert "retention" in line.err
    with capsa.open(line.folder, upkeep=False) as store:
        assert store.journal.checkpoints() == []
