"""The command line: training on files, predicting with the model, and one line for each mistake."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import dlcore as dl
from dlcore import cli
from dlcore.io.tables import TableEncoder

pytestmark = pytest.mark.isa_independent


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run each test in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def succeed(run):
    """Run a command that must succeed, and return its stdout."""

    def succeed(command):
        status, out, err = run(command)
        assert status == 0, err
        return out

    return succeed


@pytest.fixture
def error(run):
    """Run a command that must fail with one line on stderr, and return the line."""

    def error(command):
        status, _, err = run(command)
        assert status == 2
        last = err.splitlines()[-1]
        assert last.startswith("dlcore: error: ")
        assert "Traceback" not in err
        return last

    return error


def flowers(n=120, seed=0):
    """A table of two classes that width and colour tell apart, with gaps in these two."""
    rng = np.random.default_rng(seed)
    rose = rng.integers(0, 2, n).astype(bool)
    frame = pd.DataFrame(
        {
            "width": rng.normal(np.where(rose, 3.0, 1.0), 0.3),
            "colour": np.where(rose, "red", rng.choice(["blue", "white"], n)),
            "height": rng.normal(10, 2, n),
            "kind": np.where(rose, "rose", "iris"),
        }
    )
    frame.loc[frame.index == 3, "width"] = np.nan
    frame.loc[frame.index == 4, "colour"] = None
    return frame


def houses(n=200, seed=0):
    """A table with a price that is linear in size and depends on the town."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(30, 150, n)
    town = rng.choice(["Oslo", "Rome"], n)
    price = 2000 * size + 50_000 * (town == "Oslo") + rng.normal(0, 1000, n)
    return pd.DataFrame({"size": size, "town": town, "price": price})


def predictions(text):
    return pd.read_csv(io.StringIO(text))


# Training and predicting


def test_without_a_file_the_digits_are_learnt_and_the_next_command_works(succeed, folder):
    out = succeed("train")
    accuracy = float(re.search(r"^test +accuracy ([\d.]+)", out, re.MULTILINE)[1])
    assert 0.95 <= accuracy <= 1
    assert {path.name for path in folder.iterdir()} == {"digits.safetensors", "digits-sample.csv"}
    command = re.search(r"^next +dlcore (.+)", out, re.MULTILINE)[1]
    answers = predictions(succeed(command))
    truth = pd.read_csv("digits-sample.csv")["target"]
    assert len(truth) == 10
    assert np.mean(answers["prediction"] == truth) >= 0.8


def test_progress_shows_the_losses_unless_quiet(run):
    flowers().to_csv("flowers.csv", index=False)
    status, out, err = run("train flowers.csv --target kind --epochs 2")
    assert status == 0
    assert "loss" in out + err
    status, out, err = run("train flowers.csv --target kind --epochs 2 --quiet")
    assert status == 0
    assert out == ""
    assert err == "dlcore: note: missing numbers replaced by the training median: width (1 row)\n"


def test_class_probabilities_equal_a_numpy_forward_pass(succeed):
    """The stored preprocessing and weights, recomputed from the file with plain NumPy."""
    frame = flowers()
    frame.to_csv("flowers.csv", index=False)
    succeed("train flowers.csv --target kind --hidden 7,5 --dtype float64 --epochs 5")
    answers = predictions(succeed("predict flowers.safetensors flowers.csv"))

    model = dl.load("flowers.safetensors")
    width, colour, height = TableEncoder.from_json(model.metadata["table"]).columns
    h = np.column_stack(
        [
            (frame["width"].fillna(width.median) - width.mean) / width.std,
            *[frame["colour"] == name for name in ("blue", "red", "white")],
            frame["colour"].isna(),
            (frame["height"] - height.mean) / height.std,
        ]
    )
    *hidden, last = np.array(list(model.parameters().values()), dtype=object).reshape(-1, 2)
    for weight, bias in hidden:
        h = np.maximum(h @ weight + bias, 0)
    logits = h @ last[0] + last[1]
    odds = np.exp(logits)
    expected = odds / odds.sum(axis=1, keepdims=True)

    assert [weight.shape for weight, _ in (*hidden, last)] == [(6, 7), (7, 5), (5, 2)]
    assert list(answers.columns) == ["prediction", "probability_iris", "probability_rose"]
    np.testing.assert_allclose(answers.iloc[:, 1:], expected, rtol=1e-10)
    names = np.array(["iris", "rose"])[expected.argmax(axis=1)]
    assert answers["prediction"].tolist() == names.tolist()
    assert colour.categories == ("blue", "red", "white", None)


