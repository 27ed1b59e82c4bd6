"""The report as one self-contained HTML file."""

import base64
from collections.abc import Sequence
from html import escape

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  background: white; }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
th, td { padding: .25rem .8rem; text-align: left; border-bottom: 1px solid #e4e4e4; vertical-align: top }
tbody tr.first { background: #f0f7ee; font-weight: 600 }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto; border-radius: 4px }
img { max-width: 100%; height: auto } .note { color: #666 }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """An HTML page with these parts."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def code(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], mark_first: bool) -> str:
    """An HTML table; `mark_first` highlights the first row."""
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = []
    for index, row in enumerate(rows):
        first = ' class="first"' if mark_first and index == 0 else ""
        body.append(f"<tr{first}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    return f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def picture(png: bytes, alt: str) -> str:
    """A picture embedded in the page."""
    return f'<p><img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></p>'
