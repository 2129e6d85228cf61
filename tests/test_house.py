"""The house keeps its plan: rooms, the direction of imports, sizes, annotations, and words."""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import pytest

import erase_engine

ROOT = Path(__file__).resolve().parents[1]
MOST_FILES, MOST_LINES = 14, 300
MEDIAN, NINE_OF_TEN, LONGEST = 8, 22, 60  # lines of a function
SHORT = 5  # lines; a private function below them has more than one caller
DATA = {"erase_engine/concepts/everyday.py"}  # words alone
Function = ast.FunctionDef | ast.AsyncFunctionDef

# From what imports down to what is imported; rooms of one line know nothing of each other.
FLOORS = (
    ("erase_engine.__main__",),
    ("nodes", "erase_engine.cli"),
    ("erase_engine.backends",),
    ("erase_engine.training",),
    ("erase_engine.memory",),
    ("erase_engine.attention", "erase_engine.lora", "erase_engine.closed_form"),
    ("erase_engine.concepts", "erase_engine.families"),
    ("erase_engine.sampling", "erase_engine.config", "erase_engine.prompt_list"),
    ("erase_engine.interfaces", "erase_engine.flow", "erase_engine.entrance_config"),
    ("erase_engine.validation", "erase_engine.atomic_file", "erase_engine.contact_sheet"),
)
# The engine asks for a model by `interfaces` alone, and the hosts know nothing of what trains.
REFUSED = (
    ("erase_engine.training", "erase_engine.backends"),
    ("erase_engine.memory", "erase_engine.backends"),
    ("erase_engine.backends", "erase_engine.training"),
    ("erase_engine.backends", "erase_engine.memory"),
)
FAMILY_WORDS = {"flux", "double", "doubles", "single", "singles", "t5", "t5xxl"}
OTHERS = {".double", "single_file_utils"}  # torch's float64, a module of diffusers
AT_HOME = ("erase_engine/families/", "tinyworld/", "tests/")
# What is measured at the real size is measured on FLUX.1's.
MEASURED = ("capture", "cards", "families", "full_width", "memory")
AT_HOME += ("benchmarks/gpu/", *(f"benchmarks/{name}.py" for name in MEASURED))
WORLDS_OWN = re.compile(r"TinyFlux|tiny_flux")  # in names of the tiny world and its node


@functools.cache
def files(*folders: str, endings: tuple[str, ...] = (".py",)) -> tuple[Path, ...]:
    """Files of the project in these folders, without what tools leave there."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    kept = (path for path in found if path.suffix in endings and path.is_file())
    return tuple(sorted(path for path in kept if not {"node_modules", ".venv"} & set(path.parts)))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_of(path: Path) -> str:
    return name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module_of(path): path for path in files("erase_engine", "nodes")}


# --- imports -------------------------------------------------------------------------------------


def imported_by(module: str) -> Iterator[str]:
    """Our own modules that a module imports anywhere in it, for types too."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in MODULES)
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            inner = [f"{base}.{name.name}" for name in node.names]
            yield from ([base] if base in MODULES else [])
            yield from (each for each in inner if each in MODULES)


def imports() -> Iterator[tuple[str, str]]:
    for module in MODULES:
        yield from ((module, each) for each in imported_by(module) if each != module)


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def floor_of(module: str) -> int | None:
    """How far down; None for packages that hold all of a floor's rooms."""
    found = (at for at, rooms in enumerate(FLOORS) for room in rooms if within(module, room))
    return next(found, None)


def room_of(module: str) -> str:
    return next(room for rooms in FLOORS for room in rooms if within(module, room))


def test_every_module_has_its_floor() -> None:
    assert [name for name in MODULES if floor_of(name) is None] == ["erase_engine"]


def test_imports_run_one_way() -> None:
    """Down the floors or within a room. A package's own docstring is no floor."""
    wrong = [
        f"{module} imports {other}"
        for module, other in imports()
        if other != "erase_engine" and room_of(module) != room_of(other)
        if not (floor_of(module) or 0) < (floor_of(other) or 0)
    ]
    assert wrong == []


def test_training_and_backends_know_nothing_of_each_other() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, other in imports()
        for room, refused in REFUSED
        if within(module, room) and within(other, refused)
    ]
    assert wrong == []


def test_no_import_runs_in_a_circle() -> None:
    above: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, other in imports():
        above[module].add(other)
    while leaves := [module for module, others in above.items() if not others & above.keys()]:
        for module in leaves:
            del above[module]
    assert sorted(above) == []


# --- sizes ---------------------------------------------------------------------------------------


def test_no_folder_is_crowded() -> None:
    folders = {path.parent for path in files("erase_engine", "nodes", "tests", "web/js")}
    counts = {
        name_of(folder): sum(each.is_file() for each in folder.iterdir()) for folder in folders
    }
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}


