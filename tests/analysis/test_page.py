"""The page: whole in itself, small enough, and what it shows in a real browser."""

import base64
import dataclasses
import json
import math
import re
import shutil
import sys
import zlib

import numpy as np
import pytest

from hyperdecoders_jax.analysis import maps, page, results
from tests.analysis.constructed import make_examples, make_study, make_tables

ATTACK = (
    "</script><script>window.isHacked = true</script><img src=x onerror='window.isHacked = true'>"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
NARROW = 390


def make_maps(examples):
    vectors = np.asarray(examples.features["condition"])
    seen = np.where(np.arange(len(examples))[:, None] > 0, vectors[:, 2:4], np.nan)
    return {("condition", "PCA"): vectors[:, :2], ("condition", "t-SNE"): seen}


def write(path, examples, tables=None, title="What it looks at", captions=("Twelve of them.",)):
    neighbours = maps.neighbours(examples.features["condition"], k=3)
    tables = make_tables() if tables is None else tables
    layout = maps.Layout(make_maps(examples), neighbours)
    page.write(path, make_study(examples, tables), layout, title, captions)
    return path.read_text("utf-8")


def read_data(text):
    packed = re.search(r'id="data">([^<]*)<', text).group(1)
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def attack(examples):
    """The examples, with HTML in every text."""
    texts = [f"{ATTACK}{row}" for row in range(len(examples))]
    return dataclasses.replace(
        examples,
        ids=texts,
        tasks=[f"{task}{ATTACK}" for task in examples.tasks],
        inputs=texts,
        targets=[f"{target}{ATTACK}" for target in examples.targets],
        predictions=texts,
    )


def test_the_same_analysis_gives_the_same_bytes(tmp_path):
    first, second = (write(tmp_path / name, make_examples()) for name in ("a.html", "b.html"))
    assert first == second


def test_a_page_asks_for_nothing_beside_itself(tmp_path):
    text = write(tmp_path / "page.html", make_examples())
    assert "default-src 'none'" in text
    ours = text.replace(page._plotly_js(), "")
    assert not re.search(r"https?://|@import|url\(|<link(?! rel=\"icon\" href=\"data:,\")", ours)


def test_texts_of_users_are_data(tmp_path):
    examples = attack(make_examples())
    text = write(
        tmp_path / "page.html", examples, make_tables((ATTACK, "rte")), ATTACK, captions=(ATTACK,)
    )
    assert "window.isHacked = true" in text
    assert "<script>window" not in text
    assert "<img" not in text.replace(page._plotly_js(), "")
    assert read_data(text)["inputs"] == list(examples.inputs)


def test_a_page_holds_what_was_measured(tmp_path):
    text = write(tmp_path / "page.html", make_examples())
    assert '60.0<small class="apart">−20.0 [−24.0, −16.0]</small>' in text
    assert "78.5<small>−1.5 [−3.5, +0.5]</small>" in text
    assert "62.5 [53.0, 72.0]<small>shuffled 50.0</small>" in text
    assert "0.25 [0.20, 0.30]<small>shuffled −0.02</small>" in text
    data = read_data(text)
    assert data["variances"]["encoder"]["layers"] == [0, 1, 2]
    assert data["variances"]["decoder"]["shares"][1] == [12.5, 12.5, 12.5]


def test_what_was_not_measured_has_no_section(tmp_path):
    text = write(tmp_path / "page.html", make_examples(), ([], [], []))
    assert '<section id="map"' in text
    assert not re.search(r'<section id="(ablations|probes|variance)"', text)


def test_an_interval_that_is_unknown_is_not_shown(tmp_path):
    ablations = [results.Ablation("rte", "zero", "score", 2.0, -1.0, math.nan, math.nan, 3, 5)]
    text = write(tmp_path / "page.html", make_examples(), ([], ablations, []))
    assert "<td>2.0<small>\N{MINUS SIGN}1.0</small></td>" in text


def test_long_texts_are_cut_and_broken_ones_shown(tmp_path):
    examples = make_examples(num=3)
    examples = dataclasses.replace(
        examples, inputs=["x" * 999, "\ud83d", "食"], predictions=["y" * 999] * 3
    )
    data = read_data(write(tmp_path / "page.html", examples))
    assert data["inputs"] == ["x" * (page.INPUT_CHARS - 1) + "…", "?", "食"]
    assert len(data["predictions"][0]) == page.ANSWER_CHARS


def test_positions_and_neighbours_are_of_the_examples(tmp_path):
    examples = make_examples(num=5)
    expected = make_maps(examples)["condition", "PCA"]
    data = read_data(write(tmp_path / "page.html", examples))
    for axis, name in enumerate("xy"):
        found = np.frombuffer(base64.b64decode(data["maps"][0][name]), "<f4")
        np.testing.assert_array_equal(found, expected[:, axis])
    found = np.frombuffer(base64.b64decode(data["neighbours"]), "<i4").reshape(5, data["k"])
    np.testing.assert_array_equal(found, maps.neighbours(examples.features["condition"], k=3))


def test_a_page_needs_maps_of_its_examples(tmp_path):
    examples, others = make_examples(num=5), make_examples(num=4)
    neighbours = maps.neighbours(others.features["condition"])
    layout = maps.Layout(make_maps(others), neighbours)
    found = r"map \('condition', 'PCA'\) \(4, 2\).*neighbours \(4, 3\)"
    with pytest.raises(ValueError, match=rf"of its 5 examples, a row each; got {found}"):
        page.write(tmp_path / "page.html", make_study(examples), layout, "")
    with pytest.raises(ValueError, match="got no map"):
        page.write(tmp_path / "page.html", make_study(others), maps.Layout({}, neighbours), "")


def test_without_plotly_an_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ImportError, match=r"pip install 'hyperdecoders_jax\[plots\]'"):
        write(tmp_path / "page.html", make_examples())


