"""The comparison with PyTorch: its layers, its arithmetic, and a run on layers that take no time."""

import json
import os

import numpy as np
import pytest

from asv_bench import measure, peer, peers, readme_table, report, yardsticks
from asv_bench.problems import MORE_SHAPES, PASSES, SHAPES, load_layers, make_arrays, make_pass, parse_layer, placed
from asv_bench.random_layers import COUNT

RAW = json.loads(SHAPES.read_text())
MORE = json.loads(MORE_SHAPES.read_text())


@pytest.mark.parametrize("entry", RAW + MORE, ids=[entry["name"] for entry in RAW + MORE])
def test_layer_has_the_sizes_and_the_work_of_the_file(entry):
    layer = parse_layer(entry)
    assert layer.out_size == tuple(entry["out_size"])
    assert layer.gflop == pytest.approx(entry["fwd_gflop"], rel=1e-2, abs=1e-4)
    assert layer.kernel_shape[:-2] == tuple(entry["kernel"])


def test_layer_whose_sizes_disagree():
    entry = dict(RAW[0], name="bent", out_size=[1, 1])
    with pytest.raises(ValueError) as raised:
        parse_layer(entry)
    assert str(raised.value) == "layer 'bent': out_size (1, 1) should be (112, 112) by its other sizes"


def test_only_known_layers():
    assert [layer.name for layer in load_layers(only=["lenet5_c1", "rn50_conv1"])] == ["rn50_conv1", "lenet5_c1"]
    with pytest.raises(ValueError, match=r"^no layer named nothing in "):
        load_layers(only=["nothing", "lenet5_c1"])


def test_lists_of_layers():
    assert len(peers.choose_layers("shapes", [])) == len(RAW)
    assert [layer.name for layer in peers.choose_layers("more", [])] == [entry["name"] for entry in MORE]
    assert not {entry["name"] for entry in RAW} & {entry["name"] for entry in MORE}
    drawn = peers.choose_layers("random:7", [])
    assert len({layer.name for layer in drawn}) == len(drawn) == COUNT
    assert drawn == peers.choose_layers("random:7", [])
    assert drawn != peers.choose_layers("random:8", [])
    assert peers.choose_layers("random:7", [drawn[3].name]) == [drawn[3]]
    sample = {layer.name for layer in peers.choose_layers("sample", [])}
    assert sample == set(readme_table.CHOSEN)
    assert len(sample) == 15
    assert [layer.name for layer in peers.choose_layers("sample", ["rn50_conv1"])] == ["rn50_conv1"]
    assert [layer.name for layer in peers.choose_layers(str(MORE_SHAPES), ["kws_dscnn"])] == ["kws_dscnn"]


def test_a_list_that_is_not_there(capsys):
    with pytest.raises(SystemExit) as raised:
        peers.main(["--layers", "nowhere.json"])
    assert raised.value.code == 2
    assert "nowhere.json" in capsys.readouterr().err


def test_further_peers_are_measured_in_float32(capsys):
    with pytest.raises(SystemExit):
        peers.main(["--dtype", "float64", "--peers", "jax"])
    assert "leave out --peers or --dtype" in capsys.readouterr().err


def test_scaled_keeps_at_least_one_image():
    (layer,) = load_layers(only=["vgg_1_2"])
    assert layer.scaled(8.0).gflop <= 8.0
    assert layer.scaled(1e-6).batch == 1
    assert layer.scaled(1e6) == layer


@pytest.mark.parametrize("direction", PASSES)
@pytest.mark.parametrize("name", ["lenet5_c1_bs1", "tcn_k3_d16", "dcgan_g1", "convT3d_op1"])
def test_our_passes_have_the_shapes_of_the_layer(name, direction):
    (layer,) = load_layers(only=[name])
    layer = layer.scaled(1e-3)
    result = make_pass(layer, direction, make_arrays(layer, direction))()
    wanted = {"forward": layer.y_shape, "input_grad": layer.x_shape, "kernel_grad": layer.kernel_shape}
    assert result.shape == wanted[direction]


