"""How far the estimates are off, per kind of text, and what counting costs.

    python -m bench.tokens

Compares with the reconstructed Claude tokenizers of the package `ctok` (Python 3.12 or newer; pip
install ctok msgspec xxhash), where it is installed; the costs need nothing.
"""

from __future__ import annotations

import json
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from balancer.tokens import estimate as tokens

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = Path(sysconfig.get_paths()["stdlib"])
CHUNK = 3000
PER_KIND = 40


def texts() -> dict[str, Iterator[str]]:
    """Return chunks of text by kind, from what is on every machine with Python and this project."""
    schema = json.loads((ROOT / "docs" / "providers.schema.json").read_text())
    return {
        "prose": _chunks(*sorted((ROOT / "docs").glob("*.md")), *sorted(LIBRARY.glob("idlelib/*.txt"))),
        "Python": _chunks(*sorted(LIBRARY.glob("*.py"))[::4]),
        "JSON": _cut(json.dumps(schema, indent=2) * 4 + json.dumps(schema) * 4),
        "C and shell": _chunks(
            *sorted(LIBRARY.glob("config-*/*")), *sorted(LIBRARY.glob("../../include/python3*/*.h"))
        ),
        "CJK": _cjk(),
    }


def _chunks(*paths: Path) -> Iterator[str]:
    for path in paths:
        if path.is_file():
            yield from _cut(path.read_text(errors="ignore"))


def _cjk() -> Iterator[str]:
    """Beginnings of old books, out of any copyright."""
    yield from (
        "子曰:學而時習之,不亦說乎?有朋自遠方來,不亦樂乎?人不知而不慍,不亦君子乎?有子曰:其為人也孝弟,而好犯上者,鮮矣;"
        "不好犯上,而好作亂者,未之有也。君子務本,本立而道生。孝弟也者,其為仁之本與!子曰:巧言令色,鮮矣仁!",
        "道可道,非常道。名可名,非常名。無名天地之始;有名萬物之母。故常無欲,以觀其妙;常有欲,以觀其徼。"
        "此兩者,同出而異名,同謂之玄。玄之又玄,衆妙之門。天下皆知美之為美,斯惡已。皆知善之為善,斯不善已。",
        "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所でニャーニャー泣いていた"
        "事だけは記憶している。吾輩はここで始めて人間というものを見た。しかもあとで聞くとそれは書生という人間中で一番獰悪な種族で"
        "あったそうだ。",
        "親譲りの無鉄砲で小供の時から損ばかりしている。小学校に居る時分学校の二階から飛び降りて一週間ほど腰を抜かした事がある。"
        "なぜそんな無闇をしたと聞く人があるかも知れぬ。別段深い理由でもない。",
        "나라의 말이 중국과 달라 한자와는 서로 통하지 아니하므로 어리석은 백성이 말하고자 하는 바가 있어도 마침내 제 뜻을 펴지 "
        "못하는 사람이 많다. 내가 이를 위하여 가엾게 여겨 새로 스물여덟 글자를 만드니 사람마다 쉽게 익혀 쓰게 하고자 할 따름이다.",
    )


def _cut(text: str) -> Iterator[str]:
    for start in range(0, len(text) - CHUNK // 3, CHUNK):
        yield text[start : start + CHUNK]


def accuracy(count: Callable[[str, str], int]) -> None:
    """Print the errors per kind and family."""
    print("| text | family | chunks | mean error | worst | all together |\n|---|---|---|---|---|---|")
    for kind, chunks in texts().items():
        sample = [chunk for chunk, _ in zip(chunks, range(PER_KIND), strict=False)]
        for family, version in (("claude", "4.5"), ("claude-new", "4.8")):
            pairs = [(tokens.of_text(chunk, tokens.WEIGHTS[family]), count(chunk, version)) for chunk in sample]
            errors = [abs(guess - real) / real for guess, real in pairs if real]
            if not errors:
                continue
            whole = sum(guess for guess, _ in pairs) / sum(real for _, real in pairs) - 1
            mean, worst = sum(errors) / len(errors), max(errors)
            print(f"| {kind} | {family} | {len(errors)} | {mean:.1%} | {worst:.1%} | {whole:+.1%} |")


def cost() -> None:
    """Print what a 400 KB conversation costs, cold and with one new turn."""
    text = "".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.py")))
    text = (text * 3)[:380_000]
    size = len(text) // 120
    messages = [
        {"role": "user", "content": [{"type": "text", "text": text[i * size : (i + 1) * size]}]} for i in range(120)
    ]
    body = json.dumps({"model": "claude-opus-5-5", "messages": messages}).encode()
    more = json.dumps({"model": "m", "messages": [*messages, {"role": "user", "content": "one more turn"}]}).encode()
    cold, again = [], []
    for _ in range(9):
        estimator = tokens.Estimator()
        cold.append(_cpu_ms(lambda: estimator.estimate(body, "claude-opus-5-5")))  # noqa: B023
        again.append(_cpu_ms(lambda: estimator.estimate(more, "claude-opus-5-5")))  # noqa: B023
    print(
        f"{len(body) / 1000:.0f} KB cold: {sorted(cold)[4]:.1f} ms of CPU; with one new turn: {sorted(again)[4]:.2f} ms"
    )


def _cpu_ms(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1000


def main() -> int:
    cost()
    try:
        from ctok import token_count  # type: ignore[import-not-found]
    except ImportError:
        print("ctok is not installed: the errors are not measured")
        return 0
    accuracy(token_count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