def make_many(num=20_000):
    """As many examples as a page must hold, with four maps and texts as long as it shows."""
    rng = np.random.default_rng(0)
    examples = make_examples(num, dim=2, tasks=[f"task {i}" for i in range(16)])
    words = np.array(["".join(rng.choice(list("etaoinshrdlu"), 5)) for _ in range(5_000)])
    texts = [" ".join(row) for row in rng.choice(words, (num, 40))]
    examples = dataclasses.replace(
        examples,
        inputs=texts,
        predictions=[text[:99] for text in texts],
        targets=[text[99:199] for text in texts],
        output_types=["span"] * num,
    )
    shown = {
        (features, projection): rng.normal(size=(num, 2)).astype(np.float32)
        for features in ("backbone", "condition", "parameters", "pooled")
        for projection in maps.PROJECTIONS
    }
    return examples, shown, rng.integers(0, num, (num, 10))


@pytest.fixture(scope="module")
def large_page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "large.html"
    examples, *layout = make_many()
    page.write(path, make_study(examples, make_tables()), maps.Layout(*layout), "Many")
    return path


def test_a_page_of_20_000_examples_stays_small(large_page):
    assert large_page.stat().st_size <= 15e6


# From here on with a real browser.


def open_browser(*arguments, width=1300, phone=False):
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs a browser, Chromium with its chromedriver; none is installed")
    from selenium import webdriver
    from selenium.webdriver.chrome import service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # Root, as in a container, may not use the sandbox.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", *arguments):
        options.add_argument(argument)
    options.add_argument(f"--window-size={width},1000")
    if phone:
        metrics = {"width": NARROW, "height": 844, "pixelRatio": 2, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=service.Service(DRIVER))


class Page:
    """A page in a browser."""

    def __init__(self, driver, path):
        self.driver = driver
        driver.get(path.as_uri())
        self.wait("return document.body.dataset.readyMillis || !failure.hidden", seconds=120)
        assert self.run("return failure.textContent") == ""
        assert self.run("return [projection.value, colour.value]") == ["t-SNE", "task"]
        # Every example is on this map, where tests know; no focus is moved.
        self.run("projection.value = 'PCA'; projection.onchange()")

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, script, seconds=30):
        from selenium.webdriver.support import ui

        return ui.WebDriverWait(self.driver, seconds).until(lambda _: self.run(script))

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def choose(self, select, option):
        from selenium.webdriver.support import ui

        ui.Select(self.find(f"#{select}")).select_by_visible_text(option)

    def legend(self):
        names = "#legend span:not([aria-hidden])"
        return self.run(f"return [...document.querySelectorAll('{names}')].map(e => e.textContent)")

    def point(self, row):
        """Puts the mouse on an example of the map; the actions that follow start there."""
        from selenium.webdriver import ActionChains

        self.run("plot.scrollIntoView({ block: 'center' })")
        x, y = self.run(
            """
            const { xaxis, yaxis } = plot._fullLayout;
            const { left, top } = plot.getBoundingClientRect();
            return [
              left + xaxis._offset + xaxis.d2p(arguments[0]),
              top + yaxis._offset + yaxis.d2p(arguments[1]),
            ];
            """,
            *make_examples().features["condition"][row, :2].tolist(),
        )
        actions = ActionChains(self.driver)
        actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
        return actions

    def check_quiet(self):
        """Nothing went wrong, and nothing was asked of any host."""
        assert self.driver.get_log("browser") == []
        messages = [json.loads(entry["message"]) for entry in self.driver.get_log("performance")]
        asked = [
            message["message"]["params"]["request"]["url"]
            for message in messages
            if message["message"]["method"] == "Network.requestWillBeSent"
        ]
        assert all(url.startswith(("file:", "data:", "blob:")) for url in asked), asked
        assert self.run("return window.isHacked") is None


