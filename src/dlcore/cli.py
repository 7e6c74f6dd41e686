"""The command line: ``dlcore train``, ``predict``, ``bench`` and ``info``.

A user's mistake ends in one line on stderr and exit status 2, never in a traceback. Everything
heavy (pandas, scikit-learn, dlcore's own layers) is imported by the command that needs it, so that
``dlcore --help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import math
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

import dlcore as dl

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from dlcore.io.tables import TableEncoder, Task
    from dlcore.nn import Sequential

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

DEFAULT_UPDATES = 2250
"""Weight updates of a training run where --epochs is not given: 50 epochs of the digits."""

SAMPLE_ROWS = 10


class CommandError(Exception):
    """What the user asked for cannot be done; the message is one line for them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name, by default those of the process.

    Returns
    -------
    int
        0, 1 where a bench found something wrong or slower, 2 after an error, 130 after Ctrl-C,
        141 where the reader of stdout went away.
    """
    try:
        args = _parser().parse_args(argv)
        status = args.run(args)
        sys.stdout.flush()
    except (CommandError, dl.DlcoreError) as error:
        return _fail(str(error))
    except BrokenPipeError:
        _discard_stdout()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        _discard_stdout()
        return _fail(str(error))
    except KeyboardInterrupt:
        print("dlcore: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except MemoryError as error:
        return _fail(f"out of memory: {error}")
    return status or 0


def _discard_stdout() -> None:
    """Keep the flush of stdout at exit from failing as the last write did."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str) -> int:
    print("dlcore: error:", " ".join(message.split()), file=sys.stderr)
    return EXIT_ERROR


# Arguments


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others of the command line.

    `arguments`, where there is one, adds the arguments once they are asked for: those of the bench
    name what other commands need not wait for.
    """

    def __init__(
        self, *, arguments: Callable[[argparse.ArgumentParser], None] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._late_arguments = arguments

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._late_arguments is not None:
            self._late_arguments(self)
            self._late_arguments = None
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="dlcore", description="Train small neural networks and predict.")
    parser.add_argument("--version", action="version", version=f"dlcore {dl.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_predict(commands)
    _add_bench(commands)
    info = commands.add_parser("info", help="show the version, CPU features and threads in use")
    info.set_defaults(run=lambda args: dl.show_config())
    return parser


_TRAIN_DESCRIPTION = """\
Train a network on a table, or, without FILE, on the 8x8 scans of digits that scikit-learn ships.

