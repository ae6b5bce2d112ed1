"""The command ``rpp``: finds the subcommand and imports its module only.

`rpp --help` imports neither torch nor rpp-env, so that it answers at once.
"""

import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from importlib import import_module
from typing import Any, Final

import tyro
from rich.console import Console

_DESCRIPTION: Final = "rpp-env: agents that write one prompt per user of an LLM recommender."


@dataclass(frozen=True, kw_only=True)
class Command:
    """Where a subcommand is, and what it does."""

    module: str  # in rpp_agents.cli
    class_name: str  # a dataclass of its options, which is called with a `Console`
    summary: str  # the first line of the class's docstring

    def load(self) -> Callable[..., Callable[[Console], None]]:
        """Imports the class."""
        found: Any = getattr(import_module(f"rpp_agents.cli.{self.module}"), self.class_name)
        return found  # type: ignore[no-any-return]


COMMANDS: Final = {
    "fetch": Command(
        module="fetch_command",
        class_name="Fetch",
        summary="Lists the models and data sets that rpp-env knows, or downloads them into the "
        "cache.",
    ),
    "train": Command(
        module="train_command",
        class_name="Train",
        summary="Trains an agent and searches for the best fixed prompt; writes a run folder.",
    ),
    "evaluate": Command(
        module="evaluate_command",
        class_name="Evaluate",
        summary="Prints the table of scores of a run, by default on users it was not trained on.",
    ),
    "show": Command(
        module="show_command",
        class_name="Show",
        summary="Shows one user's episode: sentences, rankings with the target marked, rewards.",
    ),
    "benchmark": Command(
        module="benchmark_command",
        class_name="Benchmark",
        summary="Trains agents from several seeds on a recording; writes a table and pictures.",
    ),
    "record": Command(
        module="record_command",
        class_name="Record",
        summary="Ranks every combination of sentences for every instance; writes a recording.",
    ),
    "catalog": Command(
        module="catalog_command",
        class_name="Catalog",
        summary="Checks a prompt catalog that you write.",
    ),
    "cache": Command(
        module="cache_command",
        class_name="Cache",
        summary="Shows, prunes or verifies the store that keeps the LLM's answers between runs.",
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit status (0, 1 for an error, 130 when interrupted)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # A scheduler that ends a job with SIGTERM should lose as little as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _parse(arguments)(Console())
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from rpp_env.errors import RppError

        if not isinstance(error, RppError | ValueError | OSError):
            raise
        logging.getLogger("rpp").error("%s", error)
        return 1
    return 0


def _parse(arguments: list[str]) -> Callable[[Console], None]:
    """The command with its options; exits after help and after a mistake, as tyro does."""
    if arguments and arguments[0] in COMMANDS:
        name, *options = arguments
        found: Any = tyro.cli(COMMANDS[name].load(), prog=f"rpp {name}", args=options)
        return found  # type: ignore[no-any-return]
    # tyro's own options, such as --tyro-print-completion, need the options of all commands.
    everything = any(argument.startswith("--tyro-") for argument in arguments)
    classes: dict[str, Callable[..., Any]] = {
        name: command.load() if everything else _stand_in(command)
        for name, command in COMMANDS.items()
    }
    parsed: Any = tyro.extras.subcommand_cli_from_dict(
        classes, prog="rpp", description=_DESCRIPTION, args=arguments
    )
    return parsed  # type: ignore[no-any-return]


def _stand_in(command: Command) -> type[Any]:
    """A class with a command's summary and no options, for the list of commands."""
    return make_dataclass(command.class_name, [], namespace={"__doc__": command.summary})


if __name__ == "__main__":
    sys.exit(main())
