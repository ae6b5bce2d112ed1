"""User and item embeddings from who interacted with what, by LightGCN.

LightGCN (He et al. 2020, arXiv 2002.02126) learns one vector per user and per item, smoothed over
the graph of their interactions; a user's affinity to an item is the dot product of the two. The
embeddings are fitted once, before any episode, and never change afterwards.

It knows nothing of splits: the caller leaves the targets of all splits out of the interactions.
"""

import hashlib
import importlib.util
import json
import logging
import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rpp_env.assets import build_once, cache_dir
from rpp_env.errors import AssetError, RppError
from rpp_env.option_checks import check_between, check_count
from rpp_env.types import FloatArray, IntArray

_log = logging.getLogger(__name__)

_FORMAT: Final = 1  # part of the cache key: raise it when the same inputs give other embeddings
_FILE: Final = "embeddings.safetensors"
_SMALLEST_BATCH: Final = 2048  # unless the configuration says another
_MOST_STEPS: Final = 50  # per epoch, with larger batches if need be


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Embeddings of users and items in one space.

    Both tables carry the same scalar factor, chosen so that the affinities ``users @ items.T`` over
    all pairs have standard deviation 1; no ranking depends on it.
    """

    users: NDArray[np.float32]  # (num_users, D)
    items: NDArray[np.float32]  # (num_items, D)


@dataclass(frozen=True, kw_only=True)
class LightGCNConfig:
    """How LightGCN is fitted. The defaults were chosen on MovieLens-100K."""

    dim: int = 64
    """Length D of an embedding."""
    num_layers: int = 2
    """Rounds of smoothing over the interaction graph; the embeddings are the mean of all layers."""
    epochs: int = 40
    """Passes over the interactions."""
    learning_rate: float = 0.01
    """Step size of Adam."""
    batch_size: int | None = None
    """Interactions per gradient step. None for 2048, or for as many as make 50 steps per epoch if
    there are more than 102,400 interactions: each step smooths the whole graph, so that with steps
    of one size the time would grow with the square of the interactions."""
    l2: float = 5e-4
    """Weight of the squared norm of a batch's unsmoothed embeddings (lambda in the paper)."""
    seed: int = 0
    """Seed of the initial embeddings, the order of the interactions and the negatives."""

    def __post_init__(self) -> None:
        check_count(self, 1, "dim", "epochs")
        if self.batch_size is not None:
            check_count(self, 1, "batch_size")
        check_count(self, 0, "num_layers", "seed")
        check_between(self, 0, math.inf, "learning_rate", "l2")


def fit_lightgcn(
    users: IntArray,
    items: IntArray,
    *,
    num_users: int,
    num_items: int,
    config: LightGCNConfig | None = None,
    progress: bool = True,
) -> Embeddings:
    """Fits LightGCN on interactions with the BPR loss.

    The loss is ``-ln sigmoid(affinity(user, item) - affinity(user, negative))`` with one negative
    per interaction, drawn afresh in every epoch and uniformly from the items that the user has not
    interacted with. An interaction that occurs twice counts once. An item without interactions is
    learned as a negative only; a user without interactions gets the mean of the other users.

    The same inputs give the same embeddings on one machine: one thread, and all that is random
    comes from `config.seed`. Torch's own random state and number of threads are left as they were.

    Args:
        users: The user of each interaction. Shape: (E,).
        items: The item of each interaction. Shape: (E,).
        num_users: How many users there are; ids are below it.
        num_items: How many items there are; ids are below it.
        config: How to fit; None for the defaults.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: The interactions are empty, of different lengths, not integers or out of
            range, or every user has interacted with every item.
        RppError: torch or torch_geometric is not installed.
    """
    graph = _interaction_graph(users, items, num_users=num_users, num_items=num_items)
    return _fit(graph, LightGCNConfig() if config is None else config, progress)


