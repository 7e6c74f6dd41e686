"""Reading tables, and the encoding of their columns that is stored with a model."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import re
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from dlcore.io.readers import TableError, data_name, read_table
from dlcore.io.tables import (
    MAX_CATEGORIES,
    TableEncoder,
    TableWarning,
    class_labels,
    infer_task,
    split_target,
)

pytestmark = pytest.mark.isa_independent


def series(values, name="target", **options):
    return pd.Series(values, name=name, **options)


@pytest.fixture
def houses():
    """Five rows with a numeric, a text and a boolean column; the first two have a gap each."""
    return pd.DataFrame(
        {
            "size": [50.0, np.nan, 70.0, 120.0, 60.0],
            "town": ["Oslo", "Rome", None, "Rome", "Oslo"],
            "garden": [True, False, False, True, True],
        }
    )


@pytest.fixture
def prices():
    return series([1.0, 2.0, 3.0, 7.0, 2.0], "price")


def encoded(encoder, frame):
    """Transform and say nothing of missing values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TableWarning)
        return encoder.transform(frame)


# Reading


def test_csv_parquet_and_npz_of_the_same_data_encode_alike(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    y = rng.integers(0, 2, 40)
    frame = pd.DataFrame(X, columns=["x0", "x1", "x2"]).assign(y=y)
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.csv.gz", index=False)
    frame.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "semicolons.csv", index=False, sep=";")
    frame.to_parquet(tmp_path / "t.parquet")
    np.savez(tmp_path / "t.npz", X=X, y=y)
    expected = (X - X.mean(axis=0)) / X.std(axis=0)
    for path in sorted(tmp_path.iterdir()):
        inputs, target = split_target(read_table(path, target="y"), "y")
        task = infer_task(target)
        encoder = TableEncoder.fit(inputs, target, task)
        assert task == "classification", path
        assert encoder.target.classes == ("0", "1"), path
        np.testing.assert_allclose(encoder.transform(inputs), expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(encoder.encode_target(target), y)


def test_categories_with_gaps_encode_alike_from_csv_and_parquet(tmp_path):
    """A gap makes pandas read booleans as objects; text may look like numbers."""
    frame = pd.DataFrame(
        {
            "flag": [True, None, False, True],
            "word": ["b", "a", None, "b"],
            "grade": pd.Categorical(["2", "10", None, "2"]),
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    parquet = read_table(tmp_path / "t.parquet")
    encoder = TableEncoder.fit(parquet, series([1.5, 2.5, 3.5, 4.5]), "regression")
    assert [column.categories for column in encoder.columns] == [
        ("False", "True", None),
        ("a", "b", None),
        ("2", "10", None),
    ]
    csv = read_table(tmp_path / "t.csv", text_columns=encoder.text_columns)
    np.testing.assert_array_equal(encoder.transform(csv), encoder.transform(parquet))


def test_whole_numbers_as_categories_have_one_name_as_integers_and_as_floats():
    whole = pd.DataFrame({"kind": pd.Categorical([2, 10, 2])})
    encoder = TableEncoder.fit(whole, series([1.5, 2.5, 3.5]), "regression")
    floats = pd.DataFrame({"kind": [10.0, 2.0]})
    assert encoder.transform(floats).tolist() == [[0, 1], [1, 0]]


def test_a_known_text_column_is_read_as_text_even_where_all_values_look_like_numbers(tmp_path):
    (tmp_path / "train.csv").write_text("code,y\n007,1\nx,2\n010,3\n007,4\n")
    (tmp_path / "new.csv").write_text("code\n007\n010\n")
    inputs, target = split_target(read_table(tmp_path / "train.csv"), "y")
    encoder = TableEncoder.fit(inputs, target, "regression")
    assert encoder.text_columns == ["code"]
    new = read_table(tmp_path / "new.csv", text_columns=encoder.text_columns)
    assert encoder.transform(new).tolist() == [[1, 0, 0], [0, 1, 0]]


def test_columns_without_a_name_are_left_out(tmp_path):
    """pandas writes row labels so; as an input they would give away the order of the rows."""
    pd.DataFrame({"a": [1, 2]}).to_csv(tmp_path / "t.csv")
    assert list(read_table(tmp_path / "t.csv").columns) == ["a"]


def test_npz_samples_of_any_shape_become_rows(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.arange(24).reshape(4, 2, 3), kind=np.array(["a", "b"] * 2))
    frame = read_table(tmp_path / "t.npz", target="kind")
    assert list(frame.columns) == ["x0", "x1", "x2", "x3", "x4", "x5", "kind"]
    np.testing.assert_array_equal(frame.iloc[:, :6], np.arange(24).reshape(4, 6))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", b"PK", "expected .csv, .tsv (either also with .gz), .parquet or .npz"),
        ("t.csv", b"", "t.csv is empty"),
        ("t.csv", b"a,b\n", "t.csv has no rows"),
        ("t.csv", b"a,b\n,\n,\n", "t.csv are empty"),
        ("t.csv", b"a,b\n1,2,3\n", "more values than the header"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "cannot read"),
        ("t.csv", b"a\n\xff\xfe\n", "t.csv is not UTF-8 text"),
        ("t.csv.gz", b"a,b\n1,2\n", "cannot read"),
        ("t.csv.gz", gzip.compress(b"a\n" + b"1\n" * 99)[:-9], "cannot read"),
        ("t.parquet", b"PAR1", "cannot read"),
        ("t.npz", b"", "cannot read"),
        ("t.npz", b"PK\x03\x04 no archive", "cannot read"),
        ("t.npz", b"\x80\x04N.", "cannot read"),
    ],
)
def test_files_that_cannot_be_read_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TableError, match=re.escape(message)):
        read_table(path)


