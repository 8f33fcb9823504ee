"""The command line: what it prints, its exit codes, and one clear line for whatever the user got wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from test_datasets import HOW_TO_GET_MNIST, write_collection

import numbaconv as nc
from numbaconv import cli
from numbaconv.code_cache import cache_info
from numbaconv.target import TARGET


def refusal(capsys, *arguments):
    """Run the command line, demand exit code 2 and return its one line of error."""
    with pytest.raises(SystemExit) as caught:
        cli.main(list(arguments))
    output = capsys.readouterr()
    assert caught.value.code == 2
    assert output.out == ""
    assert output.err.endswith("\n") and output.err.count("\n") == 1
    return output.err[:-1]


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"numbaconv {nc.__version__}\n"


@pytest.mark.parametrize("command", ["demo", "info", "warmup", "explain"])
def test_help_of_every_command(capsys, command):
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    assert f"usage: numbaconv {command}" in capsys.readouterr().out


def test_unknown_command_is_one_line(capsys):
    assert refusal(capsys, "train").startswith("numbaconv: error: argument COMMAND: invalid choice: 'train'")
    assert refusal(capsys) == "numbaconv: error: the following arguments are required: COMMAND"


# explain

EXAMPLE = ("--input", "1,28,28,1", "--kernel", "3,3,1,32")


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        (("--strides", "2", "--padding", "same"), {"strides": 2, "padding": "same"}),
        (("--strides", "2,1", "--dilation-rate", "1,3"), {"strides": (2, 1), "dilation_rate": (1, 3)}),
        (("--padding", "1"), {"padding": 1}),
        (("--padding", "1,2"), {"padding": (1, 2)}),
        (("--padding", "0:3"), {"padding": ((0, 3), (0, 3))}),
        (("--padding", "1:2,causal"), {"padding": ((1, 2), "causal")}),
        (("--padding", "1", "--padding-mode", "reflect"), {"padding": 1, "padding_mode": "reflect"}),
        (
            ("--padding", "1", "--padding-mode", "circular,replicate"),
            {"padding": 1, "padding_mode": ("circular", "replicate")},
        ),
        (("--dtype", "float64"), {"dtype": "float64"}),
    ],
)
def test_explain_prints_the_page_of_nc_explain(capsys, arguments, options):
    assert cli.main(["explain", *EXAMPLE, *arguments]) == 0
    page = nc.explain((1, 28, 28, 1), (3, 3, 1, 32), **options)
    assert capsys.readouterr().out == f"{page}\n"


def test_explain_of_other_operations(capsys):
    arguments = "--operation conv_transpose --data-format channels_first --strides 2 --output-padding 1".split()
    options = {"operation": "conv_transpose", "data_format": "channels_first", "strides": 2, "output_padding": 1}
    assert cli.main(["explain", "--input", "1,4,8,8", "--kernel", "3,3,6,4", *arguments]) == 0
    assert capsys.readouterr().out == f"{nc.explain((1, 4, 8, 8), (3, 3, 6, 4), **options)}\n"
    assert cli.main(["explain", "--input", "1,8,8,4", "--kernel", "3,3,2,6", "--groups", "2"]) == 0
    assert capsys.readouterr().out == f"{nc.explain((1, 8, 8, 4), (3, 3, 2, 6), groups=2)}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "1,a"), "argument --input: '1,a' is not a list of integers such as 1,28,28,3"),
        (("--strides", "two"), "argument --strides: 'two' is not a list of integers such as 1,28,28,3"),
        (
            ("--padding", "1:x"),
            "argument --padding: '1:x' is no padding; give a word (valid, same, causal), a number, low:high, "
            "or such for each axis",
        ),
        (
            ("--padding", "1,"),
            "argument --padding: '' is no padding; give a word (valid, same, causal), a number, low:high, "
            "or such for each axis",
        ),
    ],
)
def test_explain_refuses_what_it_cannot_read(capsys, arguments, message):
    assert refusal(capsys, "explain", *EXAMPLE, *arguments) == f"numbaconv explain: error: {message}"


def test_explain_refuses_as_the_function_does(capsys):
    with pytest.raises(ValueError) as caught:
        nc.explain((1, 28, 28, 2), (3, 3, 1, 32))
    line = refusal(capsys, "explain", "--input", "1,28,28,2", "--kernel", "3,3,1,32")
    assert line == f"numbaconv explain: error: {caught.value}"


# info, warmup


def test_info_names_cpu_threads_tiles_and_cache(capsys):
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"numbaconv {nc.__version__}\n")
    for label in ("CPU", "vectors", "threads", "tiles", "cache"):
        assert re.search(rf"^{label} +\S", text, re.MULTILINE), label
    assert TARGET.cpu_name in text and f"{TARGET.lanes('float32')} float32" in text
    assert str(cache_info().folder or "none") in text


def test_warmup_passes_its_options_on(capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(nc, "warmup", lambda **options: calls.append(options) or "17 functions ready")
    assert cli.main(["warmup"]) == 0
    assert cli.main(["warmup", "--dtype", "float64", "--processes", "3", "--quiet"]) == 0
    assert calls == [
        {"dtypes": ("float32", "float64"), "progress": True, "processes": None},
        {"dtypes": ("float64",), "progress": False, "processes": 3},
    ]
    assert capsys.readouterr().out == "17 functions ready\n" * 2


def test_warmup_refuses_as_the_function_does(capsys):
    assert "processes=0: at least one must compile" in refusal(capsys, "warmup", "--processes", "0")


# demo


@pytest.fixture
def small_mnist(tmp_path):
    folder = tmp_path / "data"
    write_collection(folder, train=40, test=24)
    return folder


def test_demo_ends_with_three_lines(capsys, small_mnist, tmp_path):
    picture = tmp_path / "learned.png"
    arguments = ["--dataset", "mnist", "--data", str(small_mnist), "--epochs", "1", "--batch-size", "16"]
    assert cli.main(["demo", *arguments, "--threads", "1", "--seed", "3", "--output", str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4] == f"picture: {picture}"
    assert re.fullmatch(r"test accuracy [01]\.\d{4}", lines[-3])
    assert re.fullmatch(r"training throughput \d+ samples/s", lines[-2])
    assert re.fullmatch(r"single-image latency \d+\.\d{3} ms", lines[-1])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_demo_without_picture_does_without_matplotlib(capsys, small_mnist, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ["--dataset", "fashion-mnist", "--data", str(small_mnist), "--epochs", "1", "--no-plot"]
    assert cli.main(["demo", *arguments]) == 0
    assert "picture" not in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_demo_names_the_extra_that_draws(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert refusal(capsys, "demo") == (
        "numbaconv demo: error: matplotlib, which draws the picture, is not installed. Install it with "
        "`pip install 'numbaconv[demo]'`, or go without the picture by --no-plot."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epochs", "0"), "`epochs` must be at least 1. Received: epochs=0"),
        (("--batch-size", "-1"), "`batch_size` must be at least 1. Received: batch_size=-1"),
        (("--seed", "-1"), "`seed` must be at least 0. Received: seed=-1"),
        (("--epochs", "many"), "argument --epochs: invalid int value: 'many'"),
        (
            ("--threads", "0"),
            f"`threads` must be from 1 to {TARGET.threads}, the threads that Numba starts here (NUMBA_NUM_THREADS). "
            "Received: threads=0",
        ),
        (
            ("--data", "somewhere"),
            "--data somewhere: the digits come with the package; choose --dataset mnist or fashion-mnist.",
        ),
        (("--output", "picture.gif"), "picture.gif ends in '.gif'; a picture's name ends in .png, .pdf or .svg."),
        (
            ("--output", "no/such/picture.png"),
            "no/such/picture.png cannot be written: the folder no/such does not exist.",
        ),
        (
            ("--dataset", "mnist", "--data", "nowhere"),
            f"MNIST was not found in nowhere. {HOW_TO_GET_MNIST}",
        ),
    ],
)
def test_demo_refuses_in_one_line_before_anything_runs(capsys, arguments, message):
    assert refusal(capsys, "demo", *arguments) == f"numbaconv demo: error: {message}"


def test_demo_names_a_damaged_file(capsys, small_mnist):
    file = small_mnist / "t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-2])
    assert refusal(capsys, "demo", "--dataset", "mnist", "--data", str(small_mnist)) == (
        f"numbaconv demo: error: {file} is truncated: 30 bytes, but its header of uint8 numbers with shape (24,) "
        "makes it 32. Fetch it again."
    )


# The process


def run(*arguments, **options):
    command = [sys.executable, "-c", "import sys; from numbaconv.cli import main; sys.exit(main())", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **options)


def test_version_starts_no_compiler():
    code = "import sys; from numbaconv.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'numba', 'matplotlib', 'tqdm'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert output.stdout.splitlines() == [f"numbaconv {nc.__version__}", "[]"]


def test_reader_that_goes_away_is_no_error():
    process = run("explain", *EXAMPLE)
    process.stdout.close()
    error = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 1
    assert error == ""


def test_interruption_is_no_traceback(capsys, monkeypatch):
    def interrupt(parser, options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_info", interrupt)
    assert cli.main(["info"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_numbers_of_axes_are_plain_integers():
    assert cli._one_or_each("3") == 3 and cli._integers("3") == (3,)
    assert not isinstance(cli._integers("3")[0], np.integer)
