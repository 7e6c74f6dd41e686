"""Models as files."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import dlcore as dl
from dlcore.graph.serialise import from_json, to_json
from dlcore.graph.tensor import apply, constant, evaluate
from dlcore.nn import tracing

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 40)


def fitted(optimizer=None):
    model = dl.nn.Sequential(
        dl.nn.Flatten(),
        dl.nn.Linear(4, 6, weight_init="he_normal"),
        dl.nn.LeakyReLU(0.1),
        dl.nn.Dropout(0.2),
        dl.nn.Linear(6, 3, bias=False),
    )
    model.fit(X, Y, loss="cross_entropy", optimizer=optimizer, epochs=2, batch_size=16, seed=4)
    return model


def rewrite(path, change):
    """Saves the file again after change(tensors, metadata)."""
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors, metadata)
    save_file(tensors, path, metadata=metadata)


def test_a_loaded_model_predicts_the_same(tmp_path):
    model = fitted()
    path = tmp_path / "m.safetensors"
    model.save(path, metadata={"classes": "a b c"})
    loaded = dl.load(path)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert repr(loaded) == repr(model)
    assert loaded.metadata == {"classes": "a b c"}
    assert dl.load(str(path)).dtype == np.float32


@pytest.mark.parametrize(
    "optimizer",
    [
        dl.optim.Adam(dl.optim.Cosine(0.01, warmup=1, epochs=4)),
        dl.optim.AdamW(0.01),
        dl.optim.SGD(0.1, momentum=0.9, nesterov=True),
        dl.optim.SGD(dl.optim.Step(0.1, every=2)),
    ],
)
def test_training_goes_on_after_loading(tmp_path, optimizer):
    model = fitted(optimizer)
    model.save(tmp_path / "m.safetensors", training_state=True)
    loaded = dl.load(tmp_path / "m.safetensors")
    for m in (model, loaded):
        m.fit(X, Y, loss="cross_entropy", epochs=3, batch_size=16, resume=True)
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(loaded.parameters()[name], value)


def test_training_state_is_left_out_by_default(tmp_path):
    model = fitted()
    model.save(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="no training state to go on from"):
        dl.load(tmp_path / "m.safetensors").fit(X, Y, loss="cross_entropy", resume=True)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    model = fitted()
    model.save(path)
    old = path.read_bytes()
    model.fit(X, Y, loss="cross_entropy", epochs=1)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        model.save(path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_the_stored_graph_is_what_the_model_computes(tmp_path):
    model = fitted()
    path = tmp_path / "m.safetensors"
    model.save(path)
    with safe_open(path, framework="numpy") as file:
        graph = from_json(file.metadata()["graph"])
    feed = {}
    for node in _slots(graph["prediction"]):
        name = node.attributes["slot"].name
        feed[node] = X if name == "x" else model.parameters()[name.removeprefix("parameter/")]
    (expected,) = evaluate([graph["prediction"]], feed, len(X))
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5, atol=1e-6)


def _slots(node):
    from dlcore.graph.tensor import topological

    return [n for n in topological([node]) if n.op.name == "slot"]


def test_graphs_survive_json():
    model = fitted()
    node = tracing.prediction_node(model, (("x", "<f4", (4,)),))
    text = to_json({"prediction": node})
    assert to_json(from_json(text)) == text
    with pytest.raises(ValueError, match="captures an array"):
        to_json({"y": apply("add", node, constant(np.ones(3, np.float32)))})


def test_files_that_are_no_models_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        dl.load(tmp_path / "none.safetensors")
    text = tmp_path / "text.safetensors"
    text.write_text("not a model")
    with pytest.raises(ValueError, match="is no safetensors file"):
        dl.load(text)
    other = tmp_path / "other.safetensors"
    save_file({"a": np.zeros(2)}, other)
    with pytest.raises(ValueError, match="but no dlcore model"):
        dl.load(other)


def _drop_bias(tensors, metadata):
    del tensors["parameter/1.bias"]


def _reshape_weight(tensors, metadata):
    tensors["parameter/1.weight"] = np.zeros((4, 5), np.float32)


def _unknown_layer(tensors, metadata):
    metadata["model"] = metadata["model"].replace('"LeakyReLU"', '"Sequential"')


def _other_slope(tensors, metadata):
    metadata["model"] = metadata["model"].replace("0.1", "0.3")


def _newer_version(tensors, metadata):
    metadata["version"] = "2"


def _broken_graph(tensors, metadata):
    metadata["graph"] = "{}"


def _graph_reading_ahead(tensors, metadata):
    graph = json.loads(metadata["graph"])
    graph["nodes"][-1]["inputs"] = [10**6]
    metadata["graph"] = json.dumps(graph)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop_bias, "but its layers have"),
        (_reshape_weight, r"1.weight has shape \(4, 5\), expected \(4, 6\)"),
        (_unknown_layer, "unknown layer 'Sequential'"),
        (_other_slope, "its graph is not that of its layers"),
        (_newer_version, "has version '2'; this reads '1'"),
        (_broken_graph, "not a graph"),
        (_graph_reading_ahead, "reads a node that does not precede it"),
    ],
)
def test_files_that_contradict_themselves_are_refused(tmp_path, change, message):
    path = tmp_path / "m.safetensors"
    fitted().save(path)
    rewrite(path, change)
    with pytest.raises(ValueError, match=message):
        dl.load(path)


def test_optimizer_state_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    fitted().save(path, training_state=True)
    rewrite(path, lambda tensors, _: tensors.pop("state/m/1.bias"))
    with pytest.raises(ValueError, match="the state of its optimizer does not fit"):
        dl.load(path)


class Power(dl.nn.Layer):
    """A layer of one's own with a parameter, arguments of several kinds, and a layer in it."""

    def __init__(self, inner, exponents=(1, 2), *, options=None, name="power"):
        self.inner = inner
        self.exponents = exponents
        self.options = options
        self.name = name

    def children(self):
        return (self.inner,)

    def init(self, initializer):
        inner = {f"0.{k}": v for k, v in self.inner.init(initializer).items()}
        return {"scale": initializer.normal((4,), 1.0), **inner}

    def apply(self, parameters, x, training):
        inner = {k.removeprefix("0."): v for k, v in parameters.items()}
        x = self.inner.apply(inner, x, training)
        return sum(np.tanh(x * parameters["scale"]) ** e for e in self.exponents)


