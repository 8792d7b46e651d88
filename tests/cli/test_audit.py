"""`capsa audit`: what was refused. `capsa audit verify`: what is wrong with a journal, and what a key that is kept elsewhere proves of it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.store_line import SPEC, Line, decided

import capsa
from capsa.capsules import read_source
from capsa.cli._audit import proven
from capsa.journal import Checkpoint, Fault


@pytest.fixture
def sealed(line: Line, tmp_path: Path) -> Line:
    """Events 1 to 4, a checkpoint, 5 and 6, a checkpoint, 7; the public key is kept in ``kept.pub``."""
    for count in (1, 2, 1):
        for _ in range(count):
            decided(line)
        with capsa.open(line.folder) as store:
            if store.journal.length("default") < 7:
                store.journal.seal()
    (tmp_path / "kept.pub").write_bytes((line.folder / "keys" / "checkpoints.pub").read_bytes())
    return line


def change(line: Line, *changes: tuple[str, int]) -> None:
    """Changes rows behind the journal's back: a statement, and the sequence or number of its row."""
    connection = sqlite3.connect(line.folder / "store.sqlite")
    with connection:
        for statement, number in changes:
            row = number if "checkpoint" in statement else (1 << 40) + number
            assert connection.execute(statement, (row,)).rowcount == 1
    connection.close()


def test_the_log_says_what_was_refused_and_as_what(line: Line, tmp_path: Path) -> None:
    """The problem's type in the table, which would cut its sentence; that is in the JSON."""
    component = tmp_path / "other.wasm"
    component.write_bytes(read_source(SPEC.replace("router", "other")).component)
    assert line.run("settings set", "install.allow=spec_only") == 0
    assert line.run("install", str(component)) == 1
    said = line.err
    assert line.run("audit") == 0
    last = line.out.splitlines()[-1]
    assert "refused" in last
    assert "what install  error install" in last
    row = line.json("audit")["audit"][-1]
    assert (row["type"], row["capsule"]) == ("refused", "other")
    assert row["detail"]["error"]["detail"] in said


def test_the_kept_key_proves_what_was_sealed(sealed: Line, tmp_path: Path) -> None:
    """In PEM, as digits in a file, as digits; what came after the last checkpoint is not proven."""
    with capsa.open(sealed.folder) as store:
        digits = store.journal.public_key.hex()
    (tmp_path / "digits").write_text(digits.upper() + "\n")
    for key in (str(tmp_path / "kept.pub"), str(tmp_path / "digits"), digits):
        found = sealed.json("audit verify", "--public-key", key)
        assert found == {
            "ok": True,
            "events": 7,
            "faults": [],
            "publicKey": digits,
            "keyFrom": "argument",
            "checkpoints": [{"first": 1, "last": 2}],
            "provenEvents": 6,
        }
    assert sealed.run("audit verify", "--public-key", digits) == 0
    assert sealed.out.splitlines() == [
        "7 events, 0 faults",
        "signed with the given key: checkpoint 1 to 2; 6 events proven by it",
    ]
    found = sealed.json("audit verify")
    assert (found["ok"], found["keyFrom"], found["provenEvents"]) == (True, "store", 6)
    assert sealed.run("audit verify") == 0
    assert "give it with --public-key" in sealed.out


def test_a_forged_store_does_not_get_past_the_kept_key(sealed: Line, tmp_path: Path, spec: Path) -> None:
    """Other events under keys of their own hold together by themselves; the key that was kept tells."""
    forged = Line(tmp_path / "forged", sealed._capsys)
    assert forged.run("install", str(spec)) == 0
    with capsa.open(forged.folder) as store:
        store.journal.seal()
    assert forged.json("audit verify")["ok"]
    assert forged.run("audit verify", "--public-key", str(tmp_path / "kept.pub")) == 1
    assert "checkpoint  1..1  checkpoint 1 is not signed with the key" in forged.out
    assert "no checkpoint is signed with the given key: it proves nothing" in forged.out
    # Nothing signed at all is no proof either.
    change(forged, ("DELETE FROM checkpoint WHERE number = ?", 1))
    assert forged.json("audit verify")["faults"] == []
    assert forged.run("audit verify", "--public-key", str(tmp_path / "kept.pub")) == 1
    assert forged.out.splitlines()[-1].endswith("it proves nothing")


OTHER_TIME = "UPDATE event SET time_ms = time_ms + 1 WHERE id = ?"
OTHER_PAYLOAD = "UPDATE event SET payload = x'a0' WHERE id = ?"
GONE = "DELETE FROM event WHERE id = ?"


