"""The report in a real browser: wide, narrow and dark, without an error, a request, or anything that is cut off."""

from __future__ import annotations

import html
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bvae_cli.comparisons import ComparisonFolder
from bvae_cli.report.page import write_report

from ..comparing import comparison_of, keep_pictures

# In CI a browser must be there; elsewhere its absence skips these tests and says so.
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
NEEDED = os.environ.get("TESTS_NEED_CHROMIUM") == "1"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None and not NEEDED, reason="no chromium is installed: the report was not opened in one"),
]

# Put into a copy of the page by the test: it measures what a person would see, and writes it where --dump-dom shows it.
PROBE = """<script>
window.problems = [];
addEventListener('error', event => problems.push(String(event.message)));
addEventListener('securitypolicyviolation', event => problems.push('request for ' + event.blockedURI));
addEventListener('load', () => {
  const width = document.documentElement.clientWidth;
  const inScroller = element => element.closest('.scroll') !== null || element.closest('svg') !== null;
  const style = getComputedStyle(document.documentElement);
  const seen = {
    problems, width,
    overflow: document.documentElement.scrollWidth - width,
    outside: [...document.querySelectorAll('body *')].filter(element => !inScroller(element) &&
      element.getBoundingClientRect().right > width + 1).map(element => element.tagName),
    ground: style.backgroundColor, ink: style.color,
    chartInk: getComputedStyle(document.querySelector('figure svg text')).fill,
    figures: [...document.querySelectorAll('figure')].length,
    empty: [...document.querySelectorAll('figure > svg, figure > img')].filter(element =>
      element.getBoundingClientRect().width < 40 || element.getBoundingClientRect().height < 40).length,
    unspoken: [...document.querySelectorAll('figure > svg, figure > img')].filter(element =>
      !(element.getAttribute('aria-label') || element.getAttribute('alt'))).length,
    pictures: [...document.querySelectorAll('.pictures figure')].map(figure =>
      Math.round(figure.getBoundingClientRect().top)),
    smallest: Math.min(...[...document.querySelectorAll('figure svg text')].map(text =>
      text.getBoundingClientRect().height)),
    resources: performance.getEntriesByType('resource').map(entry => entry.name).filter(name => !name.startsWith('data:')),
  };
  const note = document.createElement('pre');
  note.id = 'seen';
  note.textContent = JSON.stringify(seen);
  document.body.append(note);
});
</script>
"""


class _Quiet(BaseHTTPRequestHandler):
    """Serves one page and remembers every path that is asked for."""

    page = b""
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        found = self.path == "/report.html"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.page if found else b"")

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, comparison = ComparisonFolder(tmp_path_factory.mktemp("report")), comparison_of()
    keep_pictures(folder, comparison)
    return write_report(folder, comparison).read_text(encoding="utf-8")


@contextmanager
def served(page: str) -> Iterator[tuple[str, list[str]]]:
    """Serve a page with the probe in it; return its address and the list of what is asked for."""
    asked: list[str] = []
    handler = type("Handler", (_Quiet,), {"page": page.replace("<head>", "<head>" + PROBE, 1).encode(), "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/report.html", asked
        server.shutdown()


def browse(address: str, profile: Path, width: int, dark: bool) -> tuple[dict[str, Any], str]:
    assert CHROMIUM is not None, "chromium is needed here, and is not installed"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    flags += ["--no-first-run", "--hide-scrollbars", f"--user-data-dir={profile}", "--virtual-time-budget=5000"]
    flags += ["--enable-logging=stderr", "--v=0", "--dump-dom"]
    # The window of a desktop browser has a least width; the phone is an inner frame's, by emulation of its size.
    flags += [f"--window-size={width},1200"] + (["--blink-settings=preferredColorScheme=0"] if dark else [])
    done = subprocess.run([CHROMIUM, *flags, address], capture_output=True, text=True, timeout=180)
    assert 'id="seen"' in done.stdout, done.stderr[-2000:]
    seen = html.unescape(done.stdout.rpartition('<pre id="seen">')[2].partition("</pre>")[0])
    return json.loads(seen), done.stderr


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True)])
def test_the_report_opens_without_an_error_or_a_request(page: str, tmp_path: Path, width: int, dark: bool) -> None:
    with served(page) as (address, asked):
        seen, said = browse(address, tmp_path / "profile", width, dark)
    assert seen["problems"] == []
    assert "CONSOLE" not in said
    assert seen["resources"] == []
    assert asked == ["/report.html"]
    assert seen["figures"] == 23
    assert (seen["empty"], seen["unspoken"]) == (0, 0)
    # The test images stand above, and the three sheets of an arm beside each other.
    tops = seen["pictures"]
    assert [tops.index(top) for top in tops] == [0, *(1 + place // 3 * 3 for place in range(len(tops) - 1))]
    assert (seen["overflow"], seen["outside"]) == (0, [])
    light, ink = brightness(seen["ground"]), brightness(seen["ink"])
    assert (light < 60 < 200 < ink) if dark else (ink < 60 < 200 < light)
    # The figures follow the page.
    assert seen["chartInk"] == seen["ink"]


def test_the_probe_sees_what_it_is_there_to_see(page: str, tmp_path: Path) -> None:
    wrong = "<img src='elsewhere.png' alt='x'><div style='width:3000px'>wide</div><figure><svg></svg></figure>"
    wrong += "<script>console.error('loud'); missing()</script>"
    with served(page.replace("</header>", "</header>" + wrong, 1)) as (address, asked):
        seen, said = browse(address, tmp_path / "profile", 1280, dark=False)
    assert "/elsewhere.png" in asked
    assert any("missing" in problem for problem in seen["problems"])
    assert "CONSOLE" in said
    assert seen["overflow"] > 0
    assert "DIV" in seen["outside"]
    assert seen["unspoken"] == 1


def test_on_a_phone_nothing_is_cut_off_and_letters_can_be_read(page: str, tmp_path: Path) -> None:
    # A frame of 390 pixels in a wide window: headless windows do not get that narrow.
    inner = page.replace("<head>", "<head>" + PROBE, 1)
    outer = (
        "<!doctype html><title>phone</title><body style='margin:0'>"
        f"<iframe id=phone style='width:390px;height:3000px;border:0' srcdoc=\"{html.escape(inner, quote=True)}\"></iframe>"
        "<script>addEventListener('load', () => setTimeout(() => { const seen = "
        "document.getElementById('phone').contentDocument.getElementById('seen'); document.body.append(seen); }, 500));"
        "</script>"
    )
    path = tmp_path / "phone.html"
    path.write_text(outer, encoding="utf-8")
    seen, _ = browse(path.as_uri(), tmp_path / "profile", 1280, dark=False)
    assert seen["width"] == 390
    assert seen["problems"] == []
    assert (seen["overflow"], seen["outside"]) == (0, [])
    assert seen["empty"] == 0
    assert seen["smallest"] >= 8


def brightness(colour: str) -> float:
    return sum(float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) / 3