def fitted_with_everything():
    """Containers, ties (to a layer that comes later, too), state, frozen and custom layers."""
    late = dl.nn.Linear(4, 3, l1=1e-3)
    early = dl.nn.Linear(3, 4, tie=late, bias=False)
    model = dl.nn.Sequential(
        dl.nn.Parallel(
            dl.nn.Chain(dl.nn.Linear(4, 3), dl.nn.BatchNorm(3, momentum=0.2)),
            dl.nn.Linear(4, 3),
            combine="add",
        ),
        early,
        Power(dl.nn.Linear(4, 4), (1, 3), options={"a": [1, None, "b"], "c": 0.5}),
        dl.nn.Residual(dl.nn.LayerNorm((4,), axis=(-1,), eps=1e-3), dl.nn.Mish()),
        dl.nn.PReLU(4, initial=0.1),
        dl.nn.Dropout(0.1),
        late,
    )
    model.freeze("0.1.*")
    model.fit(X, Y, loss="cross_entropy", epochs=2, batch_size=16, seed=4)
    return model


def test_a_model_of_all_kinds_of_layers_goes_on_after_loading(tmp_path):
    path = tmp_path / "m.safetensors"
    model = fitted_with_everything()
    model.save(path, training_state=True)
    loaded = dl.load(path, layers={"Power": Power})
    assert repr(loaded) == repr(model)
    assert loaded.frozen == model.frozen == ("0.1.weight", "0.1.bias")
    assert loaded.layers[1].tie is loaded.layers[6]
    assert loaded.layers[2].options == {"a": [1, None, "b"], "c": 0.5}
    assert loaded.layers[2].exponents == (1, 3)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    for m in (model, loaded):
        m.fit(X, Y, loss="cross_entropy", epochs=2, batch_size=16, resume=True)
    assert list(loaded.parameters()) == list(model.parameters())
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(loaded.parameters()[name], value, err_msg=name)


def test_embeddings_and_keys_survive_a_file(tmp_path):
    path = tmp_path / "m.safetensors"
    branches = dl.nn.Parallel(
        dl.nn.Identity(), dl.nn.Sequential(dl.nn.Embedding(3, 2)), keys=("x", "c")
    )
    model = dl.nn.Sequential(branches, dl.nn.Linear(6, 1)).init(seed=2)
    model.save(path)
    inputs = {"c": Y, "x": X}
    np.testing.assert_array_equal(dl.load(path).predict(inputs), model.predict(inputs))


