"""A process killed between the answer of an LLM and its parse loses nothing."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from strategy_prompts import batch, renderer

from rpp_env.llm import FakeLLM
from rpp_env.recommenders import RankingConfig, build_recommender
from rpp_env.store import AnswerStore

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from rpp_env.recommenders import generation
from test_cached_llm_kills import FakeLLM, rank_some

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

generation.parse_ranking = die
rank_some(FakeLLM("0"), Path(sys.argv[1]), in_run=sys.argv[3] == "run")
"""


def rank_some(llm, folder, *, in_run):
    made, instances = renderer("numbers")
    store = None if in_run else AnswerStore(folder / "store.sqlite")
    config = RankingConfig(strategy="generation")
    recommender = build_recommender(llm, config, renderer=made, instances=instances, store=store)
    if in_run:
        recommender.load(folder)
    ranked = recommender.rank(batch(made, range(10), output_format=1))
    recommender.save(folder)
    if store is not None:
        store.close()
    return ranked


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
@pytest.mark.parametrize("where", ["store", "run"])
def test_a_process_killed_between_answer_and_parse_loses_nothing(tmp_path, where):
    support = str(renderer.__code__.co_filename).rpartition("/")[0]
    script = f"import sys; sys.path.insert(0, {support!r})\n{KILLED}"
    here = __file__.rpartition("/")[0]
    process = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), here, where], timeout=120, check=False
    )
    assert process.returncode == -signal.SIGKILL
    llm = FakeLLM("0")
    ranked = rank_some(llm, tmp_path, in_run=where == "run")
    assert llm.usage.requests == 0
    (tmp_path / "new").mkdir()
    expected = rank_some(FakeLLM("0"), tmp_path / "new", in_run=True)
    np.testing.assert_array_equal(ranked.rankings, expected.rankings)
