"""Cases of guests that go for what is kept: files, keys and values, secrets, configuration; and floods of calls."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.sandbox.answers import SPELLINGS
from tests.sandbox.arena import OUTSIDE, SECRET, Arena
from tests.sandbox.case import Case, Ended, wanted
from tests.sandbox.guests import KEPT, Guest, Span, Step, call, keys, script, send, swap, tool

from capsa.errors import CapabilityDenied, CapsuleBadOutput, CapsuleDeadline, CapsuleLimit

_READ: Final = {"files": {"access": "read"}}
_WRITE: Final = {"files": {"access": "read_write"}}
_KV: Final = {"kv": {"access": "read_write"}}

# -- files -----------------------------------------------------------------------------------------------------------

_BEYOND: Final = {
    "denied": (
        "..", "../plan", "../other/plan", "../../rival/tool/plan", "../../../policies/tool.toml", "../../../journal.sqlite",
        "../../../keys/1.key", "note/..", "a/../../other/plan", "note/../../other/plan", "x/y/../../../other/plan",
        "../tool/note", "/etc/passwd", "/", "//etc/passwd", "/proc/self/environ", "/proc/self/mem", "/dev/zero",
    ),
    "invalid": (
        "", ".", "./../other/plan", "./note", "a//b", "note/", "./", "a/./b", "note\0", "note\0/../../other/plan", "a\nb", "a\x7fb", "a\x85b",
        "x" * 256, "/".join(["x"] * 17), "x/" * 600 + "x", ".capsa-writing-1-1", "a/.capsa-writing-x",
    ),
    "not-found": (
        "%2e%2e/other/plan", "%2e%2e%2fother%2fplan", "..%2fother/plan", "..\\other\\plan", "..;/other/plan", "..../other/plan", "... /other/plan",
        ".. /other/plan", " ../other/plan", "\u2025/other/plan", "\uff0e\uff0e/other/plan", "..\u200b/other/plan", "~/.ssh/id_rsa", "~root/x", "C:\\x", "file:x",
        "\\\\?\\x", "note/x", "NOTE", "note::$DATA",
    ),
}  # fmt: skip


def _everything_with(path: str, *, new: bool) -> list[Step]:
    """All that can be done with a path; what is only strange is a good name of a `new` file."""
    steps = [call("files.read", path), call("files.remove", path)]
    steps += [call("files.write", path, "x")] if new else []
    # An empty path is the capsule's own directory.
    return [*steps, call("files.entries", path)] if path else steps


PATHS: Final = [
    Case(
        category="path",
        name=f"{path!r:.50} of {len(path)}",
        guest=script(*steps),
        grants=_WRITE,
        answer=[kind] * len(steps),
        denied=(("files", "path"),) * len(steps) if kind == "denied" else (),
        after=lambda arena, _: _is_untouched(arena),
    )
    for kind, paths in _BEYOND.items()
    for path in paths
    for steps in [_everything_with(path, new=kind != "not-found")]
]


def _is_untouched(arena: Arena) -> None:
    assert [entry.name for entry in arena.own.iterdir()] == ["note"]
    assert (arena.own / "note").read_text() == "mine"


def _links(arena: Arena) -> None:
    """What an operator, or a mistake, may have put into the directory: links out of it and what is no file."""
    others = arena.root / "files" / "acme" / "other"
    links = {
        "file": others / "plan", "dir": others, "relative": Path("../other/plan"), "up": Path(".."), "root": Path("/"),
        "environ": Path("/proc/self/environ"), "zero": Path("/dev/zero"), "loop": Path("loop"), "chain": Path("file"),
        "self": arena.own, "dangling": others / "new", "key": arena.root / "keys" / "1.key", "cwd": Path("/proc/self/cwd"),
        "fd": Path("/proc/self/fd"),
    }  # fmt: skip
    for name, target in links.items():
        (arena.own / name).symlink_to(target)
    (arena.own / "inside").symlink_to("note")
    os.mkfifo(arena.own / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        # The path of a socket may have 107 bytes only.
        before = Path.cwd()
        os.chdir(arena.own)
        made.bind("sock")
        os.chdir(before)
    (arena.own / "full").mkdir()
    (arena.own / "full" / "file").write_text("mine")


def _linked(name: str, answer: object, *steps: Step) -> Case:
    denied = (("files", "path"),) * len(steps) if answer == "denied" else ()
    return Case(
        category="link",
        name=name,
        guest=script(*steps),
        grants=_WRITE,
        before=_links,
        answer=[answer] * len(steps),
        denied=denied,
    )


#: A guest cannot make links: whatever leads over one, also to what is the guest's own, is denied.
_OVER_LINKS: Final = (
    "file", "relative", "chain", "dangling", "key", "environ", "zero", "loop", "inside", "dir", "up", "root", "self", "cwd", "fd", "dir/plan",
    "dir/new", "up/other/plan", "up/tool/note", "root/etc/passwd", "root/tmp/new", "self/note", "self/new", "cwd/README.md", "fd/0",
)  # fmt: skip
LINKS: Final = [
    *[_linked(f"over {path}", "denied", *_everything_with(path, new=True)) for path in _OVER_LINKS],
    *[_linked(f"to {path}, which is no file", "invalid", call("files.read", path), call("files.write", path, "x")) for path in ("pipe", "sock", "full")],
    *[_linked(f"remove {path}", "ok", call("files.remove", path)) for path in ("pipe", "sock", "full/file")],
    _linked("remove a directory with something in it", "invalid", call("files.remove", "full")),
    _linked("list a file", "not-found", call("files.entries", "note")),
    _linked("list what is there shows files and directories only", ["full", "note"], call("files.entries", "")),
]  # fmt: skip


def _quota(name: str, steps: list[Step], answer: list[object], **quota: Any) -> Case:
    access = {"access": quota.pop("access", "read_write")}
    return Case(
        category="file quota",
        name=name,
        guest=script(*steps),
        grants={"files": {**access, **quota}},
        answer=answer,
        denied=None,
    )


FILE_QUOTAS: Final = [
    _quota("more bytes than there may be", [call("files.write", "a", Span(0, 5000))], ["too-large"], max_bytes=4000),
    _quota("more bytes than there may be, in two files", [call("files.write", "a", Span(0, 2500)), call("files.write", "b", Span(0, 2500)), call("files.read", "b")], ["ok", "too-large", "not-found"], max_bytes=4000),
    _quota("bytes again after a file was made smaller", [call("files.write", "a", Span(0, 3900)), call("files.write", "a", Span(0, 10)), call("files.write", "b", Span(0, 3900))], ["ok"] * 3, max_bytes=4000),
    _quota("more files than there may be", [call("files.write", "a", ""), call("files.write", "b", ""), call("files.write", "c", "")], ["ok", "ok", "too-large"], max_files=3),
    _quota("directories count", [call("files.write", "a/b/c/d", ""), call("files.entries", "")], ["too-large", ["note"]], max_files=3),
    _quota("a file again after one was removed", [call("files.write", "a", ""), call("files.remove", "a"), call("files.write", "b", "")], ["ok"] * 3, max_files=2),
    _quota("a quota lowered since lets nothing grow", [call("files.write", "note", "larger"), call("files.write", "note", "min"), call("files.read", "note")], ["too-large", "ok", "min"], max_bytes=1, max_files=1),
    _quota("files without end", [call("files.write", "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p", "")], ["ok"], max_files=17),
    Case(category="file quota", name="a file larger than one piece", guest=script(call("files.read", "note")), grants=_READ, limits={"output_bytes": 1000}, answer=["too-large"],
         before=lambda arena: (arena.own / "note").write_text("x" * 1001)),
    *[
        Case(category="file quota", name=f"read-only: {name}", guest=script(step), grants=_READ, answer=["denied"], denied=(("files", "files-access"),),
             after=lambda arena, _: _is_untouched(arena))
        for name, step in {
            "write": call("files.write", "note", "x"), "write anew": call("files.write", "new/file", "x"), "remove": call("files.remove", "note"),
        }.items()
    ],
    Case(category="file quota", name="wanted for reading only", guest=script(call("files.write", "note", "x")), grants=_WRITE, wants=_READ, answer=["denied"], denied=(("files", "files-access"),)),
]  # fmt: skip

# -- keys and values -------------------------------------------------------------------------------------------------


def _kv(
    name: str,
    *steps: Step,
    answer: list[object],
    grants: Any = _KV,
    denied: tuple[str, ...] = (),
    **rest: Any,
) -> Case:
    return Case(category="kv", name=name, guest=script(*steps), grants=grants, answer=answer, denied=tuple(("kv", rule) for rule in denied), **rest)  # fmt: skip


def _holds_and_fails(arena: Arena) -> None:
    _holds(arena)
    arena.changes_fail = True


def _holds(arena: Arena) -> None:
    arena.kv.apply("a", b"v")


KEYS: Final = [
    *[_kv(f"another tenant's key as {key!r}", call("kv.get", key), call("kv.remove", key), answer=[None, False])
      for key in ("plan", "shared", "rival/plan", "../rival/plan", "rival\0plan", "/rival/plan", "acme/../rival/plan", "*", "%")],
    _kv("another tenant's keys listed", keys(""), keys("p"), keys("", "a"), answer=[[], [], []]),
    _kv("a key that another tenant has is set", call("kv.set", "shared", "mine"), call("kv.get", "shared"), answer=["ok", "mine"]),
    _kv("an empty key", call("kv.get", ""), call("kv.set", "", "x"), call("kv.remove", ""), swap("", None, "x"), answer=["invalid"] * 4),
    _kv("a key of 257 bytes", call("kv.get", "x" * 257), call("kv.set", "x" * 257, "x"), call("kv.remove", "x" * 257), swap("x" * 257, None, "x"), answer=["invalid"] * 4),
    _kv("a key of 256 bytes", call("kv.set", "x" * 256, "x"), answer=["ok"]),
    _kv("a key of 4 GiB's worth of NULs", call("kv.get", Span(0, 60_000)), answer=["invalid"]),
    _kv("a value of 65,537 bytes", call("kv.set", "a", Span(0, 65_537)), call("kv.get", "a"), answer=["too-large", None]),
    _kv("a value of 65,537 bytes, swapped in", swap("a", None, Span(0, 65_537)), call("kv.get", "a"), answer=["too-large", None]),
    _kv("more bytes than there may be", call("kv.set", "a", Span(0, 60)), call("kv.set", "b", Span(0, 60)), keys(""), answer=["ok", "too-large", ["a"]], grants={"kv": {"access": "read_write", "max_bytes": 100}}),
    _kv("more bytes than there may be, swapped in", call("kv.set", "a", Span(0, 60)), swap("b", None, Span(0, 60)), keys(""), answer=["ok", "too-large", ["a"]], grants={"kv": {"access": "read_write", "max_bytes": 100}}),
    _kv("more bytes than a call may write, one over the other", call("kv.set", "a", Span(0, 65_000), times=17), call("kv.get", "b"), answer=["too-large", None]),
    _kv("more keys than there may be", call("kv.set", "a", ""), call("kv.set", "b", ""), swap("c", None, ""), keys(""), answer=["ok", "too-large", "too-large", ["a"]], grants={"kv": {"access": "read_write", "max_keys": 1}}),
    _kv("a quota of nothing", call("kv.set", "a", ""), keys(""), answer=["too-large", []], grants={"kv": {"access": "read_write", "max_keys": 0}}),
    *[_kv(f"read-only: {name}", step, call("kv.get", "a"), answer=["denied", "v"], grants={"kv": {"access": "read"}}, denied=("kv-access",), before=_holds)
      for name, step in {"set": call("kv.set", "a", "x"), "remove": call("kv.remove", "a"), "swap": swap("a", "v", "x"), "swap of what is not there": swap("a", "wrong", "x"),
                         "swap with nothing": swap("a", "v", None)}.items()],
    _kv("wanted for reading only", call("kv.set", "a", "x"), answer=["denied"], denied=("kv-access",), wants={"kv": {"access": "read"}}),
    _kv("a swap that expects what is not there", swap("a", "wrong", "x"), swap("a", None, "x"), call("kv.get", "a"), answer=[False, False, "v"], before=_holds),
    _kv("the longest list of keys", keys("", None, -1), answer=[["a"]], before=_holds),
    _kv("a change that cannot be recorded", call("kv.set", "a", "x"), call("kv.remove", "a"), swap("a", "v", "x"), call("kv.get", "a"), answer=["failed", "failed", "failed", "v"],
        before=_holds_and_fails),
]  # fmt: skip

# -- secrets ---------------------------------------------------------------------------------------------------------


def _at_site(arena: Arena) -> dict[str, Any]:
    return {
        "http": [
            {"schemes": ["http"], "private": [f"127.0.0.1:{arena.site.port}"], "methods": ["GET", "POST"]}
        ],
        "secrets": [{"name": "key", "hosts": ["127.0.0.1"]}],
        "kv": {"access": "read_write"},
    }


def _at_others(arena: Arena) -> dict[str, Any]:
    """The site may be asked, and the secret is for somebody else."""
    return {
        **_at_site(arena),
        "secrets": [{"name": "key", "hosts": ["api.example.com", "*.example.org", "127.0.0.2"]}],
    }


_HANDLE: Final = call("secrets.handle", "key", keep=True)


def _asks(*steps: Step | str, **around: Any) -> Callable[[Arena], Guest]:
    """Steps in which a text is the path of a request with the secret in the header `x-key`."""

    def made(arena: Arena) -> Guest:
        site = f"http://127.0.0.1:{arena.site.port}"
        return script(
            *[
                send(f"{site}{step}", headers=[("X-Key", KEPT)], **around) if isinstance(step, str) else step
                for step in steps
            ]
        )

    return made


def _handle_is_told(arena: Arena, ended: Ended) -> None:
    """The server got the secret, the guest its own handle back."""
    assert arena.site.asked[-1].header("x-key") == SECRET
    assert ended.output is not None
    assert "capsa-secret-" in ended.output


def _nothing_sent(arena: Arena, _: Ended) -> None:
    assert arena.site.asked == []


def _not_the_secret(arena: Arena, _: Ended) -> None:
    assert [
        SECRET in asked.head.decode("latin-1") + asked.body.decode("latin-1") for asked in arena.site.asked
    ] == [False]


def _with_handle(where: str, arena: Arena) -> Step:
    url = f"http://127.0.0.1:{arena.site.port}/"
    match where:
        case "the path":
            return send(url + KEPT)
        case "the query":
            return send(f"{url}?key={KEPT}")
        case "the body":
            return send(url, method="POST", body=f"key={KEPT}")
        case _:
            return send(url, headers=[(KEPT, "1")])


def _is_not_told(arena: Arena, ended: Ended) -> None:
    assert arena.site.asked[-1].header("x-key") == SECRET
    # In no form that begins with a letter or digit of it: `check` looks for some forms whole.
    said = ended.said().lower()
    for part in (
        "hunter2",
        "swordfish",
        "68756e74",
        "%68%75",
        "\\u0068\\u0075",
        "&#x68;",
        "sHVudGVy".lower(),
        "aHVudGVy".lower(),
    ):
        assert part not in said, said


def _is_without_secret(_: Arena, ended: Ended) -> None:
    # That it is in no other form is for `check` to see.
    assert ended.output is not None
    assert ended.output.startswith('["capsa-secret-')


def _is_without(ended: Ended, part: str) -> None:
    assert ended.output is not None
    assert part not in ended.output.lower()


def _ends_with(ended: Ended, kind: str, unasked: Arena | None = None) -> None:
    if unasked is not None:
        _nothing_sent(unasked, ended)
    assert ended.output is not None
    assert ended.output.endswith(f',"{kind}"]')


SECRETS: Final = [
    Case(category="secret", name="is put in, and echoed as it is", guest=_asks(_HANDLE, "/"), grants=_at_site, answer=..., after=_handle_is_told),
    *[Case(category="secret", name=f"echoed as {form}", guest=_asks(_HANDLE, f"/{form.replace(' ', '-')}", told="headers" if form in ("header", "cookie", "location") else None),
           grants=_at_site, answer=..., after=_is_not_told) for form in SPELLINGS],
    Case(category="secret", name="echoed compressed", guest=_asks(_HANDLE, "/gzip"), grants=_at_site, answer=..., after=lambda _, ended: _ends_with(ended, "failed")),
    Case(category="secret", name="cut in two by a range", guest=lambda arena: script(_HANDLE, send(f"http://127.0.0.1:{arena.site.port}/", headers=[("X-Key", KEPT), ("Range", "bytes=0-5")])),
         grants=_at_site, answer=..., denied=(("http", "header"),), after=_nothing_sent),
    *[Case(category="secret", name=f"in {where}", guest=lambda arena, where=where: script(_HANDLE, _with_handle(where, arena)), grants=_at_site, answer=..., denied=(("http", "secret"),), after=_nothing_sent)  # type: ignore[misc]
      for where in ("the path", "the query", "the body", "the name of a header")],
    *[Case(category="secret", name=f"for another host than {name}", guest=lambda arena, url=url: script(_HANDLE, send(url.replace("SITE", str(arena.site.port)), headers=[("X-Key", KEPT)])),  # type: ignore[misc]
           grants=_at_others, answer=..., denied=(("http", "secret-host"),), after=_nothing_sent)
      for name, url in {"the site": "http://127.0.0.1:SITE/", "the site, spelled otherwise": "http://2130706433:SITE/"}.items()],
    *[Case(category="secret", name=f"to {name}", guest=lambda _, url=url: script(_HANDLE, send(url, headers=[("X-Key", KEPT)])),  # type: ignore[misc]
           grants={"http": [{"hosts": ["*.test", "api.example.com", "example.org"][1:], "schemes": ["http", "https"]}], "secrets": [{"name": "key", "hosts": ["api.example.com", "*.example.org"]}]},
           answer=..., denied=(("http", "secret-host"),))
      for name, url in {"its host without TLS": "http://api.example.com/", "the apex of its suffix": "https://example.org/"}.items()],
    Case(category="secret", name="by a handle that was made up", guest=lambda arena: script(_HANDLE, send(f"http://127.0.0.1:{arena.site.port}/", headers=[("X-Key", "capsa-secret-" + "0" * 32)])), grants=_at_site, answer=..., after=_not_the_secret),
    Case(category="secret", name="echoed as the name of a header", guest=_asks(_HANDLE, "/header-name", told="headers"), grants=_at_site, answer=..., before=lambda arena: arena.secrets.update(key="Swordfish-12345"),
         after=lambda _, ended: _is_without(ended, "swordfish")),
    Case(category="secret", name="by a handle of an earlier call", guest=_asks(call("kv.get", "handle", keep=True), "/"), grants=_at_site, answer=...,
         before=lambda arena: arena.kv.apply("handle", b"capsa-secret-" + b"0" * 32), after=_not_the_secret),
    Case(category="secret", name="that the site has kept since an earlier call", guest=lambda arena: script(send(f"http://127.0.0.1:{arena.site.port}/kept")), grants=_at_site, answer=..., after=_is_without_secret),
    Case(category="secret", name="that is nearly everywhere in an answer", guest=_asks(_HANDLE, "/nearly"), grants=_at_site, limits={"wall_ms": 400}, ends=CapsuleDeadline,
         before=lambda arena: arena.secrets.update(key="a" * 4095 + "b")),
    Case(category="secret", name="by its name alone", guest=lambda arena: script(_HANDLE, send(f"http://127.0.0.1:{arena.site.port}/", headers=[("X-Key", "key")])), grants=_at_site, answer=..., after=_not_the_secret),
    Case(category="secret", name="that is not granted", guest=script(call("secrets.handle", "other"), call("secrets.handle", ""), call("secrets.handle", "KEY"), call("secrets.handle", "key\0")),
         grants={"secrets": [{"name": "key", "hosts": ["api.example.com"]}]}, answer=["denied"] * 4, denied=(("secrets", "secret"),) * 4),
    Case(category="secret", name="that is granted and has no value", guest=script(call("secrets.handle", "empty")), grants={"secrets": [{"name": "empty", "hosts": ["api.example.com"]}]}, answer=["not-found"]),
    Case(category="secret", name="that is no value of a header", guest=_asks(_HANDLE, "/"), grants=_at_site, answer=..., before=lambda arena: arena.secrets.update(key="a\r\nX-B: 1"),
         after=lambda arena, ended: _ends_with(ended, "failed", arena)),
    Case(category="secret", name="that is wanted and not allowed", guest=script(call("secrets.handle", "key")), wants={"secrets": [{"name": "key", "hosts": ["api.example.com"]}]}, ends=CapabilityDenied),
]  # fmt: skip

# -- configuration, and floods of calls ------------------------------------------------------------------------------

_EVERYTHING: Final = {
    "clock": True,
    "random": True,
    "config": {"region": "eu", "other": OUTSIDE},
    "kv": {"access": "read_write"},
    "files": {"access": "read_write"},
    "secrets": [{"name": "key", "hosts": ["api.example.com"]}],
}
_FLOODS: Final = {
    "clock.now": call("clock.now", times=0),
    "clock.elapsed": call("clock.elapsed", times=0),
    "random.number": call("random.number", times=0),
    "random.bytes": call("random.bytes", 65_536, times=0),
    "config.get": call("config.get", "region", times=0),
    "kv.get": call("kv.get", "a", times=0),
    "kv.set": call("kv.set", "a", Span(0, 60_000), times=0),
    "kv.remove": call("kv.remove", "a", times=0),
    "kv.swap": Step("kv.swap", swap("a", None, "x").lower, times=0),
    "kv.keys": keys("", times=0),
    "files.read": call("files.read", "note", times=0),
    "files.write": call("files.write", "new", "x", times=0),
    "files.remove": call("files.remove", "new", times=0),
    "files.entries": call("files.entries", "", times=0),
    "secrets.handle": call("secrets.handle", "key", times=0),
}

FLOODS: Final = [
    Case(category="flood", name=f"of {name}", guest=script(step), grants=_EVERYTHING, wants={**_EVERYTHING, "config": ["region"]}, limits={"cpu_ms": 5_000, "host_calls": 300}, ends=CapsuleLimit, says="300 times",
         after=lambda _, ended: _counted(ended))
    for name, step in _FLOODS.items()
] + [
    Case(category="flood", name="one call where there may be none", guest=script(call("clock.now")), grants=_EVERYTHING, limits={"host_calls": 0}, ends=CapsuleLimit),
    *[Case(category="flood", name=f"{count} random bytes at once", guest=script(call("random.bytes", count)), grants=_EVERYTHING, ends=CapsuleBadOutput, says="random bytes") for count in (65_537, -1, 1 << 30)],
    Case(category="config", name="a text that is granted and not wanted", guest=script(call("config.get", "other"), call("config.get", "region")), grants=_EVERYTHING, wants={**_EVERYTHING, "config": ["region"]}, answer=[None, "eu"]),
    Case(category="config", name="names that are none", guest=script(call("config.get", ""), call("config.get", "REGION"), call("config.get", "region\0"), call("config.get", "PATH"), call("config.get", Span(0, 60_000))),
         grants=_EVERYTHING, answer=[None] * 5),
    *[Case(category="no grant", name=f"{name} with everything else", guest=script(step), grants={key: value for key, value in _EVERYTHING.items() if key != name.split(".")[0]}, wants=wanted(_EVERYTHING), ends=CapabilityDenied, says=name.split(".")[0])
      for name, step in _FLOODS.items() if name in ("clock.now", "random.number", "config.get", "kv.get", "files.read", "secrets.handle")],
    Case(category="no grant", name="everything under the policy pure", guest=tool(imports=sorted(_FLOODS)), wants=wanted(_EVERYTHING), ends=CapabilityDenied, says="clock"),
]  # fmt: skip


def _counted(ended: Ended) -> None:
    # The one that was too many is counted, too.
    assert ended.used["host_calls"] == 301


KEEPING: Final = [*PATHS, *LINKS, *FILE_QUOTAS, *KEYS, *SECRETS, *FLOODS]