def test_no_file_is_long() -> None:
    folders = ("erase_engine", "nodes", "scripts", "benchmarks", "tests", "tinyworld", "web/js")
    lines = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in files(*folders, endings=(".py", ".js", ".mjs"))
    }
    long = {name: count for name, count in lines.items() if count > MOST_LINES}
    assert {name: count for name, count in long.items() if name not in DATA} == {}


def functions() -> Iterator[tuple[Path, Function]]:
    for path in MODULES.values():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, Function):
                yield path, node


def lines_of(node: Function) -> int:
    """Without decorators and docstring: from `def` to the last line."""
    first = node.body[0]
    said = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    text = said and isinstance(first.value.value, str)
    spent = (first.end_lineno or 0) - first.lineno + 1 if text else 0
    return (node.end_lineno or 0) - node.lineno + 1 - spent


def test_functions_are_short() -> None:
    lines = [lines_of(node) for _, node in functions()]
    assert median(lines) <= MEDIAN
    assert quantiles(lines, n=10)[-1] <= NINE_OF_TEN


def test_no_function_is_long() -> None:
    sizes = {f"{name_of(path)}: {node.name}": lines_of(node) for path, node in functions()}
    assert {name: lines for name, lines in sizes.items() if lines > LONGEST} == {}


# --- manners -------------------------------------------------------------------------------------


def unannotated(node: Function) -> list[str]:
    given = node.args
    every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    names = [arg.arg for arg in every if arg and not arg.annotation]
    lacking = [name for name in names if name not in ("self", "cls")]
    return [*lacking, *([] if node.returns else ["return"])]


def test_everything_is_annotated() -> None:
    wrong = [f"{name_of(path)}: {node.name}" for path, node in functions() if unannotated(node)]
    assert wrong == []


def name_in(node: ast.AST) -> str:
    """`f` of `f` and of `self.f`."""
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def called_once(tree: ast.Module, name: str) -> bool:
    """Whether all that a module does with a name is to call it in one place."""
    nodes = list(ast.walk(tree))
    uses = sum(name_in(node) == name for node in nodes)
    return uses == 1 and any(isinstance(n, ast.Call) and name_in(n.func) == name for n in nodes)


def test_what_is_short_and_used_once_stands_where_it_is_used() -> None:
    """Private functions; what a decorator has taken, or Python itself calls, is no such."""
    small = [
        (path, node)
        for path, node in functions()
        if node.name.startswith("_")
        and not (node.name.endswith("__") or node.decorator_list)
        and lines_of(node) < SHORT
    ]
    wrong = [
        f"{name_of(path)}: {node.name}"
        for path, node in small
        if called_once(tree_of(path), node.name)
    ]
    assert wrong == []


# --- words ---------------------------------------------------------------------------------------


def parts_of(word: str) -> set[str]:
    """Of an identifier: split at _ and at capitals, in small letters."""
    return {part.lower() for part in re.findall(r"[A-Z]+[0-9]*(?![a-z])|[A-Z]?[a-z0-9]+", word)}


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """Identifiers, and strings that are keys or names: those without a space."""
    reader, before = io.StringIO(path.read_text(encoding="utf-8")).readline, ""
    for token in tokenize.generate_tokens(reader):
        if token.type == tokenize.NAME and not {token.string, before + token.string} & OTHERS:
            yield token.start[0], token.string
        before = token.string
    for node in ast.walk(tree_of(path)):
        value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and not re.search(r"\s", value):
            yield node.lineno, value


def test_parts_of_identifiers() -> None:
    assert parts_of("FluxTransformer2DModel") >= {"flux", "model"}
    assert parts_of("double_blocks.0.img_attn") >= {"double", "blocks"}
    assert parts_of("T5_XXL") >= {"t5"} and parts_of("t5xxl") == {"t5xxl"}
    assert not parts_of("influx redoubled") & FAMILY_WORDS


def test_the_tests_are_about_this_tree() -> None:
    """And not about another copy that is installed."""
    assert Path(erase_engine.__file__).resolve().parents[1] == ROOT


@pytest.mark.parametrize("folder", ["erase_engine", "nodes", "scripts", "benchmarks"])
def test_a_familys_words_stand_with_the_families(folder: str) -> None:
    wrong = [
        f"{name_of(path)}:{line}: {word}"
        for path in files(folder)
        if not name_of(path).startswith(AT_HOME) and name_of(path) != "nodes/demo.py"
        for line, word in words_of(path)
        if parts_of(word) & FAMILY_WORDS and not WORLDS_OWN.search(word)
    ]
    assert wrong == []
