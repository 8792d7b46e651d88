"""Policies that do not hold: what is written, where the fault is, and what the remedy says."""

from __future__ import annotations

from typing import Final, NamedTuple

HEAD: Final = 'schema = 1\nname = "x"\n'


class Faulty(NamedTuple):
    """A policy that does not hold.

    Attributes:
        name: What is wrong with it.
        text: TOML; behind `HEAD`, unless it says `schema` or `name` itself.
        pointer: Where the fault is.
        remedy: Some words of the remedy.
    """

    name: str
    text: str
    pointer: str
    remedy: str

    @property
    def toml(self) -> str:
        """The whole document."""
        lines = f"\n{self.text}".split("\n[")[0].splitlines()
        head = [line for line in HEAD.splitlines() if not any(line[:4] == said[:4] for said in lines)]
        return "\n".join([*head, self.text, ""])


def _http(rule: str) -> str:
    return f"[[grants.http]]\n{rule}"


def _host(host: str) -> str:
    return _http(f'hosts = ["a.example.com", "{host}"]')


def _private(pair: str) -> str:
    return _http(f'private = ["{pair}"]')


def _secret(rest: str) -> str:
    return f"[[grants.secrets]]\n{rest}"


_HOST = "/grants/http/0/hosts/1"
_PRIVATE = "/grants/http/0/private/0"
_LONG = ".".join(["a" * 60] * 5)

