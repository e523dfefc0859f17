"""The HTML report of a window of the log: one file without any external request.

Reading order:
- blocks: the values that a section consists of; a section contains no HTML
- traffic, denials, changes: the sections; sections: their order
- translations: the Chinese sentences
- charts: SVG drawings by pygal, reduced to listed elements
- page: renders templates/ with Jinja2, escapes every text, and sets the content security policy

Needs the extra `report`; only `relayctl audit report` imports page and charts.
"""