Numbers are standardised, gaps in them filled with the median; text and booleans become one input
per value. Part of the rows is held out, and the model is scored on it once, at the end."""

_TASK_HELP = """\
by default inferred from the target: text, booleans, whole numbers with two distinct values, and
whole numbers with at most 20 distinct values that are at most 5%% of the rows are classes"""
_TEST_SIZE_HELP = "part of the rows that is held out (default: 0.2)"
_HIDDEN_HELP = "widths of the hidden layers (default: 100)"
_EPOCHS_HELP = f"passes over the rows (default: {DEFAULT_UPDATES} updates, within 10 to 100 epochs)"
_BATCH_SIZE_HELP = "rows per update (default: 32)"
_RATE_HELP = "learning rate of Adam (default: 0.001)"
_SEED_HELP = "chooses the split, the first weights and the order of rows (default: 0)"


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train a network on a table",
        description=_TRAIN_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_train)
    data = parser.add_argument_group("data")
    add = data.add_argument
    add("file", metavar="FILE", nargs="?", type=Path, help=".csv, .tsv (also .gz), .parquet, .npz")
    add("--target", metavar="COL", help="column to predict (of an .npz file: array, default y)")
    add("--task", choices=["classification", "regression"], help=_TASK_HELP)
    add("--drop", metavar="COL", action="append", help="leave a column out; may be repeated")
    add("--test-size", metavar="X", type=_fraction, default=0.2, help=_TEST_SIZE_HELP)
    add("--output", metavar="MODEL", type=Path, help="model to write (default: named after FILE)")
    add("--quiet", action="store_true", help="print warnings and errors only")
    network = parser.add_argument_group("network and training")
    add = network.add_argument
    add("--hidden", metavar="N,N", type=_widths, default=[100], help=_HIDDEN_HELP)
    add("--epochs", metavar="N", type=_positive_int, help=_EPOCHS_HELP)
    add("--batch-size", metavar="N", type=_positive_int, default=32, help=_BATCH_SIZE_HELP)
    add("--learning-rate", metavar="X", type=_positive_float, default=1e-3, help=_RATE_HELP)
    add("--seed", metavar="N", type=_seed, default=0, help=_SEED_HELP)
    add("--dtype", choices=["float32", "float64"], default="float32", help="default: float32")


def _add_predict(commands: Any) -> None:
    parser = commands.add_parser(
        "predict",
        help="predict with a trained model",
        description="Write the predictions for the rows of a table as CSV: column `prediction` "
        "and, for classes, the probability of each in `probability_<class>`.",
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="model that dlcore train wrote")
    parser.add_argument("file", metavar="FILE", type=Path, help="table with the model's columns")
    parser.add_argument("--output", metavar="CSV", type=Path, help="by default stdout")
    parser.set_defaults(run=_predict)


_BENCH_DESCRIPTION = """\
Measure how near kernels, training and inference come to the limits of this machine, which are
measured beside them, and to the peers that are installed, in turns on the same CPUs."""


def _add_bench(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure kernels, training and inference",
        description=_BENCH_DESCRIPTION,
        arguments=_add_bench_arguments,
    )
    parser.set_defaults(run=_bench)


def _add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    from dlcore.bench.suites import FIELDS, PEERS, SUITES

    what = parser.add_argument_group("what to measure")
    add = what.add_argument
    unasked = [suite for field in FIELDS if not field.by_default for suite in field.suites]
    names = f"{', '.join(SUITES)} (default: all but {', '.join(unasked)})"
    add("suites", metavar="SUITE", nargs="*", type=_one_of(SUITES), help=names)
    add("--rows", metavar="PATTERN", help="only rows with words that match, such as relu or 1024*")
    add("--threads", metavar="N,N", type=_list_of(_positive_int), help="default: 1,2")
    dtype = _list_of(_one_of(("float32", "float64")))
    add("--dtype", metavar="T,T", type=dtype, help="default: float32, and float64 for gemm")
    peers = _list_of(_one_of(PEERS))
    add("--peers", metavar="P,P", type=peers, help=f"{', '.join(PEERS)} or none (default: all)")
    how = parser.add_argument_group("how")
    add = how.add_argument
    add("--rounds", metavar="N", type=_positive_int, help="turns of each contestant (default: 7)")
    add("--quick", action="store_true", help="fewer rounds, no large rows, nominal sizes only")
    add("--nominal", action="store_true", help="do not repeat rows at drawn sizes")
    add(
        "--seed",
        metavar="N",
        type=_seed,
        help="draws sizes, weights and order of rows (default: the date)",
    )
    results = parser.add_argument_group("results")
    add = results.add_argument
    add("--markdown", action="store_true", help="print tables as Markdown")
    add("--json", metavar="FILE", type=Path, help="write every measured value")
    add("--against", metavar="FILE", type=Path, help="compare with a run that --json wrote")
    add(
        "--plot",
        metavar="PNG",
        type=Path,
        help="draw a roofline, or of scale its curves (needs matplotlib)",
    )


def _number(convert: Callable[[str], Any], valid: Callable[[Any], bool], expected: str) -> Any:
    """Make an argument type for numbers that satisfy a condition."""

    def parse(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if not valid(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return parse


_positive_int = _number(int, lambda value: value >= 1, "a whole number of at least 1")
_seed = _number(int, lambda value: 0 <= value < 2**32, "a whole number from 0 to 2**32 - 1")
_positive_float = _number(
    float, lambda value: 0 < value < math.inf, "a finite number greater than 0"
)
_fraction = _number(float, lambda value: 0 < value < 1, "a number between 0 and 1")


def _one_of(names: Sequence[str]) -> Callable[[str], str]:
    """Make an argument type for one of some names."""

    def parse(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(names)}, got {text!r}")
        return text

    return parse


def _list_of(item: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Make an argument type for items with commas between them; "none" is no item."""

    def parse(text: str) -> list[Any]:
        return [] if text == "none" else [item(part) for part in text.split(",")]

    return parse


