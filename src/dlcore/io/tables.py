"""Tables as the command line takes them: columns encoded as numbers.

`TableEncoder` learns from training rows how to turn a data frame (see `dlcore.io.readers`) into the
matrix that a network takes, and is stored with the network, so that prediction prepares new rows in
exactly the same way.

Column by column:

- numbers: missing values become the training median, then mean 0 and standard deviation 1;
- text, booleans, pandas categories: one 0/1 column per value seen in training, a missing value
  being one of these; a value not seen in training sets none of them;
- dates and nested values are refused by name, for they need a decision that is the user's.

Everything that a user should know but that is no error is issued as a `TableWarning`. Messages
count rows from 1, without the header.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from dlcore.io.readers import TableError, listed

Task = Literal["classification", "regression"]

MAX_CATEGORIES = 100
"""Most values that a categorical column may have: each one is an input of the network."""

MAX_INTEGER_CLASSES = 20
"""Most distinct values for which whole numbers are taken to be classes (see `infer_task`)."""

_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})([ T]\d{1,2}:\d{2}.*)?"
)


class TableWarning(UserWarning):
    """Something done to a table's values that the user should know."""


# The target


def split_target(frame: pd.DataFrame, target: str) -> tuple[pd.DataFrame, pd.Series]:
    """Take the target column out of a frame, and drop the rows where it is missing.

    Warns of the rows dropped; raises TableError where there is no such column, where it is empty,
    and where no other column holds a value.
    """
    if target not in frame.columns:
        raise TableError(f"no column {target!r}; the columns are {listed(frame.columns)}")
    values = frame[target]
    missing = pd.isna(_category_names(values) if _is_categorical(values) else values.to_numpy())
    if missing.all():
        raise TableError(f"target column {target!r} is empty")
    if missing.any():
        _warn(f"dropped {_counted(missing.sum())} with no value in target column {target!r}")
    inputs = frame.drop(columns=target)[~missing]
    if inputs.isna().to_numpy().all():
        raise TableError(f"no column besides the target {target!r} holds a value")
    return inputs, values[~missing]


def infer_task(target: pd.Series) -> Task:
    """Say whether a target column, which has no missing values, holds classes or quantities.

    Text, booleans and categories are classes. So are whole numbers with two distinct values, and
    whole numbers with at most 20 distinct values that are at most 5 % of the rows. All else is a
    quantity.
    """
    if _is_categorical(target):
        return "classification"
    numbers = _numbers(target)
    distinct = len(np.unique(numbers))
    few = max(2, min(MAX_INTEGER_CLASSES, 0.05 * len(numbers)))
    whole = bool(np.all(numbers == np.floor(numbers)))
    return "classification" if whole and distinct <= few else "regression"


def class_labels(target: pd.Series) -> npt.NDArray[np.object_]:
    """Name the class of each row, and check that these are classes to learn.

    Raises TableError where there is a single class, or less than two rows per class on average.
    """
    _is_categorical(target)  # refuses dates and nested values
    labels = _category_names(target)
    count = len(set(labels))
    if count < 2:
        raise TableError(
            f"target column {target.name!r} has the same value {labels[0]!r} in all rows"
        )
    if 2 * count > len(labels):
        raise TableError(
            f"target column {target.name!r} has {count} classes in {len(labels)} rows: "
            "too few rows for each class to learn from"
        )
    return labels


@dataclass(frozen=True)
class ClassTarget:
    """A target of classes, encoded as their positions in `classes`."""

    task: ClassVar[Task] = "classification"
    name: str
    classes: tuple[str, ...]

    @classmethod
    def fit(cls, target: pd.Series) -> ClassTarget:
        return cls(str(target.name), tuple(sorted(set(class_labels(target)), key=_natural_order)))

    @property
    def width(self) -> int:
        return len(self.classes)

    def encode(self, target: pd.Series) -> npt.NDArray[np.int64]:
        labels = _category_names(target)
        codes = _positions(labels, self.classes)
        if np.any(codes < 0):
            unknown = labels[np.argmax(codes < 0)]
            raise TableError(
                f"target column {self.name!r} holds {unknown!r}, which is not one of the classes "
                f"{listed(self.classes)}"
            )
        return codes

    def decode(self, outputs: npt.NDArray[np.floating]) -> npt.NDArray[np.object_]:
        return np.array(self.classes, dtype=object)[np.argmax(outputs, axis=1)]