def test_a_single_array_under_the_name_of_an_archive_is_refused(tmp_path):
    with (tmp_path / "t.npz").open("wb") as file:
        np.save(file, np.ones((3, 2)))
    with pytest.raises(TableError, match=r"t\.npz holds a single array"):
        read_table(tmp_path / "t.npz")


def test_a_missing_file_and_a_directory_are_refused_by_name(tmp_path):
    with pytest.raises(TableError, match=r"no such file: .*gone\.csv"):
        read_table(tmp_path / "gone.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TableError, match="is a directory"):
        read_table(tmp_path / "folder.csv")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": np.ones((3, 2))}, "no array 'X'; it has data"),
        ({"X": np.ones((3, 2)), "label": np.ones(3)}, "no array 'y' .* it has label"),
        ({"X": np.ones((3, 2)), "y": np.ones(4)}, r"each of the 3 rows of 'X', but .* \(4,\)"),
        ({"X": np.float64(1), "y": np.ones(1)}, "one sample per row, got a scalar"),
        ({"X": np.array([[{}]]), "y": np.ones(1)}, "cannot read"),
    ],
)
def test_npz_files_without_fitting_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(TableError, match=message):
        read_table(tmp_path / "t.npz", target="y")


def test_missing_pyarrow_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TableError, match=r"pyarrow.*pip install 'dlcore\[cli\]'"):
        read_table(tmp_path / "t.parquet")


def test_data_name_strips_only_known_extensions():
    names = ["d/a.b.csv", "a.TSV.gz", "a.parquet", "a.npz", "a.txt"]
    assert [data_name(name) for name in names] == ["a.b", "a", "a", "a", "a.txt"]


# The target


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b", "a"], "classification"),
        ([True, False, True], "classification"),
        (pd.Categorical([1, 2, 3]), "classification"),
        ([0, 1, 0, 1], "classification"),
        ([0.0, 1.0, 0.0, 1.0], "classification"),
        (list(range(20)) * 20, "classification"),
        (list(range(21)) * 20, "regression"),
        ([0, 1, 2] * 20, "classification"),
        ([0, 1, 2] * 19, "regression"),
        ([0.5, 1.0] * 100, "regression"),
        ([decimal.Decimal("1.5"), decimal.Decimal("2.5")], "regression"),
    ],
)
def test_task_is_inferred_by_the_documented_rule(values, task):
    assert infer_task(series(values)) == task


