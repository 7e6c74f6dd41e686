"""Trains, saves and loads a model with nothing installed but the wheel and what it requires."""

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np

import dlcore as dl

assert Path(dl.__file__).is_relative_to(sys.prefix), dl.__file__
assert importlib.util.find_spec("sklearn") is None, "this run is to show what works without extras"

x = np.linspace(-1, 1, 100).reshape(-1, 1)
y = np.tanh(3 * x)
model = dl.nn.Sequential(dl.nn.Linear(1, 16), dl.nn.Tanh(), dl.nn.Linear(16, 1))
optimizer = dl.optim.Adam(0.02)
history = model.fit(x, y, loss="mse", optimizer=optimizer, batch_size=16, epochs=60, seed=0)
loss = np.mean((model.predict(x) - y) ** 2)
assert loss < 0.01 < history["loss"][0], (loss, history["loss"][0])

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.safetensors"
    model.save(path)
    np.testing.assert_array_equal(dl.load(path).predict(x), model.predict(x))

try:
    dl.MLPClassifier  # noqa: B018
except ImportError as error:
    message = str(error)
else:
    message = "no ImportError"
assert "dlcore[sklearn]" in message, message

print(f"dlcore {dl.__version__}: a model trained to a mean squared error of {loss:.2g}")
