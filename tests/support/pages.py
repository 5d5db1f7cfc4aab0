"""HTML as a browser would parse it, for tests of pages."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

HOSTILE = (
    "<script>alert(1)</script> \"quoted\" 'so'\n</title></script><img src=http://x.test/ onerror=alert(2)> "
    "\udcff {{ 7 * 7 }} &lt; $x$"
)


class Page(HTMLParser):
    """Elements in order, and the text of each.

    Attributes:
        elements: Tag, attributes and text of each element, without that of the elements in it.
        text: Of the whole page, without scripts and styles.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self._open, [self.elements[i][0] for i in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in ("meta", "link", "input", "img", "br", "source"):
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag, tag

    def handle_data(self, data: str) -> None:
        if self._open:
            tag, _, text = self.elements[self._open[-1]]
            text.append(data)
            if tag not in ("script", "style"):
                self.text += data

    def all(self, tag: str, **attributes: str) -> list[tuple[dict[str, str | None], str]]:
        """Attributes and text of the elements of a kind."""
        wanted = attributes.items()
        return [(has, "".join(text)) for name, has, text in self.elements if name == tag and wanted <= has.items()]

    def data(self) -> Any:
        """What the page hands to its scripts."""
        ((_, text),) = self.all("script", type="application/json")
        return json.loads(text)


def assert_self_contained(page: Page) -> None:
    """Nothing outside is named, and the policy lets run what the page holds and nothing else."""
    for tag, attributes, _ in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", tag
            if name in ("src", "href", "srcset", "poster", "action", "data"):
                assert value is not None
                assert value.startswith(("data:", "#")), (tag, value[:80])
    ((_, attributes, _),) = [e for e in page.elements if e[1].get("http-equiv") == "Content-Security-Policy"]
    policy = dict(part.strip().split(" ", 1) for part in str(attributes["content"]).split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    assert policy["base-uri"] == policy["form-action"] == "'none'"
    for tag in ("script", "style"):
        texts = [text for has, text in page.all(tag) if has.get("type") != "application/json"]
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert policy[f"{tag}-src"].split() == [f"'sha256-{digest}'" for digest in digests]
        assert not [text for text in texts if re.search(r"https?://|@import|url\(", text)]


def assert_usable(page: Page) -> None:
    """What can be operated has a name, identifiers are unique, and there is one main heading and a language."""
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(page.all("h1")) == len(page.all("main")) == 1
    assert page.all("html")[0][0]["lang"] == "en"
    for _, attributes, _ in page.elements:
        for name in ("aria-labelledby", "for", "aria-describedby"):
            assert name not in attributes or attributes[name] in ids
    for attributes, text in page.all("button"):
        assert text.strip() or attributes.get("aria-label")
    for attributes, _ in page.all("img"):
        assert attributes.get("alt")
