"""The policies that come with Capsa: what they grant, and that they are found where they are installed."""

from __future__ import annotations

import itertools
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Final

import pytest

from capsa.errors import InvalidPolicy
from capsa.policies import READY, Limits, diff, effect_of, effective, load_policy, load_wants, ready_policy

FOLDER: Final = Path(__file__).parents[2] / "policies"
#: A definition that wants all there is.
EVERYTHING: Final = load_wants(
    {
        "wants": {
            "clock": True,
            "random": True,
            "config": ["region"],
            "kv": {"access": "read_write", "max_bytes": 1 << 30, "max_keys": 1_000_000},
            "files": {"access": "read_write", "max_bytes": 1 << 36, "max_files": 1_000_000},
            "http": [
                {
                    "hosts": ["*"],
                    "schemes": ["https", "http"],
                    "methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
                    "private": ["10.0.0.5:8080"],
                }
            ],
            "secrets": [{"name": "s", "hosts": ["*.example.com"]}],
        }
    }
)


def granted(name: str) -> dict[str, Any]:
    """What a ready policy leaves of everything."""
    return effective(EVERYTHING, ready_policy(name), "non_idempotent").to_json()


@pytest.mark.parametrize("name", READY)
def test_it_is_called_like_its_file_and_says_what_it_is_for(name: str) -> None:
    policy = load_policy(name)
    assert policy.name == name
    assert policy.description
    text = resources.files("capsa.policies").joinpath("ready", f"{name}.toml").read_text()
    assert text.startswith("# ")
    assert tomllib.loads(text)["name"] == name


def test_the_folder_of_the_project_shows_the_same_files() -> None:
    """One copy: links, and the page names each."""
    package = Path(str(resources.files("capsa.policies").joinpath("ready")))
    assert sorted(file.stem for file in package.glob("*.toml")) == sorted(READY)
    for name in READY:
        assert (FOLDER / f"{name}.toml").is_symlink()
        assert (FOLDER / f"{name}.toml").read_bytes() == (package / f"{name}.toml").read_bytes()
    page = (FOLDER / "README.md").read_text()
    assert [name for name in READY if f"[`{name}`]({name}.toml)" in page] == list(READY)


def test_none_grants_what_has_to_be_named() -> None:
    """Secrets, configuration, private destinations."""
    for name in READY:
        found = granted(name)
        assert (found["secrets"], found["config"]) == ([], {})
        assert all(rule["private"] == [] for rule in found["http"]["allowed"])


def test_each_grants_what_the_one_before_does() -> None:
    """And more."""
    for less, more in itertools.pairwise(READY):
        found = diff(ready_policy(less), ready_policy(more))
        assert found.new, more
        assert found.gone == (), more


def test_pure_grants_nothing() -> None:
    found = granted("pure")
    limits = found.pop("limits")
    assert not any(found[name] for name in ("clock", "random", "config", "kv", "files", "secrets"))
    assert found["http"]["allowed"] == []
    assert limits["cpuMs"] == 50


def test_read_only_http_changes_nothing() -> None:
    """What it grants is of the class `read`."""
    found = granted("read-only-http")
    assert (found["clock"], found["random"], found["files"]) == (True, True, None)
    assert found["kv"]["access"] == "read"
    assert found["http"]["allowed"] == [
        {"hosts": ["*"], "schemes": ["https"], "ports": [443], "methods": ["GET", "HEAD"], "private": []}
    ]
    grants = ready_policy("read-only-http").to_json()["grants"]
    wants = load_wants({"wants": {name: value for name, value in grants.items() if name != "config"}})
    imports = [f"capsa:capsule/{name}@0.1.0" for name in ("clock", "random", "kv", "http")]
    assert effect_of(wants, imports) == "read"


def test_tool_default_acts_in_modest_quotas() -> None:
    found = granted("tool-default")
    assert found["kv"] == {"access": "readWrite", "maxBytes": 1 << 20, "maxKeys": 1000}
    assert found["files"] == {"access": "readWrite", "maxBytes": 16 << 20, "maxFiles": 1000}
    [rule] = found["http"]["allowed"]
    assert rule["schemes"] == ["https"]
    assert len(rule["methods"]) == 7
    assert ready_policy("tool-default").limits == Limits()


def test_trusted_has_the_largest_limits() -> None:
    """No policy can have larger ones."""
    policy = ready_policy("trusted")
    said = policy.to_json()
    for table in (said["limits"], said["grants"]["kv"], said["grants"]["files"]):
        for name, most in table.items():
            if name == "access":
                continue
            larger = policy.to_json()
            place = next(
                at
                for at in (larger["limits"], larger["grants"]["kv"], larger["grants"]["files"])
                if at == table
            )
            place[name] = most + 1
            with pytest.raises(InvalidPolicy, match="out of range"):
                load_policy(larger)
