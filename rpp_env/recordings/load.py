"""Loads a recording by name, and makes the dynamics of the environment from it."""

from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from rpp_env.errors import RecordingError, did_you_mean
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.paths import expand_path
from rpp_env.prompts import PromptRenderer
from rpp_env.recommenders import RecordedRecommender
from rpp_env.recordings.recording import Recording

DEFAULT_RECORDING: Final = "ml-100k-smollm2-135m"
"""Name of the recording that is used where none is named."""


def known_recordings() -> tuple[str, ...]:
    """Names of the recordings that ship with rpp-env."""
    return tuple(sorted(path.stem for path in _shipped().glob("*.npz")))


def load_recording(name_or_path: str | Path = DEFAULT_RECORDING) -> Recording:
    """Reads a recording that ships with rpp-env, or a file that ``rpp record`` wrote.

    Raises:
        RecordingError: There is no such recording, or it is damaged.
    """
    name = str(name_or_path)
    if name in known_recordings():
        return Recording.load(_shipped() / f"{name}.npz")
    path = expand_path(name)
    try:
        there = path.is_file()
    except (OSError, ValueError):  # no file can have such a name
        there = False
    if not there:
        raise RecordingError(
            f"recording={name!r:.200} is neither a file nor a recording of rpp-env. "
            f"{did_you_mean(name, known_recordings())}"
        )
    return Recording.load(path)


def recorded_mdp(
    recording: str | Path | Recording = DEFAULT_RECORDING,
    *,
    horizon: int = 15,
    reward_k: int = 10,
    hide: Collection[str] = (),
    keep: Mapping[str, Sequence[int]] | None = None,
) -> PromptMDP:
    """Makes the environment's dynamics from a recording: no LLM, no download.

    A recording has no titles, so that rendered prompts show the ids of items in their place.

    Args:
        recording: Name of one that ships, a file, or a recording.
        horizon: Steps of an episode.
        reward_k: Cut-off of the NDCG that is the reward.
        hide: Parts of the observation that are left zero, such as ``affinities``.
        keep: For some patterns the sentences that may be chosen; by default all.

    Raises:
        RecordingError: There is no such recording, or it is damaged.
        ValueError: An argument is out of its range.
    """
    if not isinstance(recording, Recording):
        recording = load_recording(recording)
    if keep:
        recording = recording.keep(keep)
    return PromptMDP.from_embeddings(
        renderer=PromptRenderer(
            catalog=recording.catalog,
            instances=recording.instances,
            titles=tuple(f"item {token}" for token in recording.item_tokens),
        ),
        recommender=RecordedRecommender(recording.table, num_choices=recording.num_choices),
        embeddings=recording.embeddings,
        sentences=recording.sentences,
        horizon=horizon,
        reward_k=reward_k,
        hide=hide,
    )


def _shipped() -> Path:
    return Path(str(resources.files("rpp_env.recordings") / "shipped"))
