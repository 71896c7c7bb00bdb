"""The page in a real browser, opened from disk with the network off: what a reader clicks is what the panels show."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codesign.dashboard.breakdown import breakdown
from codesign.dashboard.layer_costs import TrialKey
from codesign.dashboard.page import write_dashboard
from codesign.pareto import pareto_mask
from codesign.study import StudyResult

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (the extra `test`)")
By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or CHROMEDRIVER is None, reason="needs chromium and chromedriver"),
]

# No sandbox: tests run as root in containers. The rest keeps the browser itself from asking anyone anything.
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-default-apps"),
    *("--disable-quic", "--disable-sync"),
)
WIDTHS = {"wide": (1280, 900), "narrow": (390, 844)}
SECONDS = 60.0  # until the page is ready on a busy machine of two cores

# Position in the viewport of each drawn point, with its trial.
POINTS = """
const chart = document.getElementById("trade-off-chart");
chart.scrollIntoView({ block: "center" });
const found = [];
chart.data.forEach((trace, number) => {
  if (trace.meta !== "points") return;
  trace.x.forEach((x, i) => {
    const { xaxis, yaxis, _size: size } = chart._fullLayout;
    const area = chart.getBoundingClientRect();
    const at = { x: xaxis.d2p(x), y: yaxis.d2p(trace.y[i]) };
    if (at.x < 0 || at.y < 0 || at.x > size.w || at.y > size.h) return;
    found.push({ trial: trace.customdata[i], x: area.left + size.l + at.x, y: area.top + size.t + at.y });
  });
});
return found;
"""
SHOWN = """
const bars = document.getElementById("breakdown-chart").data[0];
return { title: document.getElementById("selected-title").textContent,
  sub: document.getElementById("selected-sub").textContent, names: bars.y, cycles: bars.x,
  ring: document.getElementById("trade-off-chart").data.find((trace) => trace.meta === "ring").x,
  rows: [...document.querySelectorAll('#trials tr[aria-selected="true"]')].map((row) => Number(row.dataset.trial)) };
"""

BARS = "return document.querySelectorAll('#breakdown-chart .bars path').length"
WIDTHS_OF_BARS = "return [...document.querySelectorAll('#breakdown-chart .bars path')].map((b) => b.getBBox().width)"
CELLS = """
return [...document.querySelectorAll(arguments[0])].map((row) => [...row.children].map((c) => c.innerText));
"""

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(CHROMEDRIVER)))
    driver.set_script_timeout(SECONDS)
    driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(full_result: StudyResult, hostile_result: StudyResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    write_dashboard(full_result, folder / "full.html")
    write_dashboard(hostile_result, folder / "hostile.html")
    return folder


@pytest.fixture
def open_page(browser: Any, pages: Path) -> Open:
    def opened(name: str = "full", *, width: str = "wide", scheme: str = "light") -> Any:
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get_log("performance")
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        metrics = {**size, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get((pages / f"{name}.html").as_uri())
        wait(lambda: browser.execute_script("return document.documentElement.dataset.ready"))
        return browser

    return opened


def wait(condition: Callable[[], Any]) -> Any:
    """The condition's value once it is true; an error after ``SECONDS``."""
    deadline = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, "the page must answer in time"
        time.sleep(0.1)
    return value