def test_preprocessing_is_learnt_from_the_training_rows_only(succeed):
    """Held-out rows must not leak into the mean, standard deviation and median."""
    frame = houses()
    frame.to_csv("houses.csv", index=False)
    succeed("train houses.csv --target price --epochs 1 --test-size 0.5")
    encoder = TableEncoder.from_json(dl.load("houses.safetensors").metadata["table"])
    size = encoder.columns[0]
    assert abs(size.mean - frame["size"].mean()) > 1e-6
    assert abs(encoder.target.mean - frame["price"].mean()) > 1e-6


def test_classes_are_learnt_from_a_table_with_text_and_gaps(succeed):
    flowers(300).to_csv("flowers.csv", index=False)
    out = succeed("train flowers.csv --target kind")
    assert "classification of 'kind', 2 classes" in out
    new = flowers(100, seed=1)
    new.drop(columns="kind").to_csv("new.csv", index=False)
    answers = predictions(succeed("predict flowers.safetensors new.csv"))
    assert np.mean(answers["prediction"] == new["kind"]) >= 0.95


def test_quantities_are_predicted_in_their_own_unit(succeed):
    houses().to_csv("houses.csv", index=False)
    out = succeed("train houses.csv --target price")
    assert "regression of 'price'" in out
    assert float(re.search(r"R2 ([\d.]+)", out)[1]) > 0.98
    new = houses(50, seed=1)
    new.to_csv("new.csv", index=False)
    answers = predictions(succeed("predict houses.safetensors new.csv"))
    assert list(answers.columns) == ["prediction"]
    error = np.sqrt(np.mean((answers["prediction"] - new["price"]) ** 2))
    assert error < 0.1 * new["price"].std()


def test_reported_rmse_is_in_the_unit_of_the_target(succeed):
    houses().to_csv("houses.csv", index=False)
    out = succeed("train houses.csv --target price")
    rmse, baseline = map(float, re.findall(r"RMSE ([\d.e+]+)", out))
    spread = houses()["price"].std()
    assert 0.7 * spread < baseline < 1.4 * spread
    assert 0 < rmse < 0.2 * spread


def test_csv_parquet_and_npz_train_the_same_model(succeed):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = (X[:, 0] > 0).astype(int)
    frame = pd.DataFrame(X, columns=["x0", "x1", "x2"]).assign(y=y)
    frame.to_csv("a.csv", index=False)
    frame.to_parquet("b.parquet")
    np.savez("c.npz", X=X, y=y)
    succeed("train a.csv --target y --epochs 3")
    succeed("train b.parquet --target y --epochs 3")
    succeed("train c.npz --epochs 3")
    expected = succeed("predict a.safetensors a.csv")
    assert len(expected.splitlines()) == 61
    assert succeed("predict b.safetensors b.parquet") == expected
    assert succeed("predict c.safetensors c.npz") == expected


def test_target_names_the_array_of_an_npz_file(succeed):
    X = np.arange(40.0).reshape(20, 2)
    np.savez("t.npz", X=X, y=np.zeros(20), weight=X[:, 0] / 3)
    assert "regression of 'weight'" in succeed("train t.npz --target weight --epochs 1")


def test_the_task_can_be_overridden(succeed):
    np.savez("t.npz", X=np.arange(40.0).reshape(20, 2), y=np.arange(20) % 2)
    assert "classification" in succeed("train t.npz --epochs 1")
    assert "regression of 'y'\n" in succeed("train t.npz --epochs 1 --task regression")


