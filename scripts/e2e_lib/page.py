"""The admin page in headless Chromium, as somebody would use it: page.py ADMIN_URL [SCREENSHOT.png]"""

import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

MARKUP = "<img src=x onerror=alert(1)>"


def browser(downloads):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1000"]:
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def complete(url, request_id, **fields):
    """A request beside the page's own."""
    request = urllib.request.Request(
        url + "/v1/completions",
        json.dumps({"prompt": "In the beginning God created", "max_tokens": 30, **fields}).encode(),
        {"Content-Type": "application/json", "x-request-id": request_id},
    )
    return json.load(urllib.request.urlopen(request, timeout=60))


def check(url, screenshot=None):
    with tempfile.TemporaryDirectory() as downloads:
        page = browser(downloads)
        try:
            use(page, url, Path(downloads), screenshot)
        finally:
            page.quit()


def use(page, url, downloads, screenshot):
    def text(name):
        return page.find_element(By.ID, name).text

    def until(what, holds, seconds=30):
        WebDriverWait(page, seconds, poll_frequency=0.1).until(lambda _: holds(), what)

    page.get(url + "/")
    until("the page says that the server serves", lambda: text("status") == "serving")
    state = json.load(urllib.request.urlopen(url + "/admin/state"))
    assert state["model"] in page.title
    ranks = page.find_elements(By.CSS_SELECTOR, "#topology .rank")
    assert len(ranks) == len(state["ranks"]), f"{len(ranks)} ranks shown of {len(state['ranks'])}"
    assert len(page.find_elements(By.CSS_SELECTOR, "#topology .stage")) == state["mesh"]["stages"]
    assert len(page.find_elements(By.CSS_SELECTOR, "#cache .class")) == len(state["cache"]["classes"])

    # A chat: what is answered comes as a stream, and is in the waterfall.
    say = page.find_element(By.ID, "say")
    say.send_keys("Who made the heavens?", Keys.ENTER)
    until("an answer comes", lambda: any(p.text for p in page.find_elements(By.CSS_SELECTOR, "#talk .assistant")))
    until("the answer ends", lambda: page.find_element(By.ID, "send").is_displayed())
    assert not page.find_elements(By.CSS_SELECTOR, "#talk .wrong"), text("talk")
    until("the chat is in the waterfall", lambda: page.find_elements(By.CSS_SELECTOR, "#waterfall .life rect.decode"))

    # Others' requests: counted, drawn, and their names are text (the server itself takes no such name).
    for name in ["from-elsewhere", MARKUP, "last"]:
        complete(url, name, ignore_eos=True)
    until("four requests are drawn", lambda: len(page.find_elements(By.CSS_SELECTOR, "#waterfall .life")) == 4)
    assert "from-elsewhere" in text("waterfall")
    assert not page.find_elements(By.CSS_SELECTOR, "#waterfall img")
    until("first tokens were timed", lambda: "s" in text("ttft"))
    until("a rate is drawn", lambda: page.find_elements(By.CSS_SELECTOR, "#rates path.generation"))
    held = sum(c["live"] + c["cached"] for c in json.load(urllib.request.urlopen(url + "/admin/state"))["cache"]["classes"])
    until("the cache's figures are shown", lambda: f"{held} cached" in text("cache") or held == 0)

    # The trace comes as a file that has a lane for each rank.
    page.find_element(By.ID, "trace").click()
    file = downloads / "trireme-trace.json"
    until("the trace is there", file.exists)
    time.sleep(0.5)
    trace = json.loads(file.read_text())
    lanes = {e["pid"] for e in trace["traceEvents"] if e["ph"] == "X" and e["name"] == "step"}
    assert lanes == set(range(len(state["ranks"]))), lanes
    if screenshot:
        page.save_screenshot(screenshot)

    # Stopped before it has begun, an answer leaves the chat ready for the next message.
    say.send_keys("And then?")
    page.execute_script("document.getElementById('chat').requestSubmit(); document.getElementById('stop').click()")
    until("it has stopped", lambda: page.find_element(By.ID, "send").is_displayed())
    assert not page.find_elements(By.CSS_SELECTOR, "#talk .wrong"), text("talk")

    wrong = [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert not wrong, f"the browser complains: {wrong}"
    print(f"page: {len(ranks)} ranks, chat, waterfall, trace of {len(trace['traceEvents'])} events ok")


if __name__ == "__main__":
    check(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