def test_rows_without_a_target_are_dropped_and_counted():
    frame = pd.DataFrame({"a": [1, 2, 3], "y": ["p", None, "q"]})
    with pytest.warns(TableWarning, match="dropped 1 row with no value in target column 'y'"):
        inputs, target = split_target(frame, "y")
    assert inputs["a"].tolist() == [1, 3]
    assert target.tolist() == ["p", "q"]


def test_empty_text_is_a_missing_value():
    """CSV has no other empty text, so that Parquet and .npz must mean the same by it."""
    frame = pd.DataFrame({"a": ["p", "", "q"], "b": [1, 2, 3], "y": ["u", "v", ""]})
    with pytest.warns(TableWarning, match="dropped 1 row"):
        inputs, target = split_target(frame, "y")
    assert target.tolist() == ["u", "v"]
    encoder = TableEncoder.fit(inputs, series([1.5, 2.5]), "regression")
    assert encoder.columns[0].categories == ("p", None)


def test_an_unknown_target_is_answered_with_the_columns_there_are():
    with pytest.raises(TableError, match="no column 'cost'; the columns are size, price"):
        split_target(pd.DataFrame({"size": [1], "price": [2]}), "cost")
    wide = pd.DataFrame(np.ones((1, 30)))
    with pytest.raises(TableError, match="18, 19 and 10 more"):
        split_target(wide, "cost")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"a": [1, 2], "y": [None, None]}, "target column 'y' is empty"),
        ({"a": [None, None], "y": [1, 2]}, "no column besides the target 'y' holds a value"),
        ({"y": [1, 2]}, "no column besides the target 'y' holds a value"),
    ],
)
def test_tables_with_nothing_to_learn_from_are_refused(frame, message):
    with pytest.raises(TableError, match=message):
        split_target(pd.DataFrame(frame), "y")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "a", "a"], "same value 'a' in all rows"),
        (["a", "b", "c"], "3 classes in 3 rows"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), "dates"),
    ],
)
def test_targets_that_are_no_classes_are_refused(values, message):
    with pytest.raises(TableError, match=f"column 'target' .*{message}"):
        class_labels(series(values))


def test_classes_are_encoded_in_natural_order_and_decoded_by_name(houses):
    target = series([10, 9, 9, 10, 9])
    encoder = TableEncoder.fit(houses, target, "classification")
    assert encoder.target.classes == ("9", "10")
    np.testing.assert_array_equal(encoder.encode_target(target), [1, 0, 0, 1, 0])
    assert encoder.decode(np.array([[0.1, 0.9], [0.9, 0.1]])).tolist() == ["10", "9"]
    with pytest.raises(TableError, match="holds '8', which is not one of the classes 9, 10"):
        encoder.encode_target(series([8]))


def test_quantities_are_standardised_and_decoded_in_their_own_unit(houses, prices):
    encoder = TableEncoder.fit(houses, prices, "regression")
    targets = encoder.encode_target(prices)
    assert targets.shape == (5, 1)
    np.testing.assert_allclose([targets.mean(), targets.std()], [0, 1], atol=1e-12)
    np.testing.assert_allclose(encoder.decode(targets), prices, rtol=1e-12)


def test_text_in_a_regression_target_is_refused_by_row(houses):
    with pytest.raises(TableError, match="column 'target' holds 'x' in row 3, where a number"):
        TableEncoder.fit(houses, series(["1", "2", "x", "4", "5"]), "regression")


# The inputs


