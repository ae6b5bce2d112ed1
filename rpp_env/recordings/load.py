"""Loads a recording by name, and makes the dynamics of the environment from it."""

import pickle
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeAlias
from weakref import WeakValueDictionary

from rpp_env.errors import RecordingError, did_you_mean
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.paths import expand_path
from rpp_env.prompts import PromptRenderer
from rpp_env.recommenders import RecordedRecommender
from rpp_env.recordings.recording import Recording
from rpp_env.types import ItemKnowledge, RankingBatch

DEFAULT_RECORDING: Final = "ml-100k-smollm2-135m"
"""Name of the recording that is used where none is named."""

_Key: TypeAlias = tuple[str, int, int, int, bytes]
_PARTS: Final = ("renderer", "encoder", "table")
# The parts of dynamics that are alive. All dynamics of one key hold the same parts.
_ALIVE: Final[WeakValueDictionary[tuple[_Key, str], Any]] = WeakValueDictionary()


def known_recordings() -> tuple[str, ...]:
    """Names of the recordings that ship with rpp-env."""
    return tuple(sorted(path.stem for path in _shipped().glob("*.npz")))


def load_recording(name_or_path: str | Path = DEFAULT_RECORDING) -> Recording:
    """Reads a recording that ships with rpp-env, or a file that ``rpp record`` wrote.

    Raises:
        RecordingError: There is no such recording, or it is damaged.
    """
    name = str(name_or_path)
    return Recording.load(_recording_file(name))


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
    Dynamics that are made of the same file with the same options share its tables in memory.

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
    key = None
    if not isinstance(recording, Recording):
        key = _shared_key(_recording_file(str(recording)), horizon, hide, keep)
    made = None if key is None else _shared_mdp(key, reward_k)
    if made is not None:
        return made
    if not isinstance(recording, Recording):
        recording = load_recording(recording)
    if keep:
        recording = recording.keep(keep)
    mdp = PromptMDP.from_embeddings(
        renderer=PromptRenderer(
            catalog=recording.catalog,
            instances=recording.instances,
            titles=tuple(f"item {token}" for token in recording.item_tokens),
            knowledge=ItemKnowledge.nowhere(len(recording.item_tokens)),
        ),
        recommender=RecordedRecommender(recording.table, num_choices=recording.num_choices),
        embeddings=recording.embeddings,
        sentences=recording.sentences,
        horizon=horizon,
        reward_k=reward_k,
        hide=hide,
    )
    if key is not None:
        _share(key, mdp, recording.table)
    return mdp


def _recording_file(name: str) -> Path:
    """Returns the file of a recording; RecordingError if there is none of this name."""
    if name in known_recordings():
        return _shipped() / f"{name}.npz"
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
    return path


def _shared_key(path: Path, *options: Any) -> _Key | None:
    """Returns what equal dynamics have in common; None for options that are of no use anyway."""
    found = path.stat()
    try:
        made_with = pickle.dumps(options)
    except Exception:  # whatever the options raise; the check of their values comes later
        return None
    return str(path.resolve()), found.st_ino, found.st_size, found.st_mtime_ns, made_with


def _shared_mdp(key: _Key, reward_k: int) -> PromptMDP | None:
    """Returns dynamics with the tables of others that are alive; None if none are.

    They count their own LLM calls: the recommender is their own.
    """
    renderer, encoder, table = (_ALIVE.get((key, part)) for part in _PARTS)
    if renderer is None or encoder is None or table is None:
        return None
    return PromptMDP(
        renderer=renderer,
        recommender=RecordedRecommender(table, num_choices=renderer.catalog.num_choices),
        encoder=encoder,
        reward_k=reward_k,
    )


def _share(key: _Key, mdp: PromptMDP, table: RankingBatch) -> None:
    parts = (mdp.renderer, mdp.encoder, table)
    _ALIVE.update({(key, name): part for name, part in zip(_PARTS, parts, strict=True)})


def _shipped() -> Path:
    return Path(str(resources.files("rpp_env.recordings") / "shipped"))
