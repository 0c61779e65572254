"""Pages in a real browser, without a screen and without a network."""

import html
import json
import re
import shutil
import subprocess

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """
<script>
let errors = 0;
addEventListener("error", () => errors++, true);
addEventListener("load", () => {
  const images = [...document.images], requests = performance.getEntriesByType("resource");
  parent.postMessage({
    width: innerWidth, errors: errors, images: images.length,
    loaded: images.filter(image => image.complete && image.naturalWidth > 0).length,
    requests: requests.filter(entry => !entry.name.startsWith("data:")).length,
    overflow: document.documentElement.scrollWidth > innerWidth,
  }, "*");
});
</script></head>
"""
# A window is at least 500 pixels wide, even without a screen; a frame may be as narrow as a phone.
AROUND = """
<body><script>addEventListener("message", event => document.body.dataset.found = JSON.stringify(event.data))</script>
<iframe src="page.html" style="width: {width}px; height: 900px; border: 0"></iframe></body>
"""
BROWSER = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
BROWSER += ["--disable-component-update", "--disable-sync", "--virtual-time-budget=5000", "--dump-dom"]

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian's package chromium)")


def assert_whole(page, folder):
    """A browser shows all of a page without the network, on a telephone and on a screen; `folder` is for files."""
    text = page.read_text()
    (folder / "page.html").write_text(text.replace("</head>", PROBE, 1))
    for width in 390, 1280:
        (folder / "around.html").write_text(AROUND.format(width=width))
        words = [*BROWSER, "--window-size=1400,1000", f"--user-data-dir={folder / 'profile'}", f"file://{folder}/around.html"]
        shown = subprocess.run([CHROMIUM, *words], capture_output=True, text=True, timeout=120)
        found = json.loads(html.unescape(re.search(r'data-found="([^"]*)"', shown.stdout)[1]))
        assert found.pop("images") == found.pop("loaded") == text.count("<img ")
        assert found == {"width": width, "requests": 0, "overflow": False, "errors": 0}
