"""Strategies by name: how a ranking is got out of an LLM, and with which options."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from rpp_env.llm.base import LLM, Decoding
from rpp_env.option_checks import check_count, check_flags, one_of
from rpp_env.recommenders.base import STRATEGIES, LLMRecommender
from rpp_env.recommenders.generation import GenerationRecommender
from rpp_env.recommenders.label import LabelRecommender
from rpp_env.recommenders.likelihood import LikelihoodRecommender
from rpp_env.recommenders.parsing.reasoning import check_reasoning_marks
from rpp_env.types import PromptBatch


@dataclass(frozen=True, kw_only=True)
class RankingConfig:
    """How rankings are got out of an LLM."""

    strategy: Literal["likelihood", "label", "generation"] = "likelihood"
    """likelihood: order by the log-probability of titles; label: by that of letters; generation:
    the LLM writes the list."""
    permutations: int = 1
    """label, generation: orders of the candidates that are averaged over."""
    calibrate: bool = True
    """label: subtract what the LLM prefers at each position."""
    samples: int = 1
    """generation: lists that are drawn and merged; more than 1 needs a temperature."""
    temperature: float = 0.0
    """generation: 0 takes the most likely token each time."""
    top_p: float = 1.0
    """generation: nucleus that tokens are drawn from."""
    max_tokens: int = 256
    """generation: longest list."""
    reasoning_marks: tuple[tuple[str, str], ...] = ()
    """generation: opening and closing marks of the LLM's reasoning, besides the known ones."""
    constrained: bool = False
    """generation: hold the LLM to a JSON list of the candidates, where its engine can."""

    def __post_init__(self) -> None:
        one_of("strategy", self.strategy, STRATEGIES)
        check_count(self, 1, "permutations", "samples")
        check_flags(self, "calibrate", "constrained")
        marks = tuple(
            (opens, closes) for opens, closes in check_reasoning_marks(self.reasoning_marks)
        )
        object.__setattr__(self, "reasoning_marks", marks)  # lists where it is read from JSON
        self.decoding()  # raises what is wrong with it
        for name in _NOT_FOR[self.strategy]:
            if getattr(self, name) != RankingConfig.__dataclass_fields__[name].default:
                raise ValueError(
                    f"{name}={getattr(self, name)} is not for strategy={self.strategy!r}; leave it "
                    "out"
                )
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples={self.samples} needs a temperature above 0, such as 0.7")

    def decoding(self) -> Decoding:
        """How text is drawn."""
        return Decoding(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the strategy and the options that are for it."""
        options = {k: v for k, v in asdict(self).items() if k not in _NOT_FOR[self.strategy]}
        if not self.reasoning_marks:
            options.pop("reasoning_marks", None)  # older stores and run folders do not have it
        return options


_OF_GENERATION: Final = (
    *("samples", "temperature", "top_p", "max_tokens", "constrained"),
    "reasoning_marks",
)
_NOT_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    "likelihood": ("permutations", "calibrate", *_OF_GENERATION),
    "label": _OF_GENERATION,
    "generation": ("calibrate",),
}


def make_strategy(
    llm: LLM,
    config: RankingConfig,
    *,
    calibration: Callable[[], PromptBatch] | None = None,
    asks_chats: bool = False,
    seed: int = 0,
) -> LLMRecommender:
    """Makes the recommender that a configuration describes.

    Args:
        llm: What ranks.
        config: How.
        calibration: For ``label``, unless `config.calibrate` is off: makes the prompts on which
            the positions' means are measured; see `LabelRecommender`.
        asks_chats: For ``likelihood`` and ``label``: whether prompts will need a chat template.
        seed: Of all that the strategy draws.

    Raises:
        ValueError: The LLM cannot do what the strategy needs; the message names the strategies
            that work with it, and the backends that work with the strategy.
    """
    if config.strategy == "likelihood":
        return LikelihoodRecommender(llm, asks_chats=asks_chats, seed=seed)
    if config.strategy == "label":
        if config.calibrate and calibration is None:
            raise ValueError("strategy='label' calibrates on prompts; give calibration=")
        return LabelRecommender(
            llm,
            permutations=config.permutations,
            calibration=calibration if config.calibrate else None,
            asks_chats=asks_chats,
            seed=seed,
        )
    return GenerationRecommender(
        llm,
        decoding=config.decoding(),
        samples=config.samples,
        permutations=config.permutations,
        constrained=config.constrained,
        reasoning_marks=config.reasoning_marks,
        seed=seed,
    )
