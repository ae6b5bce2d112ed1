import subprocess
import sys

import numpy as np
import pytest

from rpp_env.errors import AssetError, RppError
from rpp_env.observations import lightgcn
from rpp_env.observations.lightgcn import (
    Embeddings,
    LightGCNConfig,
    cached_lightgcn,
    fit_lightgcn,
)

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

NUM_USERS, NUM_ITEMS = 30, 40
CONFIG = LightGCNConfig(dim=8, epochs=30, batch_size=64)
SIZES = {"num_users": NUM_USERS, "num_items": NUM_ITEMS, "progress": False}


def two_communities():
    """Users below 15 touch items below 20 at random, the other users the other items."""
    rng = np.random.default_rng(0)
    touched = rng.random((NUM_USERS, NUM_ITEMS)) < 0.5
    same = (np.arange(NUM_USERS) < 15)[:, None] == (np.arange(NUM_ITEMS) < 20)[None, :]
    return *np.nonzero(touched & same), same, touched


@pytest.fixture(scope="module")
def fitted():
    users, items, _, _ = two_communities()
    return fit_lightgcn(users, items, config=CONFIG, **SIZES)


def equal(a, b):
    return np.array_equal(a.users, b.users) and np.array_equal(a.items, b.items)


def test_finds_planted_communities_among_pairs_it_never_saw(fitted):
    _, _, same, touched = two_communities()
    affinities = fitted.users @ fitted.items.T
    assert affinities[same & ~touched].min() > affinities[~same].max()


def test_affinities_have_standard_deviation_one(fitted):
    assert (fitted.users @ fitted.items.T).std() == pytest.approx(1, abs=1e-4)
    assert fitted.users.shape == (NUM_USERS, 8)
    assert fitted.items.shape == (NUM_ITEMS, 8)
    assert fitted.users.dtype == fitted.items.dtype == np.float32


def test_same_seed_same_embeddings_other_seed_others(fitted):
    users, items, _, _ = two_communities()
    shuffled = np.random.default_rng(1).permutation(len(users))
    again = fit_lightgcn(users[shuffled], items[shuffled], config=CONFIG, **SIZES)
    other = fit_lightgcn(
        users, items, config=LightGCNConfig(dim=8, epochs=30, batch_size=64, seed=1), **SIZES
    )
    assert equal(fitted, again)
    assert not equal(fitted, other)


def test_leaves_torch_as_it_was_and_is_not_moved_by_it(fitted):
    users, items, _, _ = two_communities()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    try:
        with torch.no_grad():
            again = fit_lightgcn(users, items, config=CONFIG, **SIZES)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before)
    assert equal(fitted, again)


def test_convolutions_and_gradients_equal_those_of_torch_geometric():
    users, items, _, _ = two_communities()
    graph = lightgcn._interaction_graph(users, items, num_users=NUM_USERS, num_items=NUM_ITEMS)
    ours = lightgcn._model(graph, CONFIG)
    from torch_geometric.nn import LightGCN

    theirs = LightGCN(NUM_USERS + NUM_ITEMS, CONFIG.dim, CONFIG.num_layers)
    theirs.load_state_dict(ours.state_dict())
    edges = torch.from_numpy(np.stack([users, items + NUM_USERS]))
    edges = torch.cat([edges, edges.flip(0)], dim=1)
    weights = torch.randn(NUM_USERS + NUM_ITEMS, CONFIG.dim, generator=torch.manual_seed(0))
    outputs = [ours.get_embedding(None), theirs.get_embedding(edges)]
    for output in outputs:
        (output * weights).sum().backward()
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(ours.embedding.weight.grad, theirs.embedding.weight.grad)


def test_negatives_are_uniform_over_what_the_user_has_not_touched():
    pairs = np.array([[0, 0, 0, 2], [0, 2, 3, 4]])
    rng = np.random.default_rng(0)
    draws = np.stack([lightgcn._draw_negatives(pairs, 6, rng) for _ in range(3000)])
    for column, untouched in ((0, [1, 4, 5]), (3, [0, 1, 2, 3, 5])):
        values, counts = np.unique(draws[:, column], return_counts=True)
        assert values.tolist() == untouched
        assert counts == pytest.approx(3000 / len(untouched), rel=0.15)


def test_users_and_items_without_interactions_and_users_with_all_are_allowed():
    users = np.array([0, 0, 1, 1, 1, 1])
    items = np.array([0, 1, 0, 1, 2, 3])
    result = fit_lightgcn(
        users, items, num_users=4, num_items=4, config=LightGCNConfig(epochs=2), progress=False
    )
    assert np.isfinite(result.users).all()
    assert np.isfinite(result.items).all()
    np.testing.assert_allclose(
        result.users[2:], result.users[[0, 0]] / 2 + result.users[1] / 2, rtol=1e-4, atol=1e-6
    )


def test_second_call_reads_the_disk(tmp_path, monkeypatch):
    users, items, _, _ = two_communities()
    first = cached_lightgcn(users, items, config=CONFIG, folder=tmp_path, **SIZES)
    monkeypatch.setattr(lightgcn, "_fit", lambda *_: pytest.fail("fitted again"))
    second = cached_lightgcn(users, items, config=CONFIG, folder=tmp_path, **SIZES)
    assert equal(first, second)


