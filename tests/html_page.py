"""A page of HTML as a browser reads it, for the tests of reports."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
from PIL import Image

WITHOUT_END = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Elements, texts by tag, links and tables of a page; checks that what is opened is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in WITHOUT_END:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if data.strip() and self.open:
            self.texts.append((self.open[-1], data.strip()))

    def of(self, *tags: str) -> list[str]:
        """The texts directly inside these elements, in order."""
        return [text for tag, text in self.texts if tag in tags]

    def values(self, tag: str, name: str) -> list[str]:
        """The values of an attribute of an element, in order."""
        return [value for at, key, value in self.attributes if (at, key) == (tag, name)]

    def pictures(self) -> list[np.ndarray]:
        """The decoded pictures, in order."""
        sources = [src.removeprefix("data:image/jpeg;base64,") for src in self.values("img", "src")]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))) for source in sources]