def test_columns_are_encoded_as_documented(houses, prices):
    """Against the definition, worked out by hand: the median of 50, 60, 70, 120 is 65."""
    encoder = TableEncoder.fit(houses, prices, "regression")
    size = np.array([50, 65, 70, 120, 60.0])
    expected = np.column_stack(
        [
            (size - size.mean()) / size.std(),
            [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]],  # Oslo, Rome, missing
            [[0, 1], [1, 0], [1, 0], [0, 1], [0, 1]],  # False, True
        ]
    )
    with pytest.warns(TableWarning, match=r"training median: size \(1 row\)"):
        actual = encoder.transform(houses)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    assert encoder.n_inputs == 6


def test_transform_ignores_the_order_of_columns_and_other_columns(houses, prices):
    encoder = TableEncoder.fit(houses, prices, "regression")
    shuffled = houses[["garden", "size", "town"]].assign(extra=1)
    np.testing.assert_array_equal(encoded(encoder, shuffled), encoded(encoder, houses))


def test_transform_uses_the_statistics_of_training(houses, prices):
    encoder = TableEncoder.fit(houses, prices, "regression")
    whole = encoded(encoder, houses)
    np.testing.assert_array_equal(encoded(encoder, houses.iloc[[1, 3]]), whole[[1, 3]])


def test_transform_returns_the_dtype_asked_for(houses, prices):
    encoder = TableEncoder.fit(houses.drop(columns="size"), prices, "regression")
    assert encoder.transform(houses, np.float32).dtype == np.float32


def test_unseen_categories_set_no_column_and_are_named(houses, prices):
    encoder = TableEncoder.fit(houses, prices, "regression")
    new = pd.DataFrame({"size": [1.0], "town": ["Bonn"], "garden": [None]})
    with pytest.warns(TableWarning, match=r"town \('Bonn'\), garden \(a missing value\)"):
        row = encoder.transform(new)
    assert row[0, 1:].tolist() == [0, 0, 0, 0, 0]


def test_constant_and_nearly_constant_columns_stay_finite(prices):
    frame = pd.DataFrame({"same": [0.1] * 5, "near": [1.0, 1, 1, 1, 1 + 2**-52]})
    X = TableEncoder.fit(frame, prices, "regression").transform(frame)
    assert X[:, 0].tolist() == [0] * 5
    assert np.isfinite(X).all()


def test_columns_empty_in_training_are_left_out(houses, prices):
    houses["notes"] = np.nan
    with pytest.warns(TableWarning, match="left out, for no training row has a value: notes"):
        encoder = TableEncoder.fit(houses, prices, "regression")
    assert [column.name for column in encoder.columns] == ["size", "town", "garden"]


def test_missing_columns_and_empty_rows_are_refused(houses, prices):
    encoder = TableEncoder.fit(houses, prices, "regression")
    with pytest.raises(TableError, match="missing columns size, garden; the table has town"):
        encoder.transform(houses[["town"]])
    empty = pd.DataFrame({"size": [np.nan], "town": [None], "garden": [None], "extra": [1]})
    with pytest.raises(TableError, match="all rows are empty"):
        encoder.transform(empty)


def test_text_and_infinities_among_numbers_are_refused_by_column_row_and_value(houses, prices):
    encoder = TableEncoder.fit(houses, prices, "regression")
    houses["size"] = ["1", "2", "3", "large", None]
    with pytest.raises(TableError, match="column 'size' holds 'large' in row 4, where a number"):
        encoder.transform(houses)
    houses["size"] = [1, 2, 3, 4, -np.inf]
    with pytest.raises(TableError, match="column 'size' holds '-inf' in row 5, where a finite"):
        encoder.transform(houses)
    with pytest.raises(TableError, match="'size' holds '-inf'"):
        TableEncoder.fit(houses, prices, "regression")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), "holds dates or times"),
        (pd.to_datetime(["2020-01-01", None], utc=True), "holds dates or times"),
        (pd.to_timedelta([1, 2], unit="h"), "holds dates or times"),
        (pd.period_range("2020", periods=2, freq="Y"), "holds dates or times"),
        ([datetime.date(2020, 1, 1), None], "holds dates or times"),
        (["2020-01-01", "2021-12-31 08:30:00"], "holds dates or times"),
        (["31.12.2020", None], "holds dates or times"),
        ([1 + 1j, 2], "complex"),
        ([[1, 2], [3]], "value of type list in row 1"),
        ([b"a", b"b"], "value of type bytes in row 1"),
    ],
)
def test_columns_that_are_neither_numbers_nor_categories_are_refused_by_name(values, message):
    frame = pd.DataFrame({"odd": series(values)})
    with pytest.raises(TableError, match=f"column 'odd' .*{message}"):
        TableEncoder.fit(frame, series([1.0, 2.0]), "regression")


