"""The summary page: what it says of its inputs, and how a browser shows it."""

import html.parser
import json
import re

import pytest
from browser import Browser, find_browser, served

from asv_bench import history, report, summary_charts, summary_page
from asv_bench.problems import load_layers
from asv_bench.roofline import place, times_of_yardsticks


def peers_document():
    layers = []
    for number, layer in enumerate(load_layers(only=["rn50_conv1", "mbv2_dw_144", "tcn_k3_d16", "lenet5_c1"])):
        passes = {}
        for i, direction in enumerate(("forward", "input_grad", "kernel_grad")):
            ratio = 2.0 ** (number - 1 + i / 3)
            roof = place(layer, layer.gflop / 50, 100.0, 10.0)
            others = {"jax": {"ratio": 2 * ratio}, "onnxruntime": {"skipped": "no gradients"}}
            passes[direction] = {
                "ratio": ratio, "gflops": 50.0, "torch_gflops": 50 / ratio, "error": 1e-7, "roofline": roof,
                "others": others,
            }  # fmt: skip
        layers.append(
            {"name": layer.name, "problem": str(layer), "gflop": layer.gflop, "wide": layer.is_wide, "passes": passes}
        )
    others = {"jax": {"name": "JAX", "version": "1"}, "onnxruntime": {"name": "ONNX Runtime", "version": "2"}}
    run = {
        "numbaconv": "1", "numba": "2", "torch": "3", "threads": 2, "processor": "a <CPU>",
        "date": "2026-01-02T03:04:05", "others": others,
    }  # fmt: skip
    return {"run": run, "layers": layers, "summary": report.summarise(layers)}


def gate_document(slower):
    verdict = {"slower": True, "undecided": False, "ratio": 1.104, "wall": 1.1, "agreeing": 5, "pairs": 5}
    return {
        "base": "aaaa First", "head": "bbbb Second & last", "findings": [], "broken": {}, "slower": list(slower),
        "verdicts": {case: verdict for case in slower}, "screening": {"a": [], "b": []},
    }  # fmt: skip


def write_results(folder):
    """Lay out three commits as airspeed velocity does."""
    machine = folder / "a-machine"
    machine.mkdir(parents=True)
    (folder / "benchmarks.json").write_text(json.dumps({"passes.time": {"unit": "seconds"}, "version": 2}))
    (machine / "machine.json").write_text("{}")
    for date, value in ((30, 0.3), (10, 0.1), (20, 0.2)):
        document = {
            "date": date,
            "result_columns": ["result", "params"],
            "results": {
                "passes.time": [[value, None], [["'a'", "'b'"], ["'forward'"]]],
                "starts.import": [[2 * value], []],
            },
        }
        (machine / f"{date:08x}-env.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def page(tmp_path):
    """A page with all of its parts, and its text."""
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "index.html").write_text("asv")
    (tmp_path / "peers.json").write_text(json.dumps(peers_document()))
    (tmp_path / "gate.json").write_text(json.dumps(gate_document(["pool.max"])))
    results = write_results(tmp_path / "results")
    arguments = ["-o", str(tmp_path / "html"), "--peers", str(tmp_path / "peers.json")]
    arguments += ["--gate", str(tmp_path / "gate.json"), "--results", str(results)]
    assert summary_page.main(arguments) == 0
    return tmp_path / "html" / "summary.html"


