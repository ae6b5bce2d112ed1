"""Records a recommender's rankings for every (instance, choices), block by block.

Each block is one file, written whole, so that an interruption loses only the unfinished blocks.
Several processes may record into one folder; each block is recorded by one of them.
"""

import itertools
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rpp_env.errors import RecordingError
from rpp_env.files import atomic_write
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.option_checks import check_seed, whole_number
from rpp_env.paths import expand_path
from rpp_env.progress.listening import listening
from rpp_env.prompts.catalog_file import catalog_text
from rpp_env.recordings.recording import Recording
from rpp_env.types import IntArray, PromptBatch

_WAIT_SECONDS = 1.0
_MOST_CANDIDATES = 255  # they are kept in bytes


def record(
    mdp: PromptMDP,
    out: Path,
    *,
    about: Mapping[str, Any],
    item_tokens: tuple[str, ...],
    num_instances: int | None = None,
    block_size: int = 8,
    seed: int = 0,
    progress: bool = True,
) -> Recording:
    """Ranks every combination of sentences for every instance, and writes one recording.

    After an interruption, the same call continues where it stopped, and the file is the same bit
    for bit. Several processes that make the same call share the work.

    Args:
        mdp: Its instances, catalog, encoder and recommender are recorded.
        out: The file to write, ``NAME.npz``. Its folder is made. Blocks are kept in
            ``NAME.blocks`` until the file is there.
        about: Where the rankings come from: data set, LLM, strategy, versions, licences.
        item_tokens: Ids of the items in the data set.
        num_instances: How many, drawn with `seed` among all; by default all of them.
        block_size: Instances per block.
        seed: Seed of the drawn instances.
        progress: Whether to show a progress bar with the time left.

    Raises:
        ValueError: An argument is out of its range, the catalog's mode is ``add``, in which a
            prompt depends on the ones before it, or the catalog cannot be written as YAML.
        RecordingError: `out` exists, or its blocks are those of another recording.
    """
    whole_number("block_size", block_size)
    check_seed(seed)
    ids = _draw_instances(mdp, num_instances, seed)
    num_items = len(mdp.encoder.embeddings.items)
    if not isinstance(about, Mapping) or len(item_tokens) != num_items:
        raise ValueError(
            f"about={about!r:.80} must be a mapping, and item_tokens have one id for each of "
            f"{num_items} items, not {len(item_tokens)}"
        )
    out = expand_path(out)
    if mdp.catalog.history_mode != "set":
        raise ValueError(
            f"catalog {mdp.catalog.name!r} adds to the history: a prompt depends on the ones "
            "before it, and cannot be recorded; use a catalog of mode 'set'"
        )
    if mdp.instances.num_candidates > _MOST_CANDIDATES:
        raise ValueError(
            f"the MDP has {mdp.instances.num_candidates} candidates per instance; a recording has "
            f"at most {_MOST_CANDIDATES}"
        )
    check_out(out)
    blocks = [ids[start : start + block_size] for start in range(0, len(ids), block_size)]
    folder = out.with_suffix(".blocks")
    catalog_text(mdp.catalog)  # raises now rather than when all is ranked
    out.parent.mkdir(parents=True, exist_ok=True)
    _claim_folder(
        folder, {"mdp": mdp.fingerprint(), "about": about, "block_size": block_size, "seed": seed}
    )
    # The last block may be a short one, and another with more instances.
    files = [folder / f"{number:05d}-{len(block)}.npz" for number, block in enumerate(blocks)]
    _record_blocks(mdp, blocks, files, out, progress=progress)
    try:
        recording = _assemble(mdp, out.stem, ids, files, about=about, item_tokens=item_tokens)
        recording.save(out)
    except RecordingError:
        if not out.exists():
            raise
        recording = Recording.load(out)  # another process was faster, and has removed the blocks
    shutil.rmtree(folder, ignore_errors=True)
    return recording


def check_out(out: Path) -> None:
    """Raises what `record` raises when it cannot write to `out`."""
    if out.suffix != ".npz":
        raise ValueError(f"out={str(out)!r} must be a file NAME.npz")
    existing = next(folder for folder in out.absolute().parents if folder.exists())
    if not existing.is_dir():
        raise ValueError(f"out={str(out)!r} cannot be made: {str(existing)!r} is not a folder")
    if out.exists():
        raise RecordingError(f"out={str(out)!r} exists already; remove it to record it again")


def every_choice(num_choices: tuple[int, ...]) -> IntArray:
    """Returns all combinations of choices in C order. Shape: (K, 4)."""
    return np.array(list(itertools.product(*map(range, num_choices))))


def every_prompt(mdp: PromptMDP, instance_ids: IntArray) -> PromptBatch:
    """Returns all prompts of these instances, instance by instance, K per instance."""
    choices = every_choice(mdp.catalog.num_choices)
    state = mdp.initial(np.repeat(instance_ids, len(choices)))
    return mdp.prompts(state, np.tile(choices, (len(instance_ids), 1)))


