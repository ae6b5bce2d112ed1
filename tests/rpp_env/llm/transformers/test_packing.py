"""Token trees: each text is a path, each shared run is held once, and nothing is lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpp_env.llm.transformers.packing import pack

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=8)  # few tokens share much


@st.composite
def problems(draw):
    """Contexts with a common beginning, each with some continuations, and a bound on a tree."""
    beginning = draw(st.lists(st.integers(0, 2), max_size=12))
    ends = draw(st.lists(TOKENS, max_size=6))
    contexts = [beginning + end for end in ends]
    continuations = [draw(st.lists(TOKENS, min_size=1, max_size=4)) for _ in contexts]
    return contexts, continuations, draw(st.sampled_from([1, 10, 30, 2048]))


def path(tree, node):
    """Nodes from the root to `node`."""
    nodes = [int(node)]
    while tree.parents[nodes[0]] >= 0:
        nodes.insert(0, int(tree.parents[nodes[0]]))
    return nodes


def of_tree(tree, continuations):
    """The (row, continuation) that each number in `predict_for` stands for."""
    return [(row, follow) for row in tree.rows for follow in continuations[row]]


@settings(deadline=None, max_examples=200)
@given(problem=problems())
def test_each_context_is_in_exactly_one_tree(problem):
    contexts, continuations, max_tokens = problem
    trees = pack(contexts, continuations, max_tokens=max_tokens)
    assert sorted(row for tree in trees for row in tree.rows) == list(range(len(contexts)))
    for tree in trees:
        assert tree.widths == tuple(len(continuations[row]) for row in tree.rows)
        assert len(tree.rows) == 1 or len(tree) <= max_tokens


@settings(deadline=None, max_examples=200)
@given(problem=problems())
def test_the_path_to_each_prediction_spells_the_text_before_it(problem):
    contexts, continuations, max_tokens = problem
    for tree in pack(contexts, continuations, max_tokens=max_tokens):
        wanted = of_tree(tree, continuations)
        asked = [[] for _ in wanted]
        predictions = zip(tree.predict_from, tree.predict_token, tree.predict_for, strict=True)
        for node, token, number in predictions:
            row, follow = wanted[number]
            depth = len(asked[number])
            text = [int(tree.tokens[n]) for n in path(tree, node)]
            assert text == contexts[row] + follow[:depth]
            asked[number].append(int(token))
        assert asked == [follow for _, follow in wanted]


@settings(deadline=None, max_examples=200)
@given(problem=problems())
def test_positions_are_depths_and_attention_is_to_ancestors(problem):
    contexts, continuations, max_tokens = problem
    for tree in pack(contexts, continuations, max_tokens=max_tokens):
        number, end = tree.intervals()
        assert sorted(number) == list(range(len(tree)))
        attention = (number[:, None] >= number) & (number[:, None] < end)
        for node in range(len(tree)):
            ancestors = path(tree, node)
            assert tree.positions[node] == len(ancestors) - 1
            assert tree.parents[node] < node
            np.testing.assert_array_equal(np.flatnonzero(attention[node]), sorted(ancestors))


@settings(deadline=None, max_examples=200)
@given(problem=problems())
def test_no_shared_token_is_held_twice_and_none_is_useless(problem):
    contexts, continuations, max_tokens = problem
    for tree in pack(contexts, continuations, max_tokens=max_tokens):
        texts = [tuple(tree.tokens[path(tree, node)].tolist()) for node in range(len(tree))]
        assert len(set(texts)) == len(texts)
        needed = set()
        for row, follow in of_tree(tree, continuations):
            text = tuple(contexts[row] + follow[:-1])
            needed |= {text[: i + 1] for i in range(len(text))}
        assert set(texts) == needed


@settings(deadline=None, max_examples=200)
@given(problem=problems())
def test_split_sums_the_predictions_of_each_continuation(problem):
    contexts, continuations, max_tokens = problem
    for tree in pack(contexts, continuations, max_tokens=max_tokens):
        # A made-up log-probability of (token, depth), so that any text can be summed by hand.
        log_probs = -(1.0 + tree.predict_token + 10.0 * tree.positions[tree.predict_from])
        parts = tree.split(log_probs)
        assert len(parts) == len(tree.rows)
        for row, sums in zip(tree.rows, parts, strict=True):
            last = len(contexts[row]) - 1
            by_hand = [
                sum(-(1.0 + token + 10.0 * (last + i)) for i, token in enumerate(follow))
                for follow in continuations[row]
            ]
            np.testing.assert_array_equal(sums, by_hand)


def test_a_tree_worked_out_by_hand():
    (tree,) = pack([[1, 2, 3], [1, 2]], [[[7, 8], [7, 9]], [[3]]])
    assert tree.rows == (1, 0)
    assert tree.widths == (1, 2)
    np.testing.assert_array_equal(tree.tokens, [1, 2, 3, 7])
    np.testing.assert_array_equal(tree.parents, [-1, 0, 1, 2])
    np.testing.assert_array_equal(tree.positions, [0, 1, 2, 3])
    np.testing.assert_array_equal(tree.predict_from, [1, 2, 3, 2, 3])
    np.testing.assert_array_equal(tree.predict_token, [3, 7, 8, 7, 9])
    np.testing.assert_array_equal(tree.predict_for, [0, 1, 1, 2, 2])


def test_texts_with_a_long_common_beginning_become_one_tree_and_others_do_not():
    beginning = list(range(200))
    follow = [[[5]]] * 3
    assert len(pack([[*beginning, i] for i in range(3)], follow)) == 1
    assert len(pack([[i, *beginning] for i in range(3)], follow)) == 3
    assert len(pack([[*beginning, i] for i in range(3)], follow, max_tokens=202)) == 2


def test_identical_contexts_are_one_path():
    (tree,) = pack([[1, 2, 3]] * 4, [[[4, 5]]] * 4)
    assert len(tree) == 4
    assert sorted(tree.rows) == [0, 1, 2, 3]
    np.testing.assert_array_equal(np.concatenate(tree.split(np.ones(8))), [2, 2, 2, 2])


def test_nothing_to_pack_is_no_tree():
    assert pack([], []) == []


@pytest.mark.parametrize(
    "row", [([], [[1]]), ([1], []), ([1], [[1], []])], ids=["context", "none", "continuation"]
)
def test_an_empty_text_is_an_error_that_names_its_row(row):
    context, follow = row
    with pytest.raises(ValueError, match=r"contexts\[1\]: .* need at least one token"):
        pack([[1], context], [[[1]], follow])


def test_contexts_and_continuations_of_different_number_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        pack([[1]], [])
