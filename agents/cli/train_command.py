"""``rpp train``: trains an agent into a run folder, or resumes a run."""

import contextlib
import itertools
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from rpp_agents.cli.tables import usage_table
from rpp_agents.training.accounting import read_usage
from rpp_agents.training.run_folder import read_config
from rpp_agents.training.train import train
from rpp_agents.training.train_config import TrainConfig, config_from_json
from rpp_env.errors import LLMUnavailableError


@dataclass(frozen=True, kw_only=True)
class Train:
    """Trains an agent and searches for the best fixed prompt; writes a run folder."""

    out: Path | None = None
    """Run folder. By default runs/ and the date and time."""
    resume: Path | None = None
    """Run folder of an interrupted run. It keeps its own options; give no others."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        if self.resume is not None:
            if self.out is not None or self.config != TrainConfig():
                raise ValueError(
                    f"resume={self.resume} takes no other option: the run keeps its own options"
                )
            folder, config = self.resume, config_from_json(read_config(self.resume))
        else:
            folder = self.out or make_run_folder(Path("runs"))
            config = with_absolute_paths(self.config)
        try:
            train(config, folder, resume=self.resume is not None)
        except (KeyboardInterrupt, LLMUnavailableError) as error:
            if (folder / "config.json").exists():
                what = "Interrupted" if isinstance(error, KeyboardInterrupt) else "Paused"
                console.print(
                    f"\n{what}. All answers and everything learned are kept. Continue with: "
                    f"rpp train --resume {folder}",
                    soft_wrap=True,
                )
            raise
        finally:
            usage = read_usage(folder)
            if usage:
                console.print(usage_table(usage))
        console.print(f"Trained. Next: rpp evaluate {folder}", soft_wrap=True)


def make_run_folder(parent: Path) -> Path:
    """Makes a new folder named by date and time; a second one in the same second ends in ``-2``."""
    name = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("itertools.count has no end")


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """The same configuration, so that it means the same from any working directory."""

    def absolute(name: str) -> str:
        return str(Path(name).absolute()) if Path(name).exists() else name

    def absolute_llm(spec: str) -> str:
        backend, colon, model = spec.partition(":")
        has_path = bool(model) and backend in ("transformers", "vllm")
        return f"{backend}{colon}{absolute(model)}" if has_path else spec

    paths: dict[str, Any] = {
        "recording": absolute(config.recording),
        "data": absolute(config.data),
        "catalog": absolute(config.catalog or ""),
        "llm": absolute_llm(config.llm),
        "refine": absolute_llm(config.refine or ""),
    }
    # A default is a name, whatever files of that name there are.
    default = TrainConfig()
    given = [name for name in paths if getattr(config, name) != getattr(default, name)]
    return replace(config, **{name: paths[name] for name in given})