def test_layers_of_ones_own_have_to_be_passed(tmp_path):
    path = tmp_path / "m.safetensors"
    fitted_with_everything().save(path)
    with pytest.raises(ValueError, match=r"layer 'Power' .* pass layers=\{'Power': Power\}"):
        dl.load(path)
    with pytest.raises(TypeError, match=r"layers\['Power'\] must be a subclass of Layer, not 3"):
        dl.load(path, layers={"Power": 3})


def test_a_layer_that_shadows_a_name_is_not_taken_for_the_other(tmp_path):
    class Tanh(dl.nn.Layer):
        def apply(self, parameters, x, training):
            return 2.0 * x

    path = tmp_path / "m.safetensors"
    dl.nn.Sequential(Tanh()).init().save(path)
    with pytest.raises(ValueError, match="layer 'Tanh' is not one of dlcore.nn"):
        dl.load(path)
    np.testing.assert_array_equal(dl.load(path, layers={"Tanh": Tanh}).predict(X), 2 * X)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (np.ones(3), "its argument inner is a ndarray; files hold numbers"),
        (np.tanh, "its argument inner is a ufunc; files hold"),
        (dl.nn.ReLU(), r"its argument inner is a layer that is no part of the model: ReLU\(\)"),
    ],
)
def test_what_a_file_cannot_hold_is_named(tmp_path, argument, message):
    class Holder(dl.nn.Layer):
        def __init__(self, inner):
            self.inner = inner

        def apply(self, parameters, x, training):
            return x

    model = dl.nn.Sequential(dl.nn.Chain(Holder(argument))).init()
    with pytest.raises(TypeError, match=f"layer 0.0, a Holder, cannot be saved: {message}"):
        model.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_arguments_have_to_be_attributes(tmp_path):
    class Forgetful(dl.nn.Layer):
        def __init__(self, rate):
            self.r = rate

        def apply(self, parameters, x, training):
            return x

    class Open(Forgetful):
        def __init__(self, **options):
            self.options = options

    path = tmp_path / "m.safetensors"
    with pytest.raises(AttributeError, match="Forgetful has the argument rate, but no attribute"):
        dl.nn.Sequential(Forgetful(1)).init().save(path)
    with pytest.raises(TypeError, match=r"Open takes \*\*options; name its arguments one by one"):
        dl.nn.Sequential(Open(rate=1)).init().save(path)


def test_a_graph_that_holds_an_array_is_left_out(tmp_path):
    """The model is saved all the same, and built again of its layers."""

    class Fixed(dl.nn.Layer):
        def apply(self, parameters, x, training):
            return x * np.arange(3.0)

    path = tmp_path / "m.safetensors"
    model = dl.nn.Sequential(dl.nn.Linear(4, 3), Fixed()).init()
    model.save(path)
    with safe_open(path, framework="numpy") as file:
        assert "graph" not in file.metadata()
    np.testing.assert_array_equal(
        dl.load(path, layers={"Fixed": Fixed}).predict(X), model.predict(X)
    )


def _tied_to_itself(metadata):
    return metadata["model"].replace('{"place": "6"}', '{"place": "1"}')


def _tied_to_nothing(metadata):
    return metadata["model"].replace('{"place": "6"}', '{"place": "9.1"}')


def _unknown_value(metadata):
    return metadata["model"].replace('{"place": "6"}', '{"code": "6"}')


def _frozen_nothing(metadata):
    return metadata["model"].replace("0.1.weight", "3.weight")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_tied_to_itself, "tied to place '1', where there is none"),
        (_tied_to_nothing, "tied to place '9.1', where there is none"),
        (_unknown_value, "unknown value 'code'"),
        (_frozen_nothing, "'3.weight' fits no parameter"),
    ],
)
def test_layers_that_contradict_themselves_are_refused(tmp_path, change, message):
    path = tmp_path / "m.safetensors"
    fitted_with_everything().save(path)
    rewrite(path, lambda _, metadata: metadata.update(model=change(metadata)))
    with pytest.raises(ValueError, match=message):
        dl.load(path, layers={"Power": Power})


def test_metadata_must_be_text(tmp_path):
    with pytest.raises(TypeError, match="metadata must map str to str"):
        fitted().save(tmp_path / "m.safetensors", metadata={"a": 1})