def test_one_seed_gives_one_model_and_another_seed_another(succeed):
    flowers().to_csv("flowers.csv", index=False)
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        succeed(f"train flowers.csv --target kind --epochs 2 --seed {seed} --output {name}")
    a, b, c = (dl.load(name) for name in "abc")
    for name, value in a.parameters().items():
        np.testing.assert_array_equal(value, b.parameters()[name], err_msg=name)
    assert a.metadata == b.metadata
    assert not np.array_equal(a.parameters()["0.weight"], c.parameters()["0.weight"])
    assert a.metadata != c.metadata  # the seed also chooses the rows to learn from


def test_options_of_training_reach_the_fit(succeed, monkeypatch):
    """Seen at the library's own boundary: what `fit` is called with."""
    seen = {}
    fit = dl.nn.Sequential.fit

    def record(self, X, y, **options):
        seen.update(options, rows=len(X), dtype=self.dtype)
        return fit(self, X, y, **options)

    monkeypatch.setattr(dl.nn.Sequential, "fit", record)
    houses().to_csv("houses.csv", index=False)
    succeed(
        "train houses.csv --target price --epochs 3 --batch-size 16 --learning-rate 0.25 "
        "--seed 7 --test-size 0.3 --dtype float64"
    )
    assert {k: seen[k] for k in ("epochs", "batch_size", "seed", "rows", "dtype", "loss")} == {
        "epochs": 3,
        "batch_size": 16,
        "seed": 7,
        "rows": 140,
        "dtype": np.float64,
        "loss": "mse",
    }
    assert seen["optimizer"].learning_rate == 0.25


@pytest.mark.parametrize(
    ("rows", "epochs"), [(1437, 50), (10, 100), (1_000_000, 10)], ids=["digits", "few", "many"]
)
def test_default_epochs_make_about_the_same_number_of_updates(rows, epochs):
    assert cli._default_epochs(rows, batch_size=32) == epochs


def test_dropped_columns_are_neither_trained_on_nor_needed(succeed):
    flowers().assign(serial=[f"s{i}" for i in range(120)]).to_csv("t.csv", index=False)
    succeed("train t.csv --target kind --drop serial --drop height --epochs 1")
    flowers()[["width", "colour"]].to_csv("new.csv", index=False)
    assert len(succeed("predict t.safetensors new.csv").splitlines()) == 121


def test_predict_takes_columns_in_any_order_and_ignores_others(succeed):
    frame = flowers()
    frame.to_csv("flowers.csv", index=False)
    succeed("train flowers.csv --target kind --epochs 1")
    frame[["kind", "height", "colour", "width"]].assign(more=1).to_csv("new.csv", index=False)
    expected = succeed("predict flowers.safetensors flowers.csv")
    assert succeed("predict flowers.safetensors new.csv") == expected


def test_predict_warns_of_categories_not_seen_in_training(run, succeed):
    flowers().to_csv("flowers.csv", index=False)
    succeed("train flowers.csv --target kind --epochs 1")
    flowers(2).assign(colour="green").to_csv("new.csv", index=False)
    status, out, err = run("predict flowers.safetensors new.csv")
    assert status == 0
    assert len(out.splitlines()) == 3
    assert err == (
        "dlcore: note: values not seen in training, taken as no known category: colour ('green')\n"
    )


def test_predict_writes_a_file_where_asked(succeed):
    flowers().to_csv("flowers.csv", index=False)
    succeed("train flowers.csv --target kind --epochs 1 --output m.safetensors")
    expected = succeed("predict m.safetensors flowers.csv")
    assert succeed("predict m.safetensors flowers.csv --output out.csv") == ""
    with open("out.csv") as file:
        assert file.read() == expected


