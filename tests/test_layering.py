"""Imports run downward only, and the library stands without the pipeline.

flows > ray_jobs > data_pipeline > adaface.perception;  adaface imports none of the others
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("flows", "ray_jobs", "data_pipeline", "adaface")
# What each package may import of the others.
BELOW = {
    "flows": ("ray_jobs", "data_pipeline", "adaface"),
    "ray_jobs": ("data_pipeline", "adaface"),
    "data_pipeline": ("adaface.perception", "adaface.html_page"),
    "adaface": (),
}
# What a bare GPU machine has; `adaface` runs on these alone, but for the rooms that work on photos.
LIBRARY = {"torch", "diffusers", "transformers", "safetensors", "numpy", "PIL", "huggingface_hub"}
LIBRARY |= {"yaml"}  # comes with transformers
LIBRARY |= {"prodigyopt"}  # one file for training; without it there is AdamW
PHOTO_ROOMS = ("perception", "miniature")
# Files that are imported by those only who have more: an evaluation's configuration, its report.
BESIDES = {
    "adaface/evaluation/config.py": {"pydantic"},
    "adaface/evaluation/measures_config.py": {"pydantic", "adaface.perception"},
    "adaface/evaluation/method_config.py": {"pydantic"},
    "adaface/html_page/render.py": {"jinja2", "markupsafe"},
}


def modules(package: str) -> list[Path]:
    found = sorted((PROJECT / package).rglob("*.py"))
    assert found, f"there is no package {package}"
    return found


def at_once(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a file is imported: not the bodies of functions, nor what is there for type checkers only."""
    yield node
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        if not for_types and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from at_once(child)


def imports(path: Path, nodes: Callable[[ast.AST], Iterator[ast.AST]] = ast.walk) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of every import in a file; by default also inside functions and under TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    package = path.relative_to(PROJECT).parent.parts
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield module, node.lineno
            # `from adaface import perception` names a module by its second half
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def within(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in allowed)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_lies_below_it(package):
    upward = []
    for path in modules(package):
        for name, line in imports(path):
            other = name.partition(".")[0]
            if other not in PACKAGES or other == package:
                continue
            # `from adaface import perception` also yields the bare "adaface", which runs nothing but its docstring
            if within(name, BELOW[package]) or (
                name == other and any(b.startswith(f"{other}.") for b in BELOW[package])
            ):
                continue
            upward.append(f"{path.relative_to(PROJECT)}:{line} imports {name}")
    assert not upward, "\n".join(upward)


def test_the_library_outside_its_photo_rooms_needs_only_torch_and_its_family():
    foreign = []
    for path in modules("adaface"):
        if path.relative_to(PROJECT).parts[1] in PHOTO_ROOMS:
            continue
        besides = BESIDES.get(path.relative_to(PROJECT).as_posix(), set())
        for name, line in imports(path):
            root = name.partition(".")[0]
            if root not in LIBRARY | {"adaface"} | besides and root not in sys.stdlib_module_names:
                foreign.append(f"{path.relative_to(PROJECT)}:{line} imports {name}")
        # who gives photos instead of ID embeddings needs those rooms, but only then
        for name, line in imports(path, at_once):
            if within(name, tuple(f"adaface.{room}" for room in PHOTO_ROOMS)) and not within(name, tuple(besides)):
                foreign.append(f"{path.relative_to(PROJECT)}:{line} imports {name} at once, which needs OpenCV")
    assert not foreign, "\n".join(foreign)


def test_no_package_imports_the_tests():
    guilty = [
        f"{path.relative_to(PROJECT)}:{line}"
        for package in PACKAGES
        for path in modules(package)
        for name, line in imports(path)
        if name.partition(".")[0] in ("tests", "conftest", "pytest")
    ]
    assert not guilty


BLOCKER = """
import importlib.abc, importlib.util, sys

blocked = {blocked!r}

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)

sys.meta_path.insert(0, Blocker())

# libraries ask this whether they may use another one
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.partition(".")[0] in blocked else find_spec(name, package)
)
"""


def run_blocked(code: str, *blocked: str) -> subprocess.CompletedProcess[str]:
    program = BLOCKER.format(blocked=set(blocked)) + code
    return subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=120)


def test_the_blocker_blocks():
    done = run_blocked("import ray", "ray")
    assert done.returncode == 1 and "blocked: ray" in done.stderr


PIPELINE = ("ray", "prefect", "insightface", "onnxruntime", "onnx", "pydantic", "pyarrow", "webdataset")


@pytest.mark.parametrize(
    ("rooms", "blocked"), [("library", (*PIPELINE, "cv2")), ("miniature", PIPELINE)], ids=["library", "miniature"]
)
def test_the_library_imports_without_the_pipeline(rooms: str, blocked: tuple[str, ...]):
    """Every module, as on a machine with only torch, diffusers and transformers; the miniature draws with OpenCV."""
    names = []
    for path in modules("adaface"):
        parts = path.relative_to(PROJECT).with_suffix("").parts
        room = parts[1] if parts[1] in PHOTO_ROOMS else "library"
        if path.relative_to(PROJECT).as_posix() in BESIDES:
            continue
        if room == rooms and parts[-1] != "__main__":
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    assert names
    code = "import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names)
    done = run_blocked(f"{code}\nimport adaface\nprint(adaface.__version__)", *blocked)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_reading_a_dataset_needs_neither_ray_nor_prefect():
    done = run_blocked("import data_pipeline.schema, data_pipeline.storage, data_pipeline.select", "ray", "prefect")
    assert done.returncode == 0, done.stderr
