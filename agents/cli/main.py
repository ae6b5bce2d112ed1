"""The command ``rpp``: finds the subcommand and imports its module only.

`rpp --help` imports neither torch nor rpp-env, so that it answers at once.
"""

import logging
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import make_dataclass
from importlib import import_module
from typing import Any, Final

import tyro
from rich.console import Console

_DESCRIPTION: Final = "rpp-env: agents that write one prompt per user of an LLM recommender."


# The first line of the docstring of each subcommand's class. `rpp train` is the class `Train` of
# the module `train_command`: a dataclass of options, which is called with a `Console`.
COMMANDS: Final = {
    "fetch": "Lists the models and data sets that rpp-env knows, or downloads them into the cache.",
    "train": "Trains an agent and searches for the best fixed prompt; writes a run folder.",
    "evaluate": "Prints the table of scores of a run, by default on users it was not trained on.",
    "show": "Shows one user's episode: sentences, rankings with the target marked, rewards.",
    "benchmark": "Trains agents from several seeds on a recording; writes a table and pictures.",
    "diagnose": "Trains agents on tasks whose optimum is known; writes scores and a picture.",
    "submit": "Runs an agent under the frozen protocol, checks a submission, or compares several.",
    "record": "Ranks every combination of sentences for every instance; writes a recording.",
    "catalog": "Checks a prompt catalog that you write.",
    "cache": "Shows, prunes or verifies the store that keeps the LLM's answers between runs.",
}


# Loggers that say, at level INFO, what takes long: downloads, conversions, fits, calibration.
_LONG_WORK: Final = (
    *("rpp_env.assets", "rpp_env.observations", "rpp_env.recommenders.label"),
    *("rpp_env.llm.conversion", "rpp_env.llm.transformers", "rpp_env.llm.vllm"),
)


def load_command(name: str) -> type[Any]:
    """Imports the class of a subcommand, a key of `COMMANDS`."""
    module = import_module(f"rpp_agents.cli.{name}_command")
    found: type[Any] = getattr(module, name.capitalize())
    return found


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit status (0, 1 for an error, 130 when interrupted)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for name in _LONG_WORK:
        logging.getLogger(name).setLevel(logging.INFO)
    # A scheduler that ends a job with SIGTERM should lose as little as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command = _parse([expand_home(argument) for argument in arguments])
        # Without markup: a folder or a title may have [brackets] or :colons:.
        command(Console(markup=False, emoji=False))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from rpp_env.errors import RppError

        if not isinstance(error, RppError | ValueError | OSError):
            raise
        logging.getLogger("rpp").error("%s", error)
        return 1
    return 0


def expand_home(argument: str) -> str:
    """Expands the `~` that shells do not expand, as in ``--out=~/x`` and ``vllm:~/x``."""
    found = re.fullmatch(
        r"(--[\w-]+=)?((?:transformers|vllm):)?(~(?:[\w.-]*)(?:/.*)?)", argument, re.S
    )
    if found is None:
        return argument
    from rpp_env.paths import expand_path

    option, backend, path = found.groups(default="")
    return f"{option}{backend}{expand_path(path)}"


def _parse(arguments: list[str]) -> Callable[[Console], None]:
    """The command with its options; exits after help and after a mistake, as tyro does."""
    if arguments and arguments[0] in COMMANDS:
        name, *options = arguments
        command: Callable[[Console], None] = tyro.cli(
            load_command(name), prog=f"rpp {name}", args=options
        )
        return command
    # tyro's own options, such as --tyro-print-completion, need the options of all commands.
    everything = any(argument.startswith("--tyro-") for argument in arguments)
    classes: dict[str, Callable[..., Any]] = {
        name: load_command(name) if everything else _without_options(name) for name in COMMANDS
    }
    command = tyro.extras.subcommand_cli_from_dict(
        classes, prog="rpp", description=_DESCRIPTION, args=arguments
    )
    return command


def _without_options(name: str) -> type[Any]:
    """A class with the summary of a subcommand and no options, for the list of commands."""
    return make_dataclass(name.capitalize(), [], namespace={"__doc__": COMMANDS[name]})


if __name__ == "__main__":
    sys.exit(main())
