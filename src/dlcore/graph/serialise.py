"""Graphs as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from dlcore.graph.shape import Rows
from dlcore.graph.tensor import TABLE, Slot, Tensor, topological

VERSION = 1


def to_json(outputs: Mapping[str, Tensor]) -> str:
    """The nodes that the outputs need, inputs first, as JSON text.

    Raises
    ------
    ValueError
        If the graph holds a captured array: only parameters and inputs are stored.
    """
    order = topological(list(outputs.values()))
    index = {node: i for i, node in enumerate(order)}
    nodes = [
        {
            "op": node.op.name,
            "inputs": [index[i] for i in node.inputs],
            "attributes": {k: _encode(v) for k, v in sorted(node.attributes.items())},
        }
        for node in order
    ]
    names = {name: index[node] for name, node in outputs.items()}
    return json.dumps({"version": VERSION, "nodes": nodes, "outputs": names}, sort_keys=True)


def from_json(text: str) -> dict[str, Tensor]:
    """The outputs of :func:`to_json`, their shapes and dtypes worked out anew.

    Raises
    ------
    ValueError
        If the text is no graph of a known version, or an op does not take its inputs.
    """
    try:
        document = json.loads(text)
        if document["version"] != VERSION:
            raise ValueError(f"graph version {document['version']!r} is not {VERSION}")
        nodes: list[Tensor] = []
        for entry in document["nodes"]:
            if any(not 0 <= i < len(nodes) for i in entry["inputs"]):
                raise ValueError(f"node {len(nodes)} reads a node that does not precede it")
            if entry["op"] not in TABLE:
                raise ValueError(f"unknown op {entry['op']!r}")
            inputs = tuple(nodes[i] for i in entry["inputs"])
            attributes = {k: _decode(v) for k, v in entry["attributes"].items()}
            nodes.append(Tensor(TABLE[entry["op"]], inputs, attributes))
        return {name: nodes[i] for name, i in document["outputs"].items()}
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"not a graph: {error!r}") from error


def _encode(value: Any) -> Any:
    if isinstance(value, Rows):
        return {"rows": value.factor}
    if isinstance(value, np.dtype):
        return {"dtype": value.str}
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    if isinstance(value, Slot):
        if value.value is not None:
            raise ValueError(f"the graph captures an array ({value.name}) and cannot be stored")
        return {
            "slot": value.name,
            "kind": value.kind,
            "of": value.dtype.str,
            "shape": _encode(value.shape),
        }
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(v) for v in value)
    if not isinstance(value, dict):
        return value
    if "rows" in value:
        return Rows(value["rows"])
    if "dtype" in value:
        return np.dtype(value["dtype"])
    return Slot(value["slot"], value["kind"], np.dtype(value["of"]), _decode(value["shape"]))
