"""Prompts for the tests of strategies: a few users, marked candidates, LLMs that are scripted."""

import numpy as np

from rpp_env import PromptMDP
from rpp_env.llm import Completion
from rpp_env.observations.lightgcn import Embeddings
from rpp_env.prompts import HistoryRecords, OutputFormat, PromptCatalog, PromptRenderer
from rpp_env.recommenders import RankingConfig, build_recommender
from rpp_env.types import Instances

TITLES = (
    *("Heat", "Alien", "Aliens", "Fargo", "Clue", "Big", "Speed", "Jaws", "Rocky", "Psycho"),
    *("Casino", "Gandhi", "Platoon", "Ghost", "Twister", "Contact"),
)
NUM_CANDIDATES = 5


def catalog(marks="letters"):
    return PromptCatalog(
        name="strategies",
        role_playing=("", "You recommend films."),
        history_records=tuple(HistoryRecords(records=n, text="Seen: {history}.") for n in (1, 3)),
        reasoning_guidance=("",),
        output_format=(
            OutputFormat(instruction="{candidates}", answer_prefix="Answer:", chat_template=False),
            OutputFormat(instruction="Rank:\n{candidates}", answer_prefix="", chat_template=True),
        ),
        history_mode="set",
        history_start=0,
        history_separator=", ",
        candidate_marks=marks,
    )


def renderer(marks="letters", num_instances=40):
    rng = np.random.default_rng(0)
    shuffled = [rng.permutation(len(TITLES)) for _ in range(num_instances)]
    instances = Instances(
        users=np.arange(num_instances),
        histories=np.stack([items[:4] for items in shuffled]),
        candidates=np.stack([items[4 : 4 + NUM_CANDIDATES] for items in shuffled]),
        target_slots=rng.integers(NUM_CANDIDATES, size=num_instances),
        splits=np.arange(num_instances) % 3,
    )
    return PromptRenderer(catalog=catalog(marks), instances=instances, titles=TITLES), instances


def batch(made, ids, output_format=0):
    ids = np.array(ids)
    return made.batch(
        instance_ids=ids,
        choices=np.tile([1, 1, 0, output_format], (len(ids), 1)),
        history_lengths=np.full(len(ids), 3),
    )


def shown_titles(prompt):
    """The titles of the list in a text, in its order."""
    lines = [line.split('"') for line in prompt.split("\n")]
    return [pieces[1] for pieces in lines if len(pieces) == 3]


class Biased:
    """Likes the position of a letter, and a little the length of the title that it stands for."""

    name = "scripted:biased"
    capabilities = frozenset({"next_token_logprobs"})

    def __init__(self, bias):
        self.bias = np.array(bias, dtype=float)
        self.contexts = []
        self.labels = []

    def apply_chat_template(self, *, system, user):
        return f"<{system}|{user}>\n"

    def next_token_logprobs(self, contexts, labels):
        self.contexts += contexts
        self.labels += labels
        return [self.bias + [0.01 * len(t) for t in shown_titles(c)] for c in contexts]


class Writer:
    """Writes what `answer(prompt, seed)` says."""

    name = "scripted:writer"
    capabilities = frozenset({"generate", "structured_outputs"})

    def __init__(self, answer, finish_reason="stop"):
        self.answer, self.finish_reason = answer, finish_reason
        self.prompts, self.seeds, self.schemas, self.decodings = [], [], [], []

    def identity(self):
        return {"name": self.name}

    def apply_chat_template(self, *, system, user):
        raise AssertionError("a writer is given chats as they are")

    def generate(self, prompts, *, decoding, seeds=None, schemas=None):
        self.prompts += prompts
        self.seeds += seeds or [0] * len(prompts)
        self.schemas += schemas or [None] * len(prompts)
        self.decodings.append(decoding)
        return [
            Completion(text=self.answer(text_of(prompt), seed), finish_reason=self.finish_reason)
            for prompt, seed in zip(prompts, seeds or [0] * len(prompts), strict=True)
        ]


def text_of(prompt):
    return prompt if isinstance(prompt, str) else f"{prompt.system}\n{prompt.user}"


def small_mdp(llm, *, strategy="generation", store=None, horizon=3, num_instances=60):
    """An environment ranked by an LLM, with embeddings at random; no asset is needed."""
    made, _ = renderer("letters" if strategy == "label" else "numbers", num_instances)
    rng = np.random.default_rng(1)
    return PromptMDP.from_embeddings(
        renderer=made,
        recommender=build_recommender(
            llm,
            RankingConfig(strategy=strategy),
            renderer=made,
            store=store,
        ),
        embeddings=Embeddings(
            users=rng.normal(size=(num_instances, 4)).astype(np.float32),
            items=rng.normal(size=(len(TITLES), 4)).astype(np.float32),
        ),
        sentences=[
            rng.normal(size=(size, 3)).astype(np.float32) for size in made.catalog.num_choices
        ],
        horizon=horizon,
    )