def cached_lightgcn(
    users: IntArray,
    items: IntArray,
    *,
    num_users: int,
    num_items: int,
    config: LightGCNConfig | None = None,
    folder: Path | None = None,
    progress: bool = True,
) -> Embeddings:
    """Returns what `fit_lightgcn` returns, fitted on the first call and read from disk afterwards.

    The embeddings are kept in ``<folder>/<hash>/embeddings.safetensors``, where the hash covers
    the interactions, the two counts and the configuration, and `folder` is ``lightgcn`` in the
    cache unless given. Several processes may call this at once: one fits, the others wait for it.
    Only fitting needs torch. The other arguments and errors are those of `fit_lightgcn`.

    Raises:
        AssetError: The file that is there is damaged.
    """
    config = LightGCNConfig() if config is None else config
    graph = _interaction_graph(users, items, num_users=num_users, num_items=num_items)
    _require_packages("safetensors")
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

    def build(target: Path) -> None:
        fitted = _fit(graph, config, progress)
        save_file({"users": fitted.users, "items": fitted.items}, target / _FILE)

    options = asdict(config) | {"batch_size": _batch_size(graph, config)}
    header = json.dumps([_FORMAT, graph.num_users, graph.num_items, options])
    key = hashlib.sha256(header.encode() + graph.pairs.astype("<i8").tobytes()).hexdigest()
    root = cache_dir() / "lightgcn" if folder is None else folder
    file = build_once(root / key, build) / _FILE
    try:
        return Embeddings(**load_file(file))
    except (SafetensorError, OSError, TypeError) as error:
        raise AssetError(
            f"{file} is damaged ({error}); delete {file.parent} to have it fitted again"
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """The (user, item) pairs that interacted, each once, sorted by user and then item."""

    pairs: NDArray[np.int64]  # (2, E) users, items
    num_users: int
    num_items: int


def _interaction_graph(
    users: IntArray, items: IntArray, *, num_users: int, num_items: int
) -> _Graph:
    users, items = np.asarray(users), np.asarray(items)
    if users.ndim != 1 or users.shape != items.shape or users.size == 0:
        raise ValueError(
            f"users has shape {users.shape}, items {items.shape}; both must be (E,) with E > 0"
        )
    for name, ids, bound in (("users", users, num_users), ("items", items, num_items)):
        if not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"{name} has dtype {ids.dtype}; convert the ids to integers")
        wrong = ids[(ids < 0) | (ids >= bound)]
        if wrong.size:
            raise ValueError(
                f"{name} contains {wrong[0]}, outside 0..num_{name} - 1 = {bound - 1}; raise "
                f"num_{name} or renumber the {name}"
            )
    keys = np.unique(users.astype(np.int64) * num_items + items.astype(np.int64))
    if len(keys) == num_users * num_items:
        raise ValueError(
            f"users and items hold all {num_users} x {num_items} pairs; leave some out as negatives"
        )
    pairs = np.stack(np.divmod(keys, num_items))
    return _Graph(pairs=pairs, num_users=int(num_users), num_items=int(num_items))


def _batch_size(graph: _Graph, config: LightGCNConfig) -> int:
    if config.batch_size is not None:
        return config.batch_size
    num_interactions: int = graph.pairs.shape[1]
    return max(_SMALLEST_BATCH, math.ceil(num_interactions / _MOST_STEPS))


def _fit(graph: _Graph, config: LightGCNConfig, progress: bool) -> Embeddings:
    _require_packages("torch", "torch_geometric", "tqdm")
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums, hence results, would depend on the number of threads
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.enable_grad():
            torch.default_generator.manual_seed(config.seed)
            table = _train(_model(graph, config), graph, config, progress)
    finally:
        torch.set_num_threads(threads)
    users, items = table[: graph.num_users], table[graph.num_users :]
    known = np.bincount(graph.pairs[0], minlength=graph.num_users) > 0
    users[~known] = users[known].mean(axis=0)
    return _scale_affinities(users, items)