@pytest.fixture(scope="module")
def browser():
    driver = open_browser("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def small_page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "small.html"
    write(path, attack(make_examples()))
    return path


@pytest.mark.browser
def test_a_browser_shows_a_page_and_asks_for_nothing(browser, small_page):
    shown = Page(browser, small_page)
    assert shown.run("return plot.data[0].type") == "scattergl"
    assert len(shown.legend()) == 3
    assert shown.run("return document.querySelectorAll('.shares .bars .point').length") == 2 * 3 * 3
    shown.check_quiet()


@pytest.mark.browser
def test_colours_tasks_and_maps_can_be_chosen(browser, small_page):
    shown = Page(browser, small_page)
    shown.choose("colour", "correctness")
    assert shown.legend() == ["correct", "wrong"]
    shown.choose("projection", "t-SNE")
    assert "11 of the 12 examples" in shown.find("#left-out").text
    shown.choose("colour", "output type")
    assert shown.legend() == ["class label", "span"]
    shown.choose("task", f"squad{ATTACK}")
    assert shown.legend() == ["span"]
    shown.find("#legend button").click()
    assert shown.find("#legend button").get_attribute("aria-pressed") == "false"
    assert shown.wait("return plot.data[0].x.length === 0")
    shown.check_quiet()


@pytest.mark.browser
def test_hover_shows_an_example_and_a_click_its_neighbours(browser, small_page):
    shown = Page(browser, small_page)
    shown.point(row=7).perform()
    shown.wait("return !tip.hidden")
    for text in (f"{ATTACK}7", f"rte{ATTACK}", f"yes{ATTACK}"):
        assert text in shown.find("#tip").text
    shown.point(row=7).click().perform()
    shown.wait("return neighbours.children.length === 3")
    assert "3 nearest neighbours by condition" in shown.find("#agreement").text
    expected = maps.neighbours(make_examples().features["condition"], k=3)[7]
    found = [button.text for button in browser.find_elements("css selector", "#neighbours strong")]
    assert [text.split(" · ")[0] for text in found] == [f"{ATTACK}{row}" for row in expected]
    shown.check_quiet()


@pytest.mark.browser
def test_the_keyboard_finds_what_the_mouse_finds(browser, small_page):
    from selenium.webdriver import Keys

    shown = Page(browser, small_page)
    shown.find("body").send_keys(Keys.TAB)
    assert shown.run("return document.activeElement.className") == "skip"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    shown.find("#search").send_keys("isHacked = true'>11", Keys.ENTER)
    shown.wait("return chosen.textContent.endsWith('>11')")
    assert shown.run("return document.activeElement.id") == "chosen"
    browser.switch_to.active_element.send_keys(Keys.TAB)
    neighbour = browser.switch_to.active_element
    identity = neighbour.text.split(" · ")[0]
    neighbour.send_keys(Keys.ENTER)
    shown.wait(f"return chosen.textContent === {json.dumps('Example ' + identity)}")
    shown.check_quiet()


@pytest.mark.browser
def test_dark_and_light_can_be_chosen(browser, small_page):
    look = "return [getComputedStyle(document.body).backgroundColor, plot.layout.font.color]"
    emulate = "Emulation.setEmulatedMedia"
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd(emulate, dark)
    shown = Page(browser, small_page)
    as_the_system = shown.run(look)
    assert shown.find("#theme").get_attribute("aria-pressed") == "true"
    shown.find("#theme").click()
    light = shown.run(look)
    assert light[0] == "rgb(255, 255, 255)"
    assert as_the_system[0] != light[0]
    assert as_the_system[1] != light[1]
    browser.execute_cdp_cmd(emulate, {"features": []})
    shown.check_quiet()


@pytest.mark.browser
def test_a_phone_shows_all_of_a_page(small_page):
    with open_browser(
        "--use-angle=swiftshader", "--enable-unsafe-swiftshader", phone=True
    ) as driver:
        shown = Page(driver, small_page)
        assert (
            shown.run("return [innerWidth, document.documentElement.scrollWidth]") == [NARROW] * 2
        )
        sizes = shown.run(
            "return [...document.querySelectorAll('button, select, input')]"
            ".filter(e => e.offsetWidth).map(e => e.offsetHeight)"
        )
        assert min(sizes) >= 44
        # A tap is a click.
        shown.point(row=0).click().perform()
        shown.wait("return neighbours.children.length === 3")
        assert shown.run("return document.documentElement.scrollWidth") == NARROW
        shown.check_quiet()


@pytest.mark.browser
def test_without_webgl_a_part_of_many_points_is_shown(large_page):
    with open_browser("--disable-3d-apis") as driver:
        shown = Page(driver, large_page)
        assert shown.run("return plot.data[0].type") == "scatter"
        num_points = shown.run("return document.querySelectorAll('.scatterlayer .point').length")
        assert num_points == 3_000
        assert "no WebGL" in shown.find("#left-out").text


@pytest.mark.browser
def test_20_000_points_can_be_used_soon(browser, large_page):
    shown = Page(browser, large_page)
    ready_millis = int(shown.run("return document.body.dataset.readyMillis"))
    redrawn_millis = shown.run(
        "const start = performance.now(); colour.value = 'correctness'; colour.onchange();"
        "return performance.now() - start"
    )
    num_elements = shown.run("return document.querySelectorAll('*').length")
    print(f"ready after {ready_millis} ms, recoloured in {redrawn_millis:.0f} ms")
    assert num_elements < 1_500
    # Ten times what an idle machine of two cores takes.
    assert ready_millis < 60_000
    shown.check_quiet()
