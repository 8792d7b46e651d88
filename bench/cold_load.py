"""What does loading a component of 20 MiB from the cache cost, against compiling it?

The component is nothing but code: thousands of functions that differ, each of a loop, branches, loads, stores and calls, the
same bytes on any machine. It is compiled once, on a host with an empty cache; then fresh hosts load it from there, again and
again. The cache's file is in memory by then, as after a restart of the server alone. Making the host is told apart.
Compiling uses every processor and loading one, so the ratio holds for a number of them. A second component has half its
bytes in data, as those of languages that bring their own runtime; it is told without a bar.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from _measure import machine, report, store
from capsa import _native
from capsa.policies import effective, load_policy, load_wants

MIB: Final = 1 << 20
SIZE_MIB = 20
LOADS = 9
BAR: Final = 1 / 50
INPUT: Final = '{"n":1}'

# Opcodes of WebAssembly that are used here.
END, BLOCK, LOOP, BR_IF, CALL = b"\x0b", b"\x02\x40", b"\x03\x40", b"\x0d", b"\x10"
GET, SET, TEE, CONST32, CONST64 = b"\x20", b"\x21", b"\x22", b"\x41", b"\x42"
LOAD64, STORE64, STORE32 = b"\x29\x03", b"\x37\x03", b"\x36\x02"
SUB32, AND32, WRAP, LT64 = b"\x6b", b"\x71", b"\xa7", b"\x54"
#: i64 add, sub, mul, and, or, xor, shl, shr_u, rotl.
ARITHMETIC: Final = [bytes([code]) for code in (0x7C, 0x7D, 0x7E, 0x83, 0x84, 0x85, 0x86, 0x88, 0x89)]
I32, I64 = b"\x7f", b"\x7e"
#: Where loads and stores of the functions are: 1 KiB from here.
SCRATCH: Final = 8192
#: Locals of a function: its two parameters and six more, of 64 bits, and the counter of its loop.
LOCALS: Final = 8


def unsigned(value: int) -> bytes:
    """LEB128."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def signed(value: int) -> bytes:
    encoded = bytearray()
    while not -64 <= value < 64:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value & 127])


def sized(content: bytes) -> bytes:
    return unsigned(len(content)) + content


def listed(items: list[bytes]) -> bytes:
    return unsigned(len(items)) + b"".join(items)


def section(number: int, items: list[bytes]) -> bytes:
    return bytes([number]) + sized(listed(items))


def function(number: int, draws: random.Random) -> bytes:
    """A function of two i64 that gives one; it may call the function before it, and does so at most once."""

    def local() -> bytes:
        return unsigned(draws.randrange(LOCALS))

    def address() -> bytes:
        return GET + local() + WRAP + CONST32 + signed(0x3F8) + AND32

    parts = [unsigned(2), unsigned(LOCALS - 2) + I64, unsigned(1) + I32]
    counter = unsigned(LOCALS)
    parts += [CONST32, signed(draws.randrange(1, 9)), SET, counter, LOOP]
    for _ in range(draws.randrange(20, 60)):
        kind = draws.random()
        if kind < 0.6:
            parts += [GET, local(), GET, local(), draws.choice(ARITHMETIC)]
            parts += [CONST64, signed(draws.getrandbits(40)), draws.choice(ARITHMETIC), SET, local()]
        elif kind < 0.75:
            parts += [address(), LOAD64, unsigned(SCRATCH), SET, local()]
        elif kind < 0.85:
            parts += [address(), GET, local(), STORE64, unsigned(SCRATCH)]
        else:
            parts += [BLOCK, GET, local(), GET, local(), LT64, BR_IF, unsigned(0)]
            parts += [GET, local(), GET, local(), draws.choice(ARITHMETIC), SET, local(), END]
    parts += [GET, counter, CONST32, signed(1), SUB32, TEE, counter, BR_IF, unsigned(0), END]
    if number:
        # Functions 0 and 1 are `cabi_realloc` and `invoke`.
        parts += [BLOCK, GET, local(), GET, local(), LT64, BR_IF, unsigned(0)]
        parts += [GET, local(), GET, local(), CALL, unsigned(number + 1), SET, local(), END]
    parts += [GET, local(), END]
    return sized(b"".join(parts))


def functions(total: int) -> Iterator[bytes]:
    """So many bytes of functions."""
    draws = random.Random(1)
    made = number = 0
    while made < total:
        code = function(number, draws)
        made, number = made + len(code), number + 1
        yield code


