"""Cells, tables and times as text that a terminal takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["Row", "clean", "duration", "table"]

Row = Sequence[object]


def clean(value: object) -> str:
    """Text from the network, harmless to a terminal; `-` for nothing."""
    if value is None or value == "":
        return "-"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value))


def table(heads: Row, rows: Iterable[Row]) -> str:
    """Columns as wide as their widest cell; numbers stand on the right."""
    lines = [[clean(cell) for cell in row] for row in rows]
    columns = range(len(heads))
    numeric = [all(_numeric(line[i]) for line in lines) and any(line[i] != "-" for line in lines) for i in columns]
    widths = [max(len(row[i]) for row in [[str(head) for head in heads], *lines]) for i in columns]

    def one(cells: Sequence[str]) -> str:
        placed = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(cells, widths, numeric, strict=True))
        return "  ".join(placed).rstrip()

    return "\n".join([one([str(head) for head in heads]), *map(one, lines)])


def _numeric(cell: str) -> bool:
    return cell == "-" or cell.split(" ")[0].replace(".", "", 1).replace("-", "", 1).isdecimal()


def duration(seconds: float | None) -> str:
    """`2h03m`, `3m05s`, `7s`."""
    if seconds is None:
        return "-"
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
