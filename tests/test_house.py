"""The house: which rooms may use which, how long a module is, and how much of Lightning's inside is touched."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "popularity"
MODULES = sorted(PACKAGE.rglob("*.py"))
#: From the top: a module may import what stands in its own line or in a later one.
ORDER = (
    ("__main__",),
    ("cli", "tuning", "compare"),
    ("reports",),
    ("evaluation",),
    ("inference",),
    ("training",),
    ("models",),
    ("features",),
    ("data",),
    ("metrics", "plots"),
    ("help", "parsing"),
    ("io", "program", "remote"),
    ("errors",),
)
#: Rooms that may not import each other: fits and searches know nothing of comparisons.
APART = ({"cli", "tuning", "compare"}, *({one, two} for one in ("cli", "tuning") for two in ("reports", "evaluation")))
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def room(module: str) -> str:
    """Room of ``popularity.ROOM. ...``; the package itself is in none."""
    return module.partition(".")[2].partition(".")[0]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {module for module in found if module.startswith("popularity.")}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path):
    here = room(name_of(path))
    if not here:
        return  # the package's own file names what is public, and loads it when it is first used
    for module in imports(path):
        there = room(module)
        if there.startswith("__"):
            continue  # popularity.__version__
        assert there in LEVEL, f"{module}: a room without a place in ORDER"
        assert LEVEL[here] <= LEVEL[there], f"{name_of(path)} imports {module}, which stands above it"
        apart = here != there and any({here, there} <= rooms for rooms in APART)
        assert not apart, f"{name_of(path)} imports its neighbour {module}"


def test_every_room_has_a_place():
    assert {room(name_of(path)) for path in MODULES} - {""} == set(LEVEL)


def test_modules_are_short():
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > 300} == {}
    assert statistics.median(lengths.values()) < 150


#: Private names of Lightning in use, each with its reason beside it in the code.
PRIVATE = {
    "popularity.cli": {"_parse_ckpt_path", "_prepare_subcommand_parser"},
    "popularity.training.callbacks": {"_average_model"},
    "popularity.training.processes": {"_signal_connector", "_sigterm_notifier_fn"},
}


def test_few_private_names_of_lightning_are_used():
    """Names with an underscore that a module reads or overrides and that Lightning's own files define."""
    import lightning.pytorch

    source = Path(lightning.pytorch.__file__).parent

    def names_in(paths):
        texts = [path.read_text(encoding="utf-8") for path in paths]
        return {name for text in texts for name in re.findall(r"(?:self\.|def )(_[a-z]\w+)", text)}

    extended = names_in([source / "cli.py", *(source / "callbacks").rglob("*.py"), *(source / "loggers").rglob("*.py")])
    every = names_in(source.rglob("*.py"))
    found: dict[str, set[str]] = {}
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        ours = defined | {
            node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "self"
        }
        used = {node.attr for node in attributes}
        if "lightning" in text and (names := (used - ours) & every | (used | defined) & extended):
            found[name_of(path)] = names
    assert found == PRIVATE
    assert sum(map(len, PRIVATE.values())) <= 6
