"""The blocks of a backbone and its cut points, found from its graph alone, for every architecture alike.

A tensor is a valid cut when every path from the input goes through it. A block ends at a cut that is

1. the output of a merge (an addition or concatenation of at least two tensors of the graph): residual and dense
   blocks, inception modules; not the multiplication of squeeze-and-excite;
2. a pooling on a linear chain: stems, VGG's blocks, DenseNet's transitions;
3. a linear bottleneck: a convolution, with or without its normalisation, that meets the next convolution without a
   non-linearity between them: MobileNetV2's projections, ConvNeXt's downsampling;
4. what a depthwise convolution reads, if the block already holds one: MobileNet's pairs of depthwise and 1x1;
5. the output of a layer, or a network, that holds layers with weights: a transformer's block, an embedding of patches.

What follows the last end is a block of its own if it convolves (MobileNetV2's last convolution); normalisation and
activation alone belong to the block before. The graph is that of `model.operations`: by layers alone, ConvNeXt's
residual additions, which are operations without a layer, would be missed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Literal, NamedTuple

import keras

Role = Literal["convolution", "linear convolution", "normalization", "merge", "pooling", "neutral", "other"]


class GraphNode(NamedTuple):
    """One operation of a graph: the operations it reads, and its role in the rules above."""

    inputs: tuple[str, ...]
    role: Role = "other"
    has_weights: bool = False
    is_named: bool = True
    """Whether an author named it, rather than Keras."""
    is_depthwise: bool = False
    """Whether it is a convolution of each channel by itself."""
    holds_layers: bool = False
    """Whether it is a layer, or a network, of several layers with weights."""
    gives_values: bool = True
    """Whether it gives one tensor of numbers that are no whole ones: what can be kept."""


Graph = Mapping[str, GraphNode]


@dataclass(frozen=True)
class Block:
    """Consecutive operations of a backbone that are trained or frozen together."""

    name: str
    cut_before_operation: str
    """The operation whose output is the only thing that this block and all above it read."""
    operations: tuple[str, ...]


def _ordered(graph: Graph, output: str) -> list[str]:
    """Return the operations on which `output` depends, each after its inputs, in an order that the graph determines."""
    position = {name: index for index, name in enumerate(graph)}
    needed, waiting = {output}, [output]
    while waiting:
        for name in graph[waiting.pop()].inputs:
            if name not in needed:
                needed.add(name)
                waiting.append(name)
    names = sorted(needed, key=position.__getitem__)
    return list(TopologicalSorter({name: graph[name].inputs for name in names}).static_order())


def cut_points(graph: Graph, output: str) -> tuple[str, ...]:
    """Return the operations on every path from the input to `output`, both included.

    In an order where each operation comes after its inputs, these are the ones over which no edge jumps.

    >>> edges = {"x": (), "a": ("x",), "b": ("a",), "c": ("a", "b")}
    >>> cut_points({name: GraphNode(inputs) for name, inputs in edges.items()}, "c")
    ('x', 'a', 'c')
    """
    order = _ordered(graph, output)
    position = {name: index for index, name in enumerate(order)}
    last_use = {name: position[name] for name in order}
    for name in order:
        for source in graph[name].inputs:
            last_use[source] = max(last_use[source], position[name])
    cuts, reach, sources = [], 0, 0
    for index, name in enumerate(order):
        sources += not graph[name].inputs
        if reach <= index and sources == 1:
            cuts.append(name)
        reach = max(reach, last_use[name])
    return tuple(cuts) if sources == 1 else (output,)


def find_blocks(graph: Graph, output: str) -> tuple[Block, ...]:
    """Return the blocks of a graph, from the output downwards; together they hold every operation but the input."""
    cuts = cut_points(graph, output)
    order = _ordered(graph, output)
    ends = _ends(graph, order, {name for name in cuts[1:] if graph[name].gives_values})
    segments: list[list[str]] = [[]]
    for name in order[1:]:
        segments[-1].append(name)
        if name in ends:
            segments.append([])
    joined = _joined(graph, segments)
    below = [cuts[0], *(segment[-1] for segment in joined[:-1])]
    return tuple(
        Block(_name(graph, segment, ends), cut, tuple(segment))
        for cut, segment in list(zip(below, joined, strict=True))[::-1]
    )


def _ends(graph: Graph, order: list[str], cuts: set[str]) -> list[str]:
    """Return the operations that end a block, in the order of the graph."""
    ends: list[str] = []
    holds_depthwise = False
    for name in order:
        holds_depthwise |= graph[name].is_depthwise
        is_pair = holds_depthwise and _meets(graph, name, lambda node: node.is_depthwise)
        if name in cuts and (is_pair or _ends_block(graph, name)):
            ends.append(name)
            holds_depthwise = False
    return ends


def _joined(graph: Graph, segments: list[list[str]]) -> list[list[str]]:
    """Return the segments; one without weights, or a tail without a convolution, is joined to the one below."""
    joined: list[list[str]] = []
    for index, segment in enumerate(segments):
        is_tail = index == len(segments) - 1
        convolves = any("convolution" in graph[name].role for name in segment)
        alone = convolves if is_tail else any(graph[name].has_weights for name in segment)
        if alone or not joined:
            joined.append(list(segment))
        else:
            joined[-1] += segment
    return joined


def _name(graph: Graph, segment: list[str], ends: list[str]) -> str:
    """Return the last name that an author gave, up to the end of the block; without one, the operation at the end."""
    end = next((index for index in range(len(segment) - 1, -1, -1) if segment[index] in ends), len(segment) - 1)
    named = [name for name in segment[: end + 1] if graph[name].is_named]
    return named[-1] if named else segment[end]


def _ends_block(graph: Graph, name: str) -> bool:
    node = graph[name]
    if node.role == "merge":
        return len(node.inputs) >= 2
    return (
        node.holds_layers
        or node.role == "pooling"
        or (_is_linear(graph, name) and _meets(graph, name, lambda reader: "convolution" in reader.role))
    )


def _is_linear(graph: Graph, name: str) -> bool:
    """Return whether this is a convolution without activation, or the normalisation of one."""
    node = graph[name]
    if node.role == "normalization":
        return len(node.inputs) == 1 and graph[node.inputs[0]].role == "linear convolution"
    return node.role == "linear convolution"


def _meets(graph: Graph, name: str, is_met: Callable[[GraphNode], bool]) -> bool:
    """Return whether such an operation reads this output, directly or through padding."""
    readers = [(reader, node) for reader, node in graph.items() if name in node.inputs]
    return any(is_met(node) or (node.role == "neutral" and _meets(graph, reader, is_met)) for reader, node in readers)


def backbone_graph(backbone: keras.Model) -> dict[str, GraphNode]:
    """Return the graph of a functional model over the calls of its operations; the names of one model are unique.

    A layer that is called again reads what it read the first time, too: so all its calls are of one block.
    """
    known = calls(backbone)
    names = {id(call): name for name, call in known.items()}
    first: dict[int, tuple[str, ...]] = {}
    graph = {}
    for name, call in known.items():
        operation = call.operation
        histories = [tensor._keras_history for tensor in call.input_tensors]
        inputs = tuple(names[id(made.operation._inbound_nodes[made.node_index])] for made in histories)
        graph[name] = GraphNode(
            inputs=(*inputs, *first.get(id(operation), ())),
            role=_role(operation),
            has_weights=bool(getattr(operation, "weights", ())),
            is_named=not is_automatic_name(operation),
            is_depthwise=type(operation).__name__.startswith("DepthwiseConv"),
            holds_layers=_holds_layers(operation),
            gives_values=len(call.output_tensors) == 1 and "float" in str(call.output_tensors[0].dtype),
        )
        first.setdefault(id(operation), inputs)
    return graph


def calls(network: keras.Model) -> dict[str, Any]:
    """Return the calls of operations in a functional model, by the names of these; a second call is `NAME#2`.

    Models made later from the same operations, and those that were opened, have calls of their own.
    """
    own = {id(call) for at_depth in network._nodes_by_depth.values() for call in at_depth}
    found = {}
    for operation in network.operations:
        of_model = [call for call in operation._inbound_nodes if id(call) in own]
        for number, call in enumerate(of_model, 1):
            found[operation.name if number == 1 else f"{operation.name}#{number}"] = call
    return found


def is_automatic_name(operation: Any) -> bool:
    """Return whether Keras made the name: that of the class, with a number that earlier models determine."""
    kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(operation).__name__)).lower()
    return re.fullmatch(rf"{kind}(_\d+)?", operation.name) is not None


def _holds_layers(operation: Any) -> bool:
    """Return whether an operation holds several layers with weights; a sequence is told by its role."""
    if isinstance(operation, keras.Sequential) or not isinstance(operation, keras.Layer):
        return False
    counts = [len(one.weights) for one in operation._flatten_layers(include_self=False, recursive=False)]
    holders = sum(count > 0 for count in counts) + (len(operation.weights) > sum(counts))  # itself may be one
    is_network = isinstance(operation, keras.Model) and holders > 0
    return is_network or (holders > 1 and sum(counts) > 0 and not type(operation).__name__.endswith("Attention"))


def _role(operation: Any) -> Role:
    # Layers and the operations behind `+` are different classes of the same name: `Add` is both.
    kind = type(operation).__name__
    if isinstance(operation, keras.Sequential):
        return _role_of_chain([_role(layer) for layer in operation.layers])
    if "Conv" in kind:  # own layers need not have an activation to be asked for
        is_linear = hasattr(operation, "activation") and _has_no_activation(operation)
        return "linear convolution" if is_linear else "convolution"
    if kind.endswith("Normalization"):
        return "normalization"
    if kind in {"Add", "Concatenate", "CustomScaleLayer"}:  # the last is InceptionResNetV2's addition
        return "merge"
    if "Pooling" in kind:
        return "other" if kind.startswith("Global") else "pooling"
    is_identity = kind == "Activation" and _has_no_activation(operation)
    return "neutral" if is_identity or kind.startswith("ZeroPadding") or "Dropout" in kind else "other"


def _role_of_chain(roles: list[Role]) -> Role:
    convolutions: list[Role] = [role for role in roles if "convolution" in role]
    if len(convolutions) == 1 and all(role in {"normalization", "neutral", "linear convolution"} for role in roles):
        return "linear convolution"
    return "convolution" if convolutions else "other"


def _has_no_activation(operation: Any) -> bool:
    return operation.activation is None or operation.activation is keras.activations.linear


def blocks(backbone: keras.Model) -> tuple[Block, ...]:
    """Return the blocks of a backbone, from the output downwards: `unfreeze_depth: 1` trains the first."""
    return find_blocks(backbone_graph(backbone), str(backbone.outputs[0]._keras_history.operation.name))
