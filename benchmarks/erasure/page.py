"""The committed rows as a page, docs/figures.md: `python -m benchmarks.erasure.page`.

Prints the shorter tables of docs/measurements.md and docs/gallery.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..pack import import_pack

import_pack()

from ..result_file import RESULTS, read_result
from .methods import METHODS, RATES
from .table import concept_tables, methods_table, worst_table

PAGE = Path(__file__).parents[2] / "docs" / "figures.md"
SUMMARY = (
    *("acc_e", "acc_g", "replaced_one", "replaced_two", "ideal", "worst_word", "parts"),
    *("acc_ir", "acc_co", "asr_white", "asr_white_all", "asr_black", "relearned", "forwards"),
)
GALLERY = (
    *("acc_e", "replaced_one", "replaced_two", "ideal", "worst_word", "ira", "cra", "acc_co"),
    *("asr_white", "asr_black", "relearned", "forwards", "seconds"),
)
Rows = list[dict[str, Any]]
TEXT = """# Every concept, every method

Made by `python -m benchmarks.erasure.page`. What the columns say stands in
[measurements.md](measurements.md#methods-side-by-side). ± is the spread over seeds.

## Methods

Rows of `python -m benchmarks.erasure --full` ([erasure.json](../benchmarks/results/erasure.json)).

{methods}

The worst single row of each, over concepts and seeds:

{methods_worst}

The same means by the second judge:

{methods_second}

## The fair race

Rows of the same file: {raced}, seed 0. By the first judge:

{race}

The worst single row of each:

{race_worst}

By the second judge:

{race_second}

## The gallery

Rows of `python -m benchmarks.erasure --world gallery --full`
([gallery.json](../benchmarks/results/gallery.json)), the means, the worst single rows, and the
means by the second judge.

{gallery}

{gallery_worst}

{gallery_second}

Rivals erased a part: {gallery_raced}, seed 0. By the first judge, the worst single rows, and by
the second judge:

{gallery_race}

{gallery_race_worst}

{gallery_race_second}

## Version 0.1

As it was measured then, by the first judge and fewer figures, in 48 pictures of each kind of prompt
([erasure_0_1.json](../benchmarks/results/erasure_0_1.json)).

{old}

## What each loss buys

Rows of `python -m benchmarks.erasure --ablation`
([erasure_ablation.json](../benchmarks/results/erasure_ablation.json)), seed 0. *trained* is *fast*
that trains every word, whatever its closed form leaves; one loss is added, taken away or exchanged.
Words: {ablated_words}.

{ablation_words}

Phrase: {ablated_phrases}.

{ablation_phrases}

## Concept by concept
{concepts}

## Concept by concept, gallery
{gallery_concepts}
"""


def page() -> str:
    rows, gallery = committed("erasure"), committed("gallery")
    return TEXT.format(
        **three_tables("methods", of_all_concepts(rows)),
        **three_tables("race", race(rows)),
        **three_tables("gallery", of_all_concepts(gallery)),
        **three_tables("gallery_race", race(gallery)),
        raced=concepts_in(race(rows)),
        gallery_raced=concepts_in(race(gallery)),
        old=methods_table(committed("erasure_0_1")),
        **ablation(),
        concepts=concept_tables(rows),
        gallery_concepts=concept_tables(gallery),
    )


def ablation() -> dict[str, str]:
    """The concepts without and with a loss, and a table of each sort."""
    sorts = by_sort(committed("erasure_ablation")).items()
    tables = {f"ablation_{what}": methods_table(some) for what, some in sorts}
    return tables | {f"ablated_{what}": concepts_in(some) for what, some in sorts}


def by_sort(rows: Rows) -> dict[str, Rows]:
    return {
        "words": [row for row in rows if row["kind"] != "phrase"],
        "phrases": [row for row in rows if row["kind"] == "phrase"],
    }


def three_tables(name: str, rows: Rows) -> dict[str, str]:
    """The methods' means, their worst single rows, and the means by the second judge."""
    return {
        name: methods_table(rows),
        f"{name}_worst": worst_table(rows),
        f"{name}_second": methods_table(by_second_judge(rows)),
    }


def concepts_in(rows: Rows) -> str:
    return ", ".join(dict.fromkeys(row["concept"] for row in rows))


def of_first_seed(rows: Rows) -> Rows:
    """The only one that rivals were trained with."""
    return [row for row in rows if row["seed"] == 0]


def of_all_concepts(rows: Rows) -> Rows:
    """Those of the methods that every concept was erased by."""
    return of_methods_with({row["concept"] for row in rows}, rows)


def race(rows: Rows) -> Rows:
    """What every fair rival erased, with seed 0, by each method that erased it all."""
    rows = of_first_seed(rows)
    shared = set.intersection(*(concepts_of(rival, rows) for rival in RATES))
    return [row for row in of_methods_with(shared, rows) if row["concept"] in shared]


def of_methods_with(concepts: set[str], rows: Rows) -> Rows:
    """Those of the methods that erased all of these concepts."""
    able = {method for method in METHODS if concepts_of(method, rows) >= concepts}
    return [row for row in rows if row["method"] in able]


def concepts_of(method: str, rows: Rows) -> set[str]:
    return {row["concept"] for row in rows if row["method"] == method}


def by_second_judge(rows: Rows) -> Rows:
    return [row | row["judge2"] for row in rows if "judge2" in row]


def summary() -> str:
    """The tables of docs/measurements.md, of words, phrases and the race; of docs/gallery.md."""
    rows = committed("erasure")
    whole, tables = of_all_concepts(rows), []
    for what, some in by_sort(whole).items():
        count = len({row["concept"] for row in some})
        tables.append(f"{count} {what}:\n\n{methods_table(some, SUMMARY)}")
        rivals = [row for row in of_first_seed(some) if row["method"] in ("fast", *RATES)]
        tables.append(f"beside rivals:\n\n{methods_table(rivals, SUMMARY)}")
    tables.append(f"race:\n\n{methods_table(race(rows), SUMMARY)}")
    for what, some in by_sort(committed("erasure_ablation")).items():
        tables.append(f"losses, {what}:\n\n{methods_table(some, SUMMARY)}")
    gallery = committed("gallery")
    of_all, raced = of_all_concepts(gallery), race(gallery)
    for judged in (of_all, by_second_judge(of_all)):
        kinds = [row | {"method": f"{row['method']}, {row['kind']}"} for row in judged]
        tables.append(f"gallery:\n\n{methods_table([*kinds, *judged], GALLERY)}")
    for judged in (raced, by_second_judge(raced)):
        tables.append(f"gallery, race:\n\n{methods_table(judged, GALLERY)}")
    return "\n\n\n".join(tables)


def committed(name: str) -> list[dict[str, Any]]:
    result = read_result(RESULTS / f"{name}.json")
    assert result is not None
    return result["rows"]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(summary())
