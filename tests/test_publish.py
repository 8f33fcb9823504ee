"""Publishing: asv's page with scripts beside it, where they come from, and what is refused."""

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from asv_bench import publish

TAGS = '<script src="asv.js"></script>\n' + "".join(
    f'<script src="https://host/x/{name}" integrity="sha256-a=" crossorigin="anonymous" onerror="f()"></script>\n'
    for name in publish.SCRIPTS
)


@pytest.fixture
def html(tmp_path):
    folder = tmp_path / "html"
    (folder / "graphs" / "summary").mkdir(parents=True)
    (folder / "index.html").write_text(TAGS)
    (folder / "index.json").write_text(json.dumps({"benchmarks": {"a.time": {}, "b.time": {}}}))
    (folder / "graphs" / "summary" / "a.time.json").write_text("[[1, 2]]")
    return folder


def content(name):
    return f"// {name}".encode()


@pytest.fixture
def registry(monkeypatch, tmp_path):
    """Stands for npm: archives of packages whose files are as expected."""
    known = {
        name: publish.Script(script.package, script.member, hashlib.sha256(content(name)).hexdigest())
        for name, script in publish.SCRIPTS.items()
    }
    monkeypatch.setattr(publish, "SCRIPTS", known)
    asked = []

    def pack(package, folder):
        asked.append(package)
        path = folder / f"{package}.tgz"
        with tarfile.open(path, "w:gz") as tar:
            for name, script in known.items():
                if script.package == package:
                    about = tarfile.TarInfo(f"package/{script.member}")
                    about.size = len(content(name))
                    tar.addfile(about, io.BytesIO(content(name)))
        return path

    monkeypatch.setattr(publish, "_pack", pack)
    return asked


def test_nothing_is_loaded_from_elsewhere(html, registry, tmp_path):
    publish.make_local(html, tmp_path / "store")
    page = (html / "index.html").read_text()
    assert "http" not in page
    assert "integrity" not in page
    assert page.count('onerror="f()"') == len(publish.SCRIPTS)
    sources = re.findall(r'src="([^"]+)"', page)
    assert sources == ["asv.js", *(f"scripts/{name}" for name in publish.SCRIPTS)]
    assert all((html / source).read_bytes() == content(source[8:]) for source in sources[1:])
    assert len(registry) == len(set(registry)) == 6


def test_benchmarks_without_results_have_an_empty_summary(html, registry, tmp_path):
    publish.make_local(html, tmp_path / "store")
    found = {path.name: path.read_text() for path in (html / "graphs" / "summary").iterdir()}
    assert found == {"a.time.json": "[[1, 2]]", "b.time.json": "[]"}


def test_scripts_are_fetched_once_and_damaged_ones_again(html, registry, tmp_path):
    store = tmp_path / "store"
    publish.make_local(html, store)
    registry.clear()
    publish.fetch(list(publish.SCRIPTS), store)
    assert registry == []
    (store / "md5.min.js").write_text("damaged")
    publish.fetch(list(publish.SCRIPTS), store)
    assert registry == ["blueimp-md5@2.19.0"]


def test_another_file_than_expected_is_not_kept(registry, monkeypatch, tmp_path):
    script = publish.SCRIPTS["md5.min.js"]
    monkeypatch.setitem(publish.SCRIPTS, "md5.min.js", publish.Script(script.package, script.member, "0" * 64))
    with pytest.raises(publish.PublishError, match="is not the file that was expected"):
        publish.fetch(["md5.min.js"], tmp_path)
    assert list(tmp_path.glob("*.js")) == []


def test_without_npm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(publish.PublishError, match="npm was not found"):
        publish.fetch(["md5.min.js"], tmp_path)


def test_an_unknown_script_is_named():
    with pytest.raises(publish.PublishError, match=r"loads new\.js, which SCRIPTS of asv_bench\.publish"):
        publish.localise('<script src="https://host/new.js"></script>')


def test_every_script_of_the_installed_asv_is_known():
    asv = pytest.importorskip("asv")
    page, names = publish.localise((Path(asv.__file__).parent / "www" / "index.html").read_text())
    assert set(names) == set(publish.SCRIPTS)
    assert not re.search(r'<(?:script|link)\b[^>]*"https?://', page)


def test_outside_the_repository(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert publish.main([]) == 2
    assert "run it in the repository's top folder" in capsys.readouterr().err