def _draw_instances(mdp: PromptMDP, num_instances: int | None, seed: int) -> IntArray:
    available = len(mdp.instances)
    if num_instances is None:
        num_instances = available
    whole_number("num_instances", num_instances, high=available)
    # Blocks follow the permutation, so that fewer instances are a beginning of more.
    return np.random.default_rng((seed, 3)).permutation(available)[:num_instances]


def _claim_folder(folder: Path, made_of: Mapping[str, Any]) -> None:
    from filelock import FileLock

    text = json.dumps(made_of, sort_keys=True)
    folder.mkdir(exist_ok=True)
    path = folder / "made_of.json"
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            with atomic_write(path) as file:
                file.write(text.encode())
        elif path.read_text("utf-8") != text:
            raise RecordingError(
                f"{folder} holds the blocks of another recording (other instances, sentences, LLM "
                "or options); delete it, or record to another file"
            )


def _record_blocks(
    mdp: PromptMDP, blocks: list[IntArray], files: list[Path], out: Path, *, progress: bool
) -> None:
    """Records the missing blocks, and waits for the blocks that other processes record.

    `out` exists as soon as another process has put all blocks together.
    """
    from filelock import FileLock, Timeout
    from tqdm import tqdm

    def done(number: int) -> bool:
        return files[number].exists() or out.exists()

    prompts_each = int(np.prod(mdp.catalog.num_choices))
    waiting = [number for number in range(len(blocks)) if not done(number)]
    num_prompts = prompts_each * sum(map(len, blocks))
    left = prompts_each * sum(len(blocks[number]) for number in waiting)
    with tqdm(
        total=num_prompts,
        initial=num_prompts - left,
        desc="record",
        unit="prompt",
        disable=not progress,
    ) as bar:
        while waiting:
            for number in list(waiting):
                if not done(number):
                    lock = FileLock(files[number].with_suffix(".lock"))
                    try:
                        lock.acquire(timeout=0)
                    except Timeout:
                        continue  # another process has it
                    try:
                        if not done(number):
                            with _showing(bar, prompts_each * len(blocks[number])):
                                _record_block(mdp, blocks[number], files[number])
                    finally:
                        lock.release()
                waiting.remove(number)
                left -= prompts_each * len(blocks[number])
                bar.update(num_prompts - left - bar.n)  # blocks of other processes too
            if waiting:
                time.sleep(_WAIT_SECONDS)


@contextmanager
def _showing(bar: Any, num_prompts: int) -> Iterator[None]:
    """Within it, the bar goes on by each prompt that the LLM answers, at most `num_prompts`."""
    lock, done = threading.Lock(), 0

    def on_answers(num: int) -> None:
        nonlocal done
        with lock:
            bar.update(min(num, num_prompts - done))
            done = min(num_prompts, done + num)

    def on_part(name: str, answered: int, total: int) -> None:
        with lock:
            bar.set_postfix_str(f"{name} {answered}/{total}" if answered < total else "")

    with listening(on_answers, on_part=on_part):
        yield


def _record_block(mdp: PromptMDP, instance_ids: IntArray, path: Path) -> None:
    ranked = mdp.recommender.rank(every_prompt(mdp, instance_ids))
    shape = (len(instance_ids), -1, mdp.instances.num_candidates)
    with atomic_write(path) as file:
        np.savez(
            file,
            rankings=ranked.rankings.reshape(shape).astype(np.uint8),
            scores=ranked.scores.reshape(shape).astype(np.float16),
            num_recognised=ranked.num_recognised.reshape(len(instance_ids), -1).astype(np.uint8),
        )


def _assemble(
    mdp: PromptMDP,
    name: str,
    ids: IntArray,
    files: list[Path],
    *,
    about: Mapping[str, Any],
    item_tokens: tuple[str, ...],
) -> Recording:
    parts = [_read_block(path) for path in files]
    order = np.argsort(ids)  # back to the order of the instances: by user, then time
    rankings, scores, num_recognised = (
        np.concatenate([part[key] for part in parts])[order]
        for key in ("rankings", "scores", "num_recognised")
    )
    return Recording(
        name=name,
        catalog=mdp.catalog,
        instances=mdp.instances.select(ids[order]),
        embeddings=mdp.encoder.embeddings,
        sentences=tuple(mdp.encoder.sentences),
        item_tokens=item_tokens,
        rankings=rankings,
        scores=scores,
        num_recognised=num_recognised,
        about=about,
    )


def _read_block(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            return {key: saved[key] for key in ("rankings", "scores", "num_recognised")}
    except Exception as error:  # whatever a damaged archive raises; see `Recording.load`
        raise RecordingError(
            f"{path} is damaged: {error!r}; delete it and record again, the others are kept"
        ) from error
