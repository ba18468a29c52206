"""Check a built site without a network: every link within it leads to a file, and every anchor is one of that page."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag


class Page(HTMLParser):
    """The links and the anchors of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect `id`, `href` and `src`."""
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.add(value)


def dead_links(site: Path) -> tuple[int, list[str]]:
    """How many links were looked at, and those that lead nowhere."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    looked_at, dead = 0, []
    for path, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(link)
            if "://" in target or target.startswith(("data:", "mailto:")):
                continue
            looked_at += 1
            file = (path.parent / unquote(target.partition("?")[0])).resolve() if target else path
            known = pages[file].anchors if file in pages else {"", anchor}
            if not file.exists() or unquote(anchor) not in known:
                dead.append(f"{path.relative_to(site.resolve())}: {link}")
    return looked_at, dead


if __name__ == "__main__":
    count, found = dead_links(Path(sys.argv[1]))
    print(*sorted(found), f"{count} links within the site, {len(found)} dead", sep="\n")
    sys.exit(bool(found))