@pytest.mark.parametrize("shape", [(3,), (1, 34, 34, 64)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_operands_lie_where_large_arrays_lie(shape, dtype):
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    copy = placed(values)
    assert copy.ctypes.data % 4096 == 16
    assert copy.dtype == dtype
    assert copy.flags.c_contiguous and copy.flags.writeable
    np.testing.assert_array_equal(copy, values)


@pytest.mark.parametrize("direction", PASSES)
def test_operands_of_a_pass_are_placed(direction):
    (layer,) = load_layers(only=["lenet5_c1_bs1"])
    arrays = make_arrays(layer, direction)
    operands = [array for array in (arrays.x, arrays.kernel, arrays.grad_y) if array is not None]
    assert [array.ctypes.data % 4096 for array in operands] == [16, 16]


def test_relative_error():
    a = np.arange(6.0).reshape(2, 3)
    assert peer.relative_error(a, a) == 0.0
    assert peer.relative_error(a + 0.5, a) == pytest.approx(0.1)
    assert peer.relative_error(a[:1], a) == float("inf")
    assert peer.relative_error(np.where(a == 4, np.nan, a), a) == float("inf")


def fake_clock(monkeypatch, seconds):
    """Let calls be names whose time is given; returns the order in which they are sampled."""
    order = []

    def sample(call, count):
        order.append(call)
        return seconds[call]

    monkeypatch.setattr(measure, "_sample", sample)
    return order


def test_calls_take_turns(monkeypatch):
    order = fake_clock(monkeypatch, {"ours": 0.5, "a": 1.0, "b": 1.2})
    ours, theirs = measure.interleave("ours", {"a": "a", "b": "b"}, rounds=3)
    assert order[3:] == ["ours", "a", "b", "ours", "b", "a", "ours", "a", "b"]
    assert (ours.median, theirs["a"].median, theirs["b"].median) == (0.5, 1.0, 1.2)
    assert ours.samples == theirs["a"].samples == theirs["b"].samples == 3


@pytest.mark.parametrize(("warm", "count"), [(measure.WARM_SECONDS, 2), (0.0, 1), (0.1, 251)])
def test_calls_warm_up_before_each_sample(warm, count, monkeypatch):
    counts = []
    monkeypatch.setattr(measure, "_sample", lambda call, count: counts.append(count) or 4e-4)
    monkeypatch.setattr(measure, "_first_look", lambda call: 4e-4)
    monkeypatch.setattr(measure.time, "sleep", lambda seconds: None)
    measure.interleave("ours", {"a": "a"}, rounds=2, warm=warm)
    assert counts == [count, 5] * 4


def test_samples_wait_for_disturbances_to_pass(monkeypatch):
    answers, events = iter([True, True, False, False]), []
    order = fake_clock(monkeypatch, {"ours": 0.5, "a": 1.0})
    monkeypatch.setattr(measure, "is_disturbed", lambda: events.append(len(order)) or next(answers))
    monkeypatch.setattr(measure.time, "sleep", lambda seconds: events.append(seconds))
    measure.interleave("ours", {"a": "a"}, rounds=1)
    pause = measure.SETTLE_SECONDS
    # Two looks at the calls come before the samples.
    assert events == [pause, 2, pause, 2, pause, 2, pause, 3]


def test_samples_do_not_wait_for_ever(monkeypatch):
    fake_clock(monkeypatch, {"ours": 0.5, "a": 1.0})
    asked = []
    monkeypatch.setattr(measure, "is_disturbed", lambda: asked.append(1) or True)
    monkeypatch.setattr(measure.time, "sleep", lambda seconds: None)
    ours, _ = measure.interleave("ours", {"a": "a"}, rounds=1)
    assert ours.samples == 1
    assert len(asked) == 2 * measure.PATIENCE


@pytest.mark.parametrize("threads", [1, 2])
def test_watch_tells_slow_cores_from_fast_ones(threads, monkeypatch):
    watch = yardsticks.Watch(threads)
    slow = [1.0] * (threads - 1) + [1.3]
    looks = [[1.0] * threads, [1.2] * threads, slow, slow, [1.0] * threads, *[slow] * watch.LOOKS]
    before, seconds = watch.disturbances, iter(looks)
    monkeypatch.setattr(watch, "_best", 1.1)
    monkeypatch.setattr(watch, "_run", lambda: next(seconds))
    assert [watch.is_disturbed() for _ in range(4)] == [False, False, False, True]
    assert watch.disturbances == before + 1


def test_watch_runs_its_loop_on_every_thread():
    watch = yardsticks.Watch(2)
    assert len(watch._run()) == 2
    assert 0 < watch._best < float("inf")


@pytest.mark.skipif(os.cpu_count() == 1, reason="two threads would wait for the clock to part them")
def test_a_flag_goes_from_core_to_core():
    assert 1 < yardsticks.round_trip_ns(repeats=2) < 1e9


def test_a_report_says_how_far_apart_the_cores_were():
    entries = [{"round_trip_ns": trip} for trip in (61.0, 328.0, 70.0)]
    assert report.exchange_text(entries) == (
        "a flag from core to core and back: 61 ns at best, over 150 in 1 of 3 layers"
    )
    assert report.exchange_text([{}]) == ""


def test_a_hopeless_layout_is_looked_at_once(monkeypatch):
    order = fake_clock(monkeypatch, {"ours": 0.5, "a": 1.0, "b": 7.0})
    ours, theirs = measure.interleave("ours", {"a": "a", "b": "b"}, budget=0.0)
    assert order.count("b") == 1
    assert theirs["b"].median == 7.0
    assert ours.samples == theirs["a"].samples == measure.FEWEST_ROUNDS


def entry_of(name, ratio, wide):
    result = {"ratio": ratio, "gflops": 10.0 * ratio, "torch_gflops": 10.0, "error": 1e-7}
    return {"name": name, "problem": name, "gflop": 1.0, "wide": wide, "passes": {"forward": result}}


def document():
    entries = [
        entry_of("rn50_conv1", 4.0, False),
        entry_of("rn50_3_3x3", 0.5, True),
        entry_of("rn50_2_1x1b", 2.0, True),
        dict(entry_of("x", 1.0, False), passes={"forward": {"failed": "ValueError: no"}}),
    ]
    run = {
        "numbaconv": "1", "numba": "2", "torch": "3", "threads": 2, "processor": "a CPU", "date": "2026-01-02T03:04:05",
    }  # fmt: skip
    return {"run": run, "layers": entries, "summary": report.summarise(entries)}


def test_summary():
    summary = document()["summary"]
    assert set(summary) == {"forward"}
    forward = summary["forward"]
    assert forward["geometric_mean"] == pytest.approx(4.0 ** (1 / 3))
    assert [w["name"] for w in forward["worst"]] == ["rn50_3_3x3", "rn50_2_1x1b", "rn50_conv1"]
    assert forward["wide_below_floor"] == ["rn50_3_3x3"]
    assert forward["wide_share_below_floor"] == 0.5
    assert "worst: rn50_3_3x3 0.50, rn50_2_1x1b 2.00" in report.summary_text(summary)


def test_chart_and_json_are_written(tmp_path):
    report.write_chart(document(), tmp_path / "deep" / "chart.png")
    assert (tmp_path / "deep" / "chart.png").read_bytes().startswith(b"\x89PNG")
    report.write_json(document(), tmp_path / "peers.json")
    assert json.loads((tmp_path / "peers.json").read_text())["summary"]["forward"]["layers"] == 3
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_readme_table_replaces_what_stands_between_the_markers():
    table = readme_table.markdown(document())
    assert "| rn50_3_3x3: 3x3, 128 to 128, 28x28 | 0.50 |" in table
    text = readme_table.fill("above\n<!-- peers -->\nold\n<!-- /peers -->\nbelow\n", table)
    assert text == f"above\n<!-- peers -->\n{table}\n<!-- /peers -->\nbelow\n"
    assert readme_table.fill(text, table) == text
    with pytest.raises(ValueError, match="the text has no <!-- peers -->"):
        readme_table.fill("nothing", table)


def test_means_name_the_layers_below_one():
    one_thread = document()
    one_thread["run"] |= {"threads": 1, "dtype": "float64", "layers": "sample"}
    del one_thread["layers"][1:]
    one_thread["summary"] = report.summarise(one_thread["layers"])
    lines = readme_table.means([document(), one_thread]).splitlines()
    assert lines[2] == "| 4 of shapes.json, float32, 2 threads, 2026-01-02 | 1.59 | none | none |"
    assert lines[3] == "| 1 of one of each kind, float64, 1 thread, 2026-01-02 | 4.00 | none | none |"
    assert lines[-2] == "- shapes.json, float32, 2 threads: forward: rn50_3_3x3 0.50."
    assert lines[-1] == "- one of each kind, float64, 1 thread: none."


def test_means_name_the_vectors_that_a_run_was_limited_to():
    limited = document()
    limited["run"] |= {"vector_bits": 256, "onednn_isa": "AVX2"}
    lines = readme_table.means([limited]).splitlines()
    about = "shapes.json, float32, 2 threads, vectors of 256 bits and oneDNN's AVX2"
    assert lines[2] == f"| 4 of {about}, 2026-01-02 | 1.59 | none | none |"
    assert lines[-1] == f"- {about}: forward: rn50_3_3x3 0.50."


def test_measures_a_layer_beside_torch(tmp_path, capsys):
    pytest.importorskip("torch")
    where = ["--json", str(tmp_path / "peers.json"), "--chart", str(tmp_path / "peers.png")]
    assert peers.main(["--only", "lenet5_c1_bs1,tcn_k3_d16", "--repeat", "3", "--scale-batch", "0.01", *where]) == 0
    layers = json.loads((tmp_path / "peers.json").read_text())["layers"]
    assert [layer["name"] for layer in layers] == ["tcn_k3_d16", "lenet5_c1_bs1"]
    for layer in layers:
        assert set(layer["passes"]) == set(PASSES)
        assert all(result["error"] < 1e-5 and result["ratio"] > 0 for result in layer["passes"].values())
    assert "geometric mean" in capsys.readouterr().out
    assert (tmp_path / "peers.png").exists()


@pytest.mark.parametrize("name", ["lenet5_c1_bs1", "tcn_k3_d16", "dcgan_g5", "mbv2_dw_144"])
def test_measures_float64_beside_torch(name, tmp_path):
    pytest.importorskip("torch")
    where = ["--json", str(tmp_path / "peers.json"), "--chart", str(tmp_path / "peers.png")]
    options = ["--layers", "shapes", "--only", name, "--dtype", "float64", "--threads", "1", "--roofline"]
    assert peers.main([*options, "--repeat", "3", "--scale-batch", "0.01", *where]) == 0
    document = json.loads((tmp_path / "peers.json").read_text())
    assert (document["run"]["dtype"], document["run"]["threads"]) == ("float64", 1)
    for result in document["layers"][0]["passes"].values():
        assert result["error"] < 1e-13
        assert 0 < result["roofline"]["peak_share"] < 1


def test_a_wrong_result_is_told(monkeypatch, tmp_path, capsys):
    pytest.importorskip("torch")

    def make_wrong_pass(layer, direction, arrays):
        call = make_pass(layer, direction, arrays)
        return lambda: call() + 1

    monkeypatch.setattr(peers, "make_pass", make_wrong_pass)
    where = ["--json", str(tmp_path / "peers.json"), "--chart", str(tmp_path / "peers.png")]
    assert peers.main(["--only", "lenet5_c1_bs1", "--passes", "forward", "--repeat", "3", *where]) == 1
    assert "forward WRONG: relative error" in capsys.readouterr().out


def test_without_torch_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    assert peers.main(["--only", "lenet5_c1_bs1"]) == 2
    assert "pip install -e '.[peers]'" in capsys.readouterr().err
