"""Each picture of a report as PNG and SVG, for papers, slides and the README."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from search.report.facts import Facts, Point
from search.report.palette import COLORS, MATPLOTLIB_MARKERS
from search.report.text import size

DPI = 160
# SVG without dates and random ids: the same facts give the same file. Text stays text.
_STYLE: Any = {
    "svg.hashsalt": "rps-search",
    "svg.fonttype": "none",
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
_INK = "#16191d"
_PART_COLORS = (COLORS[5], COLORS[1], COLORS[4], COLORS[6])


def pictures(facts: Facts) -> dict[str, bytes]:
    """Return the files of every picture that the facts allow, as PNG and as SVG, by name."""
    files = {}
    for name, (draw, width, height) in _PICTURES.items():
        if not _drawable(facts, name):
            continue
        with matplotlib.rc_context(_STYLE):
            figure = Figure(figsize=(width, height))
            draw(facts, figure.add_subplot())
            # The layout is the dearest part of drawing and the same for both kinds of file.
            layout = figure.get_layout_engine()
            assert layout is not None  # the style asks for one
            layout.execute(figure)
            figure.set_layout_engine("none")
            for kind in ("png", "svg"):
                about = {"Date": None} if kind == "svg" else {"Software": "rps-search"}
                stream = io.BytesIO()
                figure.savefig(stream, format=kind, dpi=DPI, metadata=about)
                files[f"{name}.{kind}"] = stream.getvalue()
    return files


def _drawable(facts: Facts, name: str) -> bool:
    if name == "importances":
        return facts.importances is not None and bool(facts.importances.rows)
    if name == "history":
        return len(facts.history) > 1  # one proposal is no line
    return bool(facts.points if name == "frontier" else getattr(facts, name))


def _plain(text: str) -> str:
    """Return a name as matplotlib must be given it: a dollar sign would start mathematics, which a name is not."""
    return text.replace("$", r"\$")


def _look(facts: Facts, method: int) -> dict[str, Any]:
    found = facts.methods[method]
    return {"color": COLORS[found.color], "marker": MATPLOTLIB_MARKERS[found.shape]}


def _legend(
    facts: Facts, axes: Axes, methods: list[int], place: Literal["lower right", "lower left"] = "lower right"
) -> None:
    handles = [Line2D([], [], ls="", ms=7, **_look(facts, m)) for m in methods]
    names = [_plain(facts.methods[m].name) for m in methods]
    axes.legend(handles, names, loc=place, ncols=2 if len(methods) > 5 else 1)


def _bars(points: list[tuple[float, float | None, float | None]]) -> list[list[float]]:
    """Return the lengths of error bars below and above; none where there is no interval."""
    below = [0.0 if low is None else max(value - low, 0.0) for value, low, _ in points]
    above = [0.0 if high is None else max(high - value, 0.0) for value, _, high in points]
    return [below, above]


def _dense_line(facts: Facts, axes: Axes) -> None:
    for dense in facts.dense:
        if dense.accuracy is not None:
            axes.axhline(dense.accuracy, color=_INK, ls=(0, (5, 4)), lw=1.1)
            label = _plain(f"{dense.label} {dense.accuracy:.1%}")
            axes.annotate(label, (0.01, dense.accuracy), xycoords=("axes fraction", "data"), va="bottom")


def _accuracy_axis(facts: Facts, axes: Axes, label: str) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.set_ylabel(label)


def _log_axis(axes: Axes, name: Callable[[float], str]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: name(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _label_picks(facts: Facts, axes: Axes) -> None:
    """Write below its marker what each pick is, at two heights in turn so that neighbours do not collide."""
    picks = [pick for pick in facts.picks if pick.measure == facts.measure]
    picks.sort(key=lambda pick: getattr(facts.points[pick.point], facts.measure))
    for turn, pick in enumerate(picks):
        point = facts.points[pick.point]
        where = (getattr(point, facts.measure), point.accuracy)
        thread = {"arrowstyle": "-", "lw": 0.7, "color": _INK, "shrinkB": 5}
        place = (12, -22 - 16 * (turn % 2))
        axes.annotate(pick.label, where, place, textcoords="offset points", weight="bold", arrowprops=thread, zorder=5)


def draw_frontier(facts: Facts, axes: Axes) -> None:
    """Draw accuracy against memory: every proposal faint, those that none beats large, with their intervals."""
    measure, front = facts.measure, facts.fronts[facts.measure]
    margin = 0.06 * (max(facts.focus) - min(facts.focus) + 1e-3)
    floor = min(facts.focus) - margin

    def memory(point: Point) -> float:
        value = getattr(point, measure)
        assert value is not None  # points without the measure are in no picture of it
        return float(value)

    beaten = set(range(len(facts.points))) - set(front.overall)
    seen = sorted({point.method for point in facts.points})
    for method in seen:
        own = [p for i, p in enumerate(facts.points) if i in beaten and p.method == method and getattr(p, measure)]
        axes.scatter(
            [memory(p) for p in own], [p.accuracy for p in own], s=16, alpha=0.32, lw=0, **_look(facts, method)
        )
    best = [facts.points[i] for i in front.overall]
    axes.step([memory(p) for p in best], [p.accuracy for p in best], where="post", color=_INK, lw=1.6, zorder=3)
    for point in best:
        look = _look(facts, point.method)
        bars = _bars([(point.accuracy, point.low, point.high)])
        axes.errorbar(
            memory(point), point.accuracy, yerr=bars, ms=8.5, mfc="white" if point.tied else look["color"],
            mec=look["color"] if point.tied else "white", mew=1.6 if point.tied else 0.8, capsize=3, zorder=4, **look,
        )  # fmt: skip
    _label_picks(facts, axes)
    _dense_line(facts, axes)
    _log_axis(axes, lambda value: size(value, measure).removesuffix(" parameters"))
    top = max([*facts.focus, *(dense.accuracy or 0.0 for dense in facts.dense)])
    axes.set_ylim(max(floor, 0.0), min(top + margin, 1.005))
    axes.set_xlabel(facts.measures[measure])
    _accuracy_axis(facts, axes, facts.accuracy_label)
    _legend(facts, axes, seen)


def draw_ratios(facts: Facts, axes: Axes) -> None:
    """Draw accuracy against compression ratio, a line a method: the figure that papers print."""
    for series in facts.ratios:
        points = series.points
        axes.errorbar(
            [p.ratio for p in points], [p.accuracy for p in points],
            yerr=_bars([(p.accuracy, p.low, p.high) for p in points]), capsize=3, ms=6.5, mec="white", lw=1.8,
            **_look(facts, series.method),
        )  # fmt: skip
    _dense_line(facts, axes)
    _log_axis(axes, lambda value: f"{value:g}×")
    axes.set_xlabel("Compression ratio")
    _accuracy_axis(facts, axes, facts.accuracy_label)
    _legend(facts, axes, [series.method for series in facts.ratios], "lower left")


def _draw_history(facts: Facts, axes: Axes) -> None:
    counts, volumes = zip(*facts.history, strict=True)
    axes.step(counts, volumes, where="post", color=COLORS[1], lw=2)
    axes.fill_between(counts, volumes, step="post", color=COLORS[1], alpha=0.12, lw=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("Proposals finished")
    axes.set_ylabel("Hypervolume")


def _draw_budgets(facts: Facts, axes: Axes) -> None:
    budgets = facts.budgets
    assert budgets is not None
    values = [[float("nan") if value is None else max(value, 1e-9) for value in row] for row in budgets.values]
    image = axes.imshow(values, cmap="Blues", norm="log", aspect="auto", vmin=1e-3, vmax=1.0)
    points = [facts.points[index] for index in budgets.columns]
    step = max(1, len(points) // 8)
    labels = [
        f"{_plain(facts.methods[p.method].name)}\n{size(getattr(p, facts.measure), facts.measure)}" for p in points
    ]
    axes.set_xticks(range(0, len(points), step), labels[::step])
    axes.set_yticks(range(len(budgets.layers)), [_plain(layer) for layer in budgets.layers])
    axes.grid(False)
    assert axes.figure is not None
    axes.figure.colorbar(image, ax=axes, label="Share of weights kept", format=PercentFormatter(1.0))


def _draw_importances(facts: Facts, axes: Axes) -> None:
    assert facts.importances is not None
    rows = facts.importances.rows[::-1]
    names = [_plain(row.name) for row in rows]
    axes.barh(
        range(len(rows)), [row.value for row in rows], xerr=[row.spread for row in rows], color=COLORS[1], capsize=3
    )
    axes.set_yticks(range(len(rows)), names)
    axes.set_xlabel("Loss of R² when the value is shuffled")


def _draw_curves(facts: Facts, axes: Axes) -> None:
    for curve in facts.curves:
        width, alpha = (2.0, 1.0) if curve.frontier else (0.8, 0.3)
        axes.plot(curve.epochs, curve.accuracy, color=_look(facts, curve.method)["color"], lw=width, alpha=alpha)
        if curve.frontier:
            axes.plot(curve.epochs[-1], curve.accuracy[-1], ms=7, mec="white", **_look(facts, curve.method))
    axes.set_xlabel("Epoch")
    _accuracy_axis(facts, axes, "Validation accuracy")
    _legend(facts, axes, sorted({curve.method for curve in facts.curves}))


def _draw_times(facts: Facts, axes: Axes) -> None:
    assert facts.times is not None
    rows = facts.times.rows[::-1]
    start = [0.0] * len(rows)
    for part, (name, color) in enumerate(zip(facts.times.parts, _PART_COLORS, strict=True)):
        hours = [row.seconds[part] / 3600 for row in rows]
        axes.barh(range(len(rows)), hours, left=start, color=color, label=name)
        start = [a + b for a, b in zip(start, hours, strict=True)]
    axes.set_yticks(range(len(rows)), [_plain(facts.methods[row.method].name) for row in rows])
    axes.set_xlabel("Time of all trials, hours")
    axes.legend(loc="lower right")


_PICTURES: dict[str, tuple[Callable[[Facts, Axes], None], float, float]] = {
    "frontier": (draw_frontier, 9.0, 5.4),
    "ratios": (draw_ratios, 8.0, 5.0),
    "history": (_draw_history, 7.0, 3.6),
    "budgets": (_draw_budgets, 9.0, 4.2),
    "importances": (_draw_importances, 7.0, 4.2),
    "curves": (_draw_curves, 7.5, 4.6),
    "times": (_draw_times, 7.5, 4.0),
}
