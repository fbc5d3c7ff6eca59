"""A hook of MkDocs: files of the repository outside docs/ become pages of the site, and links lead to them.

The Markdown reads the same on GitHub and in the site. On GitHub a link leads from file to file of the repository; here
it is turned into a link from page to page. A link to what is not there stays as it is, and fails the strict build.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_LINK_OR_CODE = re.compile(
    r"^(?P<fence>```|~~~)[\s\S]*?^(?P=fence)[ ]*$|`[^`\n]+`|(?<=\]\()(?![a-z]+:|\#)(?P<path>[^)#\s]+)(?=[)#])",
    re.MULTILINE,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from the top of the repository, and every file that any page links to."""
    for path, uri in TOP.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    pages = list(files.documentation_pages())
    while pages:
        page = pages.pop()
        for path in _linked(page):
            if (ROOT / path).is_file() and not files.get_file_from_path(_page_of(path)):
                added = File.generated(
                    config, _page_of(path), content=_content(path), inclusion=InclusionLevel.NOT_IN_NAV
                )
                files.append(added)
                pages.append(added)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Turn links from file to file into links from page to page."""
    folder = posixpath.dirname(page.file.src_uri) or "."
    return _each_link(markdown, page.file.src_uri, lambda path: posixpath.relpath(_page_of(path), folder))


def _linked(page: File) -> list[str]:
    paths: list[str] = []

    def note(path: str) -> str:
        paths.append(path)
        return path

    _each_link(page.content_string, page.src_uri, note)
    return paths


def _each_link(markdown: str, page_uri: str, change: Callable[[str], str]) -> str:
    """The text with each link changed; `change` is given the linked file's path in the repository."""
    folder = posixpath.dirname(_file_of(page_uri))

    def changed(match: re.Match[str]) -> str:
        if not match["path"]:
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, match["path"]))
        return change(f"{path}/README.md" if (ROOT / path).is_dir() else path)

    return _LINK_OR_CODE.sub(changed, markdown)


def _page_of(path: str) -> str:
    """Where the site has a file of the repository. Code becomes a page that shows it."""
    if path in TOP:
        return TOP[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"files/{path}" if path.endswith(".md") else f"files/{path}.md"


def _file_of(page_uri: str) -> str:
    """The file of the repository that a page is made of."""
    if page_uri.startswith("files/"):
        return page_uri.removeprefix("files/")
    return {uri: path for path, uri in TOP.items()}.get(page_uri, f"docs/{page_uri}")


def _content(path: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    return f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n````{Path(path).suffix[1:]}\n{text}````\n"
