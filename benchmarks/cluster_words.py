"""The tables and sentences with figures of docs/scaling.md, from the numbers of cluster_simulation.json alone.

Module of `cluster_simulation.py`. The page has a pair of marks for each block; what stands between them is replaced.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
BEGIN, END = "<!-- {}: benchmarks/cluster_simulation.py -->", "<!-- end of {} -->"

Record = Mapping[str, Any]


def write_page(record: Record, page: Path = PAGE) -> None:
    """Put every block into the page.

    Raises
    ------
    ValueError
        If the page lacks the marks of a block.
    """
    text = page.read_text(encoding="utf-8")
    for name, block in BLOCKS.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{page.name}: found no marks of the block {name!r}; wanted {begin} and {end}; add them")
        text = "\n".join([f"{before}{begin}", *block(record), f"{end}{after}"])
    temporary = page.with_name(f".{page.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(page)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    for line in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(line)} |"


def duration(seconds: float) -> str:
    """Return seconds in words for people: 45 s, 12 min, 3.4 h, 12 d."""
    for most, step, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < most:
            return f"{seconds / step:.{1 if name == 'h' else 0}f} {name}"
    return f"{seconds / 86400:.1f} d"


def percent(share: float) -> str:
    """Return a share in per cent."""
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def million(km2: float) -> str:
    """Return an area."""
    return f"{km2 / 1e6:g} million km2"


def inputs(record: Record) -> Iterator[str]:
    """Yield what goes in, and which of it was measured."""
    unit, other = record["calibration"], record["assumptions"]
    origin = as_it_is = "measured" if unit["measured"] else "assumed"
    if unit["measured"] and abs(record["measured_km2"] / unit["km2"] - 1) > 0.02:
        origin = f"measured on units of {record['measured_km2']:.3g} km2, brought to this size"
    yield from table(
        ("what", "value", ""),
        (
            ("unit", f"{unit['km2']:.0f} km2", "the command's chunk"),
            ("computing of a unit on one core", f"{unit['compute_s']:.1f} s (median), of which the network "
             f"{unit['predict_s']:.1f} s", origin),
            ("spread of it", f"lognormal, sigma {unit['sigma']:.2f}", as_it_is),
            ("units that take longer", f"{percent(other['stragglers'])}, {other['straggler_times']:g} times",
             "assumed"),
            ("client's loop", f"{1000 * unit['client_s']:.1f} ms a unit", as_it_is),
            ("scheduler", f"{1000 * other['scheduler_s']:.1f} ms a unit", "assumed"),
            ("fetched, a unit's part", f"{unit['bytes_in'] / 1e6:.0f} MB, in files of {other['tile_km']:.0f} x "
             f"{other['tile_km']:.0f} km, each once", f"{origin}; files assumed"),
            ("written", f"{unit['bytes_out'] / 1e6:.1f} MB a unit", origin),
            ("object store", f"{other['store']['total'] / 1e9:g} GB/s, {other['store']['each'] / 1e6:.0f} MB/s a "
             "connection", "assumed"),
            ("shared disk", f"{other['disk']['total'] / 1e9:g} GB/s, {other['disk']['each'] / 1e6:.0f} MB/s a worker",
             "assumed"),
            ("start of a worker", f"{unit['start_s']:.0f} s", as_it_is),
            ("another worker after a loss", f"{other['restart_s']:.0f} s; the client hears of the loss after "
             f"{other['detect_s']:.0f} s", "assumed"),
        ),
    )  # fmt: skip
    if not unit["measured"]:
        yield ""
        yield (
            "Computing is what the network of `benchmarks/predict.py` and the registration of "
            "`benchmarks/coregister_tile.py` took of processors, brought to this size, and "
            f"{other['rest_s']:g} s for the rest."
        )


def scaling(record: Record) -> Iterator[str]:
    """Yield time and efficiency for each number of workers."""
    areas = sorted({row["km2"] for row in record["scaling"]})
    found = {(row["km2"], row["workers"]): row for row in record["scaling"]}
    counts = sorted({row["workers"] for row in record["scaling"]})
    head = ["workers"]
    for km2 in areas:
        head += [f"{million(km2)} ({found[km2, counts[0]]['units']} units)", "efficiency", "limited by"]
    rows = []
    for workers in counts:
        cells = [str(workers)]
        for km2 in areas:
            row = found[km2, workers]
            cells += [duration(row["makespan_s"]), percent(row["efficiency"]), row["limit"]]
        rows.append(cells)
    yield from table(head, rows)


def findings(record: Record) -> Iterator[str]:
    """Yield where it stops, in sentences."""
    unit, other = record["calibration"], record["assumptions"]
    mean = record["mean_compute_s"]
    for km2 in sorted({row["km2"] for row in record["scaling"]}):
        rows = [row for row in record["scaling"] if row["km2"] == km2]
        good = [row for row in rows if row["efficiency"] >= 0.7]
        last = max(good, key=lambda row: row["workers"]) if good else rows[0]
        top = max(rows, key=lambda row: row["workers"])
        yield (
            f"- {million(km2)}: {last['workers']} workers are the most (of those tried) with an efficiency of 70 % or "
            f"more; {top['workers']} reach {percent(top['efficiency'])}, limited by {top['limit']} (shared disk busy "
            f"{percent(top['disk'])} of the time, object store {percent(top['store'])}, client's loop "
            f"{percent(top['client'])})."
        )
    traffic = 2 * unit["bytes_in"] + unit["bytes_out"]
    yield (
        f"- Each of these limits has a simple bound. The shared disk takes {traffic / 1e6:.0f} MB a unit (fetched "
        f"files written, windows of them read, maps written): at {other['disk']['total'] / 1e9:g} GB/s it keeps "
        f"{mean * other['disk']['total'] / traffic:,.0f} workers busy. The client's loop keeps "
        f"{mean / unit['client_s']:,.0f} busy, the scheduler {mean / other['scheduler_s']:,.0f}."
    )


def orders(record: Record) -> Iterator[str]:
    """Yield efficiency by the order of units."""
    found = {(row["order"], row["workers"]): row for row in record["orders"]}
    names = list(dict.fromkeys(order for order, _ in found))
    counts = sorted({workers for _, workers in found})
    yield from table(
        ("workers", *names),
        [(str(count), *(f"{percent(found[name, count]['efficiency'])}, waiting "
                        f"{percent(found[name, count]['shares']['wait'])}" for name in names)) for count in counts],
    )  # fmt: skip


def grid(record: Record, key: str, label: Callable[[Record], str], head: str) -> Iterator[str]:
    """Yield a table of time, efficiency and limit: a row for each value, a column for each number of workers."""
    rows = record[key]
    counts = sorted({row["workers"] for row in rows})
    lines: dict[str, list[str]] = {}
    for row in rows:
        lines.setdefault(label(row), [label(row)]).append(
            f"{duration(row['makespan_s'])}, {percent(row['efficiency'])}, {row['limit']}"
        )
    yield from table((head, *(f"{count} workers" for count in counts)), list(lines.values()))


def edges(record: Record) -> Iterator[str]:
    """Yield efficiency by the size of units, and by how many take long."""
    yield from grid(record, "edges", lambda row: f"{row['edge_px']} px, {row['units']} of {row['unit_s']:.1f} s",
                    "edge, and units")  # fmt: skip
    yield ""
    yield from grid(record, "stragglers", lambda row: f"{percent(row['share'])} take {row['times']:g} times as long"
                    if row["share"] else "none", "units that take longer")  # fmt: skip


def shared(record: Record) -> Iterator[str]:
    """Yield efficiency by what is shared."""
    yield from grid(record, "disks", lambda row: f"{row['gb_s']:g} GB/s", "shared disk")
    yield ""
    yield from grid(record, "stores", lambda row: f"{row['gb_s']:g} GB/s", "object store")
    yield ""
    yield from grid(
        record, "clients", lambda row: f"{row['client_ms']} ms", "client's loop, a unit; disk and store without limits"
    )


def losses(record: Record) -> Iterator[str]:
    """Yield what losses cost."""
    rows = []
    for row in record["lives"]:
        rows.append((
            f"{row['life_h']:g} h" if row["life_h"] else "for ever", duration(row["makespan_s"]),
            percent(row["efficiency"]), f"{row['losses']:.0f}", percent(row["shares"]["lost"] / row["efficiency"]),
            percent(row["least_redone"]) if row["life_h"] else "0 %", f"{row['aside']:.1f}",
        ))  # fmt: skip
    workers = record["lives"][0]["workers"]
    yield from table(
        (f"{workers} workers live", "time", "efficiency", "units lost", "lost work / work", "closed form", "set aside"),
        rows,
    )
    yield ""
    alone = record["lives"][0]["makespan_s"]
    back = {
        row["back_s"]: f"{duration(row['makespan_s'])} ({row['makespan_s'] / alone:.2f} times as long)"
        for row in record["mass_loss"]
    }
    yield "If half of them die at once, in the middle of the run:"
    yield ""
    yield from table(
        ("others are there", "time"),
        [("never" if seconds is None else f"after {duration(seconds)}", text) for seconds, text in back.items()],
    )


def costs(record: Record) -> Iterator[str]:
    """Yield what a million km2 costs."""
    prices = record["assumptions"]["costs"]
    rows = [(
        row["machine"], "spot" if row["spot"] else "list",
        f"{row['usd_h'] * (prices['spot_price'] if row['spot'] else 1):.2f}", f"{row['unit_s']:.0f} s",
        duration(3600 * row["hours"]), percent(row["efficiency"]), f"{row['usd_machines'] + row['usd_head']:.2f}",
    ) for row in record["costs"]]  # fmt: skip
    yield from table(
        ("machine", "price", "USD/h", "a unit, on a worker", f"{record['costs'][0]['machines']} of them take",
         "efficiency", "USD a million km2"), rows,
    )  # fmt: skip
    unit = record["calibration"]
    yield ""
    yield (
        f"A core maps {unit['km2'] / record['mean_compute_s']:.1f} km2/s, a million km2 in "
        f"{1e6 / unit['km2'] * record['mean_compute_s'] / 3600:.0f} core hours. Prices are of {prices['prices_of']} "
        f"and assumed, in round numbers near list prices; spot: {percent(prices['spot_price'])} of them, and a mean "
        f"life of {prices['spot_life_s'] / 3600:.0f} h. The machine of scheduler and client is in, at "
        f"{prices['head_usd_h']:.2f} USD/h."
    )


BLOCKS: dict[str, Callable[[Record], Iterator[str]]] = {
    "inputs": inputs, "scaling": scaling, "findings": findings, "orders": orders, "units": edges, "shared": shared,
    "losses": losses, "costs": costs,
}  # fmt: skip
