"""The fenced blocks of the documents, and what each is for."""

import glob
import re

from harness.daemon import ROOT


class Block:
    """One block: `name` is how a test calls it, the document and its first line."""

    def __init__(self, document, kind, text):
        self.document = document
        self.kind = kind
        self.text = text
        self.first = text.strip().splitlines()[0]
        self.name = f"{document}: {self.first[:60]}"


def documents():
    return ["README.md", "CONTRIBUTING.md", *sorted(path[len(ROOT) + 1:] for path in glob.glob(f"{ROOT}/docs/*.md"))]


def text_of(document):
    with open(f"{ROOT}/{document}", encoding="utf-8") as file:
        return file.read()


def blocks_of(document):
    return [Block(document, kind, text) for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", text_of(document), re.S | re.M)]


def block(document, beginning):
    """The text of the one block that begins so."""
    found = [one for one in blocks_of(document) if one.text.startswith(beginning)]
    assert len(found) == 1, f"{document}: {len(found)} blocks begin with {beginning!r}"
    return found[0].text