def test_every_input_is_part_of_the_cache_key(tmp_path, monkeypatch):
    users, items, _, _ = two_communities()
    tables = {"users": np.zeros((1, 1), np.float32), "items": np.zeros((1, 1), np.float32)}
    monkeypatch.setattr(lightgcn, "_fit", lambda *_: Embeddings(**tables))
    variants = [
        (users, items, SIZES, CONFIG),
        (users[1:], items[1:], SIZES, CONFIG),
        (users, items, SIZES | {"num_users": NUM_USERS + 1}, CONFIG),
        (users, items, SIZES | {"num_items": NUM_ITEMS + 1}, CONFIG),
        (users, items, SIZES, LightGCNConfig(dim=8, epochs=30, batch_size=64, l2=0.1)),
    ]
    for count, (some_users, some_items, sizes, config) in enumerate(variants, start=1):
        cached_lightgcn(some_users, some_items, config=config, folder=tmp_path, **sizes)
        assert len(list(tmp_path.glob("*/embeddings.safetensors"))) == count


def num_steps(**options):
    """Gradient steps of one epoch, and the number of interactions."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    users, items, _, _ = two_communities()
    counted = []
    hook = register_optimizer_step_post_hook(lambda *_: counted.append(1))
    fit_lightgcn(users, items, config=LightGCNConfig(dim=8, epochs=1, **options), **SIZES)
    hook.remove()
    return len(counted), len(users)


def test_batches_grow_with_the_interactions_so_that_an_epoch_has_few_steps(monkeypatch):
    assert num_steps()[0] == 1  # a batch holds 2048 at least
    monkeypatch.setattr(lightgcn, "_SMALLEST_BATCH", 3)
    steps, num_interactions = num_steps()
    assert num_interactions > 50 * 3
    assert 40 <= steps <= 50


def test_a_batch_size_that_is_given_is_kept():
    steps, num_interactions = num_steps(batch_size=3)
    assert steps == -(-num_interactions // 3)


def test_the_size_of_a_batch_is_part_of_the_cache_key(tmp_path, monkeypatch):
    users, items, _, _ = two_communities()
    tables = {"users": np.zeros((1, 1), np.float32), "items": np.zeros((1, 1), np.float32)}
    monkeypatch.setattr(lightgcn, "_fit", lambda *_: Embeddings(**tables))
    for batch_size, count in ((None, 1), (2048, 1), (2049, 2)):
        config = LightGCNConfig(batch_size=batch_size)
        cached_lightgcn(users, items, config=config, folder=tmp_path, **SIZES)
        assert len(list(tmp_path.glob("*/embeddings.safetensors"))) == count


def test_default_folder_is_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RPP_ENV_CACHE", str(tmp_path))
    users, items, _, _ = two_communities()
    cached_lightgcn(users, items, config=LightGCNConfig(epochs=1), **SIZES)
    assert len(list(tmp_path.glob("lightgcn/*/embeddings.safetensors"))) == 1


@pytest.mark.parametrize("damage", ["cut", "garbage", "gone", "other tables"])
def test_a_damaged_file_is_named(tmp_path, damage):
    from safetensors.numpy import save_file

    users, items, _, _ = two_communities()
    config = LightGCNConfig(epochs=1)
    cached_lightgcn(users, items, config=config, folder=tmp_path, **SIZES)
    (file,) = tmp_path.glob("*/*.safetensors")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    elif damage == "garbage":
        file.write_bytes(b"not safetensors at all")
    elif damage == "gone":
        file.unlink()
    else:
        save_file({"users": np.zeros(3)}, file)
    with pytest.raises(AssetError, match=rf"{file.name} is damaged .* delete {file.parent}"):
        cached_lightgcn(users, items, config=config, folder=tmp_path, **SIZES)


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([0, 1], [0], r"users has shape \(2,\), items \(1,\)"),
        ([], [], "E > 0"),
        ([0, 30], [0, 1], r"users contains 30, outside 0\.\.num_users - 1 = 29"),
        ([0, 1], [0, -1], "items contains -1"),
        ([0.0, 1.0], [0, 1], "users has dtype float64"),
    ],
)
def test_bad_interactions_are_named(users, items, message):
    with pytest.raises(ValueError, match=message):
        fit_lightgcn(np.array(users), np.array(items), **SIZES)


def test_nothing_to_learn_from_all_pairs():
    with pytest.raises(ValueError, match="all 2 x 1 pairs"):
        fit_lightgcn(np.array([0, 1]), np.array([0, 0]), num_users=2, num_items=1)


@pytest.mark.parametrize(
    "wrong",
    [{"dim": 0}, {"epochs": 0}, {"batch_size": 0}, {"l2": -1.0}, {"learning_rate": float("nan")}],
)
def test_bad_config_is_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.* must be a (whole )?number"):
        LightGCNConfig(**wrong)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    users, items, _, _ = two_communities()
    with pytest.raises(RppError, match=r"needs torch_geometric; pip install 'rpp-env\[llm\]'"):
        fit_lightgcn(users, items, **SIZES)


@pytest.mark.parametrize("module", ["lightgcn", "text"])
def test_import_is_light(module):
    code = (
        f"import sys, rpp_env.observations.{module}; "
        "assert not {'torch', 'transformers', 'torch_geometric', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
