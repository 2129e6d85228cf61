"""Every widget at its edges: the least, the most, nothing, the absurd; and what is said then."""

from __future__ import annotations

from eraseanything_pack.nodes.lora import apply, merge
from eraseanything_pack.nodes.lora.slots import CONNECT, EMPTY
from pack_nodes import NODES, inputs_of
from workflow_api import is_widget

TRAIN, PLAN, APPLY = "EraseAnythingTrain", "EraseAnythingPlan", "EraseAnythingApply"
MERGE, LOOK, REPORT = "EraseAnythingMerge", "EraseAnythingAttention", "EraseAnythingReport"
LIST = "EraseAnythingPromptList"
WATCH, WATCHED = "EraseAnythingWatch", "EraseAnythingWatched"
WIDGETS = {
    (node_id, name): (kind, options)
    for node_id, node in NODES.items()
    for name, (kind, options) in inputs_of(node).items()
    if is_widget([kind, options])
}
LONGEST_ERROR = 400  # letters that a person still reads

RUNS = ""  # what is expected of a value in place of an error
MARKUP = "<img src=x onerror=alert(1)> {a|b} \u202e☠"
TEXTS = {"nothing": "", "spaces": " \n ", "long": "z" * 100_000, "markup": MARKUP, "zero": "a\0b"}
LONG = r"of 100000 letters, expected at most \d+\. Shorten it\."
ZERO = r"Got the control character '\\x00' in .*, expected printable text\. Remove it\."
WORDING = {"nothing": RUNS, "spaces": RUNS, "long": LONG, "markup": RUNS, "zero": ZERO}
NO_CONCEPT = r"Got the concept '', expected at least one letter or digit\. Write what should"
CONCEPT = WORDING | dict.fromkeys(("nothing", "spaces"), NO_CONCEPT)
OWN_PROMPT = WORDING | {
    "markup": r"Got the concept 'star', which is not in the prompt '<img .*Write it word for word"
}
FILE_NAME = dict.fromkeys(
    ("long", "markup", "zero"), r"Got the file name '.*expected a name inside models/loras.*Leave"
) | {"nothing": RUNS, "spaces": RUNS}
NO_PROMPT = r"Got the prompt '.*', expected at least one word\. Write what shall be drawn\."
NOT_IN_PROMPT = r"Got '.*' in \w+, which is not in the prompt '.*', expected words of it\."
OF_PROMPT = WORDING | dict.fromkeys(("long", "markup", "zero"), NOT_IN_PROMPT)
NO_PLAN = r"Got text that is not JSON .*, expected a ConceptPlan\. Use what ConceptPlan itself"
NO_BLOCKS = r"Got blocks '.*', expected numbers from 0 to 3.*Name blocks that this model has"
PROMPTS = WORDING | {"zero": RUNS}
NO_LIST = (
    r"Got a prompt list that (begins with '.*', expected a CSV|can't be read \().*\. (Wri|Pu)te?"
)
FOLDER_NAME = dict.fromkeys(
    ("long", "markup", "zero"), r"Got the folder name '.*expected a name inside ComfyUI's.*Leave"
) | {"nothing": RUNS, "spaces": RUNS}

TEXT_EDGES = {
    **{
        (node, name): edges
        for node in (TRAIN, PLAN)
        for name, edges in {
            "concept": CONCEPT,
            "replace_with": WORDING,
            "synonyms": WORDING,
            "keep": WORDING,
            "prompts": OWN_PROMPT,
        }.items()
    },
    (TRAIN, "file_name"): FILE_NAME,
    (MERGE, "file_name"): FILE_NAME,
    (PLAN, "edited"): WORDING | dict.fromkeys(("long", "markup", "zero"), NO_PLAN),
    **{
        (node, name): edges
        for node in (LOOK, WATCH)
        for name, edges in {
            "prompt": PROMPTS | dict.fromkeys(("nothing", "spaces"), NO_PROMPT),
            "words": OF_PROMPT,
            "contrast": OF_PROMPT,
            "blocks": OF_PROMPT | dict.fromkeys(("long", "markup", "zero"), NO_BLOCKS),
        }.items()
    },
    (REPORT, "erase_prompts"): PROMPTS,
    (REPORT, "keep_prompts"): PROMPTS,
    (LIST, "prompts"): dict.fromkeys(WORDING, NO_LIST),
    (LIST, "folder_name"): FOLDER_NAME,
}
# Their most takes minutes even of the tiny models: it must come as far as the work itself.
HEAVY = {
    *((node, "resolution") for node in (TRAIN, LOOK, REPORT, LIST)),
    *((node, "steps") for node in (TRAIN, LOOK, REPORT, LIST)),
    (LIST, "pictures"),
}
# What is only right together with another widget's value.
TOGETHER = {
    (APPLY, "start", 1.0): r"Got start 1 and end 1, expected start below end\. Set 0",
    (APPLY, "end", 0.0): r"Got start 0 and end 0, expected start below end\. Set 0",
    (WATCHED, "picture", 4096): r"Got picture 4096, expected 1 to 1: .* Lower picture",
}
NOTHING = {CONNECT, EMPTY}  # in lists of files
FILES = {
    *((APPLY, f"file{slot}") for slot in apply.SLOTS),
    *((MERGE, f"file{slot}") for slot in merge.SLOTS),
}
OUTSIDE = ("../../x", "/etc/passwd", "..\\..\\x", "gone.safetensors", "")
