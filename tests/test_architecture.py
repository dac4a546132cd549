"""The plan of the house: rooms in the order of the flow, nothing imports upward, no circle, no module too long."""

import ast
from collections import defaultdict
from graphlib import TopologicalSorter

import pytest

from harness.compute.places import PACKAGE, ROOT

# A room may import from those before it, and everything from the modules at the root of the package.
ORDER = (
    *("compute", "methods", "plugins", "kernels", "gpu_kernels", "data", "settings", "storage", "blocks", "estimators"),
    *("training", "evaluation", "comparison", "reporting", "check", "verify", "bench", "api", "worker", "cli"),
)
LONGEST, MOST_AT_THE_ROOT = 400, 8


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in PACKAGE.rglob("*.py")}


def imports(path):
    """Modules of the harness that a file imports anywhere, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def room(module):
    """The folder of a module; None at the root of the package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else None


IMPORTS = {
    module: {found for found in imports(path) if found in MODULES and found != module}
    for module, path in MODULES.items()
}


def test_every_folder_is_a_room():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders == set(ORDER)


def test_few_files_stand_at_the_root():
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_AT_THE_ROOT


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_is_imported_against_the_flow(module):
    if module in ("harness", "harness.__main__"):  # the ways in, which load everything on demand
        return
    here = ORDER.index(room(module)) if room(module) else -1
    upward = {found for found in IMPORTS[module] if room(found) and ORDER.index(room(found)) > here}
    assert not upward, f"{module} imports {', '.join(sorted(upward))}"


def test_no_modules_import_each_other_in_a_circle():
    within = defaultdict(set)
    for module, found in IMPORTS.items():
        if module == "harness":
            continue
        # a package that gathers its own modules is no circle with one that names the package's parts
        within[module] |= {each for each in found if each != "harness" and not module.startswith(f"{each}.")}
    list(TopologicalSorter(within).static_order())


@pytest.mark.parametrize("module", sorted(MODULES))
def test_modules_are_short_enough_to_read(module):
    assert len(MODULES[module].read_text().splitlines()) <= LONGEST


def test_methods_import_what_plugins_may():
    allowed = ("harness.method", "harness.methods", "harness.blocks", "harness.errors", "harness.estimators")
    allowed += ("harness.ranges", "harness.kernels")
    for path in (ROOT / "methods").glob("*.py"):
        for found in imports(path):
            if found.startswith("harness"):
                assert found.startswith(allowed), f"{path.name} imports {found}"
