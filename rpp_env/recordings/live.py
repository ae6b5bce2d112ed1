"""The environment of a recording with the LLM itself in place of the table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rpp_env.data import Interactions, item_knowledge, make_instances
from rpp_env.errors import RecordingError
from rpp_env.llm.base import LLM
from rpp_env.llm.load import load_llm, resolve_llm
from rpp_env.make import load_data
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.prompts import PromptRenderer
from rpp_env.recommenders import RankingConfig, build_recommender
from rpp_env.recordings.load import DEFAULT_RECORDING, load_recording
from rpp_env.recordings.recording import Recording
from rpp_env.store import AnswerStore
from rpp_env.types import ItemKnowledge


def live_mdp(
    recording: str | Path | Recording = DEFAULT_RECORDING,
    *,
    data: str | Path | Interactions | None = None,
    llm: str | LLM | None = None,
    cache: bool = True,
    horizon: int = 15,
    reward_k: int = 10,
    progress: bool = True,
) -> PromptMDP:
    """Makes the dynamics with the recording's instances and embeddings, ranked by an LLM now.

    A policy learned on a recording is evaluated here as it stands: what it sees is the same, and
    only the rankings are new.

    Args:
        recording: Name of one that ships, a file, or a recording.
        data: The data set that the recording was made of, for the titles; by default the one that
            it names.
        llm: An LLM, or ``backend:model``; by default the recorded one with weights of the recorded
            type. It ranks by the recorded strategy.
        cache: Whether the LLM's answers are stored for later processes, in the cache's folder.
        horizon: Steps of an episode.
        reward_k: Cut-off of the NDCG that is the reward.
        progress: Whether to show progress bars.

    Raises:
        RecordingError: There is no such recording, or `data` is not what it was made of.
        RppError: The data set or the LLM cannot be had; the message says what to do.
    """
    if not isinstance(recording, Recording):
        recording = load_recording(recording)
    try:
        about_data, about_llm = dict(recording.about["data"]), dict(recording.about["llm"])
        name, fingerprint, seed = (about_data[key] for key in ("name", "fingerprint", "seed"))
        strategy = recording.about["strategy"]
        options = {"strategy": strategy} if isinstance(strategy, str) else strategy
        ranking = RankingConfig(**options)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordingError(
            f"recording {recording.name!r} does not say what data and LLM it was made with "
            f"({error!r}); those that 'rpp record' writes do"
        ) from error
    source = data if data is not None else name
    if not isinstance(source, Interactions):
        source = load_data(source, progress=progress)
    if source.fingerprint() != fingerprint:
        raise RecordingError(
            f"data={source.name!r} is not the data set that recording {recording.name!r} was made "
            "of; pass data= the one it was made of"
        )
    if llm is None:
        dtype = about_llm.get("dtype")
        spec = str(about_llm.get("spec", about_llm.get("name")))
        llm = load_llm(spec, **({} if dtype is None else {"dtype": dtype}))
    renderer = PromptRenderer(
        catalog=recording.catalog,
        instances=recording.instances,
        titles=source.titles,
        knowledge=_knowledge(recording, about_data, source),
    )
    return PromptMDP.from_embeddings(
        renderer=renderer,
        recommender=build_recommender(
            resolve_llm(llm),
            ranking,
            renderer=renderer,
            seed=seed,
            store=AnswerStore() if cache else None,
        ),
        embeddings=recording.embeddings,
        sentences=recording.sentences,
        horizon=horizon,
        reward_k=reward_k,
    )


def _knowledge(
    recording: Recording, about_data: Mapping[str, Any], source: Interactions
) -> ItemKnowledge | None:
    """What the recorded prompts told of items; RecordingError if it is other than it was."""
    if not recording.catalog.tells_more_than_titles:
        return None
    # A recording may hold some instances alone, and what is counted leaves out the targets of all.
    instances = make_instances(
        source,
        num_candidates=2,
        targets_per_user=int(about_data["targets_per_user"]),
        min_rating=about_data.get("min_rating"),
    )
    knowledge = item_knowledge(source, instances, wanted=recording.catalog.wanted_knowledge)
    if about_data.get("knowledge") != knowledge.fingerprint():
        raise RecordingError(
            f"data={source.name!r} has other attributes or ratings than when recording "
            f"{recording.name!r} was made; pass data= the one it was made of"
        )
    return knowledge
