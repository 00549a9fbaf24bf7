"""The figures as tables: for the terminal, and for a file that is kept."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.figures import Comparison, Figure
from bench.ground import Cores
from bench.phases import Dose

Row = tuple[str, ...]


@dataclass(slots=True)
class Report:
    """What one run found."""

    cores: Cores
    dose: Dose
    comparisons: list[Comparison] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def missed(self) -> list[str]:
        """Return what keeps this run from being good: floors not reached, and answers that were not complete."""
        ratios = [(c.work, c.ratio("balancer")) for c in self.comparisons]
        missed = [f"{w.title}: {r:.2f} > {w.floor:g}" for w, r in ratios if r is not None and r > w.floor]
        missed += [
            f"{f.title}: {f.value:.2f} > {f.floor:g} {f.unit}" for f in self.figures if f.missed and f.floor is not None
        ]
        return missed + self.failures

    def tables(self) -> str:
        """Return everything as Markdown, which reads well in a terminal too."""
        parts = []
        if self.comparisons:
            parts.append(_table(self._ratio_rows()))
        if self.figures:
            parts.append(_table(self._figure_rows()))
        parts += [f"- {remark}" for remark in self.remarks]
        missed = self.missed()
        parts.append(
            "Not reached:\n" + "\n".join(f"- {line}" for line in missed) if missed else "Every floor is reached."
        )
        return "\n\n".join(parts)

    def _ratio_rows(self) -> list[Row]:
        others = [name for name in self.comparisons[0].samples if name not in ("nginx", "balancer")]
        rows: list[Row] = [
            ("CPU of the proxy", "nginx", "balancer", "ratio", "spread", "floor", *others, "balancer served")
        ]
        for comparison in self.comparisons:
            work = comparison.work
            ratios = comparison.ratios("balancer")
            ratio = comparison.ratio("balancer")
            rate = sorted(sample.per_s for sample in comparison.samples["balancer"])
            rows.append(
                (
                    work.title,
                    f"{comparison.cpu_us('nginx'):.1f} us" if ratios else "-",
                    f"{comparison.cpu_us('balancer'):.1f} us",
                    f"{ratio:.2f}" if ratio is not None else "-",
                    f"{ratios[0]:.2f}-{ratios[-1]:.2f}" if ratios else "-",
                    f"{work.floor:g}",
                    *(_rival(comparison, name) for name in others),
                    f"{rate[len(rate) // 2]:,.0f} {work.per}s/s",
                )
            )
        return rows

    def _figure_rows(self) -> list[Row]:
        rows: list[Row] = [("figure", "balancer", "floor", "nginx", "")]
        for figure in self.figures:
            floor = f"{figure.floor:g} {figure.unit}".strip() if figure.floor is not None else "-"
            nginx = _amount(figure.nginx, figure.unit) if figure.nginx is not None else "-"
            rows.append((figure.title, _amount(figure.value, figure.unit), floor, nginx, figure.note))
        return rows

    def method(self) -> str:
        """Return how and on what it was measured."""
        dose = self.dose
        words = f"""
            CPU is that of the whole proxy, user and system, all threads and processes, by the operating system's
            accounting, per request or event. {dose.repetitions} repetitions of {dose.slot_s:g} s for each proxy,
            interleaved, the other one first each time, after a warm-up that does not count; {dose.connections}
            connections that always have a request under way. The ratio is the median of the ratios of the repetitions,
            the spread the smallest and the largest of them. Paced: {dose.paced_streams} streams at once with an event
            every {dose.paced_every_ms} ms each. Every answer is read to its end and checked: number of events,
            `message_stop`. The balancer runs as `python src/main.py` with default settings, logging on, one worker;
            nginx proxies with one worker, buffering and access log off, keep-alive both ways.
        """
        return f"{textwrap.fill(' '.join(words.split()), 120)}\n\n{self.machine()}"

    def machine(self) -> str:
        """Return the machine's shape and the versions of what ran."""
        return "\n".join(
            [
                f"- machine: {platform.machine()}, {_processor()}, {os.cpu_count()} cores; {self.cores}",
                f"- Linux {re.split('[-+]', platform.release())[0]}, Python {platform.python_version()}",
                f"- {_nginx_version()}",
                f"- {', '.join(f'{name} {_version(name)}' for name in ('uvicorn', 'uvloop', 'httptools', 'msgspec'))}",
                f"- balancer at {_commit()}",
            ]
        )


def _rival(comparison: Comparison, name: str) -> str:
    ratio = comparison.ratio(name)
    if not comparison.samples[name]:
        return "-"
    return f"{comparison.cpu_us(name):,.0f} us" + (f" ({ratio:,.0f}x)" if ratio is not None else "")


def _amount(value: float, unit: str) -> str:
    return f"{value:.2f} {unit}" if unit == "ms" else f"{value:,.1f} {unit}" if unit else f"{value:g}"


def _table(rows: Sequence[Row]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _processor() -> str:
    with open("/proc/cpuinfo") as info:
        names = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip()


def _nginx_version() -> str:
    return _said("nginx", "-v").removeprefix("nginx version: ") or "no nginx"


def _commit() -> str:
    return _said("git", "rev-parse", "--short", "HEAD") or "no commit"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "-"
