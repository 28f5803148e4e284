"""`covey gallery` in a browser: names are given, kept, and used; on a telephone, in the dark."""

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from common.learned.file import read_learned
from deploy.using.gallery import show
from deploy.using.model import open_model
from deploy.using.pictures import pictures
from deploy.using.serving import GalleryServer
from tests.builders.browser import browser
from tests.deploy.helpers import covey as command
from tests.deploy.using.conftest import MANY

SET = """(() => {
  const pile = document.querySelector('#cluster-%d');
  const field = pile.querySelector('%s');
  field.dispatchEvent(new Event('focus'));
  field.%s = %s;
  field.dispatchEvent(new Event('input', {bubbles: true}));
})()"""
WIDER = "document.scrollingElement.scrollWidth - innerWidth"
INK = """(() => {
  const canvas = document.getElementById('map');
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(pixels.filter((_, i) => i % 4 === 0)).size;
})()"""


@pytest.fixture
def served(model: Path, photographs: Path) -> Iterator[GalleryServer]:
    """The gallery of the photographs, shown and taking names."""
    opened = open_model(model, "cpu")
    found = pictures(str(photographs), opened.facts.preprocessing)
    server = GalleryServer(show(opened, found, "photos", Console(quiet=True)), opened.facts)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_names_that_are_given_in_the_page_are_kept_in_the_model(served, model) -> None:
    with browser() as page:
        page.open(served.url)
        assert page.run("document.querySelectorAll('.tiles img').length") > MANY / 2
        here = [int(pile) for pile in page.run("[...by.keys()]")]
        first, second, third = here[:3]
        assert page.run("byId('save').disabled")
        page.run(SET % (first, ".name", "value", "'scratches <b>'"))
        page.run(SET % (second, ".same", "value", f"'{first}'"))
        page.run(SET % (third, ".split", "checked", "true"))
        assert page.run(f"shown({second})") == "scratches <b>"
        page.run("byId('save').click()")
        page.until("!byId('told').hidden")
        assert "covey assign uses the names" in page.run("byId('told').textContent")
        assert page.run("byId('save').disabled")
        facts = read_learned(model).facts
        assert facts.shown(first) == facts.shown(second) == "scratches <b>"
        assert facts.same == ((first, second),) and facts.split == (third,)
        page.open(served.url)
        assert page.run(f"shown({second})") == "scratches <b>"
        page.run("byId('find').value = 'scratch'; find()")
        assert page.run("piles.filter(pile => !pile.classList.contains('off')).length") == 2
        own = f"http://{served.own}/"
        assert all(url.startswith((own, "data:")) for url in page.requests)
        assert page.errors == []


def test_it_is_whole_on_a_telephone_and_in_the_dark(served) -> None:
    with browser() as page:
        for width, dark in ((1200, False), (420, True), (360, False)):
            page.look(width, 900, dark)
            page.open(served.url)
            page.until("document.querySelector('#map').width > 100")
            page.until(f"{INK} > 20")
            assert page.run(WIDER) <= 0
            light = page.run("getComputedStyle(document.body).backgroundColor")
            assert (light == "rgb(17, 19, 22)") == dark
        before = page.run("view.zoom") if page.run("typeof view") == "object" else 1
        page.run("byId('nearer').click()")
        assert before == 1 and page.run("document.querySelector('#map').className") == "held"
        page.run("document.querySelector('.tiles button').click()")
        assert page.run("byId('large').open")
        assert page.run("byId('large').querySelector('.file').textContent").endswith(".png")
        assert page.errors == []


def test_a_page_without_a_server_saves_a_file_that_covey_name_takes(
    model, photographs, tmp_path, capsys
) -> None:
    html = tmp_path / "clusters.html"
    code, out, _ = command(capsys, "gallery", str(model), str(photographs), "-o", str(html))
    assert code == 0 and "page: " in out and html.stat().st_size < 2_000_000
    saved = tmp_path / "saved"
    with browser() as page:
        page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(saved))
        page.open(html.as_uri())
        first = page.run("[...by.keys()][0]")
        page.run(SET % (first, ".name", "value", "'dents'"))
        page.run("byId('save').click()")
        page.until("!byId('told').hidden")
        assert str(model) in page.run("byId('told').textContent")
        page.until("true")
        for _ in range(600):
            if (saved / "names.json").exists():
                break
            page.run("new Promise(done => setTimeout(done, 100))")
        assert page.errors == []
    code, out, err = command(capsys, "name", str(model), str(saved / "names.json"))
    assert (code, err) == (0, "") and read_learned(model).facts.shown(first) == "dents"


def test_whoever_does_not_know_the_address_sees_and_changes_nothing(served, model) -> None:
    before, names = model.read_bytes(), json.dumps({"names": {"0": "blisters"}})
    own = {"Origin": f"http://{served.own}"}
    with httpx.Client(base_url=f"http://{served.own}", trust_env=False) as client:
        for path in ("/", "/names", "/wrong/", f"/{served.secret}", f"/{served.secret}/../"):
            assert client.get(path).status_code == 404
        there = f"/{served.secret}"
        assert client.get(f"{there}/", headers={"Host": "evil.example"}).status_code == 404
        assert client.post("/names", content=names, headers=own).status_code == 404
        for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            answer = client.post(f"{there}/names", content=names, headers=headers)
            assert answer.status_code == 403
        assert client.post(f"{there}/names", content=b"\xff", headers=own).status_code == 400
        foreign = json.dumps({"model": "0" * 16})
        answer = client.post(f"{there}/names", content=foreign, headers=own)
        assert answer.status_code == 400 and "another model" in answer.text
        large = HTTPConnection(served.own)
        large.request("POST", f"{there}/names", headers={**own, "Content-Length": str(1 << 30)})
        assert large.getresponse().status == 413  # before anything of it has come
        large.close()
        assert model.read_bytes() == before
        page = client.get(f"{there}/")
        assert page.headers["Cache-Control"] == "no-store" and "blisters" not in page.text
        assert client.post(f"{there}/names", content=names, headers=own).status_code == 200
    assert read_learned(model).facts.shown(0) == "blisters"
