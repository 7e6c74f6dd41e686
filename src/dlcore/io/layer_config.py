"""Layers as JSON: their classes by name, their constructors' arguments, and ties by place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dlcore import nn
from dlcore.nn.containers import walk


def encode_layers(layers: Sequence[nn.Layer]) -> list[dict[str, Any]]:
    """An entry ``{"type": name, "custom": bool, "arguments": {name: value}}`` for each layer.

    Raises
    ------
    TypeError
        If an argument of a layer is neither a number, string, layer, None, nor a list, tuple or
        dict of such.
    """
    return _Encoder(layers).entries


class _Encoder:
    def __init__(self, layers: Sequence[nn.Layer]):
        within = walk(nn.Chain(*layers))
        self.places = {id(layer): path[:-1] for path, layer in within}
        self.entries = [self._entry(layer) for layer in layers]

    def _entry(self, layer: nn.Layer) -> dict[str, Any]:
        name = type(layer).__name__
        children = set(map(id, layer.children()))
        arguments = {}
        for argument, value in layer.config().items():
            try:
                arguments[argument] = self._value(value, children)
            except TypeError as error:
                raise TypeError(
                    f"layer {self.places[id(layer)]}, a {name}, cannot be saved: its argument "
                    f"{argument} is {error}"
                ) from None
        custom = getattr(nn, name, None) is not type(layer)
        return {"type": name, "custom": custom, "arguments": arguments}

    def _value(self, value: Any, children: set[int]) -> Any:
        if isinstance(value, nn.Layer):
            if id(value) in children:
                return {"layer": self._entry(value)}
            if id(value) in self.places:
                return {"place": self.places[id(value)]}
            raise TypeError(f"a layer that is no part of the model: {value!r}")
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, tuple):
            return {"tuple": [self._value(each, children) for each in value]}
        if isinstance(value, list):
            return [self._value(each, children) for each in value]
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {k: self._value(each, children) for k, each in value.items()}}
        raise TypeError(
            f"a {type(value).__name__}; files hold numbers, strings, layers, and lists, tuples and "
            "dicts of them"
        )


def decode_layers(
    entries: Sequence[Mapping[str, Any]], custom: Mapping[str, type[nn.Layer]]
) -> list[nn.Layer]:
    """The layers of :func:`encode_layers`; ``custom`` has the classes that are not dlcore's.

    Raises
    ------
    ValueError
        If a class is unknown, or an entry contradicts itself.
    """
    decoder = _Decoder(entries, custom)
    return [decoder.at(str(i)) for i in range(len(entries))]


class _Decoder:
    """Builds layers by place, so that one may be tied to another that stands behind it."""

    def __init__(self, entries: Sequence[Mapping[str, Any]], custom: Mapping[str, type[nn.Layer]]):
        self.custom = custom
        self.entries: dict[str, Mapping[str, Any]] = {}
        self.built: dict[str, nn.Layer] = {}
        self.building: set[str] = set()
        for i, entry in enumerate(entries):
            self._enter(str(i), entry)

    def _enter(self, place: str, entry: Mapping[str, Any]) -> None:
        self.entries[place] = entry
        for i, child in enumerate(_children(entry["arguments"])):
            self._enter(f"{place}.{i}", child)

    def at(self, place: str) -> nn.Layer:
        """The layer of that place."""
        if place not in self.built:
            if place not in self.entries or place in self.building:
                raise ValueError(f"a layer is tied to place {place!r}, where there is none")
            self.building.add(place)
            self.built[place] = self._build(place, self.entries[place])
        return self.built[place]

    def _build(self, place: str, entry: Mapping[str, Any]) -> nn.Layer:
        layer = self._class(entry["type"], entry["custom"])
        numbers = itertools.count()
        arguments = entry["arguments"].items()
        return layer.from_config({k: self._value(v, place, numbers) for k, v in arguments})

    def _class(self, name: str, is_custom: bool) -> type[nn.Layer]:
        if is_custom:
            if name not in self.custom:
                raise ValueError(
                    f"layer {name!r} is not one of dlcore.nn: pass layers={{{name!r}: {name}}}"
                )
            return self.custom[name]
        found = getattr(nn, name, None)
        if not (isinstance(found, type) and issubclass(found, nn.Layer)):
            raise ValueError(f"unknown layer {name!r}")
        return found

    def _value(self, value: Any, place: str, numbers: Iterator[int]) -> Any:
        if isinstance(value, list):
            return [self._value(each, place, numbers) for each in value]
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "layer":
            return self.at(f"{place}.{next(numbers)}")
        if kind == "place":
            return self.at(content)
        if kind == "tuple":
            return tuple(self._value(each, place, numbers) for each in content)
        if kind == "dict":
            return {k: self._value(each, place, numbers) for k, each in content.items()}
        raise ValueError(f"unknown value {kind!r}")


def _children(value: Any) -> list[Mapping[str, Any]]:
    """The entries of the layers within a layer's arguments, in order."""
    if isinstance(value, list):
        return [child for each in value for child in _children(each)]
    if not isinstance(value, dict):
        return []
    if set(value) == {"layer"}:
        return [value["layer"]]
    return [child for each in value.values() for child in _children(each)]
