import base64
import json
import re
import threading
from dataclasses import asdict, fields, replace
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from dcgan_eval.report.page import UNKNOWN_IF_0, page
from dcgan_eval.report.table import EMPTY, Cell, Figure, Table
from dcgan_eval.results import Row
from tests.builders import RESULT
from tests.programs import needed

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")

ROW = replace(RESULT, spread_kind="", gap=0.0, command="dcgan-eval classify --data 'a  b.zip' --per-layer")
OTHER = replace(ROW, metric="error", value=25.72, seed=1, command="dcgan-eval classify --seed 1")
QUOTE = replace(ROW, source="paper, Table 1", value=82.8, command="")

ACCURACIES = Table(
    "Table 1: CIFAR-10",
    ("features", "n", "accuracy %", ""),
    (
        (Cell("disc:conv10"), Cell("9", 9), Cell("74.28 ± 0.33", 74.28, (ROW,)), Cell("ours")),
        (Cell("pixels"), Cell("1,000", 1000), Cell("100.00", 100, (ROW, OTHER)), Cell("")),
        (Cell("disc:conv2"), Cell("-50", -50), Cell("82.8", 82.8, (QUOTE,), quoted=True), Cell("the paper's")),
        (Cell("Exemplar CNN"), EMPTY, Cell("9.3", 9.3, (), quoted=True), Cell("the paper's")),
    ),
    ("One note.",),
)
DISTANCES = Table(
    "Distances",
    ("samples", "FID", "method"),
    ((Cell("CIFAR-10:test"), Cell("3.17", 3.17, (OTHER,)), Cell("a " * 40)), (Cell("noise"), Cell("nan"), Cell("b"))),
    tuple(f"note {i}: " + "x" * 300 for i in range(3)),
)
WIDE = Table("Wide", tuple(f"column {i}" for i in range(30)), (tuple(Cell(f"{i}.25", i) for i in range(30)),))
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==")
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="900" height="90"><path d="M0 0h9"/></svg>'
FIGURES = (
    Figure("curves", "Training curves", SVG, "python -m training digits --every 5"),
    Figure("samples", "Samples", PNG),
)


# the document, read without a browser