def _widths(text: str) -> list[int]:
    try:
        return [_positive_int(width) for width in text.split(",")]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers such as 100 or 100,50, got {text!r}"
        ) from None


# What commands share


@contextlib.contextmanager
def _tables_reporting() -> Iterator[None]:
    """Print warnings about tables as lines on stderr, and pass their errors on as the user's."""
    try:
        from dlcore.io.readers import TableError
        from dlcore.io.tables import TableWarning
    except ImportError as error:
        raise _not_installed(error) from error
    show_other = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
        if issubclass(category, TableWarning):
            print("dlcore: note:", message, file=sys.stderr)
        else:
            show_other(message, category, *where, **options)

    with warnings.catch_warnings():
        warnings.simplefilter("always", TableWarning)
        warnings.showwarning = show
        try:
            yield
        except TableError as error:
            raise CommandError(str(error)) from error


def _not_installed(error: ImportError) -> CommandError:
    return CommandError(f"{error.name} is not installed: pip install 'dlcore[cli]'")


def _check_writable(path: Path, *sources: Path | None) -> None:
    """Refuse an output that cannot be written before time is spent on computing it."""
    if path.is_dir():
        raise CommandError(f"cannot write {path}: it is a directory")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"cannot write {path}: no such directory")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise CommandError(f"cannot write {path}: permission denied")
    for source in sources:
        if source and source.exists() and path.exists() and path.samefile(source):
            raise CommandError(f"cannot write {path}: it is a file to read")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from error


# dlcore train


@_tables_reporting()
def _train(args: argparse.Namespace) -> None:
    start = time.perf_counter()
    name, inputs, target, task = _training_table(args)
    output = args.output or Path(f"{name}.safetensors")
    _check_writable(output, args.file)
    train, test = _split(target, task, args.test_size, args.seed)
    encoder, X, y = _encode(inputs, target, task, train, args.dtype)

    say = _silence if args.quiet else _say
    say("data", f"{name}: {len(X)} rows, {len(encoder.columns)} columns, {X.shape[1]} inputs")
    say("task", _task_line(encoder, args))
    say("rows", f"{len(train)} to train, {len(test)} held out")
    widths = [X.shape[1], *args.hidden, encoder.target.width]
    say("network", f"{'-'.join(map(str, widths))}, {args.dtype}")
    start_of_training = time.perf_counter()
    model = _fit(widths, task, (X[train], y[train]), (X[test], y[test]), args)
    training_time = time.perf_counter() - start_of_training
    say("test", _score(encoder, model.predict(X[test]), y[test], y[train]))

    with _writing(output):
        model.save(output, metadata={"table": encoder.to_json()})
    sample = args.file
    if sample is None:
        sample = output.with_name("digits-sample.csv")
        with _writing(sample):
            inputs.iloc[test[:SAMPLE_ROWS]].join(target).to_csv(sample, index=False)
    say("time", f"{training_time:.2f} s to train, {time.perf_counter() - start:.2f} s in all")
    say("model", f"{output} ({output.stat().st_size / 1000:.1f} kB)")
    say("next", shlex.join(["dlcore", "predict", str(output), str(sample)]))


def _say(label: str, text: str) -> None:
    print(f"{label:<9}{text}", flush=True)


def _silence(label: str, text: str) -> None:
    pass


