"""Stores that other packages bring: what is taken, and how each fault of a package is told."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from ai_cache_extproc import plugins
from ai_cache_extproc.cli.doctor_store import examine_store
from ai_cache_extproc.cli.plan import plan_of
from ai_cache_extproc.config.load import Loaded, load, redacted
from ai_cache_extproc.config.stores import PluginStore
from ai_cache_extproc.errors import BackendUnavailable, ConfigError, ConfigFaults
from ai_cache_extproc.stores import AnyStore, open_store
from ai_cache_extproc.stores.base import KeyKeeper, Tended
from tests.support.gateway import ROOT

EXAMPLE = ROOT / "examples" / "custom_backend" / "aicache_files.py"
SETTINGS = """
from __future__ import annotations
from typing import Literal
from pydantic import SecretStr
from ai_cache_extproc.config.stores import PluginStore
from ai_cache_extproc.plugins import StorePlugin

class Mine(PluginStore):
    type: Literal["mine"]
    token: SecretStr = SecretStr("")
"""
NO_STORE = """
from contextlib import asynccontextmanager

@asynccontextmanager
async def opened(settings, *, prefix, clock):
    yield object()

PLUGIN = StorePlugin(settings=Mine, open=opened)
"""
FALLS = """
def opened(settings, *, prefix, clock):
    raise OSError("no route to host")