def test_rows_without_a_target_are_dropped_with_a_line(run):
    frame = flowers().fillna({"width": 1.0})
    frame.loc[:9, "kind"] = None
    frame.to_csv("flowers.csv", index=False)
    status, out, err = run("train flowers.csv --target kind --epochs 1")
    assert status == 0
    assert "dlcore: note: dropped 10 rows with no value in target column 'kind'" in err
    assert "flowers: 110 rows" in out


def test_a_class_of_one_row_is_trained_on(succeed):
    """No stratified split exists; the row must not end among the held-out ones."""
    frame = flowers(40)
    frame.loc[7, "kind"] = "tulip"
    frame.to_csv("flowers.csv", index=False)
    for seed in range(5):
        out = succeed(f"train flowers.csv --target kind --epochs 1 --seed {seed}")
        assert "3 classes" in out
        assert "32 to train, 8 held out" in out


# Mistakes


@pytest.fixture
def trained(succeed):
    """A model of width, colour and height in flowers.safetensors."""
    frame = flowers()
    frame.to_csv("flowers.csv", index=False)
    succeed("train flowers.csv --target kind --epochs 1")
    return frame


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "required: COMMAND"),
        ("fly", "invalid choice: 'fly'"),
        ("train --hidden 3,x", "--hidden: expected whole numbers such as 100 or 100,50, got '3,x'"),
        ("train --hidden 0", "--hidden: expected whole numbers"),
        ("train --epochs 0", "--epochs: expected a whole number of at least 1, got '0'"),
        ("train --batch-size x", "--batch-size: expected a whole number of at least 1, got 'x'"),
        ("train --learning-rate nan", "--learning-rate: expected a finite number greater than 0"),
        ("train --seed -1", "--seed: expected"),
        ("train --test-size 1", "--test-size: expected a number between 0 and 1, got '1'"),
        ("train --dtype float16", "--dtype: invalid choice"),
        ("train --target y", "need a FILE"),
        ("train gone.csv --target y", "no such file: gone.csv"),
        ("train t.txt --target y", "expected .csv, .tsv"),
        ("train t.csv", "--target is needed; the columns are a, word, y"),
        ("train t.csv --target z", "no column 'z'; the columns are a, word, y"),
        ("train t.csv --target y --drop z", "--drop: no input column 'z'"),
        ("train t.csv --target y --drop y", "--drop: no input column 'y'"),
        ("train t.csv --target word --task regression", "column 'word' holds 'p' in row 1, where"),
        ("train t.csv --target y --task classification", "6 classes in 6 rows"),
        ("train t.csv --target y --test-size 0.9", "6 rows are too few"),
        ("train t.csv --target y --output gone/m", "cannot write gone/m: no such directory"),
        ("train t.csv --target y --output .", "cannot write .: it is a directory"),
        ("train t.csv --target y --output t.csv", "cannot write t.csv: it is a file to read"),
        ("train empty.csv --target y", "all rows of empty.csv are empty"),
        ("train broken.parquet --target y", "cannot read broken.parquet"),
        ("train t.csv --target y --learning-rate 1e38", "diverged"),
        ("predict gone.safetensors t.csv", "no such model: gone.safetensors"),
        ("predict t.csv t.csv", "cannot read model t.csv"),
        ("predict plain.safetensors t.csv --output plain.safetensors", "it is a file to read"),
        ("predict plain.safetensors t.csv", "plain.safetensors was not made by dlcore train"),
    ],
)
def test_mistakes_are_one_line_and_exit_status_2(error, folder, arguments, message):
    (folder / "t.csv").write_text("a,word,y\n1,p,1.5\n2,q,2.5\n3,p,3.5\n4,q,4.5\n5,p,5\n6,q,6\n")
    (folder / "t.txt").touch()
    (folder / "empty.csv").write_text("a,y\n,\n,\n")
    (folder / "broken.parquet").write_bytes(b"PAR1 and no more")
    dl.nn.Sequential(dl.nn.Linear(2, 1)).init().save("plain.safetensors")
    assert message in error(arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns=["width", "colour"]), "missing columns width, colour"),
        (lambda frame: frame.assign(height="tall"), "column 'height' holds 'tall' in row 1, where"),
        (lambda frame: frame.assign(width="", colour="", height=""), "all rows are empty"),
        (lambda frame: frame.iloc[:0], "new.csv has no rows"),
    ],
    ids=["missing columns", "text among numbers", "empty rows", "no rows"],
)
@pytest.mark.usefixtures("trained")
def test_tables_that_do_not_fit_the_model_are_refused(error, change, message):
    change(flowers()).to_csv("new.csv", index=False)
    assert message in error("predict flowers.safetensors new.csv")