class Checker(html.parser.HTMLParser):
    """Fails on tags that do not match, and notes what refers to elsewhere."""

    void = {"meta", "link"}

    def __init__(self):
        super().__init__()
        self.stack, self.targets, self.identities, self.labelled = [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.targets += [attributes[key] for key in ("href", "src") if key in attributes]
        self.identities += [attributes["id"]] if "id" in attributes else []
        if tag == "svg":
            self.labelled.append(attributes.get("aria-label"))
        if tag not in self.void:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass


def test_the_page_is_sound_and_stands_alone(page):
    checker = Checker()
    checker.feed(page.read_text())
    assert checker.stack == []
    assert len(set(checker.identities)) == len(checker.identities)
    inside = {f"#{identity}" for identity in checker.identities}
    assert set(checker.targets) - inside == {"data:,", "index.html"}
    assert all(checker.labelled)
    assert len(checker.labelled) == 3 + 3 + 2
    assert "<script" not in page.read_text()


def test_the_page_says_what_its_inputs_say(page):
    text = page.read_text()
    assert "a &lt;CPU&gt;" in text
    assert re.search(r'<span class="worse">pool.max \+10.4 %</span>', text)
    assert "bbbb Second &amp; last" in text
    assert "<td>JAX 1</td>" in text
    assert "passes.time (a, forward)" in text
    assert '<span class="worse">+100.0 %</span>' in text
    assert "4 layers" in text


def test_without_inputs_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(summary_page, "ROOT", tmp_path)
    assert summary_page.main(["-o", str(tmp_path / "out"), "--results", str(tmp_path / "none")]) == 0
    assert "No results were found" in (tmp_path / "out" / "summary.html").read_text()
    assert summary_page.main(["-o", str(tmp_path / "out"), "--gate", str(tmp_path / "none.json")]) == 2
    assert "FileNotFoundError" in capsys.readouterr().err


def test_quantities_read_well():
    given = [(2.4e-5, "seconds"), (0.3, "seconds"), (9e6, "bytes"), (41, "")]
    found = [summary_page.quantity(value, unit) for value, unit in given]
    assert found == ["24 µs", "300 ms", "9 MB", "41"]


def test_history_is_in_order_of_dates(tmp_path):
    a, other = history.load_history(write_results(tmp_path / "results"))
    assert (a.name, a.unit, a.values) == ("passes.time (a, forward)", "seconds", [0.1, 0.2, 0.3])
    assert other.change() == pytest.approx(2.0)
    assert history.Series("one", "", [(1, 2.0)]).change() is None
    assert history.load_history(tmp_path / "none") == []


def test_bars_start_at_one():
    drawing = summary_charts.ratio_bars("t", [("faster", 4.0), ("slower", 0.5)])
    (level,) = re.findall(r'<line class="axis" x1="([\d.]+)"', drawing)
    starts = re.findall(r'<rect class="(\w+)" x="([\d.]+)" y="\d+" width="([\d.]+)"', drawing)
    assert starts[0][:2] == ("good", level)
    assert float(starts[1][1]) + float(starts[1][2]) == pytest.approx(float(level), abs=1)


def test_place_under_the_roof():
    (layer,) = load_layers(only=["rn18_l1_bs1"])
    found = place(layer, layer.gflop / 50, peak_gflops=100.0, gbytes=10.0)
    assert (found["bound"], found["share"]) == ("peak", pytest.approx(0.5))
    (layer,) = load_layers(only=["mbv2_dw_144"])
    assert place(layer, 1.0, 1000.0, 10.0)["bound"] == "memory"


def test_a_pass_takes_longer_than_its_multiply_adds_at_the_peak():
    (layer,) = load_layers(only=["lenet5_c1_bs1"])
    found = times_of_yardsticks(layer, "forward", rounds=1)
    assert set(found) == {"fma_peak", "copy", "matmul"}
    assert all(times > 0 for times in found.values())
    assert found["fma_peak"] > 1


@pytest.fixture(scope="module")
def browser():
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium is installed")
    browser = Browser(path)
    yield browser
    browser.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_draws_it_without_a_complaint(browser, page, width, dark):
    browser.problems.clear()
    with served(page.parent) as address:
        browser.open(f"{address}/summary.html", width, dark=dark)
        sizes = browser.evaluate(
            "[...document.querySelectorAll('svg')].map(s => [s.getBoundingClientRect(), s.getBBox()])"
            ".map(([a, b]) => [a.width, a.height, b.width, b.height])"
        )
        assert len(sizes) == 8
        assert all(min(size) > 5 for size in sizes)
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the screen"
        paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(15, 19, 24)" if dark else "rgb(255, 255, 255)")
        assert browser.screenshot().startswith(b"\x89PNG")
        if width == 1280:
            browser.evaluate("document.querySelector('a[href=\"#history\"]').click()")
            assert browser.evaluate("scrollY + innerHeight > document.querySelector('#history').offsetTop")
    assert browser.problems == []
