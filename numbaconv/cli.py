"""The command line: ``numbaconv demo``, ``info``, ``warmup`` and ``explain``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from numbaconv import __version__

_USAGE_ERROR = 2
_INTERRUPTED = 130
_DTYPES = ("float32", "float64")
_CONV_OPTIONS = ("operation", "strides", "padding", "dilation_rate", "groups", "data_format", "padding_mode",
                 "output_padding", "dtype")  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_USAGE_ERROR, f"{self.prog}: error: {message}\n")


@contextmanager
def _refusals(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Turn refusals of what the user gave into one line and the exit code of wrong usage."""
    try:
        yield
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        parser.error(" ".join(str(error).split()))


def _integers(text: str) -> tuple[int, ...]:
    """Read ``"1,28,28,3"``."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 1,28,28,3") from None


def _one_or_each(text: str) -> int | tuple[int, ...]:
    """Read ``"2"`` for every axis or ``"2,1"`` for each."""
    numbers = _integers(text)
    return numbers[0] if len(numbers) == 1 else numbers


class _LowHigh(NamedTuple):
    """Padding before and after an axis."""

    low: int
    high: int


def _padding(text: str) -> Any:
    """Read ``"same"``, ``"1"`` or ``"1:2"`` for every axis, or such items separated by commas for each."""
    items = tuple(_padding_of_axis(item) for item in text.split(","))
    return items[0] if len(items) == 1 else items


def _padding_of_axis(item: str) -> str | int | _LowHigh:
    low, colon, high = item.partition(":")
    try:
        return _LowHigh(int(low), int(high)) if colon else int(low)
    except ValueError:
        if not colon and item.isalpha():
            return item
        raise argparse.ArgumentTypeError(
            f"{item!r} is no padding; give a word (valid, same, causal), a number, low:high, or such for each axis"
        ) from None


def _padding_mode(text: str) -> str | tuple[str, ...]:
    """Read ``"reflect"`` for every axis or ``"reflect,circular"`` for each."""
    modes = tuple(text.split(","))
    return modes[0] if len(modes) == 1 else modes


def _demo(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    with _refusals(parser):
        from numbaconv.demo import Demo

        demo = Demo(
            dataset=options.dataset,
            data=options.data,
            epochs=options.epochs,
            batch_size=options.batch_size,
            seed=options.seed,
            threads=options.threads,
            output=None if options.no_plot else options.output,
        )
    demo.run()


def _info(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    import numbaconv as nc
    from numbaconv.kernels.tile_sizes import NARROW_SIZES, WIDE_SIZES
    from numbaconv.target import TARGET

    print(f"numbaconv {__version__}")
    nc.show_config()
    lanes = TARGET.lanes("float32")
    print(
        f"{'tiles':<9} {WIDE_SIZES[0]} pixels x {2 * lanes} channels or {NARROW_SIZES[0]} x {lanes} (float32), "
        "and smaller ones for what is left"
    )


def _warmup(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    import numbaconv as nc

    with _refusals(parser):
        summary = nc.warmup(
            dtypes=tuple(options.dtype or _DTYPES), progress=not options.quiet, processes=options.processes
        )
    print(summary)


def _explain(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    given = {name: getattr(options, name) for name in _CONV_OPTIONS if getattr(options, name) is not None}
    if isinstance(options.padding, _LowHigh):
        given["padding"] = (tuple(options.padding),) * max(len(options.kernel) - 2, 1)
    with _refusals(parser):
        import numbaconv as nc

        page = str(nc.explain(options.input, options.kernel, **given))
    print(page)


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="train a small network on real images and draw what it learned",
        description="Train a small convolutional network on real images; print its accuracy and speed, and draw a "
        "picture of how it learned, what its layers see and where it errs.",
    )
    parser.set_defaults(run=_demo, parser=parser)
    parser.add_argument(
        "--dataset",
        choices=("digits", "mnist", "fashion-mnist"),
        default="digits",
        help="digits (8x8, comes with the package), mnist or fashion-mnist (28x28); default digits",
    )
    parser.add_argument("--data", metavar="DIR", help="folder with the IDX files of mnist or fashion-mnist")
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the training images")
    parser.add_argument("--batch-size", type=int, metavar="N", help="images per training step")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="decides every random number; default 0")
    parser.add_argument("--threads", type=int, metavar="N", help="threads to use; default one or all, as a trial says")
    parser.add_argument(
        "--output",
        default="numbaconv-demo.png",
        metavar="FILE",
        help="the picture, .png, .pdf or .svg; default %(default)s",
    )
    parser.add_argument("--no-plot", action="store_true", help="draw no picture, do without matplotlib")


def _add_explain(commands: Any) -> None:
    parser = commands.add_parser(
        "explain",
        help="say what a convolution will do: output shape, arithmetic, memory, algorithm",
        description="Say what a convolution will do without doing it: its output's shape with the arithmetic of each "
        "axis, multiply-accumulates, bytes moved, and the algorithm that each pass takes.",
        epilog="example: numbaconv explain --input 1,28,28,1 --kernel 3,3,1,32 --strides 2 --padding same",
    )
    parser.set_defaults(run=_explain, parser=parser)
    add = parser.add_argument
    add("--input", type=_integers, required=True, metavar="SHAPE", help="shape of x with its batch, such as 1,28,28,1")
    add(
        "--kernel",
        type=_integers,
        required=True,
        metavar="SHAPE",
        help="shape of the kernel in Keras's layout: 3,3,1,32",
    )
    add("--operation", choices=("conv", "conv_transpose", "depthwise_conv"), help="default conv")
    add("--strides", type=_one_or_each, metavar="N[,N...]", help="one for all axes or one for each; default 1")
    add(
        "--padding",
        type=_padding,
        metavar="PAD[,PAD...]",
        help="valid, same, causal, a number or low:high, one for all axes or one for each; default valid",
    )
    add("--dilation-rate", type=_one_or_each, metavar="N[,N...]", help="one for all axes or one for each; default 1")
    add("--groups", type=int, metavar="N", help="default 1")
    add("--data-format", choices=("channels_last", "channels_first"), help="default channels_last")
    add(
        "--padding-mode",
        type=_padding_mode,
        metavar="MODE[,MODE...]",
        help="zeros, reflect, replicate or circular, one for all axes or one for each; default zeros",
    )
    add("--output-padding", type=_one_or_each, metavar="N[,N...]", help="of conv_transpose")
    add("--dtype", choices=_DTYPES, help="default float32")


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="numbaconv", description="Convolutions for CPUs, compiled by Numba.")
    parser.add_argument("--version", action="version", version=f"numbaconv {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(commands)
    info = commands.add_parser("info", help="show CPU, vector lanes, register tiles, threads, cache")
    info.set_defaults(run=_info, parser=info)
    warmup = commands.add_parser(
        "warmup",
        help="compile every kernel now",
        description="Compile every kernel now and keep it in the cache, so that nothing waits for a compiler later.",
    )
    warmup.set_defaults(run=_warmup, parser=warmup)
    warmup.add_argument("--dtype", action="append", choices=_DTYPES, help="only this one; default both")
    warmup.add_argument(
        "--processes", type=int, metavar="N", help="that compile at the same time; default one a thread"
    )
    warmup.add_argument("--quiet", action="store_true", help="show no progress bar")
    _add_explain(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows ``numbaconv``; by default the process's own arguments.

    Returns
    -------
    int
        Exit code: 0, or 130 after an interruption from the keyboard.

    Raises
    ------
    SystemExit
        With code 0 after ``--help`` and ``--version``, and with code 2 and one line on the standard error stream where
        the arguments cannot be used or something they name is missing.

    Examples
    --------
    >>> main(["explain", "--input", "1,28,28,1", "--kernel", "3,3,1,32", "--strides", "2", "--padding", "same"])
    conv...
    0
    """
    options = _make_parser().parse_args(arguments)
    try:
        options.run(options.parser, options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has gone, as `head` does. Python would complain once more when it flushes the stream at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