PLUGIN = StorePlugin(settings=Mine, open=opened)
"""
UNREACHED = FALLS.replace(
    'raise OSError("no route to host")',
    'from ai_cache_extproc.errors import BackendUnavailable\n    raise BackendUnavailable("mine", "open", "is down")',
)

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A function that makes a package with an entry point, as an installer would leave it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def installed(source: str | Path, *, type_: str = "mine", package: str = "mine-store") -> None:
        module = package.replace("-", "_")
        if isinstance(source, Path):
            shutil.copy(source, site / f"{module}.py")
        else:
            (site / f"{module}.py").write_text(source)
        metadata = site / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[{plugins.STORES}]\n{type_} = {module}:PLUGIN\n")

    yield installed
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").is_relative_to(site):
            del sys.modules[name]


def loaded(folder: Path, text: str) -> Loaded:
    """The configuration of a document."""
    path = folder / "aicache.yaml"
    path.write_text(text)
    return load(path, environ={})


def refusal(folder: Path, text: str) -> list[str]:
    """What is said about a document that is refused, without the folder."""
    with pytest.raises((ConfigError, ConfigFaults)) as caught:
        loaded(folder, text)
    assert isinstance(caught.value, ConfigError | ConfigFaults)
    return [str(fault).removeprefix(f"{folder}/") for fault in caught.value.faults]


def opening(settings: Any) -> AbstractAsyncContextManager[AnyStore]:
    """The store of these settings, with nobody watching."""
    return open_store(
        settings, prefix="aicache:", heard=(), clock=lambda: 1_800_000_000.0, breaker_watch=lambda *_: None
    )


async def test_the_example_is_a_store_as_any_other(install: Install, tmp_path: Path) -> None:
    """A document names it, `check` says where it is from, `doctor` examines it, and it is opened."""
    install(EXAMPLE, type_="files", package="aicache-files")
    config = loaded(tmp_path, f"store: {{type: files, folder: {tmp_path}/entries}}").config
    assert isinstance(config.store, PluginStore)
    assert "aicache-files 1.0" == plugins.store_origin("files")
    plan = dict(plan_of(Loaded(config, None, embedded=False), {}).rows)
    assert "files, of the package aicache-files 1.0; what it promises is its own" == plan["store"]
    assert {"type": "files", "folder": f"{tmp_path}/entries", "sweep_s": 60.0} == redacted(config)["store"]
    found = [str(each) for each in await examine_store(config, {})]
    assert "store: files of the package aicache-files 1.0 answers" == found[0]
    assert "store: may write, read and delete" in found
    async with opening(config.store) as store:
        assert isinstance(store, Tended)
        keeper: KeyKeeper = store
        assert await keeper.identity_key() == await keeper.identity_key()
        await store.set("key", b"value", ttl_s=60)
        assert b"value" == await store.get("key")


def test_its_settings_are_checked_as_any_other(install: Install, tmp_path: Path) -> None:
    """An unknown key, a missing one and a value out of range are named with line and way out."""
    install(EXAMPLE, type_="files", package="aicache-files")
    assert [
        "aicache.yaml:1: store.folder: is missing",
        "aicache.yaml:3: store.sweep_s: must be more than 0, not 0",
        'aicache.yaml:4: store.foldr: unknown key; did you mean "folder"?',
    ] == refusal(tmp_path, "store:\n  type: files\n  sweep_s: 0\n  foldr: x\n")


def test_a_type_that_nobody_brings_is_named_beside_those_that_are_there(install: Install, tmp_path: Path) -> None:
    """The error lists the built-in types and those of installed packages."""
    install(EXAMPLE, type_="files", package="aicache-files")
    (said,) = refusal(tmp_path, "store: {type: flies}")
    assert "aicache.yaml:1: store.type: must be one of 'sqlite', 'memory', 'redis', 'files', not \"flies\"" == said


def test_its_secrets_are_masked(install: Install, tmp_path: Path) -> None:
    """A SecretStr of a plugin is shown by nothing."""
    install(SETTINGS + NO_STORE)
    config = loaded(tmp_path, "store: {type: mine, token: canary-canary}").config
    assert "canary" not in str(redacted(config)) + str(config)
    assert "canary" not in str(refusal(tmp_path, "store: {type: mine, token: {canary: canary}}"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import not_there_at_all", "cannot be loaded (ModuleNotFoundError: No module named 'not_there_at_all')"),
        ("PLUGIN = dict()", "is no StorePlugin: mine_store:PLUGIN is of type dict"),
        (
            SETTINGS + "PLUGIN = StorePlugin(settings=Mine, open=print, api=2)",
            "is made for version 2 of plugins, this sidecar has 1; update one",
        ),
        (SETTINGS + "PLUGIN = StorePlugin(settings=dict, open=print)", "has settings that are no PluginStore"),
    ],
    ids=["not imported", "another thing", "another version", "other settings"],
)
def test_a_package_that_does_not_fit_is_named(install: Install, tmp_path: Path, source: str, expected: str) -> None:
    """The fault stands at `store.type`, with the name and version of the package."""
    install(source)
    (said,) = refusal(tmp_path, "store: {type: mine}")
    assert said.startswith('aicache.yaml:1: store.type: "mine" of the package mine-store 1.0 ')
    assert expected in said


def test_two_packages_with_one_name_are_refused(install: Install, tmp_path: Path) -> None:
    """Neither wins by accident."""
    install(SETTINGS + NO_STORE)
    install(SETTINGS + NO_STORE, package="other-store")
    (said,) = refusal(tmp_path, "store: {type: mine}")
    assert '"mine" is brought by mine-store 1.0 and other-store 1.0; uninstall all but one' in said


def test_a_built_in_type_is_not_taken_over(install: Install, tmp_path: Path) -> None:
    """A package that brings `memory` changes nothing."""
    install(SETTINGS + NO_STORE, type_="memory")
    assert not isinstance(loaded(tmp_path, "store: {type: memory}").config.store, PluginStore)


@pytest.mark.parametrize(
    ("source", "expected", "kind"),
    [
        (
            NO_STORE,
            "store.type: the store of mine-store 1.0 lacks get, set, delete, check, stats, identity_key, name",
            ConfigError,
        ),
        (FALLS, r"store: mine-store 1.0 did not open its store \(OSError: no route to host\)", ConfigError),
        (UNREACHED, "mine open: is down", BackendUnavailable),
    ],
    ids=["no store", "falls", "is down"],
)
async def test_a_store_that_is_not_opened_is_told(
    install: Install, tmp_path: Path, source: str, expected: str, kind: type[Exception]
) -> None:
    """What is no store, and what falls on opening, does not start; one that is down only says so."""
    install(SETTINGS + source)
    settings = loaded(tmp_path, "store: {type: mine}").config.store
    with pytest.raises(kind, match=expected):
        async with opening(settings):
            pass


async def test_a_package_that_is_gone_is_told_on_opening(install: Install, tmp_path: Path) -> None:
    """Uninstalled after the document was read."""
    with pytest.raises(ConfigError, match='"mine" is brought by no installed package'):
        async with opening(PluginStore(type="mine")):
            pass
