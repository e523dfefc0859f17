"""Which part of its time does a worker spend where? Folded stacks on stdin become a flame graph (SVG) on stdout.

    py-spy record --native --rate 400 --duration 10 --format raw --output stacks --pid WORKER
    python tools/flame.py "a title" < stacks > docs/img/flame.svg

Idle time is left out, and so are frames without a name and what is under every stack alike. Each box says its share.
"""

import html
import re
import sys
from collections.abc import Iterator

WIDTH, ROW, LEAST = 1000, 17, 0.004  # a box narrower than this part of the whole is not drawn
COLOURS = (  # by whose code it is
    (re.compile(r"\(relay/"), "#8ec07c"),
    (re.compile(r"cryptography|_rust|aes|EVP|ossl", re.IGNORECASE), "#83a5d8"),
    (re.compile(r"asyncio|selectors|asyncssh"), "#e8b75c"),
    (re.compile(r"^(send|sendmsg|recv|recvmsg|recvfrom|epoll_wait)\b"), "#d98a6a"),
)
OTHER = "#c9c2b6"
Tree = dict[str, "tuple[list[int], Tree]"]


def frames(stack: str) -> list[str]:
    """The named frames of one folded stack, from where the loop calls one handle on."""
    names = [re.sub(r"\s+\(\?\)$", "", name) for name in stack.split(";")]
    begin = max((index for index, name in enumerate(names) if name.startswith("Handle._run")), default=-1)
    names = [name for name in names[begin + 1 :] if begin >= 0] or ["the loop itself"]
    names = [re.sub(r":\d+\)$", ")", name) for name in names if not name.startswith(("0x", "<lambda>"))]
    return [re.sub(r"^_R\w+", "cryptography (Rust)", name) for name in names]


def tree(lines: Iterator[str]) -> tuple[int, Tree]:
    """All stacks put together; samples in all."""
    top: Tree = {}
    total = 0
    for line in lines:
        stack, _, number = line.rpartition(" ")
        if "epoll_wait" in stack:
            continue
        total += int(number)
        level = top
        last = ""
        for name in frames(stack):
            if name == last:
                continue
            last = name
            count, level = level.setdefault(name, ([0], {}))
            count[0] += int(number)
    return total, top


def boxes(level: Tree, x: float, depth: int, total: int) -> Iterator[tuple[float, int, float, str]]:
    """(left, row, width, name) of each box that is wide enough to be seen."""
    for name, ((count,), below) in sorted(level.items(), key=lambda item: -item[1][0][0]):
        width = count / total
        if width >= LEAST:
            yield x, depth, width, name
            yield from boxes(below, x, depth + 1, total)
            x += width


def main() -> None:
    """Read, draw, print."""
    total, top = tree(line.rstrip("\n") for line in sys.stdin)
    found = list(boxes(top, 0.0, 0, total))
    height = (max(row for _, row, _, _ in found) + 2) * ROW + 12
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace">')
    print(f'<rect width="{WIDTH}" height="{height}" fill="#fdfcf9"/>')
    print(f'<text x="4" y="14" font-size="12" fill="#222">{html.escape(sys.argv[1])}</text>')
    for left, row, width, name in found:
        colour = next((colour for pattern, colour in COLOURS if pattern.search(name)), OTHER)
        x, y, wide = left * WIDTH, row * ROW + 20, max(width * WIDTH - 0.5, 0.5)
        shown = name[: int(wide / 5.6)] if wide > 24 else ""
        print(
            f"<g><title>{html.escape(name)}: {width:.1%}</title>"
            f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{ROW - 1}" fill="{colour}"/>'
            f'<text x="{x + 2:.1f}" y="{y + 12}" font-size="9" fill="#222">{html.escape(shown)}</text></g>'
        )
    print("</svg>")


if __name__ == "__main__":
    main()