def click(browser: Any, x: float, y: float) -> None:
    """A real click of the mouse at a place in the viewport."""
    for kind, buttons in (("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)):
        event = {"type": kind, "x": x, "y": y, "button": "left" if buttons else "none", "buttons": buttons}
        if kind != "mouseMoved":
            event |= {"button": "left", "clickCount": 1}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)
        time.sleep(0.1)  # plotly takes up the pointer at the next frame


def lone_points(points: list[dict[str, float]], apart: float = 24.0) -> list[dict[str, float]]:
    """Points with no other one within so many pixels, so that a click there can mean only them."""
    return [
        a for a in points if all(a is b or (a["x"] - b["x"]) ** 2 + (a["y"] - b["y"]) ** 2 > apart**2 for b in points)
    ]


def errors(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_breakdown_follows_a_click_on_a_point(
    open_page: Open, full_result: StudyResult, width: str, scheme: str
) -> None:
    browser = open_page(width=width, scheme=scheme)
    before = browser.execute_script(SHOWN)
    points = lone_points(browser.execute_script(POINTS))
    trials = full_result.trials
    other = [p for p in points if trials["recipe"].iloc[int(p["trial"])] != before["title"]]
    assert other, "some point of another recipe must stand alone"
    target = other[0]
    row = int(target["trial"])
    click(browser, target["x"], target["y"])
    trial = TrialKey(trials["recipe"].iloc[row], trials["accelerator"].iloc[row])
    wait(lambda: browser.execute_script(SHOWN)["title"] == trial.recipe)
    shown = browser.execute_script(SHOWN)
    expected = breakdown(full_result, trial, "decode")
    assert shown["sub"].startswith(f"{trials['algorithm'].iloc[row]} on {trial.accelerator}")
    assert shown["names"] == list(expected.names)
    assert shown["cycles"] == pytest.approx(expected.cycles.tolist(), rel=5e-7)  # seven digits on the page
    assert shown["cycles"] != before["cycles"]
    assert shown["ring"] == [trials["decode_s"].iloc[row]]
    assert shown["rows"] == [row]
    assert errors(browser) == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_and_text_stands_out(open_page: Open, width: str, scheme: str) -> None:
    browser = open_page(width=width, scheme=scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") == WIDTHS[width][0]
    script = "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    ground, ink = (_luminance(text) for text in browser.execute_script(script))
    assert (ground > ink) == (scheme == "light")
    ratio = (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05)
    assert ratio >= 7  # WCAG 2.2, success criterion 1.4.6 (enhanced contrast)


def _luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)`` (WCAG 2.2, definition)."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_page_makes_no_request_but_for_itself(open_page: Open, pages: Path) -> None:
    browser = open_page()
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    urls = [url for url in urls if not url.startswith("data:")]
    assert set(urls) == {(pages / "full.html").as_uri()}


def test_arrow_keys_walk_the_points_and_enter_chooses_in_the_table(open_page: Open) -> None:
    browser = open_page()
    chart = browser.find_element(By.ID, "trade-off-chart")
    chart.send_keys(Keys.HOME)
    first = browser.execute_script(SHOWN)["rows"]
    chart.send_keys(Keys.ARROW_RIGHT)
    second = browser.execute_script(SHOWN)["rows"]
    assert first != second
    button = browser.find_element(By.CSS_SELECTOR, '#trials tbody tr[aria-selected="false"] th button')
    name = button.text
    button.send_keys(Keys.ENTER)
    assert browser.execute_script(SHOWN)["title"] == name
    assert errors(browser) == []


def test_every_control_can_be_used_without_an_error(open_page: Open, full_result: StudyResult) -> None:
    browser = open_page(width="narrow", scheme="dark")
    browser.execute_script(
        """
        for (const id of ["x-axis", "y-axis", "tolerance"]) {
          for (const option of document.getElementById(id).options) {
            document.getElementById(id).value = option.value;
            document.getElementById(id).dispatchEvent(new Event("change"));
          }
        }
        for (const element of document.querySelectorAll(
            ".controls input, .chips button, .segments button, #show-all, #theme, thead button, summary")) {
          element.click();
        }
        """
    )
    time.sleep(1)
    assert errors(browser) == []
    layers = browser.execute_script("""
        document.querySelector('#detail [data-value="every"]').click();
        return document.getElementById("breakdown-chart").data[0].y.length;
    """)
    assert layers == full_result.layers["layer"].nunique()


def test_hostile_names_run_nothing_and_are_read_literally(open_page: Open, hostile_result: StudyResult) -> None:
    browser = open_page("hostile")
    browser.execute_script("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
    time.sleep(0.5)
    assert browser.title == f"{hostile_result.name} · codesign"
    assert browser.execute_script("return document.querySelectorAll('img, svg image').length") == 0
    assert browser.execute_script(SHOWN)["title"] in set(hostile_result.trials["recipe"])
    assert errors(browser) == []


def test_the_drawn_front_is_that_of_the_points_drawn(open_page: Open, full_result: StudyResult) -> None:
    browser = open_page()
    browser.execute_script(
        """
        for (const [id, value] of [["x-axis", "total_energy_j"], ["y-axis", "kl"]]) {
          document.getElementById(id).value = value;
          document.getElementById(id).dispatchEvent(new Event("change"));
        }
        for (const name of ["fp16_baseline", "edge_npu"]) {
          [...document.querySelectorAll(".chip")].find((chip) => chip.dataset.name === name).click();
        }
        """
    )
    trials = full_result.trials
    kept = trials[trials["supported"] & ~trials["accelerator"].isin(["fp16_baseline", "edge_npu"])]
    drawn = kept[kept["kl"] > 0]  # the reference, at 0, has no place on a logarithmic axis
    front = drawn[pareto_mask(drawn[["total_energy_j", "kl"]].to_numpy())].sort_values("total_energy_j")
    traces = browser.execute_script(
        "return document.getElementById('trade-off-chart').data.map((t) => [t.meta, [...t.x], [...t.y]])"
    )
    assert traces[0] == ["front", front["total_energy_j"].tolist(), front["kl"].tolist()]
    assert sum(len(x) for part, x, _ in traces if part == "points") == len(drawn) < len(kept)
    assert "at or below zero" in browser.find_element(By.ID, "trade-off-note").text
    assert errors(browser) == []


def cells(browser: Any, rows: str) -> list[list[str]]:
    """Texts of the cells of the rows that a selector finds."""
    texts: list[list[str]] = browser.execute_script(CELLS, rows)
    return texts


def test_the_table_lists_every_trial_and_why_some_are_not_supported(open_page: Open, full_result: StudyResult) -> None:
    browser = open_page()
    trials = full_result.trials
    assert len(cells(browser, "#trials tbody tr")) == len(trials)
    browser.find_element(By.CSS_SELECTOR, '#listed [data-value="unsupported"]').click()
    without = trials[~trials["supported"]]
    found = {(row[0], row[1], row[-1]) for row in cells(browser, "#trials tbody tr")}
    assert found == {
        (recipe, machine, f"Not supported: {reason}")
        for recipe, machine, reason in zip(without["recipe"], without["accelerator"], without["reason"], strict=True)
    }
    assert len(found) == len(without) > 0
    browser.find_element(By.CSS_SELECTOR, '#listed [data-value="front"]').click()
    for _ in range(2):  # ascending, then descending
        browser.find_element(By.CSS_SELECTOR, '#trials [data-column="total_energy_j"]').click()
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#trials tbody tr')].map((row) => Number(row.dataset.trial))"
    )
    energies = trials["total_energy_j"].iloc[rows].tolist()
    assert energies == sorted(trials["total_energy_j"][trials["on_front"]], reverse=True)
    assert errors(browser) == []


def test_bars_are_drawn_as_long_as_their_cycles(open_page: Open) -> None:
    browser = open_page()
    cycles = browser.execute_script(SHOWN)["cycles"]
    widths = browser.execute_script(WIDTHS_OF_BARS)
    expected = [value / max(cycles) * max(widths) for value in cycles]
    assert widths == pytest.approx(expected, abs=1.0)  # a bar is at least a pixel wide
    assert errors(browser) == []


def test_thousands_of_layers_are_shown_some_hundreds_at_a_time(
    open_page: Open, pages: Path, many_layers: StudyResult
) -> None:
    write_dashboard(many_layers, pages / "many.html")
    browser = open_page("many", width="narrow")
    trial = TrialKey(*browser.execute_script("return [data.trials.recipe, data.trials.accelerator].map((c) => c[0])"))
    browser.execute_script("select(0)")
    expected = breakdown(many_layers, trial, "decode", every_layer=True)
    browser.find_element(By.CSS_SELECTOR, '#detail [data-value="every"]').click()
    names, cycles = [], []
    while True:
        shown = browser.execute_script(SHOWN)
        names += shown["names"]
        cycles += shown["cycles"]
        wait(lambda: browser.execute_script(BARS) == len(shown["names"]))  # noqa: B023
        later = browser.find_element(By.ID, "later")
        if not later.is_enabled():
            break
        later.click()
    assert names == list(expected.names)
    assert len(names) == 200 * 13 + 3
    assert cycles == pytest.approx(expected.cycles.tolist(), rel=5e-7)
    assert browser.find_element(By.ID, "layers-shown").text == "2,401 to 2,603 of 2,603"
    assert (pages / "many.html").stat().st_size < 10e6
    assert errors(browser) == []


def test_the_manifest_is_listed_by_path(open_page: Open) -> None:
    browser = open_page(width="narrow")
    browser.execute_script("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
    pairs = cells(browser, "#manifest .pairs tr")
    assert ["tokens", "8192"] in pairs
    assert ["dram_pj_per_bit › value", "4"] in pairs
    assert ["not_a_number › value", "–"] in pairs
    machines = browser.find_element(By.CSS_SELECTOR, "#manifest .records").text
    assert "bitmod" in machines and "25.6 GB" in machines and "made up" in machines
    assert browser.execute_script("return document.documentElement.scrollWidth") == WIDTHS["narrow"][0]
    assert errors(browser) == []
