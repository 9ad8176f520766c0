"""Takes docs/dashboard.png, and writes into it an outline of what it shows. ``make screenshot``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser_support import open_browser
from png import describe
from screenshot_scene import dashboard_page, outline


def main(into: Path) -> None:
    with open_browser() as browser, dashboard_page(browser) as page:
        page.screenshot(path=into, full_page=True)
        describe(into, outline(page))
    print(into)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "dashboard.png")