def _train(model: Any, graph: _Graph, config: LightGCNConfig, progress: bool) -> FloatArray:
    """Returns the smoothed embeddings of users, then items. Shape: (num_users + num_items, D)."""
    import torch
    from tqdm import tqdm

    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    rng = np.random.default_rng(config.seed)
    batch_size = _batch_size(graph, config)
    degrees = np.bincount(graph.pairs[0])
    pairs = graph.pairs[:, degrees[graph.pairs[0]] < graph.num_items]  # others have no negatives
    _log.info(
        "fitting LightGCN to %d interactions, %d epochs; it is done once for a data set",
        graph.pairs.shape[1],
        config.epochs,
    )
    disable = None if progress else True  # None: shown where standard error is a terminal
    for _ in tqdm(range(config.epochs), desc="LightGCN", unit="epoch", disable=disable):
        negatives = _draw_negatives(pairs, graph.num_items, rng)
        triples = np.stack([pairs[0], graph.num_users + pairs[1], graph.num_users + negatives])
        triples = rng.permutation(triples, axis=1)
        for start in range(0, triples.shape[1], batch_size):
            nodes = torch.from_numpy(triples[:, start : start + batch_size])
            user, item, negative = torch.nn.functional.embedding(nodes, model.get_embedding(None))
            loss = model.recommendation_loss(
                (user * item).sum(dim=1), (user * negative).sum(dim=1), nodes.flatten(), config.l2
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    table: FloatArray = model.get_embedding(None).detach().numpy()
    return table


def _model(graph: _Graph, config: LightGCNConfig) -> Any:
    """Returns torch_geometric's LightGCN on this graph, with faster graph convolutions.

    Its own go edge by edge. Here each is one product with the normalised adjacency matrix, which is
    symmetric, so that the backward pass is the same product. A gradient step is 20 times faster.
    """
    import torch

    with warnings.catch_warnings():
        # Said by torch 2.13 about torch_geometric 2.8, whose import compiles what we do not use.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        from torch_geometric.nn import LightGCN

    size = graph.num_users + graph.num_items
    users, items = torch.from_numpy(graph.pairs)
    nodes = torch.stack([users, items + graph.num_users])
    edges = torch.cat([nodes, nodes.flip(0)], dim=1)
    degrees = torch.bincount(edges[0], minlength=size).float()
    weights = (degrees[edges[0]] * degrees[edges[1]]).rsqrt()
    coordinates = torch.sparse_coo_tensor(edges, weights, (size, size), check_invariants=True)
    with warnings.catch_warnings():
        # Its product with a dense matrix, which is all that is used here, is five times faster.
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        csr = coordinates.to_sparse_csr()
        # With indices of 32 bits, which are those of its library, nothing is converted per product.
        adjacency = torch.sparse_csr_tensor(
            csr.crow_indices().int(),
            csr.col_indices().int(),
            csr.values(),
            csr.shape,
            check_invariants=True,
        )

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return adjacency @ x

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            return adjacency @ grad.contiguous()

    class Convolution(torch.nn.Module):
        def forward(self, x: torch.Tensor, edge_index: None, edge_weight: None) -> Any:
            return Product.apply(x)  # type: ignore[no-untyped-call]

    model = LightGCN(size, config.dim, config.num_layers)
    model.convs = torch.nn.ModuleList(Convolution() for _ in model.convs)
    return model


def _draw_negatives(pairs: IntArray, num_items: int, rng: np.random.Generator) -> IntArray:
    """Draws, for each pair, uniformly from the items that its user has not interacted with.

    The r-th such item is r plus the number of the user's items before it. With the user's items
    sorted, the j-th of them (from 0) has ``item - j`` others before it, so that number is how many
    have ``item - j <= r``: one binary search, and no draw is ever rejected. Shape: (E,).
    """
    users, items = pairs
    degrees = np.bincount(users)
    starts = np.cumsum(degrees) - degrees
    others_before = items - (np.arange(len(users)) - starts[users])
    ranks = rng.integers(0, num_items - degrees[users])
    rows = users * (num_items + 1)  # makes one ascending list of all users' lists
    found: IntArray = np.searchsorted(rows + others_before, rows + ranks, side="right")
    negatives: IntArray = ranks + found - starts[users]
    return negatives


def _scale_affinities(users: FloatArray, items: FloatArray) -> Embeddings:
    """Gives both tables the factor that makes the standard deviation of all affinities 1.

    Over all pairs E[u·v] = E[u]·E[v] and E[(u·v)²] = tr(E[u uᵀ] E[v vᵀ]): no pair is looked at.
    """
    u, v = users.astype(np.float64), items.astype(np.float64)
    mean = u.mean(axis=0) @ v.mean(axis=0)
    second_moment = ((u.T @ u / len(u)) * (v.T @ v / len(v))).sum()
    scale = (second_moment - mean**2) ** -0.25
    return Embeddings(users=(u * scale).astype(np.float32), items=(v * scale).astype(np.float32))


def _require_packages(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise RppError(f"LightGCN needs {package}; pip install 'rpp-env[llm]'")
