"""Man pages: commands and Markdown become docutils nodes, which docutils writes as roff."""

import re
from collections.abc import Iterable, Sequence

from docutils import nodes
from docutils.core import publish_from_doctree
from docutils.utils import new_document
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

_VERSION_NOISE = re.compile(r'^\.\\" (Man page generated|by the Docutils).*\n', re.MULTILINE)


def page(name: str, number: int, summary: str, content: Iterable[nodes.Node]) -> str:
    """Write a man page, in the man macros of roff.

    Args:
        name: Name of the page, as given to man(1).
        number: Section of the manual: 1 for commands, 7 for guides.
        summary: Sentence under the heading NAME.
        content: Sections of the page.

    Returns:
        The page, without the date and the docutils version, so that it changes only when its content does.
    """
    document = new_document(name)
    about = nodes.docinfo("", nodes.version("", "attnrec"))
    group = "User commands" if number == 1 else "Guides"
    for field, value in (("manual section", str(number)), ("manual group", group)):
        about += nodes.field("", nodes.field_name("", field), nodes.field_body("", paragraph(value)))
    document.extend([nodes.title("", name), nodes.subtitle("", summary.rstrip(".")), about, *content])
    settings = {"output_encoding": "unicode", "_disable_config": True}
    text: str = publish_from_doctree(document, writer="manpage", settings_overrides=settings)
    return _VERSION_NOISE.sub("", text).replace("\n.SH Name\n", "\n.SH NAME\n", 1)


def section(title: str, content: Iterable[nodes.Node]) -> nodes.Node:
    """A section: blocks under a heading."""
    return nodes.section("", nodes.title("", title), *content)


def paragraph(text: str) -> nodes.Node:
    """A paragraph of plain text."""
    return nodes.paragraph("", text)


def literal(text: str) -> nodes.Node:
    """A block of lines that are kept as they are."""
    return nodes.literal_block("", text)


def definitions(title: str, rows: Iterable[tuple[str, str]]) -> list[nodes.Node]:
    """A section of terms with their meanings; an empty list without rows."""
    items = [_definition([nodes.Text(term)], [nodes.Text(" ".join(text.split()))]) for term, text in rows]
    return [section(title, [nodes.definition_list("", *items)])] if items else []


def _definition(term: Sequence[nodes.Node], meaning: Sequence[nodes.Node]) -> nodes.Node:
    definition = nodes.definition("", nodes.paragraph("", "", *meaning))
    return nodes.definition_list_item("", nodes.term("", "", *term), definition)


def sections_of(markdown: str) -> list[nodes.Node]:
    """The sections of a Markdown text; what comes before the first heading after the title is the description."""
    blocks = SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(markdown)).children[1:]
    sections: list[nodes.Node] = [section("DESCRIPTION", [])]
    for block in blocks:
        if block.type == "heading":
            sections.append(section(block.children[0].content.upper(), []))
        else:
            sections[-1] += _block(block)
    return sections


def _block(block: SyntaxTreeNode) -> nodes.Node:
    match block.type:
        case "paragraph":
            return nodes.paragraph("", "", *_inline(block.children[0]))
        case "fence":
            return literal(block.content.rstrip())
        case "bullet_list":
            items = (nodes.list_item("", *map(_block, item.children)) for item in block.children)
            return nodes.bullet_list("", *items)
        case "table":
            return _table([row for part in block.children for row in part.children])
    raise ValueError(f"no man page has {block.type}: {block.content!r}")


def _table(rows: Sequence[SyntaxTreeNode]) -> nodes.Node:
    """A table; one of two columns becomes a list of terms, without its heading."""
    cells = [[_inline(cell.children[0]) for cell in row.children] for row in rows]
    if len(cells[0]) == 2:
        return nodes.definition_list("", *(_definition(*pair) for pair in cells[1:]))
    entries = [[nodes.entry("", nodes.paragraph("", "", *cell)) for cell in row] for row in cells]
    head, *body = (nodes.row("", *row) for row in entries)
    specs = (nodes.colspec("", colwidth=1) for _ in cells[0])
    group = nodes.tgroup("", *specs, nodes.thead("", head), nodes.tbody("", *body), cols=len(cells[0]))
    return nodes.table("", group)


def _inline(inline: SyntaxTreeNode) -> list[nodes.Node]:
    return [node for part in inline.children for node in _part(part)]


def _part(part: SyntaxTreeNode) -> list[nodes.Node]:
    match part.type:
        case "softbreak":
            return [nodes.Text("\n")]
        case "text" | "image":  # an image gives its alternative text
            return [nodes.Text(part.content)] if part.content else []
        case "code_inline":
            return [nodes.literal("", part.content)]
        case "em":
            return [nodes.emphasis("", "", *_inline(part))]
        case "strong":
            return [nodes.strong("", "", *_inline(part))]
        case "link":
            return _link(part)
    raise ValueError(f"no man page has {part.type}: {part.content!r}")


def _link(link: SyntaxTreeNode) -> list[nodes.Node]:
    """A link: to another guide, the name of its man page; within a page, the link's text."""
    address = str(link.attrs["href"])
    if address.startswith("http"):
        return [nodes.reference("", "", *_inline(link), refuri=address)]
    topic = address.partition("#")[0].removesuffix(".md")
    return [nodes.strong("", f"attnrec-{topic}"), nodes.Text("(7)")] if topic else _inline(link)