def test_more_categories_than_the_limit_are_refused_with_advice():
    names = [f"n{i}" for i in range(MAX_CATEGORIES + 1)]
    frame = pd.DataFrame({"name": names})
    target = series(np.arange(len(names)) + 0.5)
    with pytest.raises(TableError, match="column 'name' has 101 different values.* --drop name"):
        TableEncoder.fit(frame, target, "regression")
    encoder = TableEncoder.fit(frame[1:], target[1:], "regression")
    assert encoder.n_inputs == MAX_CATEGORIES


def test_text_slipped_into_numbers_is_refused_rather_than_one_hot_encoded():
    frame = pd.DataFrame({"power": [str(i) for i in range(30)] + ["?"]})
    target = series(np.arange(31) + 0.5)
    with pytest.raises(TableError, match=r"numbers but for 1 row, such as '\?' in row 31"):
        TableEncoder.fit(frame, target, "regression")


def test_codes_with_some_text_are_categories():
    frame = pd.DataFrame({"rooms": ["1", "2", "3+", "1"]})
    encoder = TableEncoder.fit(frame, series([1.0, 2, 3, 4]), "regression")
    assert encoder.columns[0].categories == ("1", "2", "3+")


# Storage


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_an_encoder_is_the_same_after_json(houses, task):
    target = series([0.1, 1 / 3, 0.1, 0.1, 1 / 3])
    encoder = TableEncoder.fit(houses, target, task)
    again = TableEncoder.from_json(encoder.to_json())
    assert again == encoder
    np.testing.assert_array_equal(encoded(again, houses), encoded(encoder, houses))


@pytest.fixture
def record(houses, prices):
    return json.loads(TableEncoder.fit(houses, prices, "regression").to_json())


def test_other_versions_are_refused_with_both_versions_named(record):
    record["version"] = 2
    with pytest.raises(TableError, match="has version 2, but this version of dlcore reads 1"):
        TableEncoder.from_json(json.dumps(record))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '{"version": 1}'])
def test_other_json_is_refused(text):
    with pytest.raises(TableError, match="table description"):
        TableEncoder.from_json(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("columns",), []),
        (("columns",), "size"),
        (("columns", 0), 1),
        (("columns", 0, "kind"), "image"),
        (("columns", 0, "kind"), ["numeric"]),
        (("columns", 0, "name"), 1),
        (("columns", 0, "name"), "town"),
        (("columns", 0, "std"), 0.0),
        (("columns", 0, "std"), True),
        (("columns", 0, "mean"), float("nan")),
        (("columns", 0, "median"), "1"),
        (("columns", 0, "extra"), 1),
        (("columns", 1, "categories"), []),
        (("columns", 1, "categories"), ["a", "a"]),
        (("columns", 1, "categories"), ["a", 1]),
        (("columns", 1, "categories"), [["a"]]),
        (("target", "kind"), "numeric"),
        (("target", "mean"), None),
        (("extra",), 1),
    ],
)
def test_damaged_descriptions_are_refused(record, path, value):
    *parents, last = path
    part = record
    for key in parents:
        part = part[key]
    part[last] = value
    with pytest.raises(TableError, match="damaged"):
        TableEncoder.from_json(json.dumps(record))


def test_a_description_without_a_field_is_refused(record):
    del record["columns"][0]["median"]
    with pytest.raises(TableError, match="damaged: field 'median'"):
        TableEncoder.from_json(json.dumps(record))