FAULTY: Final = (
    # The document.
    Faulty("not TOML", "engine = ", "", "write TOML"),
    Faulty("a key twice", 'engine = "fast"\nengine = "fast"', "", "each key once"),
    Faulty("a table twice", "[grants]\nclock = true\n[grants]\nrandom = true", "", "each key once"),
    Faulty("a number of too many digits", f"[limits]\ncpu_ms = {'9' * 5000}", "", "write TOML"),
    Faulty("nested too deep", f"engine = {'[' * 3000}{']' * 3000}", "", "write TOML"),
    # The top.
    Faulty("no such key", "grant = {}", "/grant", "write grants"),
    Faulty("a key of another table", "clock = true", "/clock", "it stands under grants"),
    Faulty("a limit at the top", "cpu_ms = 5", "/cpu_ms", "it stands under limits"),
    Faulty("a rule at the top", "[[http]]\nhosts = []", "/http", "it stands under grants"),
    Faulty("a key like none", "zzz = 1", "/zzz", "there are schema, name, description"),
    Faulty("a key with signs", '"a/b~c" = 1', "/a~1b~0c", "there are schema"),
    Faulty("another schema", 'schema = 2\nname = "x"', "/schema", "write 1"),
    Faulty("schema is a text", 'schema = "1"', "/schema", "write 1"),
    Faulty("schema is true", "schema = true", "/schema", "write 1"),
    Faulty("schema has a point", "schema = 1.0", "/schema", "write 1"),
    Faulty("name is empty", 'name = ""', "/name", "1 to 64 of a-z, 0-9, _ and -"),
    Faulty("name is too long", f'name = "{"n" * 65}"', "/name", "1 to 64 of"),
    Faulty("name in capitals", 'name = "Fetcher"', "/name", "1 to 64 of a-z"),
    Faulty("name ends in a line", 'name = "x\\n"', "/name", "1 to 64 of a-z"),
    Faulty("name is a number", "name = 5", "/name", "write a text in quotes"),
    Faulty("description is too long", f'description = "{"d" * 1025}"', "/description", "at most 1024"),
    Faulty("description is a date", "description = 2026-11-21", "/description", "write a text in quotes"),
    Faulty("no such engine", 'engine = "turbo"', "/engine", "write deterministic or fast"),
    Faulty("engine misspelt", 'engine = "determinstic"', "/engine", "write deterministic"),
    Faulty("engine in capitals", 'engine = "FAST"', "/engine", "write fast"),
    Faulty("engine is a list", 'engine = ["fast"]', "/engine", "write deterministic or fast"),
    Faulty("grants are a list", "grants = []", "/grants", "write a table with clock, random"),
    Faulty("grants are true", "grants = true", "/grants", "write a table"),
    # Grants.
    Faulty("no such grant", "[grants]\nclok = true", "/grants/clok", "write clock"),
    Faulty("a grant of another world", "[grants]\nwasi = true", "/grants/wasi", "there are clock, random"),
    Faulty("a limit as a grant", "[grants]\nwall_ms = 5", "/grants/wall_ms", "it stands under limits"),
    Faulty("clock is 1", "[grants]\nclock = 1", "/grants/clock", "true or false"),
    Faulty("random is a text", '[grants]\nrandom = "yes"', "/grants/random", "true or false"),
    Faulty("config is a list", '[grants]\nconfig = ["region"]', "/grants/config", "a table of names and texts"),
    Faulty("a text of config is a number", "[grants.config]\nn = 5", "/grants/config/n", "a text in quotes"),
    Faulty("a text of config is a time", "[grants.config]\nn = 10:00:00", "/grants/config/n", "a text in quotes"),
    Faulty("a name of config has a blank", '[grants.config]\n"a b" = "c"', "/grants/config/a b", "1 to 64 of"),
    Faulty("a name of config is empty", '[grants.config]\n"" = "c"', "/grants/config/", "1 to 64 of"),
    Faulty("a text is too long", f'[grants.config]\nn = "{"x" * 4097}"', "/grants/config/n", "at most 4096"),
    Faulty(
        "too many texts", "[grants.config]\n" + "\n".join(f'n{n} = ""' for n in range(65)), "/grants/config", "at most 64"
    ),
    Faulty("kv is true", "[grants]\nkv = true", "/grants/kv", "a table with access, max_bytes and max_keys"),
    Faulty("kv without access", "[grants]\nkv = {}", "/grants/kv/access", 'write access = "read" or "read_write"'),
    Faulty("no such access", '[grants]\nkv = { access = "write" }', "/grants/kv/access", "write read_write"),
    Faulty("access with a dash", '[grants]\nkv = { access = "read-write" }', "/grants/kv/access", "write read_write"),
    Faulty(
        "a key of JSON", '[grants]\nkv = { access = "read", maxBytes = 1 }', "/grants/kv/maxBytes", "write max_bytes"
    ),
    Faulty(
        "a quota of the other", '[grants]\nkv = { access = "read", max_files = 1 }', "/grants/kv/max_files",
        "it stands under grants.files",
    ),
    Faulty(
        "a quota below nothing", '[grants]\nfiles = { access = "read", max_bytes = -1 }', "/grants/files/max_bytes",
        "from 0 to 68,719,476,736",
    ),
    Faulty(
        "a quota in bytes and a half", '[grants]\nkv = { access = "read", max_bytes = 1.5 }', "/grants/kv/max_bytes",
        "a whole number from 0 to 1,073,741,824",
    ),
    # Rules.
    Faulty("http is one rule", '[grants.http]\nhosts = ["a.com"]', "/grants/http", "double brackets"),
    Faulty("a rule is a host", '[grants]\nhttp = ["a.com"]', "/grants/http/0", "write a table with hosts"),
    Faulty("a rule without hosts", _http('methods = ["GET"]'), "/grants/http/0", "write hosts = "),
    Faulty("a rule with no host", _http("hosts = []"), "/grants/http/0", "private = "),
    Faulty("a key of rules misspelt", _http('host = ["a.com"]'), "/grants/http/0/host", "write hosts"),
    Faulty("hosts is a text", _http('hosts = "a.com"'), "/grants/http/0/hosts", "write a list"),
    Faulty("a host is a number", _http("hosts = [5]"), "/grants/http/0/hosts/0", "a text in quotes"),
    Faulty(
        "too many hosts", _http(f"hosts = {[f'h{n}.com' for n in range(257)]}"), "/grants/http/0/hosts",
        "at most 256",
    ),
    Faulty("too many rules", '[[grants.http]]\nhosts = ["a.com"]\n' * 257, "/grants/http", "at most 256"),
    Faulty("ports are a number", _http('hosts = ["a.com"]\nports = 443'), "/grants/http/0/ports", "[443]"),
    Faulty("port 0", _http('hosts = ["a.com"]\nports = [443, 0]'), "/grants/http/0/ports/1", "1 to 65,535"),
    Faulty("port 65536", _http('hosts = ["a.com"]\nports = [65536]'), "/grants/http/0/ports/0", "1 to 65,535"),
    Faulty("a port is true", _http('hosts = ["a.com"]\nports = [true]'), "/grants/http/0/ports/0", "whole number"),
    Faulty("a port twice", _http('hosts = ["a.com"]\nports = [1, 1]'), "/grants/http/0/ports/1", "leave one"),
    Faulty("no ports", _http('hosts = ["a.com"]\nports = []'), "/grants/http/0/ports", "or leave it out"),
    Faulty(
        "ports without hosts", _http('private = ["a.com:1"]\nports = [1]'), "/grants/http/0/ports", "names its own port"
    ),
    Faulty("any method", _http('hosts = ["a.com"]\nmethods = ["*"]'), "/grants/http/0/methods/0", "write DELETE, GET, HEAD"),
    Faulty("small letters", _http('hosts = ["a.com"]\nmethods = ["post"]'), "/grants/http/0/methods/0", "write POST"),
    Faulty("CONNECT", _http('hosts = ["a.com"]\nmethods = ["CONNECT"]'), "/grants/http/0/methods/0", "GET, HEAD"),
    Faulty("no methods", _http('hosts = ["a.com"]\nmethods = []'), "/grants/http/0/methods", "name at least one"),
    Faulty("ftp", _http('hosts = ["a.com"]\nschemes = ["ftp"]'), "/grants/http/0/schemes/0", "write http"),
    Faulty(
        "a scheme twice", _http('hosts = ["a.com"]\nschemes = ["https", "https"]'), "/grants/http/0/schemes/1", "leave one"
    ),
    # Hosts.
    Faulty("a host is empty", _host(""), _HOST, "leave it out"),
    Faulty("a URL", _host("https://b.com/x"), _HOST, "the host alone"),
    Faulty("a port behind it", _host("b.com:8443"), _HOST, "ports = [8443]"),
    Faulty("a path behind it", _host("b.com/x"), _HOST, "a path is not part"),
    Faulty("too wide", _host("*.com"), _HOST, '"*.example.com"'),
    Faulty("a star inside", _host("a*.com"), _HOST, '"*."'),
    Faulty("a star at the end", _host("b.*"), _HOST, '"*."'),
    Faulty("two stars", _host("*.*.com"), _HOST, "a part has 1 to 63"),
    Faulty("the same host", _host("A.Example.Com."), _HOST, "leave one of them out"),
    Faulty("this machine", _host("localhost"), _HOST, 'private = ["localhost:8080"]'),
    Faulty("a name of this machine", _host("api.localhost"), _HOST, 'private = ["api.localhost:8080"]'),
    Faulty("loopback", _host("127.0.0.1"), _HOST, 'private = ["127.0.0.1:8080"]'),
    Faulty("private", _host("10.0.0.5"), _HOST, 'private = ["10.0.0.5:8080"]'),
    Faulty("metadata", _host("169.254.169.254"), _HOST, 'private = ["169.254.169.254:8080"]'),
    Faulty("metadata, mapped", _host("::ffff:169.254.169.254"), _HOST, 'private = ["169.254.169.254:8080"]'),
    Faulty("loopback of IPv6", _host("[::1]"), _HOST, 'private = ["[::1]:8080"]'),
    Faulty("NAT64", _host("64:ff9b::a00:5"), _HOST, "private = "),
    Faulty("any address", _host("0.0.0.0/0"), _HOST, "only public networks"),
    Faulty("any address of IPv6", _host("::/0"), _HOST, "only public networks"),
    Faulty("half private", _host("192.0.0.0/8"), _HOST, "only public networks"),
    Faulty("documentation", _host("203.0.113.0/24"), _HOST, "only public networks"),
    Faulty("bits behind the prefix", _host("93.184.216.34/24"), _HOST, '"93.184.216.0/24"'),
    Faulty("a mask", _host("93.184.216.0/255.255.255.0"), _HOST, '"93.184.216.0/24"'),
    Faulty("a zone", _host("fe80::1%eth0"), _HOST, "leave out the %"),
    Faulty("hexadecimal", _host("0x7f000001"), _HOST, 'write "127.0.0.1"'),
    Faulty("decimal", _host("2130706433"), _HOST, 'write "127.0.0.1"'),
    Faulty("octal", _host("0177.0.0.1"), _HOST, 'write "127.0.0.1"'),
    Faulty("short", _host("127.1"), _HOST, 'write "127.0.0.1"'),
    Faulty("too large a number", _host("1.2.3.999"), _HOST, '"93.184.216.34"'),
    Faulty("a user", _host("user@b.com"), _HOST, "a part has 1 to 63"),
    Faulty("a blank", _host("b .com"), _HOST, "a part has 1 to 63"),
    Faulty("an empty part", _host("b..com"), _HOST, "one dot"),
    Faulty("a dot alone", _host("."), _HOST, "write a host name"),
    Faulty("a hyphen first", _host("-b.com"), _HOST, "no - at its ends"),
    Faulty("a part too long", _host(f"{'b' * 64}.com"), _HOST, "1 to 63"),
    Faulty("a name too long", _host(_LONG), _HOST, "the whole name"),
    Faulty("a text too long", _host("b" * 513), _HOST, "at most 512"),
    Faulty("no such letters", _host("xn--a.com"), _HOST, "as people read it"),
    Faulty("a sign that is no letter", _host("☃.example"), _HOST, "ASCII form"),
    # Private destinations.
    Faulty("private without port", _private("10.0.0.5"), _PRIVATE, "write host:port"),
    Faulty("private with any port", _private("10.0.0.5:*"), _PRIVATE, "named exactly"),
    Faulty("private with port 0", _private("10.0.0.5:0"), _PRIVATE, "write host:port"),
    Faulty("private with port 70000", _private("10.0.0.5:70000"), _PRIVATE, "write host:port"),
    Faulty("private with a sign", _private("10.0.0.5:+80"), _PRIVATE, "write host:port"),
    Faulty("a private network", _private("10.0.0.0/8:80"), _PRIVATE, "write host:port"),
    Faulty("a private suffix", _private("*.internal.net:80"), _PRIVATE, "named exactly"),
    Faulty("IPv6 without brackets", _private("fd00::1:80"), _PRIVATE, "[fd00::1]:8080"),
    Faulty("a private URL", _private("http://10.0.0.5:80"), _PRIVATE, "write host:port"),
    Faulty("private in octal", _private("0177.0.0.1:80"), _PRIVATE, 'write "127.0.0.1"'),
    Faulty(
        "the same twice", _http('private = ["A.com:1", "a.com:1"]'), "/grants/http/0/private/1", "leave one of them out"
    ),
    # Secrets.
    Faulty("a secret without hosts", _secret('name = "s"'), "/grants/secrets/0/hosts", "write hosts"),
    Faulty("a secret without name", _secret('hosts = ["a.com"]'), "/grants/secrets/0/name", "write name"),
    Faulty("a secret for nobody", _secret('name = "s"\nhosts = []'), "/grants/secrets/0/hosts", "at least one"),
    Faulty("a secret for anybody", _secret('name = "s"\nhosts = ["*"]'), "/grants/secrets/0/hosts/0", "name the hosts"),
    Faulty("the value of a secret", _secret('name = "s"\nvalue = "sk"'), "/grants/secrets/0/value", "there are name and hosts"),
    Faulty("a name with a point", _secret('name = "a.b"\nhosts = ["a.com"]'), "/grants/secrets/0/name", "1 to 64 of"),
    Faulty(
        "a secret twice", _secret('name = "s"\nhosts = ["a.com"]\n') + _secret('name = "s"\nhosts = ["b.com"]'),
        "/grants/secrets/1", "leave one of them out",
    ),
    # Limits.
    Faulty("no such limit", "[limits]\ncpu = 5", "/limits/cpu", "write cpu_ms"),
    Faulty("a grant as a limit", "[limits]\nclock = true", "/limits/clock", "it stands under grants"),
    Faulty("no time", "[limits]\ncpu_ms = 0", "/limits/cpu_ms", "from 1 to 60,000"),
    Faulty("too much time", "[limits]\nwall_ms = 600_001", "/limits/wall_ms", "from 1 to 600,000"),
    Faulty("a page at least", "[limits]\nmemory_bytes = 65_535", "/limits/memory_bytes", "65,536 to 4,294,967,296"),
    Faulty("in exponents", "[limits]\negress_bytes = 1e6", "/limits/egress_bytes", "as 1000000"),
    Faulty("infinity", "[limits]\negress_bytes = inf", "/limits/egress_bytes", "a whole number from 0"),
    Faulty("not a number", "[limits]\nlog_lines = nan", "/limits/log_lines", "a whole number from 0"),
    Faulty("a limit is true", "[limits]\nlog_lines = true", "/limits/log_lines", "a whole number from 0"),
    Faulty("a limit is a text", '[limits]\nlog_bytes = "16 KiB"', "/limits/log_bytes", "a whole number from 0"),
    Faulty("a huge number", f"[limits]\nhost_calls = {10**400}", "/limits/host_calls", "from 0 to 1,000,000"),
    Faulty("fuel with the fast engine", "[limits]\nfuel = 5", "/limits/fuel", 'engine = "deterministic"'),
    Faulty(
        "too much fuel", f'engine = "deterministic"\n[limits]\nfuel = {10**15 + 1}', "/limits/fuel",
        "from 1 to 1,000,000,000,000,000",
    ),
)  # fmt: skip
