"""Cut points and blocks: the rules on plain graphs, then on every backbone that is registered."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.backbones import BACKBONES, EVERY_BACKBONE, as_keras_builds_it, backbone
from tuner.models.architectures import ARCHITECTURES
from tuner.models.backend import symbolic
from tuner.models.blocks import (
    GraphNode,
    backbone_graph,
    blocks,
    cut_points,
    find_blocks,
    is_automatic_name,
)

# Counted from the graphs of keras.applications as they come, their own preprocessing included (FACTS of the project).
CUTS = {
    "mobilenet_v2": 73,
    "mobilenet_v3_small": 58,
    "mobilenet_v3_large": 64,
    "vgg16": 18,
    "resnet50_v2": 30,
    "inception_v3": 28,
    "densenet121": 78,
    "efficientnet_v2_b0": 63,
    "convnext_tiny": 24,
}


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, GraphNode]:
    """One input, one output, edges forward; every operation has an input, not every one is read."""
    size = draw(st.integers(2, 9))
    graph = {"0": GraphNode(())}
    for node in range(1, size):
        sources = draw(st.sets(st.integers(max(0, node - 3), node - 1), min_size=1, max_size=3))
        graph[str(node)] = GraphNode(tuple(str(source) for source in sources))
    return graph


def paths(graph: dict[str, GraphNode], output: str) -> list[set[str]]:
    sources = graph[output].inputs
    return [{output, *path} for source in sources for path in paths(graph, source)] if sources else [{output}]


@given(graphs())
def test_a_cut_is_what_every_path_goes_through(graph: dict[str, GraphNode]) -> None:
    output = list(graph)[-1]
    every = set.intersection(*paths(graph, output))
    assert set(cut_points(graph, output)) == every
    assert list(cut_points(graph, output)) == sorted(every, key=int)


@given(graphs(), st.randoms())
def test_cuts_do_not_depend_on_the_order_of_the_operations(graph: dict[str, GraphNode], random: Any) -> None:
    output, shuffled = list(graph)[-1], list(graph)
    random.shuffle(shuffled)
    assert cut_points({name: graph[name] for name in shuffled}, output) == cut_points(graph, output)


def test_with_a_second_input_nothing_below_their_meeting_is_a_cut() -> None:
    graph = {"a": GraphNode(()), "b": GraphNode(()), "sum": GraphNode(("a", "b"), "merge")}
    assert cut_points(graph, "sum") == ("sum",)


def chain(*steps: tuple[str, Any]) -> dict[str, GraphNode]:
    graph, below = {"input": GraphNode(())}, "input"
    for name, role in steps:
        graph[name] = GraphNode(
            (below,), role, has_weights=role in {"convolution", "linear convolution", "normalization"}
        )
        below = name
    return graph


@given(graphs())
def test_blocks_hold_every_operation_but_the_input_once(graph: dict[str, GraphNode]) -> None:
    merged = {name: step._replace(role="merge", has_weights=True) for name, step in graph.items()}
    output = list(graph)[-1]
    found = find_blocks(merged, output)
    held = [name for block in found for name in block.operations]
    needed = set.union(*paths(graph, output)) - {"0"}
    assert sorted(held) == sorted(needed)
    assert [block.cut_before_operation for block in found[:-1]] == [block.operations[-1] for block in found[1:]]


def test_a_residual_addition_ends_a_block_and_the_gate_of_squeeze_and_excite_does_not() -> None:
    graph = {
        "input": GraphNode(()),
        "gate": GraphNode(("input",), "other", True),
        "excite": GraphNode(("input", "gate"), "other"),
        "convolution": GraphNode(("excite",), "linear convolution", True),
        "addition": GraphNode(("input", "convolution"), "merge"),
        "last": GraphNode(("addition",), "convolution", True),
    }
    assert [block.operations[-1] for block in find_blocks(graph, "last")] == ["last", "addition"]


def test_an_addition_of_a_constant_ends_no_block() -> None:
    graph = chain(("a", "convolution"), ("plus_3", "merge"), ("b", "convolution"))
    assert len(find_blocks(graph, "b")) == 1


def test_a_pooling_ends_a_block_and_a_tail_without_a_convolution_belongs_to_the_block_below() -> None:
    graph = chain(("a", "convolution"), ("pool", "pooling"), ("b", "convolution"), ("pool_2", "pooling"))
    graph |= {"norm": GraphNode(("pool_2",), "normalization", True), "relu": GraphNode(("norm",))}
    found = find_blocks(graph, "relu")
    assert [block.operations for block in found] == [("b", "pool_2", "norm", "relu"), ("a", "pool")]
    assert [block.name for block in found] == ["pool_2", "pool"]


def test_a_linear_bottleneck_ends_a_block_where_it_meets_a_convolution_also_through_padding() -> None:
    start = [("project", "linear convolution"), ("norm", "normalization")]
    meets = chain(*start, ("pad", "neutral"), ("expand", "convolution"))
    assert [block.operations for block in find_blocks(meets, "expand")] == [("pad", "expand"), ("project", "norm")]
    activated = chain(*start, ("relu", "other"), ("expand", "convolution"))
    assert len(find_blocks(activated, "expand")) == 1


def test_two_poolings_in_a_row_make_one_block() -> None:
    graph = chain(("a", "convolution"), ("pool", "pooling"), ("again", "pooling"), ("b", "convolution"))
    assert [block.operations for block in find_blocks(graph, "b")] == [("b",), ("a", "pool", "again")]


def cuts_of(model: keras.Model) -> tuple[str, ...]:
    return cut_points(backbone_graph(model), str(model.outputs[0]._keras_history.operation.name))[1:]


@pytest.mark.parametrize("name", CUTS)
def test_the_cuts_of_keras_applications_are_as_many_as_were_counted(name: str) -> None:
    assert len(cuts_of(as_keras_builds_it(name))) == CUTS[name]


def check_blocks(name: str, model: keras.Model) -> None:
    """Check that the blocks are in order, as many as the table says, and hold each operation but the input."""
    found = blocks(model)
    assert len(found) == ARCHITECTURES[name].parameters["unfreeze_depth"].high
    assert len({block.name for block in found}) == len(found)
    held = [operation for block in found for operation in block.operations]
    assert sorted(held) == sorted(
        operation.name for operation in model.operations if "input_layer" not in operation.name
    )
    graph = backbone_graph(model)
    starts = [list(graph).index(block.operations[0]) for block in found]
    assert starts == sorted(starts, reverse=True)
    assert {block.cut_before_operation for block in found[:-1]} <= set(cuts_of(model))
    for block in found:
        assert any(graph[operation].has_weights for operation in block.operations), block.name


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_falls_into_its_own_blocks(name: str) -> None:
    check_blocks(name, backbone(name))


@pytest.mark.full
@pytest.mark.parametrize("sibling", [name for name in EVERY_BACKBONE if name not in BACKBONES])
def test_deeper_and_wider_ones_fall_into_blocks_by_the_same_rules(sibling: str) -> None:
    with symbolic():  # up to 350 million weights, of which the blocks ask whether there are some
        network = as_keras_builds_it.__wrapped__(sibling)
    check_blocks(sibling, network)


def test_all_of_keras_applications_are_registered() -> None:
    there = {name for name, member in vars(keras.applications).items() if inspect.isfunction(member)}
    assert {ARCHITECTURES[name].application for name in EVERY_BACKBONE} == there


def test_pairs_of_depthwise_and_pointwise_convolutions_are_blocks_of_their_own() -> None:
    assert [block.name for block in blocks(backbone("mobilenet"))][:2] == ["conv_pw_13_relu", "conv_pw_12_relu"]


def test_mobilenet_v2_is_unfrozen_by_inverted_residuals() -> None:
    cuts = [block.cut_before_operation for block in blocks(backbone("mobilenet_v2"))]
    assert cuts[:4] == ["block_16_project_BN", "block_15_add", "block_14_add", "block_13_project_BN"]


def test_names_do_not_depend_on_what_was_built_before() -> None:
    for name in ("mobilenet_v3_small", "inception_v3"):
        size = ARCHITECTURES[name].minimum_px
        again = ARCHITECTURES[name].build(ARCHITECTURES[name].values_of({"weights": "none"}), (size, size, 3), 1)
        assert [operation.name for operation in again.operations] == list(backbone_graph(backbone(name)))


def test_names_that_keras_makes_are_told_from_those_of_authors() -> None:
    named = {layer: is_automatic_name(layer) for layer in (keras.layers.ReLU(), keras.layers.MaxPooling2D())}
    assert all(named.values())
    assert not is_automatic_name(keras.layers.Conv2D(1, 1, name="conv_1"))
    assert is_automatic_name(keras.layers.Conv2D(1, 1, name="conv2d_17"))
