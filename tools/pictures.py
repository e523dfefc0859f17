"""The pictures of the network tutorial, in both languages: `python tools/pictures.py` (a test compares them)."""

import sys
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

DIRECTORY = Path(__file__).parents[1] / "docs" / "img"
_INK, _FAINT, _GREEN, _RED, _BLUE, _PAPER = "#1f2933", "#6b7785", "#1a7f4b", "#c0392b", "#2563a8", "#ffffff"
_STYLE = (
    "text{font-family:'DejaVu Sans','Noto Sans CJK SC','WenQuanYi Zen Hei',sans-serif;font-size:14px;fill:#1f2933}"
    ".name{font-size:16px;font-weight:bold}.address{font-family:'DejaVu Sans Mono',monospace;font-size:13px}"
    ".faint{fill:#6b7785;font-size:12.5px}"
)
WORDS = {
    "en": {
        "jump": "Method 1: jump",
        "jump-2": "people reach allowed hosts and ports, each forward is on record",
        "full": "Method 2: full routing",
        "full-2": "an administrator's machine reaches every port of the LAN; nothing is on record",
        "laptop": "laptop",
        "anywhere": "anywhere",
        "member": "member of the overlay",
        "relay": "relay host",
        "public": "public address",
        "gateway": "gateway",
        "nat": "behind carrier NAT",
        "remote": "remote",
        "other": "other LAN hosts",
        "no-member": "not a member",
        "overlay": "ZeroTier network",
        "lan": "LAN",
        "provider": "provider's network, default route",
        "guard": "guarded: never this way",
        "ssh": "ssh -J relay remote",
        "masquerade": "masquerade",
        "forward": "ip_forward, masquerade",
        "route": "route 192.168.1.0/24",
    },
    "zh-CN": {
        "jump": "方法一：跳转",
        "jump-2": "每个人只能到达获准的主机和端口，每次转发都有记录",
        "full": "方法二：全路由",
        "full-2": "管理员的机器能到达局域网的所有端口；不留记录",
        "laptop": "客户端",
        "anywhere": "任意位置",
        "member": "加入叠加网络",
        "relay": "中继机",
        "public": "公网地址",
        "gateway": "网关节点",
        "nat": "在运营商 NAT 之后",
        "remote": "remote",
        "other": "局域网其他主机",
        "no-member": "不加入叠加网络",
        "overlay": "ZeroTier 网络",
        "lan": "局域网",
        "provider": "机房网络（默认路由）",
        "guard": "有守卫：绝不走这里",
        "ssh": "ssh -J relay remote",
        "masquerade": "地址伪装",
        "forward": "ip_forward、地址伪装",
        "route": "路由 192.168.1.0/24",
    },
}


@dataclass(frozen=True, slots=True)
class Box:
    """A machine: position, name, and the lines below the name."""

    x: int
    y: int
    name: str
    lines: tuple[tuple[str, str], ...]  # (class, text)

    def svg(self) -> str:
        """The SVG of the box, 170 wide."""
        height = 42 + 20 * len(self.lines)
        parts = [
            f'<rect x="{self.x}" y="{self.y}" width="170" height="{height}" rx="8" fill="#f5f7fa" '
            f'stroke="{_INK}" stroke-width="1.5"/>',
            text(self.x + 85, self.y + 26, self.name, "name"),
        ]
        parts += [
            text(self.x + 85, self.y + 50 + 20 * row, line, style) for row, (style, line) in enumerate(self.lines)
        ]
        return "".join(parts)


def text(x: int, y: int, words: str, style: str = "", *, colour: str = "") -> str:
    """A line of text, centred at x."""
    fill = f' style="fill:{colour}"' if colour else ""
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x}" y="{y}" text-anchor="middle"{kind}{fill}>{escape(words)}</text>'


def arrow(points: str, colour: str, *, dashed: bool = False, width: float = 3) -> str:
    """An arrow."""
    dash = ' stroke-dasharray="7 6"' if dashed else ""
    head = {_GREEN: "green", _RED: "red", _BLUE: "blue"}[colour]
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"{dash} '
        f'marker-end="url(#{head})"/>'
    )


def _cloud(x: int, y: int, width: int, height: int, words: str) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="26" fill="#e8f1fb" stroke="{_BLUE}" '
        f'stroke-dasharray="4 4"/>' + text(x + width // 2, y + 22, words, "faint", colour=_BLUE)
    )


