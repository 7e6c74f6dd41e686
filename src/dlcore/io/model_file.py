"""Models as files: one safetensors file with the weights, and the graph as JSON in its metadata."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dlcore import nn, optim
from dlcore.graph.serialise import from_json, to_json
from dlcore.io.layer_config import decode_layers, encode_layers
from dlcore.nn import tracing
from dlcore.nn.sequential import Sequential
from dlcore.train import TrainingState

FORMAT = "dlcore"
VERSION = "1"

_COUNTERS = ("seed", "rows", "batch_size", "step", "epoch", "position")


def save(
    model: Sequential,
    path: str | Path,
    *,
    training_state: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a model; see ``Sequential.save``."""
    path = Path(path)
    metadata = dict(model.metadata if metadata is None else metadata)
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"metadata must map str to str, but has {key!r}: {value!r}")
    tensors = {f"parameter/{k}": np.ascontiguousarray(v) for k, v in model.parameters().items()}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "model": json.dumps(
            {
                "dtype": model.dtype.name,
                "layers": encode_layers(model.layers),
                "frozen": list(model.frozen),
            }
        ),
        "metadata": json.dumps(metadata),
    }
    graph = _graph(model)
    if graph is not None:
        header["graph"] = graph
    if training_state:
        state = model._state
        if state is None:
            raise ValueError("training_state=True, but the model has not been fitted")
        header["training"] = json.dumps(_state_config(state))
        tensors |= {f"state/{k}": np.ascontiguousarray(v) for k, v in state.arrays.items()}
    _write_whole(path, tensors, header)


def load(path: str | Path, *, layers: Mapping[str, type[nn.Layer]] | None = None) -> Sequential:
    """Reads a model that ``Sequential.save`` wrote.

    Parameters
    ----------
    path : str or Path
    layers : mapping of str to class, optional
        Layer classes of your own by the names that the file has for them: ``{"Scale": Scale}``. A
        file holds no code, and nothing is imported for it.

    Returns
    -------
    Sequential

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no dlcore model, what it holds does not fit together, or it has layers that are
        not dlcore's and are not passed.
    TypeError
        If an entry of ``layers`` is no layer class.

    Examples
    --------
    >>> import dlcore as dl
    >>> model = dl.nn.Sequential(dl.nn.Linear(2, 1)).init(seed=0)
    >>> model.save("line.safetensors")
    >>> dl.load("line.safetensors").parameters()["0.bias"]
    array([0.], dtype=float32)
    """
    for name, layer in (layers or {}).items():
        if not (isinstance(layer, type) and issubclass(layer, nn.Layer)):
            raise TypeError(f"layers[{name!r}] must be a subclass of Layer, not {layer!r}")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} is a safetensors file, but no dlcore model")
    if header.get("version") != VERSION:
        raise ValueError(f"{path} has version {header.get('version')!r}; this reads {VERSION!r}")
    try:
        return _rebuild(header, tensors, layers or {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no valid model: {error}") from error


def _rebuild(
    header: dict[str, str], tensors: dict[str, np.ndarray], custom: Mapping[str, type[nn.Layer]]
) -> Sequential:
    config = json.loads(header["model"])
    layers = decode_layers(config["layers"], custom)
    model = Sequential(*layers, dtype=config["dtype"]).init()
    if config["frozen"]:
        model.freeze(*config["frozen"])
    parameters = _with_prefix(tensors, "parameter/")
    if parameters.keys() != model.parameters().keys():
        raise ValueError(
            f"it has parameters {', '.join(parameters)}, "
            f"but its layers have {', '.join(model.parameters())}"
        )
    model.set_parameters(parameters)
    stored = header.get("graph")
    if stored is not None and to_json(from_json(stored)) != _graph(model):
        raise ValueError("its graph is not that of its layers")
    model.metadata = json.loads(header["metadata"])
    if "training" in header:
        model._state = _state(json.loads(header["training"]), _with_prefix(tensors, "state/"))
        if not model._state.fits({name: model.parameters()[name] for name in model.trained()}):
            raise ValueError("the state of its optimizer does not fit its parameters")
    return model


def _with_prefix(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _graph(model: Sequential) -> str | None:
    """The graph of ``predict``; None where the layers do not tell what a sample looks like, or
    compute with arrays of their own."""
    width = _sample_width(model.layers)
    if width is None:
        return None
    try:
        node = tracing.prediction_node(model, (("x", model.dtype.str, (width,)),))
        return to_json({"prediction": node})
    except (TypeError, ValueError):
        return None


def _sample_width(layers: Sequence[nn.Layer]) -> int | None:
    """The columns of flat samples, of which the first layer that has a width tells."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            return layer.in_features
        if isinstance(layer, nn.BatchNorm):
            return layer.features
        if isinstance(layer, nn.Chain | nn.Residual):
            return _sample_width(layer.layers)
        if isinstance(layer, nn.Embedding | nn.Parallel):
            return None
    return None


def _state_config(state: TrainingState) -> dict[str, Any]:
    options = state.optimizer.options()
    rate = options["learning_rate"]
    if isinstance(rate, optim.Schedule):
        if getattr(optim, type(rate).__name__, None) is not type(rate):
            raise NotImplementedError(f"schedule {type(rate).__name__} cannot be saved")
        options["learning_rate"] = {"type": type(rate).__name__, **vars(rate)}
    return {
        "optimizer": {"type": type(state.optimizer).__name__, **options},
        **{name: getattr(state, name) for name in _COUNTERS},
    }


def _state(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> TrainingState:
    options = dict(config["optimizer"])
    optimizer = _named(optim.Optimizer, options.pop("type"))
    rate = options["learning_rate"]
    if isinstance(rate, dict):
        rate = dict(rate)
        options["learning_rate"] = _named(optim.Schedule, rate.pop("type"))(**rate)
    counters = {name: int(config[name]) for name in _COUNTERS}
    return TrainingState(optimizer(**options), arrays, **counters)


def _named(base: type, name: str) -> Any:
    found = getattr(optim, name, None)
    if not (isinstance(found, type) and issubclass(found, base) and found is not base):
        raise ValueError(f"unknown {base.__name__.lower()} {name!r}")
    return found


def _write_whole(path: Path, tensors: dict[str, np.ndarray], header: dict[str, str]) -> None:
    """Writes beside the path and renames, so that a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # Made here, as the library would, but never over a file that is there.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        save_file(tensors, temporary, metadata=header)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
