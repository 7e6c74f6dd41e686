"""Reading CSV, Parquet and ``.npz`` files as data frames."""

from __future__ import annotations

import math
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import numpy as np
import pandas as pd


class TableError(ValueError):
    """A table, or a column of it, that cannot be used; the message is for the user."""


def listed(names: Iterable[str], most: int = 20) -> str:
    """Join names for a message, cutting long lists short."""
    names = list(names)
    listed = ", ".join(map(str, names[:most])) or "none"
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def read_table(
    path: str | Path, *, target: str | None = None, text_columns: Collection[str] = ()
) -> pd.DataFrame:
    """Read a table from a file; the extension says how.

    Parameters
    ----------
    path : str or Path
        ``.csv`` (commas, or semicolons where the header has no comma), ``.tsv``, either with
        ``.gz``; ``.parquet``; ``.npz`` with an array ``X`` of n samples, whose values become the
        columns ``x0``, ``x1``, ...
    target : str, optional
        Name of the array of an ``.npz`` file that becomes a column beside those of ``X``.
        The other formats are read whole.
    text_columns : collection of str
        Columns of a CSV or TSV file to read as text, even where all values look like numbers.

    Returns
    -------
    pandas.DataFrame
        The rows, numbered from 0 in the order of the file. Columns of a CSV file that have no
        name (as the row labels that pandas writes) are left out.

    Raises
    ------
    TableError
        If the file does not exist, has another extension, cannot be parsed, or holds no value.
    """
    path = Path(path)
    reader = _reader(path)
    if not path.exists():
        raise TableError(f"no such file: {path}")
    if path.is_dir():
        raise TableError(f"{path} is a directory, not a file")
    try:
        frame = reader(path, target, text_columns)
    except TableError:
        raise
    except pd.errors.EmptyDataError:
        raise TableError(f"{path} is empty") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise TableError(f"cannot read {path}: {error}") from error
    frame.columns = frame.columns.map(str)
    frame = frame.reset_index(drop=True)
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise TableError(f"{path} has several columns named {repeated[0]!r}")
    if len(frame) == 0:
        raise TableError(f"{path} has no rows")
    if frame.isna().to_numpy().all():
        raise TableError(f"all rows of {path} are empty")
    return frame


def _reader(path: Path) -> Callable[[Path, str | None, Collection[str]], pd.DataFrame]:
    name = path.name.lower()
    if name.removesuffix(".gz").endswith((".csv", ".tsv")):
        return _read_csv
    if name.endswith(".parquet"):
        return _read_parquet
    if name.endswith(".npz"):
        return _read_npz
    raise TableError(
        f"{path} has no extension that says how to read it: "
        "expected .csv, .tsv (either also with .gz), .parquet or .npz"
    )


def data_name(path: str | Path) -> str:
    """Name of a file without the extensions that `read_table` knows."""
    name = Path(path).name
    return re.sub(r"(?i)(\.[ct]sv(\.gz)?|\.parquet|\.npz)$", "", name)


def _read_csv(path: Path, target: str | None, text_columns: Collection[str]) -> pd.DataFrame:
    if path.name.lower().removesuffix(".gz").endswith(".tsv"):
        separator = "\t"
    else:
        header = pd.read_csv(path, nrows=0, index_col=False).columns
        separator = ";" if len(header) == 1 and ";" in header[0] else ","
    with warnings.catch_warnings():
        # A row longer than the header is only warned of; its last values would be lost.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(
                path,
                sep=separator,
                index_col=False,
                skipinitialspace=True,
                low_memory=False,
                dtype=dict.fromkeys(text_columns, str),
            )
        except pd.errors.ParserWarning:
            raise TableError(f"{path} has rows with more values than the header") from None
    return frame.loc[:, [not str(name).startswith("Unnamed: ") for name in frame.columns]]


def _read_parquet(path: Path, target: str | None, text_columns: Collection[str]) -> pd.DataFrame:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise TableError(
            "reading Parquet needs pyarrow, which is not installed: pip install 'dlcore[cli]'"
        ) from None
    return pd.read_parquet(path, engine="pyarrow")


def _read_npz(path: Path, target: str | None, text_columns: Collection[str]) -> pd.DataFrame:
    with path.open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise TableError(f"{path} holds a single array; expected an archive with 'X'")
        if "X" not in arrays:
            raise TableError(f"{path} has no array 'X'; it has {listed(arrays)}")
        samples = arrays["X"]
        if samples.ndim == 0:
            raise TableError(f"array 'X' of {path} must hold one sample per row, got a scalar")
        if target == "X" or (target is not None and target not in arrays):
            others = [name for name in arrays if name != "X"]
            raise TableError(
                f"{path} has no array {target!r} to use as target; it has {listed(others)}"
            )
        values = None if target is None else arrays[target]
    rows = samples.reshape(len(samples), math.prod(samples.shape[1:]))
    if rows.dtype == bool:
        rows = rows.astype(np.uint8)
    frame = pd.DataFrame(rows, columns=[f"x{i}" for i in range(rows.shape[1])])
    if values is not None:
        if values.shape not in {(len(rows),), (len(rows), 1)}:
            raise TableError(
                f"array {target!r} of {path} must have one value for each of the {len(rows)} rows "
                f"of 'X', but has shape {values.shape}"
            )
        frame.insert(frame.shape[1], target, values.ravel())
    return frame