class Document(HTMLParser):
    """tags: (name, attributes) of all; texts: the text inside each, its descendants' included."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.texts.append("")
        if tag not in ("meta", "link", "img", "input"):
            self.open.append(len(self.tags) - 1)

    def handle_endtag(self, tag):
        while self.tags[self.open.pop()][0] != tag:
            pass

    def handle_data(self, data):
        for i in self.open:
            self.texts[i] += data

    def all(self, tag, **attributes):
        return [
            text
            for (name, found), text in zip(self.tags, self.texts, strict=True)
            if name == tag and attributes.items() <= found.items()
        ]

    def values(self, attribute):
        return [found[attribute] for _, found in self.tags if attribute in found]


def embedded(text):
    (data,) = Document(text).all("script", id="_rows")
    return json.loads(data)


def test_every_table_and_figure_is_in_the_contents():
    document = Document(page("Report", [ACCURACIES, DISTANCES], FIGURES))
    assert document.all("title") == document.all("h1") == ["Report"]
    titles = ["Table 1: CIFAR-10", "Distances", "Training curves", "Samples"]
    assert document.all("a") == titles
    assert document.values("href")[1:] == ["#table-1-cifar-10", "#distances", "#curves", "#samples"]
    assert {href[1:] for href in document.values("href")[1:]} <= set(document.values("id"))


@pytest.mark.parametrize("name", ["same", "", "+", "_rows", "_filter", "same 2"])
def test_no_two_ids_are_equal(name):
    tables = [Table(title, ("a",), ()) for title in (name, name, "same", "same 2")]
    figures = [Figure(each, each, PNG) for each in (name, "same", "same-2")]
    ids = Document(page("", tables, figures)).values("id")
    assert len(set(ids)) == len(ids) > 7


def test_a_page_may_hold_nothing():
    document = Document(page("Empty", []))
    assert document.all("h1") == ["Empty"]
    assert not document.all("table") + document.all("img") + document.all("a")


def test_each_result_is_embedded_once_and_cells_name_it():
    text = page("", [ACCURACIES, DISTANCES, ACCURACIES])
    data = embedded(text)
    assert list(data["fields"]) == [field.name for field in fields(Row)]
    assert [dict(zip(data["fields"], row, strict=True)) for row in data["rows"]] == [
        {name: None if name in UNKNOWN_IF_0 and value == 0 else [] if value == () else value
         for name, value in row.record().items()}
        for row in (ROW, OTHER, QUOTE)
    ]  # fmt: skip
    assert Document(text).values("data-rows") == ["0", "0 1", "2", "1", "0", "0 1", "2"]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2**53 + 1, str(2**53 + 1)),
        (-(2**63), str(-(2**63))),
        (2**53, 2**53),
        (1e-300, 1e-300),
        (True, True),
        ((1.5, float("inf")), [1.5, "inf"]),
        (Path("a"), "a"),
    ],
)
def test_values_that_json_or_a_double_cannot_hold_are_kept_as_text(value, kept):
    table = Table("", ("a",), ((Cell("1", 1, (replace(ROW, value=value),)),),))
    data = embedded(page("", [table]))
    assert data["rows"][0][list(data["fields"]).index("value")] == kept


def test_names_of_fields_are_words():
    words = embedded(page("", []))["fields"]
    assert words["data_sha256"] == "data SHA-256"
    assert words["features_protocol"] == "features protocol"
    assert len(set(words.values())) == len(words)
    assert not [each for each in words.values() if "_" in each]


HOSTILE = [
    "<script>attacked = 1</script>",
    "</script><script>attacked = 1</script>",
    "</title></style></dialog><img src=x onerror='attacked = 1'>",
    '"><img src=x onerror="attacked = 1"> \' onclick=\'attacked = 1',
    "<!-- <script>",
    "a & b &amp; &lt;c&gt; &",
    "{{rows}} {{title}} {{nothing}} \\1 \\g<0> $title",
    "\u2028 é 漢 \U0001f600 \\u003c \\n",
]


def hostile(*texts):
    """A page with each of them wherever there is text."""
    tables, figures = [], []
    for text in texts:
        row = replace(ROW, command=text, features=text, data_sha256=text)
        line = (Cell(text, None, (row,)), Cell(text, 1, (row,), True))
        tables.append(Table(text, (text, f"2 {text}"), (line,), (text,)))
        figures.append(Figure(text, text, PNG, text))
    return page(" ".join(texts), tables, figures)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text):
    found, plain = Document(hostile(text)), Document(hostile("p" * len(text)))
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    assert [attributes.keys() for _, attributes in found.tags] == [attributes.keys() for _, attributes in plain.tags]
    for tag in ("title", "h1", "code", "li"):
        assert text in found.all(tag)
    assert found.all("th") == [text, f"2 {text}", text]
    assert found.all("td") == [f"{text}†"]
    assert found.all("h2")[2:4] == [text, text]
    assert found.values("alt") == [text]
    assert embedded(hostile(text))["rows"][0].count(text) == 3


def test_bytes_that_are_no_text_can_be_written():
    text = page("a\udcffb", [Table("t", ("a",), ((Cell("c", 1, (replace(ROW, command="x\udcff"),)),),))])
    assert Document(text).all("h1") == ["a\\udcffb"]
    assert text.encode()
    assert "x\udcff" in embedded(text)["rows"][0]


def test_figures_are_inside_the_page():
    document = Document(page("", [], FIGURES))
    kinds, contents = zip(*(source.split(";base64,") for source in document.values("src")), strict=True)
    assert kinds == ("data:image/svg+xml", "data:image/png")
    assert [base64.b64decode(each) for each in contents] == [SVG, PNG]
    assert document.all("code") == [FIGURES[0].command]


@pytest.mark.parametrize("start", [b"<svg ", b"\xef\xbb\xbf<?xml ", b"\n<!-- a -->", b"<!DOCTYPE svg "])
def test_an_svg_may_begin_in_many_ways(start):
    assert "data:image/svg+xml;" in page("", [], [Figure("a", "a", start)])


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0", b"GIF89a", b"<html>", b"PNG"])
def test_other_pictures_are_refused(content):
    with pytest.raises(ValueError, match="figure curves: neither PNG nor SVG"):
        page("", [], [Figure("curves", "a", content)])


def test_nothing_outside_is_named():
    text = page("Report", [ACCURACIES, DISTANCES], FIGURES)
    named = [value for key in ("src", "href", "action", "srcset") for value in Document(text).values(key)]
    assert len(named) == 7
    assert all(re.match("data:|#", value) for value in named)
    assert not re.search(r"@import|url\(|https?:(?!//www\.w3\.org/2000/svg)", text)


def test_only_long_notes_are_folded():
    first, second = re.findall(r"<section.*?</section>", page("", [ACCURACIES, DISTANCES]), re.DOTALL)
    assert "<details>" not in first
    assert Document(first).all("li") == list(ACCURACIES.notes)
    assert Document(second).all("summary") == ["Notes (3)"]
    assert Document(second).all("li") == list(DISTANCES.notes)


def test_a_legend_stands_where_numbers_are_quoted():
    first, second = re.findall(r"<section.*?</section>", page("", [ACCURACIES, DISTANCES]), re.DOTALL)
    assert Document(first).all("p") == ["Italics with †: quoted, not measured here."]
    assert not Document(second).all("p")
    assert [text for text in Document(first).all("td") if "†" in text] == ["82.8†", "9.3†"]


# in a browser


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_only_in_ci_a_browser_must_be_there(ci, outcome, monkeypatch):
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no /there: apt-get install"):
        needed("/there", packages="chromium")


@pytest.fixture(scope="module")
def driver():
    needed(CHROMIUM, DRIVER, packages="chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


class Browser:
    """A window on one page."""

    def __init__(self, driver, folder):
        self.driver, self.file = driver, folder / "page.html"
        self.address = self.file.as_uri()

    def open(self, tables=(ACCURACIES, DISTANCES), figures=FIGURES, text=None):
        self.file.write_text(page("Report", tables, figures) if text is None else text, encoding="utf-8")
        self.driver.get(self.address)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def protocol(self, command, **parameters):
        return self.driver.execute_cdp_cmd(command, parameters)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait(self, condition):
        """Until it holds: a page hears of some things a frame later."""
        WebDriverWait(self.driver, 10, poll_frequency=0.05).until(lambda _: condition())

    def visible(self, selector):
        """The texts of those that are displayed, by lines and spaces."""
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].filter((each) => each.checkVisibility())"
            ".map((each) => each.innerText.trim().split(/\\s+/).join(' '))",
            selector,
        )

    def read(self, selector, name):
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map((each) => each.getAttribute(arguments[1]))",
            selector,
            name,
        )

    def act(self):
        return ActionChains(self.driver, duration=0)

    def press(self, *keys):
        self.act().send_keys(*keys).perform()

    def focused(self):
        return self.run("return document.activeElement.textContent")

    def style(self, selector, name):
        return self.run("return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name)

    def prefers(self, scheme="", media=""):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.protocol("Emulation.setEmulatedMedia", media=media, features=features)

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@pytest.fixture
def browser(driver, tmp_path):
    """Fails a test during which the page asked the network for something, or wrote to the console."""
    browser = Browser(driver, tmp_path)
    yield browser
    assert browser.complaints() == []
    assert all(url.startswith("data:") or url == browser.address for url in browser.requests())
    # as it was for the next one
    # by the browser, not by the page, whose process may be another one than the next page's
    browser.protocol("Storage.clearDataForOrigin", origin="file://", storageTypes="local_storage")
    browser.prefers()
    browser.protocol("Emulation.clearDeviceMetricsOverride")
    browser.protocol("Emulation.setTouchEmulationEnabled", enabled=False)
    browser.protocol("Emulation.setScriptExecutionDisabled", value=False)


@pytest.fixture
def served(browser):
    """The page by a server: to a file's page a busy Chromium now and then shows an empty storage."""
    handler = partial(SimpleHTTPRequestHandler, directory=browser.file.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        browser.address = f"http://127.0.0.1:{server.server_port}/{browser.file.name}"
        yield browser
        server.shutdown()
        thread.join()


def test_the_console_and_the_network_are_watched(driver, tmp_path):
    browser = Browser(driver, tmp_path)
    browser.open(text="<link rel=icon href=data:,><img src='absent.png'><script>console.warn('oh'); nothing()</script>")
    found = "\n".join(browser.complaints())
    assert "oh" in found
    assert "nothing is not defined" in found
    assert browser.requests() == [browser.address, browser.file.with_name("absent.png").as_uri()]


def names(browser):
    return browser.visible("#table-1-cifar-10 tbody th")


AS_IT_WAS = ["disc:conv10", "pixels", "disc:conv2", "Exemplar CNN"]


@pytest.mark.parametrize(
    ("column", "ascending", "descending"),
    [
        # conv2 before conv10
        (0, [2, 0, 3, 1], [1, 3, 0, 2]),
        # by its value, and what has none is last
        (1, [2, 0, 1, 3], [1, 0, 2, 3]),
        (2, [3, 0, 2, 1], [1, 2, 0, 3]),
        # equal ones as they were, and empty ones last
        (3, [0, 2, 3, 1], [2, 3, 0, 1]),
    ],
)
def test_a_table_is_sorted_up_down_and_back(browser, column, ascending, descending):
    browser.open()
    button = browser.all("#table-1-cifar-10 thead button")[column]
    assert button.accessible_name == (ACCURACIES.columns[column] or "column 4")
    turns = [(ascending, "ascending"), (descending, "descending"), (range(4), "none"), (ascending, "ascending")]
    for order, state in turns:
        button.click()
        assert names(browser) == [AS_IT_WAS[i] for i in order]
        states = browser.read("thead th", "aria-sort")
        assert states.pop(column) == state
        assert states == ["none"] * 6


@pytest.mark.parametrize("key", [Keys.ENTER, Keys.SPACE])
def test_a_table_is_sorted_by_keys(browser, key):
    browser.open()
    browser.one("#table-1-cifar-10 thead .number button").send_keys(key)
    assert names(browser) == [AS_IT_WAS[i] for i in (2, 0, 1, 3)]
    browser.press(key)
    assert names(browser) == [AS_IT_WAS[i] for i in (1, 0, 2, 3)]
    browser.press(key)
    assert names(browser) == AS_IT_WAS


def test_one_column_sorts_at_a_time_and_lines_stay_whole(browser):
    browser.open()
    headings = browser.all("#table-1-cifar-10 thead button")
    headings[2].click()
    headings[1].click()
    assert browser.read("thead th", "aria-sort") == ["none", "ascending", *["none"] * 5]
    assert names(browser) == [AS_IT_WAS[i] for i in (2, 0, 1, 3)]
    assert browser.visible("#table-1-cifar-10 tbody tr")[0] == "disc:conv2 -50 82.8† the paper's"
    assert browser.visible("#distances tbody th") == ["CIFAR-10:test", "noise"]


def test_numbers_are_sorted_by_value_and_the_infinite_have_their_place(browser):
    values = ["2", "inf", "nan", "-4", "-inf", "1e-9", "-30", "0.5"]
    browser.open([Table("t", ("a",), tuple((Cell(value, float(value)),) for value in values))])
    browser.one("thead button").click()
    assert browser.visible("tbody td") == ["-inf", "-30", "-4", "1e-9", "0.5", "2", "inf", "nan"]
    browser.one("thead button").click()
    assert browser.visible("tbody td") == ["inf", "2", "0.5", "1e-9", "-4", "-30", "-inf", "nan"]


@pytest.mark.parametrize(
    ("words", "left", "tables"),
    [
        ("", [*AS_IT_WAS, "CIFAR-10:test", "noise"], 2),
        ("DISC", ["disc:conv10", "disc:conv2"], 1),
        (" paper's  conv ", ["disc:conv2"], 1),
        ("†", ["disc:conv2", "Exemplar CNN"], 1),
        ("test", ["CIFAR-10:test"], 1),
        ("conv109", [], 0),
        ("9", ["disc:conv10", "Exemplar CNN"], 1),
    ],
)
def test_the_filter_leaves_lines_with_all_words(browser, words, left, tables):
    browser.open()
    browser.one("#_filter").send_keys(words)
    assert browser.visible("tbody th") == left
    assert browser.visible("#_count") == [f"{len(left)} of 6 lines"]
    assert len(browser.visible("section.table")) == tables
    assert len(browser.visible("nav a")) == tables + 2
    browser.one("#_filter").send_keys(*[Keys.BACKSPACE] * len(words))
    assert browser.visible("tbody th") == [*AS_IT_WAS, "CIFAR-10:test", "noise"]
    assert browser.visible("#_count") == ["6 of 6 lines"]


def test_what_is_filtered_can_be_sorted(browser):
    browser.open()
    browser.one("#_filter").send_keys("disc")
    browser.all("thead button")[0].click()
    assert names(browser) == ["disc:conv2", "disc:conv10"]
    browser.one("#_filter").send_keys(*[Keys.BACKSPACE] * 4)
    assert names(browser) == ["disc:conv2", "disc:conv10", "Exemplar CNN", "pixels"]


def cell(browser, text):
    """The button in it."""
    return browser.run(
        "return [...document.querySelectorAll('tbody button')].find((each) => each.textContent === arguments[0])", text
    )


def shown(browser):
    """The results in the open dialog: the text of each field, by the field's name."""
    return browser.run(
        "return [...document.querySelectorAll('dialog[open] dl')].map((list) => Object.fromEntries("
        "[...list.querySelectorAll('dd')].map((each) =>"
        " [each.dataset.field, (each.querySelector('code') ?? each).textContent])))"
    )


def test_a_number_opens_the_results_that_it_rests_on(browser):
    browser.open()
    assert browser.visible("dialog") == []
    cell(browser, "74.28 ± 0.33").click()
    (result,) = shown(browser)
    values = {name: value for name, value in asdict(ROW).items() if value not in (None, "", ())}
    values = {name: value for name, value in values.items() if value != 0 or name not in UNKNOWN_IF_0}
    assert result.keys() == values.keys()
    for name, value in values.items():
        assert result[name] == value if isinstance(value, str) else float(result[name]) == value
    assert browser.visible("dialog h2") == ["74.28 ± 0.33"]
    assert browser.visible("#_place") == ["Table 1: CIFAR-10 · disc:conv10 · accuracy %"]
    assert browser.visible("dialog h3") == []


def test_each_of_several_results_is_listed(browser):
    browser.open()
    cell(browser, "100.00").click()
    assert browser.visible("dialog h3") == ["Result 1 of 2", "Result 2 of 2"]
    assert [result["command"] for result in shown(browser)] == [ROW.command, OTHER.command]
    assert [result["metric"] for result in shown(browser)] == ["accuracy", "error"]


def test_hashes_are_shown_in_full(browser):
    browser.open()
    cell(browser, "3.17").click()
    assert browser.visible("dd[data-field=data_sha256] code") == ["ab" * 32]
    assert browser.visible("dialog dt").count("data SHA-256") == 1


def test_labels_and_numbers_that_rest_on_nothing_open_nothing(browser):
    browser.open()
    assert browser.visible("tbody button") == ["74.28 ± 0.33", "100.00", "82.8†", "3.17"]


@pytest.mark.parametrize("way", ["Esc", "button", "outside"])
def test_a_dialog_closes(browser, way):
    browser.open()
    for text in ("3.17", "82.8†"):
        button = cell(browser, text)
        button.click()
        assert browser.visible("dialog h2") == [text]
        if way == "Esc":
            browser.press(Keys.ESCAPE)
        elif way == "button":
            browser.one("#_close").click()
        else:
            browser.act().move_by_offset(5, 450).click().move_by_offset(-5, -450).perform()
        assert browser.visible("dialog") == []
        assert browser.focused() == text


def test_a_click_or_a_selection_inside_does_not_close_it(browser):
    browser.open()
    cell(browser, "3.17").click()
    hash_ = browser.one("dd[data-field=data_sha256] code")
    hash_.click()
    assert browser.visible("dialog h2") == ["3.17"]
    browser.act().click_and_hold(hash_).move_by_offset(-500, 0).release().perform()
    assert browser.visible("dialog h2") == ["3.17"]
    assert browser.run("return getSelection().toString()")


def test_all_of_it_works_by_keys(browser):
    browser.open()
    for _ in range(30):
        browser.press(Keys.TAB)
        if browser.focused() == "100.00":
            break
    assert browser.focused() == "100.00"
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for key in (Keys.ENTER, Keys.SPACE):
        browser.press(key)
        assert browser.visible("dialog h2") == ["100.00"]
        assert browser.focused() == "Close"
        browser.press(Keys.TAB)
        assert browser.focused() == "Copy"
        browser.press(Keys.ESCAPE)
        assert browser.visible("dialog") == []
        assert browser.focused() == "100.00"


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("of", ["result", "figure"])
def test_commands_are_copied(browser, allowed, of):
    browser.open()
    box = browser.one("#_filter")
    box.send_keys("before")
    for key in "ax":
        box.send_keys(Keys.CONTROL, key)
    if not allowed:
        browser.run("navigator.clipboard.writeText = () => Promise.reject(new DOMException('no', 'NotAllowedError'))")
    if of == "result":
        cell(browser, "74.28 ± 0.33").click()
    copy = browser.one("dialog[open] .command button" if of == "result" else "figure .command button")
    assert copy.text == "Copy"
    copy.click()
    browser.wait(lambda: copy.text == "Copied")
    browser.press(Keys.ESCAPE)
    assert box.get_property("value") == ""
    box.send_keys(Keys.CONTROL, "v")
    assert box.get_property("value") == (ROW.command if of == "result" else FIGURES[0].command)


def test_quoted_numbers_look_different(browser):
    browser.open()
    for name in ("fontStyle", "color"):
        quoted = {browser.style(f"#table-1-cifar-10 tr:nth-child({line}) td:nth-child(3)", name) for line in (3, 4)}
        measured = {browser.style(f"#table-1-cifar-10 tr:nth-child({line}) td:nth-child(3)", name) for line in (1, 2)}
        assert len(quoted) == len(measured) == 1
        assert quoted != measured
    assert browser.style("td.quoted button", "fontStyle") == "italic"
    assert browser.style("td.quoted button", "color") == browser.style("td.quoted", "color")
    cell(browser, "82.8†").click()
    assert browser.visible("#_place")[0].endswith("quoted, not measured here")
    assert shown(browser)[0]["source"] == "paper, Table 1"


def test_numbers_stand_below_one_another(browser):
    browser.open()
    assert browser.style("table", "fontVariantNumeric") == "lining-nums tabular-nums"
    for part in ("thead", "tbody"):
        assert browser.style(f"#table-1-cifar-10 {part} tr > :nth-child(3)", "textAlign") == "right"
    assert browser.style("#table-1-cifar-10 tbody tr > :nth-child(4)", "textAlign") == "left"
    # right edges of the digits, the mark behind a quoted number not counted
    edges = browser.run(
        "return [...document.querySelectorAll('#table-1-cifar-10 tbody td:nth-child(3)')].map((cell) => {"
        "  const range = document.createRange(), inside = cell.querySelector('button') ?? cell;"
        "  range.selectNode(inside.firstChild); return range.getBoundingClientRect().right })"
    )
    assert max(edges) - min(edges) < 0.5


def test_hostile_text_is_shown_as_it_is(browser):
    browser.open(text=hostile(*HOSTILE))
    title = " ".join(HOSTILE)
    assert browser.driver.title == title
    found = browser.run("return [...document.querySelectorAll('h1, tbody th, figure code')].map((e) => e.textContent)")
    assert found == [title, *HOSTILE, *HOSTILE]
    for button, text in zip(browser.all("tbody td button"), HOSTILE, strict=True):
        browser.run("arguments[0].click()", button)
        (result,) = shown(browser)
        assert (result["command"], result["features"], result["data_sha256"]) == (text, text, text)
    assert browser.run("return typeof attacked") == "undefined"


# colours


def luminance(colour):
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    """Of WCAG 2."""
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


TEXTS = [
    "h1", "nav a", "nav h2", "#_count", "#_filter", "thead button", "tbody th", "tbody button", ".quoted", "td .mark",
    "ul.small", "summary", "figure code", "#_scheme", "dialog dt", "dialog dd", "#_place", "#_close",
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_as_light_or_dark_as_the_system(browser, scheme):
    browser.prefers(scheme)
    browser.open()
    ground = browser.style("body", "backgroundColor")
    assert (luminance(ground) < 0.1, luminance(ground) > 0.9) == (scheme == "dark", scheme == "light")
    cell(browser, "82.8†").click()
    assert browser.style("dialog", "backgroundColor") == ground
    colours = browser.run(
        "return arguments[0].map((each) => getComputedStyle(document.querySelector(each)).color)", TEXTS
    )
    for selector, colour in zip(TEXTS, colours, strict=True):
        assert contrast(colour, ground) >= 4.5, selector
    assert browser.style("img", "backgroundColor") == "rgb(255, 255, 255)"


def is_dark(browser):
    return luminance(browser.style("body", "backgroundColor")) < 0.1


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_toggle_overrides_the_system_and_is_remembered(served, system):
    served.prefers(system)
    served.open()
    toggle = served.one("#_scheme")
    served.wait(lambda: toggle.text == ("Light" if system == "dark" else "Dark"))
    toggle.click()
    assert is_dark(served) == (system == "light")
    assert toggle.text == ("Dark" if system == "dark" else "Light")
    served.open()
    assert is_dark(served) == (system == "light")
    served.prefers("dark")
    served.prefers("light")
    assert is_dark(served) == (system == "light")
    served.one("#_scheme").click()
    assert is_dark(served) == (system == "dark")
    served.open()
    assert is_dark(served) == (system == "dark")


def test_the_toggle_follows_the_system_until_it_is_pressed(browser):
    browser.prefers("light")
    browser.open()
    browser.prefers("dark")
    assert is_dark(browser)
    browser.wait(lambda: browser.one("#_scheme").text == "Light")


REFUSED = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError') }})"
FULL = (
    "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }; localStorage.clear()"
)


@pytest.mark.parametrize("storage", [REFUSED, "localStorage['dcgan-eval-scheme'] = 'purple'"])
def test_the_toggle_works_where_nothing_can_be_remembered(browser, storage):
    script = browser.protocol("Page.addScriptToEvaluateOnNewDocument", source=storage)["identifier"]
    try:
        browser.prefers("light")
        browser.open()
        assert not is_dark(browser)
        browser.one("#_scheme").click()
        assert is_dark(browser)
        browser.one("#_scheme").click()
        assert not is_dark(browser)
        browser.open()
        assert not is_dark(browser)
    finally:
        browser.protocol("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


# small screens, paper, and no scripts


LONG = Table("A_title_of_one_word_" * 20, ("a" * 200,), ((Cell("b" * 200, None, (ROW,)),),), ("c" * 500, "d" * 500))


@pytest.mark.parametrize("tables", [(ACCURACIES, DISTANCES, WIDE), (LONG, LONG)])
def test_a_page_is_no_wider_than_a_phone(browser, tables):
    browser.protocol("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    browser.protocol("Emulation.setTouchEmulationEnabled", enabled=True)
    browser.open(tables, [*FIGURES, Figure("long", "x" * 300, PNG, "y" * 300)])
    assert browser.run("return [innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    wide = browser.run("return [...document.querySelectorAll('.scroll')].map((e) => e.scrollWidth > e.clientWidth)")
    assert wide[-1]
    assert not browser.run(
        "return [...document.querySelectorAll('button, input, summary')].filter((each) => each.checkVisibility()"
        " && each.getBoundingClientRect().height < 44).map((each) => each.outerHTML)"
    )
    browser.run("for (const notes of document.querySelectorAll('details')) notes.open = true")
    browser.one("tbody button").click()
    box = browser.one("dialog").rect
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    assert browser.run("return document.documentElement.scrollWidth") == 360
    assert browser.run("const d = document.querySelector('dialog'); return d.scrollWidth <= d.clientWidth")


def test_what_a_line_is_of_stays_in_sight(browser):
    browser.open([replace(WIDE, columns=("name", *WIDE.columns), lines=((Cell("pixels"), *WIDE.lines[0]),))])
    left = browser.one("tbody th").rect["x"]
    browser.run("document.querySelector('.scroll').scrollLeft = 500")
    assert browser.one("tbody td").rect["x"] < left
    assert browser.one("tbody th").rect["x"] == left


def test_paper_is_white_and_holds_all_notes_and_no_controls(browser):
    browser.prefers("dark")
    browser.open((ACCURACIES, DISTANCES, WIDE))
    browser.one("#_scheme").click()
    browser.one("#_scheme").click()
    assert is_dark(browser)
    browser.prefers("dark", media="print")
    assert not is_dark(browser)
    assert contrast(browser.style("h1", "color"), "rgb(255, 255, 255)") > 7
    assert browser.visible("nav, #_controls, #_scheme, .command button") == []
    assert browser.visible("figure code") == [FIGURES[0].command]
    assert browser.visible("#table-1-cifar-10 thead th") == ["features", "n", "accuracy %", ""]
    assert browser.style(".scroll", "overflowX") == "visible"
    browser.prefers("dark")
    browser.run(
        "const open = () => [...document.querySelectorAll('details')].map((notes) => notes.open);"
        "window.seen = [open()];"
        "for (const when of ['beforeprint', 'afterprint']) addEventListener(when, () => seen.push(open()))"
    )
    assert base64.b64decode(browser.driver.print_page()).startswith(b"%PDF")
    assert browser.run("return seen") == [[False], [True], [False]]


def test_without_scripts_tables_are_there_and_controls_are_not(browser):
    browser.protocol("Emulation.setScriptExecutionDisabled", value=True)
    browser.open()
    assert names(browser) == AS_IT_WAS
    assert browser.visible("#table-1-cifar-10 tbody td")[1] == "74.28 ± 0.33"
    assert browser.visible("button, #_controls") == []
    browser.one("summary").click()
    assert browser.visible("details li") == list(DISTANCES.notes)
    assert browser.visible("figure code") == [FIGURES[0].command]


def test_the_contents_lead_there(browser):
    browser.open((ACCURACIES, DISTANCES, WIDE))
    browser.driver.find_element(By.LINK_TEXT, "Training curves").click()
    top = browser.run("return document.querySelector('#curves h2').getBoundingClientRect().top")
    assert browser.one("#_controls").size["height"] <= top < 900
