"""The page in a real browser: it is silent, asks for nothing, runs nothing foreign, sorts, fits a phone, turns dark."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, needs_chromium
from made_runs import made_pictures, made_row, made_run, planned

from ganzoo.report.page import LARGEST_PAGE, write_page

pytestmark = needs_chromium

SCRIPTS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '"><svg onload=alert(3)>',
    "'-alert(4)-'",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "</style><script>alert(5)</script>",
    "</script><script>alert(6)</script>",
    "</title><script>alert(7)</script>",
    "</pre><iframe src=javascript:alert(8)></iframe>",
    "<link rel=stylesheet href=https://example.com/x.css>",
    "<meta http-equiv=refresh content='0;url=https://example.com/'>",
    "javascript:alert(9)",
    "\u202e\x00\x1b[2J<b>",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve contenders of eight seeds, one of them unfinished, with pictures and a cost."""
    rows = [
        made_row(
            f"gls-gan:slope=0.{i:02d}", s, 0.15 + 0.01 * ((i * 7) % 12) + 0.001 * s,
            cost="leaky", cost_hyperparameters={"slope": 0.01 * i},
        )
        for i in range(12)
        for s in range(8)
    ]  # fmt: skip
    rows[-1] = planned(rows[-1]["label"], 7, cost="leaky", cost_hyperparameters={"slope": 0.11})
    folder = made_run(tmp_path_factory.mktemp("browser") / "a run", rows, made_pictures((3, 32, 32)))
    return write_page(folder)


def column(browser: Browser, table: str, place: int) -> list[str]:
    found: list[str] = browser.run(
        f"[...document.querySelector({table!r}).tBodies[0].rows].map(row => row.cells[{place}].innerText.trim())"
    )
    return found


def heading(browser: Browser, table: str, name: str) -> int:
    """The place of a column."""
    names = browser.run(f"[...document.querySelector({table!r}).tHead.rows[0].cells].map(one => one.innerText.trim())")
    return next(i for i, found in enumerate(names) if found.startswith(name))


def press(browser: Browser, table: str, place: int) -> str:
    sort: str = browser.run(
        f"(() => {{ const one = document.querySelector({table!r}).tHead.rows[0].cells[{place}];"
        " one.querySelector('button').click(); return one.getAttribute('aria-sort'); })()"
    )
    return sort


def silent(browser: Browser, page: Path) -> None:
    assert browser.console == []
    assert browser.dialogs == []
    assert browser.requests == [page.resolve().as_uri()]