@pytest.mark.parametrize(
    ("changes", "rows", "proven_events"),
    [
        ([(OTHER_TIME, 2)], ["changed  default 2..2  "], 2),
        ([(OTHER_PAYLOAD, 6)], ["changed  default 6..6  "], 4),
        ([(GONE, 7)], ["missing  default 7..7  "], 6),
        ([(GONE, 1)], ["missing  default 1..1  "], 2),
        ([(GONE, 1), (OTHER_PAYLOAD, 6)], ["missing  default 1..1  ", "changed  default 6..6  "], 0),
        (
            [("UPDATE checkpoint SET signature = zeroblob(64) WHERE number = ?", 2)],
            ["checkpoint  2..2  checkpoint 2 is not signed"],
            4,
        ),
        (
            # Its signature is good, but it does not stand where it was written, so no event is compared with it.
            [("UPDATE checkpoint SET number = 9 WHERE number = ?", 2)],
            [
                "checkpoint  2..2  checkpoints 2 to 8",
                "checkpoint  9..9  checkpoint 9 is not",
            ],
            4,
        ),
        (
            [("UPDATE checkpoint SET body = x'ff' WHERE number = ?", 1)],
            ["checkpoint  1..1  checkpoint 1 cannot be read"],
            None,
        ),
    ],
)
def test_every_fault_is_a_row_and_is_not_proven(
    sealed: Line,
    tmp_path: Path,
    changes: list[tuple[str, int]],
    rows: list[str],
    proven_events: int | None,
) -> None:
    """Exit code 1; what the fault touches up to the next checkpoint is not counted as proven."""
    change(sealed, *changes)
    for key in ([], ["--public-key", str(tmp_path / "kept.pub")]):
        assert sealed.run("audit verify", *key) == 1
        *found, count, proof = sealed.out.splitlines()[: len(rows) + 2]
        assert all(line.startswith(row) for line, row in zip(found, rows, strict=True)), sealed.out
        assert count == f"7 events, {len(rows)} fault{'s' if len(rows) > 1 else ''}"
        assert (
            "it proves nothing" if proven_events is None else f"; {proven_events} events proven by it"
        ) in proof
        assert sealed.err == ""


def private(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no Ed25519 key"),
        (b"0123", "holds no Ed25519 key"),
        (b"0" * 65, "holds no Ed25519 key"),
        (b"\xff" * 64, "holds no Ed25519 key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "holds no Ed25519 key"),
        (private(Ed25519PrivateKey.generate()), "holds a private key"),
        (
            X25519PrivateKey.generate()
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "holds no Ed25519 key",
        ),
    ],
    ids=range(7),
)
def test_what_is_no_key_is_refused(sealed: Line, tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    refused = sealed.refused("audit verify", "--public-key", str(file))
    assert said in refused
    assert "(/publicKey" in refused
    assert content.decode(errors="replace")[30:60].strip() not in refused or len(content) < 60


def test_a_key_that_is_not_there_is_refused(sealed: Line, tmp_path: Path) -> None:
    assert "none: No such file" in sealed.refused("audit verify", "--public-key", str(tmp_path / "none"))
    assert "no store" in Line(tmp_path, sealed._capsys).refused("audit verify", "--public-key", "0" * 64)


def checkpoint(number: int, length: int) -> Checkpoint:
    return Checkpoint(number, b"", {"acme": (length, b"")}, b"", b"")


@given(
    # So few that faults and checkpoints meet.
    first=st.integers(1, 3),
    lengths=st.lists(st.integers(0, 8), max_size=4),
    faults=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4)), max_size=2),
)
def test_proven_is_what_lies_between_checkpoints_without_a_fault(
    first: int, lengths: list[int], faults: list[tuple[int, int]]
) -> None:
    """Held against a count of single events."""
    found = [Fault("missing", "acme", at, at + more, "") for at, more in faults]
    wrong = {sequence for each in found for sequence in range(each.first, each.last + 1)}
    ends = sorted({length for length in lengths if length >= first})
    expected = 0
    for sequence in range(first, max(ends, default=0) + 1):
        end = next(length for length in ends if length >= sequence)
        begin = max((length for length in ends if length < sequence), default=first - 1)
        expected += not wrong & set(range(begin + 1, end + 1))
    signed = [checkpoint(number, length) for number, length in enumerate(lengths, start=1)]
    assert proven(signed, found, {"acme": first, "other": 1}) == expected
    unreadable = Fault("unreadable", "", 0, 0, "")
    assert proven(signed, [*found, unreadable], {"acme": first}) == 0
    other = [Fault("changed", "other", 1, 99, ""), Fault("changed", "", 0, 0, "a blob")]
    assert proven(signed, [*found, *other], {"acme": first}) == expected


def test_a_setting_is_spelled_as_where_it_is_set(line: Line) -> None:
    """In JSON, as `settings --json` and `trust --json` do."""
    assert line.json("settings set", "install.allow=spec_only")["install"] == {"allow": "specOnly"}
    assert line.json("audit")["audit"][-1]["detail"]["installAllow"] == "specOnly"