@dataclass(frozen=True)
class NumericTarget:
    """A target of quantities, encoded with mean 0 and standard deviation 1."""

    task: ClassVar[Task] = "regression"
    width: ClassVar[int] = 1
    name: str
    mean: float
    std: float

    @classmethod
    def fit(cls, target: pd.Series) -> NumericTarget:
        return cls(str(target.name), *_mean_and_std(_numbers(target), target.name))

    def encode(self, target: pd.Series) -> npt.NDArray[np.float64]:
        return ((_numbers(target) - self.mean) / self.std)[:, np.newaxis]

    def decode(self, outputs: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        return outputs[:, 0].astype(np.float64) * self.std + self.mean


# The columns that are inputs


@dataclass(frozen=True)
class NumericColumn:
    """A column of numbers: missing ones become `median`, then mean 0 and standard deviation 1."""

    width: ClassVar[int] = 1
    name: str
    median: float
    mean: float
    std: float

    @classmethod
    def fit(cls, column: pd.Series) -> NumericColumn:
        numbers = _numbers(column)
        missing = np.isnan(numbers)
        median = float(np.median(numbers[~missing]))
        numbers[missing] = median
        return cls(str(column.name), median, *_mean_and_std(numbers, column.name))

    def encode(self, out: npt.NDArray[np.floating], column: pd.Series) -> int:
        """Write the encoded column to out (n, 1); return how many values were missing."""
        numbers = _numbers(column)
        missing = np.isnan(numbers)
        numbers[missing] = self.median
        out[:, 0] = (numbers - self.mean) / self.std
        return int(np.count_nonzero(missing))


@dataclass(frozen=True)
class CategoricalColumn:
    """A column of categories, one 0/1 column for each; None is the category of missing values."""

    name: str
    categories: tuple[str | None, ...]

    @classmethod
    def fit(cls, column: pd.Series) -> CategoricalColumn:
        _refuse_numbers_with_text(column)
        found = set(_category_names(column))
        known = sorted(found - {None}, key=_natural_order)
        if len(known) > MAX_CATEGORIES:
            raise TableError(
                f"column {column.name!r} has {len(known)} different values, more than the "
                f"{MAX_CATEGORIES} that one-hot encoding takes; group them, replace them by "
                f"numbers, or leave the column out with --drop {column.name}"
            )
        return cls(str(column.name), (*known, None) if None in found else tuple(known))

    @property
    def width(self) -> int:
        return len(self.categories)

    def encode(self, out: npt.NDArray[np.floating], column: pd.Series) -> list[str]:
        """Write the encoded column to out (n, width); return the values not seen in training."""
        names = _category_names(column)
        positions = _positions(names, self.categories)
        out[:] = 0
        seen = np.flatnonzero(positions >= 0)
        out[seen, positions[seen]] = 1
        unseen = dict.fromkeys(names[positions < 0])
        return ["a missing value" if name is None else repr(name) for name in unseen]


# The encoder


@dataclass(frozen=True)
class TableEncoder:
    """How a table becomes the inputs and targets of a network, learnt from training rows.

    Attributes
    ----------
    columns : tuple of NumericColumn and CategoricalColumn
        The columns used, in the order of the network's inputs.
    target : ClassTarget or NumericTarget

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"size": [1.0, 2.0, 3.0], "colour": ["red", "blue", "red"]})
    >>> encoder = TableEncoder.fit(frame, pd.Series([10.0, 20.0, 30.0], name="price"), "regression")
    >>> encoder.transform(frame).round(3).tolist()
    [[-1.225, 0.0, 1.0], [0.0, 1.0, 0.0], [1.225, 0.0, 1.0]]
    """

    VERSION: ClassVar[int] = 1

    columns: tuple[NumericColumn | CategoricalColumn, ...]
    target: ClassTarget | NumericTarget

    @classmethod
    def fit(cls, frame: pd.DataFrame, target: pd.Series, task: Task) -> TableEncoder:
        """Learn the encoding from the training rows.

        Parameters
        ----------
        frame : pandas.DataFrame
            The inputs, of n rows. Columns without any value are left out, with a warning.
        target : pandas.Series
            The n targets, none missing; its name is kept.
        task : {"classification", "regression"}

        Raises
        ------
        TableError
            Naming the column that cannot be used, and why.
        """
        empty = [name for name in frame.columns if frame[name].isna().all()]
        if empty:
            _warn(f"left out, for no training row has a value: {listed(empty)}")
        columns = tuple(
            (CategoricalColumn if _is_categorical(frame[name]) else NumericColumn).fit(frame[name])
            for name in frame.columns
            if name not in empty
        )
        if not columns:
            raise TableError("no column holds a value in the training rows")
        target_type = ClassTarget if task == "classification" else NumericTarget
        return cls(columns, target_type.fit(target))

    @property
    def n_inputs(self) -> int:
        """Columns of the matrix that `transform` returns."""
        return sum(column.width for column in self.columns)

    @property
    def text_columns(self) -> list[str]:
        """Columns that `read_table` must not turn into numbers."""
        return [column.name for column in self.columns if isinstance(column, CategoricalColumn)]

    def transform(
        self, frame: pd.DataFrame, dtype: npt.DTypeLike = np.float64
    ) -> npt.NDArray[np.floating]:
        """Encode the inputs of n rows as an array (n, n_inputs).

        The columns may be in any order, and others are ignored. Missing numbers and categories not
        seen in training are warned of.

        Raises
        ------
        TableError
            Where a column is missing, or text stands where training had numbers.
        """
        absent = [column.name for column in self.columns if column.name not in frame.columns]
        if absent:
            noun = "column" if len(absent) == 1 else "columns"
            raise TableError(
                f"missing {noun} {listed(absent)}; the table has {listed(frame.columns)}"
            )
        if frame[[column.name for column in self.columns]].isna().to_numpy().all():
            raise TableError("all rows are empty in the columns that the model uses")
        encoded = np.empty((len(frame), self.n_inputs), dtype=dtype)
        imputed, unseen = [], []
        end = 0
        for column in self.columns:
            start, end = end, end + column.width
            out = encoded[:, start:end]
            if isinstance(column, NumericColumn):
                if count := column.encode(out, frame[column.name]):
                    imputed.append(f"{column.name} ({_counted(count)})")
            elif values := column.encode(out, frame[column.name]):
                unseen.append(f"{column.name} ({listed(values)})")
        if imputed:
            _warn(f"missing numbers replaced by the training median: {listed(imputed)}")
        if unseen:
            _warn(f"values not seen in training, taken as no known category: {listed(unseen)}")
        return encoded

    def encode_target(self, target: pd.Series) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
        """Encode n targets: class positions (n,), or standardised quantities (n, 1)."""
        return self.target.encode(target)

    def decode(self, outputs: npt.NDArray[np.floating]) -> npt.NDArray[Any]:
        """Turn a network's outputs (n, k) into n class names, or n quantities in their own unit."""
        return self.target.decode(outputs)

    def to_json(self) -> str:
        """Write the encoder as JSON; `from_json` reads it back."""
        record = {
            "version": self.VERSION,
            "columns": [_record(column, _COLUMN_KINDS) for column in self.columns],
            "target": _record(self.target, _TARGET_KINDS),
        }
        return json.dumps(record, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> TableEncoder:
        """Read an encoder that `to_json` wrote; anything else raises TableError."""
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise TableError(f"the model's table description is not JSON: {error}") from None
        version = record.get("version") if isinstance(record, dict) else None
        if version != cls.VERSION:
            raise TableError(
                f"the model's table description has version {version!r}, "
                f"but this version of dlcore reads {cls.VERSION}"
            )
        columns = record.get("columns")
        if not isinstance(columns, list) or not columns:
            raise _damaged("columns")
        if unknown := set(record) - {"version", "columns", "target"}:
            raise _damaged(min(unknown))
        encoder = cls(
            tuple(_from_record(column, _COLUMN_KINDS) for column in columns),
            _from_record(record.get("target"), _TARGET_KINDS),
        )
        if len({column.name for column in encoder.columns}) != len(columns):
            raise _damaged("columns")
        return encoder


# JSON records, read strictly: the file may come from anywhere

_COLUMN_KINDS = {"numeric": NumericColumn, "categorical": CategoricalColumn}
_TARGET_KINDS = {"quantity": NumericTarget, "classes": ClassTarget}


def _record(part: Any, kinds: dict[str, type]) -> dict[str, Any]:
    kind = next(kind for kind, part_type in kinds.items() if type(part) is part_type)
    return {"kind": kind, **asdict(part)}


def _from_record(record: Any, kinds: dict[str, type]) -> Any:
    """Build what the record's kind names; the record must hold valid values for its fields."""
    kind = record.get("kind") if isinstance(record, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise _damaged("kind")
    names = {field.name for field in fields(kinds[kind])}
    if different := names ^ (set(record) - {"kind"}):
        raise _damaged(min(different))
    for name in names:
        if not _VALID[name](record[name]):
            raise _damaged(name)
    values = {name: record[name] for name in names}
    return kinds[kind](**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _are_distinct(values: object, types: tuple[type, ...], minimum: int) -> bool:
    return (
        isinstance(values, list)
        and all(type(value) in types for value in values)
        and len(set(values)) == len(values) >= minimum
    )


_VALID: dict[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str),
    "median": _is_finite,
    "mean": _is_finite,
    "std": lambda value: _is_finite(value) and value > 0,
    "categories": lambda value: _are_distinct(value, (str, type(None)), 1),
    "classes": lambda value: _are_distinct(value, (str,), 2),
}


def _damaged(field: str) -> TableError:
    return TableError(f"the model's table description is damaged: field {field!r}")


# Values of one column


def _is_categorical(column: pd.Series) -> bool:
    """True for categories and False for numbers; TableError for what is neither."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(dtype):
        return True
    if pd.api.types.is_numeric_dtype(dtype):
        if dtype.kind == "c":
            raise TableError(f"column {column.name!r} holds complex numbers")
        return False
    # What the values are, for dtype object and string: pandas' own name for it.
    found = pd.api.types.infer_dtype(column, skipna=True)
    if found in {"integer", "floating", "mixed-integer-float", "decimal", "empty"}:
        return False
    if found in _DATE_TYPES or (found == "string" and _all_dates(column)):
        raise TableError(
            f"column {column.name!r} holds dates or times; replace it by numbers (such as the "
            f"year, or days since a date) or leave it out with --drop {column.name}"
        )
    if found in {"string", "boolean"}:
        return True
    for row, value in column.dropna().items():
        if not isinstance(value, str | bool | int | float | np.generic):
            raise TableError(
                f"column {column.name!r} holds a value of type {type(value).__name__} in row "
                f"{row + 1}; expected numbers or text"
            )
    return True


_DATE_TYPES = {"datetime64", "datetime", "date", "timedelta64", "timedelta", "time", "period"}


def _all_dates(column: pd.Series) -> bool:
    return all(_DATE.fullmatch(value) for value in column.dropna().unique())


def _numbers(column: pd.Series) -> npt.NDArray[np.float64]:
    """Values as float64, NaN where missing; text and infinities are refused by row."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(
        dtype=np.float64, na_value=np.nan, copy=True
    )
    text = np.isnan(numbers) & column.notna().to_numpy()
    for wrong, expected in (text, "a number"), (np.isinf(numbers), "a finite number"):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise TableError(
                f"column {column.name!r} holds {str(column.iloc[row])!r} in row "
                f"{column.index[row] + 1}, where {expected} is expected"
            )
    return numbers


def _refuse_numbers_with_text(column: pd.Series) -> None:
    """Refuse text that is half numbers, of more values than codes would have.

    One "?" among measurements makes a file's column text; one-hot encoding would hide the slip.
    """
    if column.nunique() <= MAX_INTEGER_CLASSES:
        return
    values = column.dropna()
    numbers = pd.to_numeric(values.astype(str), errors="coerce")
    text = numbers.isna()
    if text.any() and text.mean() <= 0.5 and numbers.nunique() > MAX_INTEGER_CLASSES:
        row = text.idxmax()
        raise TableError(
            f"column {column.name!r} holds numbers but for {_counted(text.sum())}, such as "
            f"{values[row]!r} in row {row + 1}; correct these values, or leave them empty"
        )


def _mean_and_std(numbers: npt.NDArray[np.float64], name: object) -> tuple[float, float]:
    """Mean and standard deviation to scale with: of a constant column, its value and 1."""
    if numbers.min() == numbers.max():
        return float(numbers[0]), 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(numbers.mean()), float(numbers.std())
    if not (math.isfinite(mean) and math.isfinite(std)):
        raise TableError(f"column {name!r} holds numbers too large to compute with")
    return mean, std or 1.0


def _category_names(column: pd.Series) -> npt.NDArray[np.object_]:
    """Names of the categories, None where missing: the same for the same value in any format."""
    codes, values = pd.factorize(column)  # missing values have code -1
    names = np.array([*map(_category_name, values), None], dtype=object)
    return names[codes]


def _category_name(value: object) -> str | None:
    if isinstance(value, float | np.floating) and value.is_integer():
        return str(int(value))  # whole numbers with a gap among them are read as floats
    name = str(value)
    if name.lower() in {"true", "false"}:
        return name.capitalize()  # read as a boolean or as text, by what else the column holds
    return name or None


def _natural_order(name: str) -> tuple[bool, float, str]:
    """Sort key: numbers by value, then text."""
    try:
        number = float(name)
    except ValueError:
        number = math.nan
    return (False, number, name) if math.isfinite(number) else (True, 0.0, name)


def _positions(
    names: npt.NDArray[np.object_], categories: Sequence[str | None]
) -> npt.NDArray[np.int64]:
    """Position of each name among the categories, -1 where it is none of them."""
    position = {name: i for i, name in enumerate(categories)}
    return np.fromiter((position.get(name, -1) for name in names), np.int64, len(names))


# Wording


def _warn(message: str) -> None:
    warnings.warn(message, TableWarning, stacklevel=3)


def _counted(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows} rows"