def _page(width: int, height: int, title: str, subtitle: str, parts: list[str]) -> str:
    heads = "".join(
        f'<marker id="{name}" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="4.5" markerHeight="4.5" '
        f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'
        for name, colour in (("green", _GREEN), ("red", _RED), ("blue", _BLUE))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}: {escape(subtitle)}</title>'
        f"<style>{_STYLE}</style><defs>{heads}</defs>"
        f'<rect width="{width}" height="{height}" rx="10" fill="{_PAPER}"/>'
        f'<text x="24" y="36" class="name">{escape(title)}</text>'
        f'<text x="24" y="58" class="faint">{escape(subtitle)}</text>' + "\n".join(parts) + "</svg>\n"
    )


def jump(words: dict[str, str]) -> str:
    """Method 1: laptop, relay, gateway, LAN host."""
    laptop = Box(24, 120, words["laptop"], (("faint", words["anywhere"]), ("address", "alice")))
    relay = Box(
        290, 120, words["relay"], (("faint", words["public"]), ("address", "1.1.1.1"), ("address", "172.18.0.10 zt0"))
    )
    gateway = Box(
        600,
        120,
        words["gateway"],
        (("faint", words["nat"]), ("address", "172.18.0.200 zt0"), ("address", "192.168.1.200 eth0")),
    )
    other = Box(880, 92, words["other"], (("address", "192.168.1.0/24"),))
    remote = Box(880, 176, words["remote"], (("faint", words["no-member"]), ("address", "192.168.1.201:22")))
    parts = [
        _cloud(278, 84, 504, 158, words["overlay"]),
        *(box.svg() for box in (laptop, relay, gateway, remote, other)),
        arrow("194,152 286,152", _GREEN),
        text(240, 144, "22/tcp", "faint"),
        arrow("460,152 596,152", _GREEN),
        text(528, 144, "direct-tcpip", "faint"),
        arrow("770,176 876,206", _GREEN),
        text(826, 176, words["masquerade"], "faint"),
        arrow("109,202 109,300 965,300 965,262", _BLUE, dashed=True, width=1.6),
        text(660, 292, f"{words['ssh']}", "address", colour=_BLUE),
        arrow("375,222 375,346", _RED, dashed=True, width=2),
        f'<path d="M363 336l24 24M387 336l-24 24" stroke="{_RED}" stroke-width="4"/>',
        text(375, 384, words["provider"], "faint", colour=_RED),
        text(500, 352, words["guard"], "faint", colour=_RED),
    ]
    return _page(1074, 404, words["jump"], words["jump-2"], parts)


def full(words: dict[str, str]) -> str:
    """Method 2: the client is a member too, relay host and gateway forward packets."""
    laptop = Box(24, 120, words["laptop"], (("faint", words["member"]), ("address", "172.18.0.11 zt0")))
    relay = Box(
        290,
        120,
        words["relay"],
        (("faint", words["forward"]), ("address", "172.18.0.10 zt0")),
    )
    gateway = Box(
        600,
        120,
        words["gateway"],
        (("faint", words["forward"]), ("address", "172.18.0.200 zt0"), ("address", "192.168.1.200 eth0")),
    )
    remote = Box(880, 100, words["remote"], (("faint", words["no-member"]), ("address", "192.168.1.201")))
    other = Box(880, 212, words["other"], (("address", "192.168.1.0/24"),))
    parts = [
        _cloud(12, 84, 770, 178, words["overlay"]),
        *(box.svg() for box in (laptop, relay, gateway, remote, other)),
        arrow("194,158 286,158", _GREEN),
        arrow("460,158 596,158", _GREEN),
        arrow("770,158 876,140", _GREEN),
        arrow("770,176 876,232", _GREEN),
        text(109, 240, f"{words['route']}", "faint"),
        text(109, 256, "via 172.18.0.10", "faint"),
        text(375, 240, f"{words['route']}", "faint"),
        text(375, 256, "via 172.18.0.200", "faint"),
        arrow("375,262 375,318", _RED, dashed=True, width=2),
        f'<path d="M363 308l24 24M387 308l-24 24" stroke="{_RED}" stroke-width="4"/>',
        text(375, 352, words["provider"], "faint", colour=_RED),
        text(530, 322, words["guard"], "faint", colour=_RED),
    ]
    return _page(1074, 374, words["full"], words["full-2"], parts)


def pictures() -> dict[str, str]:
    """All pictures, by file name."""
    found = {}
    for language, words in WORDS.items():
        tail = "" if language == "en" else f".{language}"
        found[f"method-1{tail}.svg"] = jump(words)
        found[f"method-2{tail}.svg"] = full(words)
    return found


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for name, drawn in pictures().items():
        (DIRECTORY / name).write_text(drawn)
    sys.stdout.write(f"wrote {len(pictures())} pictures to {DIRECTORY}\n")