@pytest.mark.usefixtures("trained")
def test_predictions_that_cannot_be_written_are_one_line(error, monkeypatch):
    def full_disk(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full_disk)
    line = error("predict flowers.safetensors flowers.csv --output out.csv")
    assert line == "dlcore: error: cannot write out.csv: No space left on device"
    assert "No space left" in error("predict flowers.safetensors flowers.csv")


@pytest.mark.usefixtures("trained")
def test_a_model_of_a_later_version_is_refused_with_both_versions(error):
    model = dl.load("flowers.safetensors")
    description = model.metadata["table"].replace('"version": 1', '"version": 9')
    model.save("later.safetensors", metadata={"table": description})
    assert "version 9" in error("predict later.safetensors flowers.csv")


@pytest.mark.usefixtures("trained")
def test_a_network_that_does_not_fit_its_table_is_refused(error):
    description = dl.load("flowers.safetensors").metadata["table"]
    dl.nn.Sequential(dl.nn.Linear(2, 2)).init().save("other", metadata={"table": description})
    assert "network does not fit its table" in error("predict other flowers.csv")


@pytest.mark.parametrize("library", ["pandas", "sklearn"])
def test_missing_libraries_are_named_with_the_command_that_installs_them(
    error, monkeypatch, library
):
    for name in list(sys.modules):
        if name in ("dlcore.io.tables", "dlcore.io.readers") or name.partition(".")[0] == library:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    line = error("train")
    assert "is not installed: pip install 'dlcore[cli]'" in line
    assert {"pandas": "pandas", "sklearn": "scikit-learn"}[library] in line


def test_interruption_is_one_line_and_exit_status_130(run, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(dl, "show_config", interrupted)
    assert run("info") == (130, "", "dlcore: interrupted\n")


# The program as users start it


def program(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "dlcore", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def test_info_prints_the_configuration():
    result = program("info")
    assert result.returncode == 0, result.stderr
    for name in ["version", "isa", "isa available", "threads", "openmp", "numpy"]:
        assert re.search(rf"^{name} +\S", result.stdout, re.MULTILINE), name
    assert dl.__version__ in result.stdout
    assert np.__version__ in result.stdout


def test_version_and_help_exit_with_status_0():
    assert program("--version").stdout == f"dlcore {dl.__version__}\n"
    for command in ["train", "predict", "info"]:
        result = program(command, "--help")
        assert result.returncode == 0
        assert result.stdout.startswith(f"usage: dlcore {command}")


def test_errors_of_the_program_go_to_stderr_alone():
    result = program("train", "gone.csv", "--target", "y")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "dlcore: error: no such file: gone.csv\n"


def test_an_unknown_instruction_set_is_one_line():
    result = program("info", env={**os.environ, "DLCORE_ISA": "vax"})
    assert result.returncode == 2
    assert re.fullmatch("dlcore: error: .*DLCORE_ISA is 'vax'.*\n", result.stderr)


def test_a_reader_that_goes_away_ends_the_program_silently():
    """As in `dlcore predict ... | head`: no traceback, and the status of a broken pipe."""
    with subprocess.Popen(
        [sys.executable, "-m", "dlcore", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert error == b""
    assert process.returncode == 141


def test_importing_the_command_line_imports_nothing_heavy():
    code = "import sys, dlcore.cli; print({'pandas', 'sklearn', 'pyarrow'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"
