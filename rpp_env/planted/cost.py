"""Axis `cost`: a prompt has a price, which is part of the reward."""

import numpy as np

from rpp_env.planted.law import Law
from rpp_env.planted.static import same_for_all, static_task
from rpp_env.planted.task import PlantedTask, make_problem, make_task_mdp
from rpp_env.types import FloatArray, Instances, IntArray


class PricedLaw(Law):
    """More records and a longer reasoning rank better, and cost more.

    q = .8 log2(1 + records) / log2(17) + .2 [reasoning 1]; the price is `per_record` times the
    records, and .05 for reasoning 1.

    Args:
        instances: The ranking problems.
        per_record: Price of a record, in units of NDCG.
        seed: Seed of all draws.
    """

    def __init__(self, instances: Instances, *, per_record: float, seed: int) -> None:
        super().__init__(instances, seed=seed)
        self._per_record = per_record

    def quality(self, ids: IntArray, choices: IntArray, lengths: IntArray) -> FloatArray:
        """Grows with the logarithm of the records; see `Law`."""
        quality: FloatArray = 0.8 * np.log2(1 + lengths) / np.log2(17) + 0.2 * (choices[:, 2] == 1)
        return quality

    def price(self, choices: IntArray, lengths: IntArray) -> FloatArray:
        """See `Law`."""
        price: FloatArray = self._per_record * lengths + 0.05 * (choices[:, 2] == 1)
        return price


def cost(level: str, *, per_record: float, seed: int) -> PlantedTask:
    """What a prompt is worth less what it costs; the price decides where the best is."""
    problem = make_problem(seed=seed, history_length=16)
    records = np.array((1, 2, 4, 8, 16))
    law = PricedLaw(problem.instances, per_record=per_record, seed=seed)
    mdp = make_task_mdp(
        problem, law, sizes=(2, 5, 2, 2), seed=seed, records=tuple(records.tolist()), priced=True
    )
    ids = np.zeros(1, dtype=np.int64)
    options = [(h, r) for h in range(5) for r in range(2)]
    worth = [
        float(law.expected_reward(ids, np.array([[0, h, r, 0]]), records[[h]])[0])
        for h, r in options
    ]
    history, reasoning = options[int(np.argmax(worth))]
    return static_task("cost", level, mdp, law, same_for_all(np.array([0, history, reasoning, 0])))