@pytest.mark.parametrize("width", [360, 768, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_by_double_click_silently_and_scrolls_in_one_direction(
    browser: Browser, ordinary: Path, width: int, dark: bool
) -> None:
    browser.open(ordinary, width=width, dark=dark)
    silent(browser, ordinary)
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("document.querySelector('h1').innerText") == "a run"
    box = "document.querySelector('#health .scroll')"
    assert width < 1200 or browser.run(f"{box}.scrollWidth <= {box}.clientWidth"), "a column of the health is cut off"
    pictures = browser.run("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert pictures, "an image did not load"
    assert browser.run("document.images.length") > 12
    shown = browser.run("getComputedStyle(document.querySelector('svg.wide')).display !== 'none'")
    assert shown == (width > 640)
    assert ordinary.stat().st_size < LARGEST_PAGE


def test_the_style_applies_although_the_policy_is_strict(browser: Browser, ordinary: Path) -> None:
    browser.open(ordinary)
    assert browser.run("getComputedStyle(document.querySelector('.line')).fill") == "none"
    assert browser.run("document.getElementById('theme').hidden") is False


def test_a_heading_sorts_up_and_then_down(browser: Browser, ordinary: Path) -> None:
    browser.open(ordinary)
    place = heading(browser, "#ranked", "test MRE")
    before = column(browser, "#ranked", 0)
    assert before == [str(i) for i in range(1, 13)]
    assert press(browser, "#ranked", place) == "ascending"
    figures = [float(text.split()[0]) for text in column(browser, "#ranked", place)]
    assert figures == sorted(figures)
    assert press(browser, "#ranked", place) == "descending"
    assert [float(text.split()[0]) for text in column(browser, "#ranked", place)] == sorted(figures, reverse=True)
    difference = heading(browser, "#ranked", "\N{MINUS SIGN} leader")
    for _ in range(2):  # what has no figure stays last either way
        press(browser, "#ranked", difference)
        assert column(browser, "#ranked", difference)[-1] == "\N{EN DASH}"
    names = heading(browser, "#ranked", "objective")
    press(browser, "#ranked", names)
    assert column(browser, "#ranked", names) == sorted(column(browser, "#ranked", names))
    assert browser.run("document.querySelectorAll('#ranked [aria-sort]').length") == 1
    assert browser.run("document.getElementById('said').textContent") == "sorted by objective, rising"
    silent(browser, ordinary)


def test_a_keyboard_reaches_and_presses_the_headings(browser: Browser, ordinary: Path) -> None:
    browser.open(ordinary)
    for _ in range(40):
        browser.press("Tab")
        if browser.run("document.activeElement.closest('th') && document.activeElement.innerText.trim()") == "gap":
            break
    else:
        pytest.fail("no heading was reached by Tab")
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    assert browser.run("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"
    assert browser.run("document.activeElement.innerText.trim()") == "gap"


def colour(browser: Browser) -> str:
    found: str = browser.run("getComputedStyle(document.body).backgroundColor")
    return found


def test_dark_follows_the_system_until_the_button_is_pressed(browser: Browser, ordinary: Path) -> None:
    browser.open(ordinary)
    light = colour(browser)
    browser.open(ordinary, dark=True)
    dark = colour(browser)
    assert sum(map(int, re.findall(r"\d+", light)[:3])) > 600
    assert sum(map(int, re.findall(r"\d+", dark)[:3])) < 150
    browser.run("document.getElementById('theme').click()")
    assert colour(browser) == light
    assert browser.run("document.getElementById('theme').textContent") == "Dark"
    browser.open(ordinary, dark=True)
    kept = colour(browser)
    browser.run("try { localStorage.clear() } catch (error) {}")
    assert kept in (light, dark)  # a browser may keep nothing of a file
    silent(browser, ordinary)


CONTRAST = """
(() => {
  const linear = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const bad = [];
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !one.getClientRects().length || one.closest('.hidden, .skip, script')) continue;
    const style = getComputedStyle(one);
    let behind = one, ground = [0, 0, 0, 0];
    while (behind && (ground[3] ?? 1) === 0) {
      ground = parse(getComputedStyle(behind).backgroundColor);
      behind = behind.parentElement;
    }
    const ink = parse(one.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(`${one.tagName} ${one.textContent.trim().slice(0, 30)} ${style.color}`);
  }
  return bad.slice(0, 5);
})()
"""


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_has_the_contrast_that_wcag_asks_for(browser: Browser, ordinary: Path, dark: bool) -> None:
    browser.open(ordinary, dark=dark)
    browser.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert browser.run(CONTRAST) == []


def test_the_plan_and_the_table_are_copied(browser: Browser, ordinary: Path) -> None:
    browser.open(ordinary)
    for name in ("plan", "latex"):
        said = browser.run(f"""new Promise(done => {{
            const button = document.querySelector('button[data-copy={name}]');
            new MutationObserver(() => done(button.textContent)).observe(button, {{childList: true}});
            button.click();
        }})""")
        assert said in ("Copied", "Press Ctrl-C")
        chosen = browser.run("getSelection().toString().trim()")
        assert chosen == browser.run(f"document.getElementById({name!r}).textContent.trim()")


def test_a_line_can_be_seen_alone(browser: Browser, ordinary: Path) -> None:
    browser.open(ordinary)
    browser.run("document.querySelector('.legend button[data-line=\"3\"]').click()")
    seen = browser.run(
        "[...document.querySelectorAll('#curves svg.wide g.series:not(.dim)')].map(one => one.dataset.line)"
    )
    assert seen == ["3"]
    browser.run("document.querySelector('.legend button[data-line=\"3\"]').click()")
    assert browser.run("document.querySelectorAll('.dim').length") == 0


def test_it_reads_without_script(browser: Browser, ordinary: Path) -> None:
    browser.open(ordinary, script=False)
    assert browser.run("document.getElementById('theme').hidden") is True
    assert column(browser, "#ranked", 0) == [str(i) for i in range(1, 13)]


def test_it_prints(browser: Browser, ordinary: Path) -> None:
    browser.open(ordinary)
    assert browser.printed().startswith(b"%PDF")


def hostile(folder: Path, script: str) -> Path:
    """A run with that text in whatever a page shows of it."""

    def row(label: str, seed: int, **more: Any) -> dict[str, Any]:
        return made_row(
            label, seed, 0.1, cost=script, cost_hyperparameters={script: script}, margin=script, notes=[script],
            hashes={script: script}, sources={script: script}, fingerprint={script: script}, mre=script,
            best_epoch=script, validation_mre_protocol=script, objective=script, metrics={script: 1.0},
            test_mre_last=0.5, provenance={"command": script, script: script}, **more,
        )  # fmt: skip

    rows = [row(script, s) for s in range(2)]
    rows += [row("b" + script, 0, verdict=script, reason=script), planned("c" + script, 1, cost=script)]
    made = made_run(
        folder, rows, made_pictures(), {script: 0.12, "b" + script: 0.1}, **{"data.path": script, "data.set": script}
    )
    (made / "cells" / "cell-001" / "pictures.npz").write_bytes(script.encode(errors="replace"))
    return made


@pytest.mark.parametrize("script", SCRIPTS)
def test_whatever_a_run_holds_is_text(browser: Browser, script: str, tmp_path: Path) -> None:
    name = "".join(c for c in script if c not in "/\x00")[:60]
    folder = hostile(tmp_path / f"run{name}", script)
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        f"import ganzoo, torch\n\n\n@ganzoo.cost\ndef mine(a: torch.Tensor) -> torch.Tensor:\n    {script!r}\n"
        f"    raise ValueError({script!r})\n"
    )
    page = write_page(folder, tmp_path / "page.html", [plugin])
    browser.open(page)
    browser.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    silent(browser, page)
    assert browser.run("document.scripts.length") == 1
    assert browser.run("document.querySelectorAll('iframe, link, object, embed, [onerror], [onload]').length") == 0
    assert browser.run("[...document.images].every(one => one.src.startsWith('data:image/'))")
    assert "49" not in browser.run("document.querySelector('h1').innerText")


def test_the_policy_stops_what_would_get_through(browser: Browser, ordinary: Path, tmp_path: Path) -> None:
    """The second wall, tried without the first: script that stands in the page as it is."""
    html = ordinary.read_text(encoding="utf-8")
    page = tmp_path / "breached.html"
    page.write_text(
        html.replace("<main>", "<main><script>document.title = 'run'</script><img src=x onerror=\"alert(1)\">"
                     "<img src='https://example.com/x.png'><style>body { background: red }</style>"), encoding="utf-8"
    )  # fmt: skip
    browser.open(page)
    assert browser.dialogs == []
    assert browser.run("document.title") != "run"
    assert "rgb(255, 0, 0)" not in colour(browser)
    assert sum("Content Security Policy" in line for line in browser.console) >= 3
    assert browser.run(
        "[...document.images].filter(one => !one.src.startsWith('data:')).every(one => one.naturalWidth === 0)"
    )
