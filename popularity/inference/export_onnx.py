"""A graph as an ONNX model whose inputs are the canonical columns: numbers, and texts as they are.

ONNX has no operator from text to code points. ``Tokenizer``, which every build of ONNX Runtime has, takes a text apart
into characters, and ``LabelEncoder`` is a dictionary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from popularity.errors import InputError
from popularity.inference.export_characters import LIMIT
from popularity.inference.export_graph import SongGraph
from popularity.inference.export_song import CODED, NUMBERS, TEXTS

_OPSET = 18  # the first with reductions inside of ScatterElements
_OURS = "popularity"
_OTHERS = {"ai.onnx.ml": 3, "com.microsoft": 1}


def check_onnx() -> None:
    """Refuse to begin without the packages.

    Raises:
        InputError: one is not installed.
    """
    try:
        import onnx  # noqa: F401 - an extra
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f"--format onnx: the package {error.name} is missing, install this project's extra [export]"
        ) from error


def onnx_model(program: torch.export.ExportedProgram, graph: SongGraph, lists: Mapping[str, Sequence[str]]) -> bytes:
    """The model as a file.

    Args:
        program: of the graph.
        graph: names the outputs.
        lists: texts whose places the graph takes, for each of `CODED`.
    """
    from onnx import TensorProto, helper

    inputs = ["numbers", *(f"{name} codes" for name in (*TEXTS, *CODED))]
    # ONNX Runtime optimises what it loads, in seconds where the exporter takes minutes
    made = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=_OPSET,
        input_names=inputs,
        output_names=graph.outputs,
        verbose=False,
        optimize=False,
    )
    assert made is not None
    model = made.model_proto
    nodes = [helper.make_node("Unsqueeze", [name, "columns axis"], [f"{name} column"]) for name in NUMBERS]
    nodes.append(helper.make_node("Concat", [f"{name} column" for name in NUMBERS], ["numbers"], axis=1))
    nodes += [helper.make_node("CodePoints", [name], [f"{name} codes"], domain=_OURS) for name in TEXTS]
    nodes += [_dictionary(name, f"{name} codes", lists[name], range(len(lists[name])), -1) for name in CODED]
    kinds = {**dict.fromkeys(NUMBERS, TensorProto.DOUBLE), **dict.fromkeys((*TEXTS, *CODED), TensorProto.STRING)}
    body = model.graph
    rest = _shortened(body)
    del body.node[:], body.input[:]
    body.node.extend([*nodes, *rest])
    body.input.extend(helper.make_tensor_value_info(name, kind, ["songs"]) for name, kind in kinds.items())
    body.initializer.append(helper.make_tensor("columns axis", TensorProto.INT64, [1], [1]))
    versions = {**{one.domain: one.version for one in model.opset_import}, **_OTHERS, _OURS: 1}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*one) for one in versions.items())
    model.functions.append(_code_points(versions))
    content: bytes = model.SerializeToString()
    return content


def _shortened(graph: Any) -> list[Any]:
    """The nodes without copies that the exporter makes and ONNX Runtime does not see through.

    A transposition that changes nothing is left out, as is what brings the values of ``ScatterND`` to a shape that ours
    have already; a number in every place of a tensor is ``ConstantOfShape``; what nothing reads, of which ONNX Runtime
    would warn, goes.
    """
    from onnx import helper, numpy_helper

    scattered = {node.input[2] for node in graph.node if node.op_type == "ScatterND"}
    numbers = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            numbers[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    same, kept, none = dict[str, str](), [], np.zeros(0)
    for node in graph.node:
        names = [same.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(names)
        order = next((list(one.ints) for one in node.attribute if one.name == "perm"), [1, 0])
        if order == sorted(order) or (node.op_type == "Expand" and node.output[0] in scattered):
            same[node.output[0]] = node.input[0]
        elif node.op_type == "Expand" and numbers.get(node.input[0], none).size == 1:
            value = numpy_helper.from_array(numbers[node.input[0]].reshape(1))
            kept.append(helper.make_node("ConstantOfShape", [node.input[1]], list(node.output), value=value))
        else:
            kept.append(node)
    read, alive = {one.name for one in graph.output}, []
    for node in reversed(kept):
        if read.intersection(node.output):
            read.update(node.input)
            alive.append(node)
    left = [one for one in graph.initializer if one.name in read]
    del graph.initializer[:]
    graph.initializer.extend(left)
    return alive[::-1]


def _code_points(versions: Mapping[str, int]) -> Any:
    """The function from texts ``(B,)`` to code points ``(B, L)``, padded with 0."""
    from onnx import helper

    codes = [code for code in range(1, LIMIT) if not 0xD800 <= code < 0xE000]
    split: dict[str, Any] = {"mark": 0, "mincharnum": 1, "pad_value": "\0", "separators": [""]}
    nodes = [
        helper.make_node("Tokenizer", ["text"], ["characters"], domain="com.microsoft", **split),
        # any other character is Han above `LIMIT`; the padding is the character 0
        _dictionary("characters", "codes", ["\0", *map(chr, codes)], [0, *codes], LIMIT),
    ]
    used = [helper.make_opsetid(name, versions[name]) for name in ("", *_OTHERS)]
    return helper.make_function(_OURS, "CodePoints", ["text"], ["codes"], nodes, used)


def _dictionary(name: str, output: str, keys: Sequence[str], values: Sequence[int], default: int) -> Any:
    from onnx import helper

    keys, values = (keys, values) if len(keys) else ([""], [default])  # ONNX has no empty dictionary
    table: dict[str, Any] = {"keys_strings": list(keys), "values_int64s": list(values), "default_int64": default}
    return helper.make_node("LabelEncoder", [name], [output], domain="ai.onnx.ml", **table)