def _training_table(args: argparse.Namespace) -> tuple[str, pd.DataFrame, pd.Series, Task]:
    """Read what to train on: its name, its inputs, its target, and the task."""
    from dlcore.io.readers import data_name, listed, read_table
    from dlcore.io.tables import infer_task, split_target

    if args.file is None:
        if args.target or args.task or args.drop:
            raise CommandError("--target, --task and --drop need a FILE to train on")
        frame = _scikit_learn("datasets").load_digits(as_frame=True).frame
        return "digits", frame.drop(columns="target"), frame["target"], "classification"

    is_archive = args.file.suffix.lower() == ".npz"
    column = args.target or ("y" if is_archive else None)
    frame = read_table(args.file, target=column)
    if column is None:
        raise CommandError(f"--target is needed; the columns are {listed(frame.columns)}")
    dropped = args.drop or []
    for drop in dropped:
        if drop not in frame.columns or drop == column:
            raise CommandError(f"--drop: no input column {drop!r}")
    inputs, target = split_target(frame.drop(columns=dropped), column)
    return data_name(args.file), inputs, target, args.task or infer_task(target)


def _scikit_learn(module: str) -> Any:
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise CommandError("scikit-learn is not installed: pip install 'dlcore[cli]'") from error


def _split(
    target: pd.Series, task: Task, test_size: float, seed: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Choose training and held-out rows, stratified by class where the classes have enough rows.

    Both are in the order of the table, so that messages name the first row that is wrong.
    """
    from dlcore.io.tables import class_labels

    rows = np.arange(len(target))
    held_out = math.ceil(test_size * len(rows))
    if held_out < 2 or len(rows) - held_out < 2:
        raise CommandError(
            f"{len(rows)} rows are too few to hold out {test_size:g} of them: "
            "at least 2 are needed to train and 2 to test"
        )
    split = _scikit_learn("model_selection").train_test_split
    labels = only_in_training = None
    if task == "classification":
        labels = class_labels(target).astype(str)
        _, first, counts = np.unique(labels, return_index=True, return_counts=True)
        if counts.min() < 2 or len(counts) > min(held_out, len(rows) - held_out):
            # Too few rows for a share of each class: one of each trains, chance decides the rest.
            labels, only_in_training = None, first
            rows = np.setdiff1d(rows, first)
            held_out = min(held_out, len(rows) - 1)
    train, test = split(rows, test_size=held_out, random_state=seed, stratify=labels)
    if only_in_training is not None:
        train = np.concatenate([only_in_training, train])
    return np.sort(train), np.sort(test)


def _encode(
    inputs: pd.DataFrame,
    target: pd.Series,
    task: Task,
    train: npt.NDArray[np.intp],
    dtype: str,
) -> tuple[TableEncoder, npt.NDArray[Any], npt.NDArray[Any]]:
    """Learn the encoding from the training rows, and encode all rows with it."""
    from dlcore.io.tables import TableEncoder

    encoder = TableEncoder.fit(inputs.iloc[train], target.iloc[train], task)
    X = encoder.transform(inputs, dtype)
    y = encoder.encode_target(target)
    return encoder, X, y if task == "classification" else y.astype(dtype)


def _task_line(encoder: TableEncoder, args: argparse.Namespace) -> str:
    target = encoder.target
    line = f"{target.task} of {target.name!r}"
    if target.task == "classification":
        line += f", {target.width} classes"
    if args.file is not None and args.task is None:
        other = "regression" if target.task == "classification" else "classification"
        line += f" (inferred; --task {other} overrides)"
    return line


Rows = tuple["npt.NDArray[Any]", "npt.NDArray[Any]"]
"""Inputs (n, n_inputs) and encoded targets of n rows."""


def _fit(
    widths: list[int], task: Task, train: Rows, test: Rows, args: argparse.Namespace
) -> Sequential:
    """Build and train the network; the held-out loss is shown, and decides nothing."""
    layers: list[Any] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [dl.nn.Linear(n_in, n_out), dl.nn.ReLU()]
    model = dl.nn.Sequential(*layers[:-1], dtype=args.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a loss that is not finite: see below
        history = model.fit(
            *train,
            loss="cross_entropy" if task == "classification" else "mse",
            optimizer=dl.optim.Adam(args.learning_rate),
            batch_size=args.batch_size,
            epochs=args.epochs or _default_epochs(len(train[0]), args.batch_size),
            validation_data=test,
            seed=args.seed,
            verbose=0 if args.quiet else 1,
        )
    if not math.isfinite(history["loss"][-1]):
        raise CommandError(
            f"training diverged: the loss became {history['loss'][-1]}; try a --learning-rate "
            f"smaller than {args.learning_rate:g}"
        )
    return model


def _default_epochs(rows: int, batch_size: int) -> int:
    """About `DEFAULT_UPDATES`; past 100 epochs, tables of some hundred rows are learnt by heart."""
    return min(max(10, round(DEFAULT_UPDATES / math.ceil(rows / batch_size))), 100)


def _score(
    encoder: TableEncoder,
    outputs: npt.NDArray[Any],
    y: npt.NDArray[Any],
    y_train: npt.NDArray[Any],
) -> str:
    """Score predictions of the held-out rows, beside the best constant answer."""
    from dlcore.io.tables import ClassTarget

    metrics = _scikit_learn("metrics")
    if isinstance(encoder.target, ClassTarget):
        accuracy = metrics.accuracy_score(y, outputs.argmax(axis=1))
        baseline = np.mean(y == np.bincount(y_train).argmax())
        return f"accuracy {accuracy:.4f} (always the most frequent class: {baseline:.4f})"
    truth, answers = encoder.decode(y), encoder.decode(outputs)
    rmse = metrics.root_mean_squared_error(truth, answers)
    baseline = metrics.root_mean_squared_error(truth, np.full_like(truth, encoder.target.mean))
    r2 = metrics.r2_score(truth, answers)
    return f"RMSE {rmse:.6g}, R2 {r2:.4f} (always the mean: RMSE {baseline:.6g})"


# dlcore predict


@_tables_reporting()
def _predict(args: argparse.Namespace) -> None:
    from dlcore.io.readers import read_table

    if args.output is not None:
        _check_writable(args.output, args.file, args.model)
    model, encoder = _load(args.model)
    frame = read_table(args.file, text_columns=encoder.text_columns)
    outputs = model.predict(encoder.transform(frame, model.dtype))
    predictions = _prediction_table(encoder, outputs)
    if args.output is None:
        predictions.to_csv(sys.stdout, index=False)
    else:
        with _writing(args.output):
            predictions.to_csv(args.output, index=False)


def _load(path: Path) -> tuple[Sequential, TableEncoder]:
    """Load a model that ``dlcore train`` wrote, and the encoder stored with it."""
    from dlcore.io.tables import TableEncoder

    if not path.is_file():
        raise CommandError(f"no such model: {path}")
    try:
        model = dl.load(path)
    except (OSError, ValueError, dl.DlcoreError) as error:
        raise CommandError(f"cannot read model {path}: {error}") from error
    if "table" not in model.metadata:
        raise CommandError(f"{path} was not made by dlcore train: it describes no table")
    encoder = TableEncoder.from_json(model.metadata["table"])
    shape = encoder.n_inputs, encoder.target.width
    first, last = model.layers[0], model.layers[-1]
    if shape != (getattr(first, "in_features", None), getattr(last, "out_features", None)):
        raise CommandError(f"model {path} is damaged: its network does not fit its table")
    return model, encoder


def _prediction_table(encoder: TableEncoder, outputs: npt.NDArray[Any]) -> pd.DataFrame:
    import pandas as pd

    from dlcore.io.tables import NumericTarget

    predictions = pd.DataFrame({"prediction": encoder.decode(outputs)})
    if isinstance(encoder.target, NumericTarget):
        return predictions
    names = [f"probability_{name}" for name in encoder.target.classes]
    return predictions.join(pd.DataFrame(dl.ops.softmax(outputs, axis=1), columns=names))


# dlcore bench


def _bench(args: argparse.Namespace) -> int:
    from dlcore.bench.command import Options, run

    for path in (args.json, args.plot):
        if path is not None:
            _check_writable(path)
    return run(
        Options(
            suites=args.suites,
            threads=args.threads,
            dtypes=args.dtype,
            rounds=args.rounds,
            rows=args.rows,
            peers=args.peers,
            seed=int(time.strftime("%Y%m%d")) if args.seed is None else args.seed,
            quick=args.quick,
            drawn=not args.nominal,
            markdown=args.markdown,
            json=args.json,
            against=args.against,
            plot=args.plot,
        )
    )
