"""The page as Chromium draws it: nothing sticks out, nothing overlaps, dark is dark, and the console stays silent."""

import json
import os
import re
import shutil
import subprocess
from html import unescape

import numpy as np
import pytest
from PIL import Image

from fedloom.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)
# In a frame: a window has a least width, which is more than that of a telephone.
MEASURE = """<!doctype html><iframe style="border: 0; width: WIDTHpx; height: 900px"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  const found = {client: root.clientWidth, scroll: root.scrollWidth, texts: 0, overlaps: [], outside: []};
  for (const svg of page.querySelectorAll("svg")) {
    const name = svg.getAttribute("aria-label").slice(0, 40), area = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
    found.texts += boxes.length;
    for (const [text, box] of boxes) {
      if (box.left < area.left - 2 || box.right > area.right + 2 || box.bottom > area.bottom + 2) found.outside.push([name, text]);
    }
    boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([two, b]) => {
      if (a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom) found.overlaps.push([name, one, two]);
    }));
  }
  document.documentElement.dataset.found = JSON.stringify(found);
};
frame.srcdoc = PAGE;
</script>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None and not os.environ.get("CI"), reason="there is no browser here"),
]


def browse(profile, page, *flags):
    assert BROWSER, "CI must have a browser: install chromium"
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of a run with everything, whose names and numbers are as long as they get."""
    folder = tmp_path_factory.mktemp("browser") / "shakespeare-001"
    folder.mkdir()
    privacy = {"epsilon": 5.0, "delta": 7.2e-5, "sampling": {"cohort_size": 10, "population": 1387}, "accountant": "rdp"}
    config = {"rounds": 12000, "cohort_size": 10, "num_clients": 1387, "algorithm": "fedavg", "parameters": 4048470, "privacy": privacy}
    (folder / "config.json").write_text(json.dumps({**config, "client_optimizer": "adam", "a_path": "/" + "long/" * 60}))
    (folder / "status.json").write_text(json.dumps({"status": "failed", "round": 12000, "rounds": 12000, "reason": "x" * 200}))
    (folder / "samples.json").write_text(
        json.dumps([{"round": r, "prompt": "To be", "text": "To be\n" + "or " * 40 + "y" * 90} for r in (0, 20)])
    )
    rounds = range(0, 12001, 300)
    metrics = [f"{r},{1.9 - r / 3e4},{0.47 + r / 2e5},{0.4 + r / 2e5},{1e-5 - r / 2e9},{(r / 6e2) ** 0.5},1.6e8,1.6e8" for r in rounds]
    names = "round,eval_loss,eval_accuracy,eval_a data set of a long name.accuracy,eval_error,epsilon,bytes_up,bytes_down"
    write_lines(folder / "metrics.csv", names, metrics)
    timing = [f"{r},{3 + r % 7},0.5,{2 + r % 7},0.2,1" for r in rounds]
    write_lines(folder / "timing.csv", "round,seconds,data_seconds,compute_seconds,aggregate_seconds,evaluate_seconds", timing)
    clients = [f"{'CLIENT_OF_A_LONG_NAME_' * (1 + i % 3)}{i},{1 + i**3},{0.4 + i / 600},{0.43 + i * 37 % 60 / 500}" for i in range(60)]
    write_lines(folder / "held_out_clients.csv", "client,num_examples,accuracy_before,accuracy_after", clients)
    write_lines(folder / "warnings.csv", "round,text", ["300," + "A long warning. " * 20, "600," + "w" * 300])
    return write_report(folder)


def write_lines(path, header, lines):
    path.write_text("\n".join([header, *lines]) + "\n")


@pytest.mark.parametrize("width", [1400, 900, 768, 400])
def test_nothing_sticks_out_and_no_text_overlaps(page, tmp_path, width):
    html = page.read_text(encoding="utf-8")
    around = tmp_path / "around.html"
    around.write_text(MEASURE.replace("WIDTH", str(width)).replace("PAGE", json.dumps(html).replace("</", "<\\/")), encoding="utf-8")
    dom = browse(tmp_path / "profile", around, "--window-size=1500,1000", "--dump-dom").stdout
    found = json.loads(unescape(re.search(r'data-found="([^"]*)"', dom)[1]))
    assert found.pop("texts") > 50
    assert found == {"client": width, "scroll": width, "overlaps": [], "outside": []}


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_it_is_drawn_in_both_modes_without_a_complaint(page, tmp_path, width, mode):
    shot = tmp_path / "shot.png"
    scheme = f"--blink-settings=preferredColorScheme={0 if mode == 'dark' else 1}"
    complaints = browse(tmp_path / "profile", page, f"--window-size={width},1600", scheme, f"--screenshot={shot}").stderr
    assert "CONSOLE" not in complaints and "ERR_" not in complaints
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (1600, width, 3)
    paper, ink = pixels[0, 0].mean(), pixels.mean(axis=2)
    assert paper < 40 if mode == "dark" else paper > 240
    assert (np.abs(ink - paper) > 100).mean() > 0.01  # text and lines, on more than a hundredth of the page
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