def core_module(code_bytes: int, data_bytes: int) -> bytes:
    """A module that answers its input, after it has called one of its functions."""
    bodies = list(functions(code_bytes))
    realloc = sized(unsigned(0) + CONST32 + signed(4096) + END)
    # The result at 64: no error, and the input as it is.
    invoke = unsigned(0) + CONST32 + signed(128) + CONST64 + signed(3) + CONST64 + signed(5)
    invoke += CALL + unsigned(len(bodies) + 1) + STORE64 + unsigned(0)
    for at, local in ((68, 0), (72, 1)):
        invoke += CONST32 + signed(at) + GET + unsigned(local) + STORE32 + unsigned(0)
    invoke = sized(invoke + CONST32 + signed(64) + END)
    pages = 1 + -(-data_bytes // 65536)
    types = [
        b"\x60" + listed([I32] * 4) + listed([I32]),
        b"\x60" + listed([I32] * 2) + listed([I32]),
        b"\x60" + listed([I64] * 2) + listed([I64]),
    ]
    exports = [
        sized(b"cabi_realloc") + b"\x00" + unsigned(0),
        sized(b"invoke") + b"\x00" + unsigned(1),
        sized(b"memory") + b"\x02" + unsigned(0),
    ]
    module = b"\0asm\x01\0\0\0" + section(1, types)
    module += section(3, [unsigned(0), unsigned(1), *[unsigned(2)] * len(bodies)])
    module += section(5, [b"\x00" + unsigned(pages)]) + section(7, exports)
    module += section(10, [realloc, invoke, *bodies])
    if data_bytes:
        content = random.Random(2).randbytes(data_bytes)
        module += section(11, [b"\x00" + CONST32 + signed(65536) + END + sized(content)])
    return module


def load(component: bytes, cache: Path) -> tuple[float, float]:
    """Loads it on a host of its own, and calls it: microseconds of making the host and of loading."""
    start = time.perf_counter_ns()
    host = _native.Host(cache_dir=str(cache))
    made = time.perf_counter_ns()
    loaded = host.load_tool(component)
    end = time.perf_counter_ns()
    grants = effective(load_wants({}), load_policy({"schema": 1, "name": "bench"}), "pure").to_json()
    answer = loaded.bind(json.dumps(grants)).call("bench", INPUT, seed=bytes(32), now_ns=0)
    assert answer.output == INPUT, answer.error
    return (made - start) / 1000, (end - made) / 1000


def measured(component: bytes) -> tuple[dict[str, list[float]], int]:
    """Microseconds of compiling (once) and of loading, and bytes in the cache."""
    with tempfile.TemporaryDirectory(prefix="capsa-cold-load-") as path:
        cache = Path(path) / "cache"
        _, compiling = load(component, cache)
        kept = list(cache.glob("*.cwasm"))
        assert len(kept) == 1, kept
        written = kept[0].stat().st_mtime_ns
        times = [load(component, cache) for _ in range(LOADS)]
        assert kept[0].stat().st_mtime_ns == written, "it was compiled again"
        size = kept[0].stat().st_size
    hosts, loads = zip(*times, strict=True)
    # Compiling is timed once: the same figure stands beside every load.
    return {"from the cache": [*loads], "compiled": [compiling] * LOADS, "making a host": [*hosts]}, size


def of(name: str, code_bytes: int, data_bytes: int, bars: list[tuple[str, str, float]]) -> dict[str, Any]:
    component = _native.wrap_module(core_module(code_bytes, data_bytes), "tool")
    taken, cached = measured(component)
    result = report(
        f"Loading a component of {len(component) / MIB:.1f} MiB ({name})",
        taken,
        bars,
        component_bytes=len(component),
        component_digest=_native.digest(component),
        cached_bytes=cached,
    )
    ratio = statistics.median(taken["from the cache"]) / taken["compiled"][0]
    print(f"  {cached / MIB:.1f} MiB in the cache; from there in 1/{1 / ratio:.0f} of the time")
    return result


def main() -> dict[str, Any]:
    size = SIZE_MIB * MIB
    result = of("code", size, 0, [("from the cache", "compiled", BAR)])
    result["half_data"] = of("half of it data", size // 2, size // 2, [])
    result["machine"] = machine()
    store("cold_load", result)
    return result


if __name__ == "__main__":
    main()
