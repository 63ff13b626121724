"""The arrows of the design: who may import whom, and where third parties may be touched."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("rps_core", "baselines", "search", "clusters")
ALLOWED = {
    "rps_core": {"rps_core"},
    "baselines": {"baselines", "rps_core.budgets"},
    "clusters": {"clusters"},
    "search": set(OURS),
}
# One gateway for each third party: the files, or the folders, that may import it.
GATEWAYS = {
    "ray": ("clusters/", "search/driver/", "search/stopping/"),
    "optuna": ("search/proposing/", "search/report/convert.py"),
    "duckdb": ("search/results/",),
    "pyarrow": ("search/results/", "search/data/", "search/report/", "search/cli/", "clusters/"),
    "matplotlib": ("search/report/",),
    "sklearn": ("search/report/", "search/data/"),
    "moocore": ("search/results/", "search/proposing/", "search/stopping/"),
    "typer": ("search/cli/",),
    "rich": ("search/cli/",),
}
# Within search, no package may import one that stands above it.
ABOVE = {
    "search.results": {"search.driver", "search.cli", "search.report", "search.trial", "search.training"},
    "search.training": {"search.driver", "search.cli", "search.results", "search.trial", "search.proposing"},
    "search.data": {"search.driver", "search.cli", "search.results", "search.trial", "search.training"},
    "search.models": {"search.driver", "search.cli", "search.results", "search.trial", "search.training"},
    "search.methods": {"search.driver", "search.cli", "search.results", "search.trial", "search.training"},
    "search.spec": {"search.driver", "search.cli", "search.results", "search.trial", "search.data", "search.models"},
    "search.space": {"search.driver", "search.cli", "search.results", "search.trial", "search.proposing"},
    "search.proposing": {"search.driver", "search.cli", "search.results", "search.trial"},
    "search.trial": {"search.driver", "search.cli", "search.results", "search.proposing"},
    "search.driver": {"search.cli", "search.report", "search.exporting"},
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Return the full names of all that a file imports, inside functions too; not what only a type checker sees."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = [path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))]


def under(name: str, parent: str) -> bool:
    return name == parent or name.startswith(parent + ".")


def test_packages_point_one_way():
    wrong = [
        f"{module_of(path)} imports {name}"
        for path in FILES
        for name in imports(path)
        if name.partition(".")[0] in OURS
        and not any(under(name, allowed) for allowed in ALLOWED[path.relative_to(ROOT).parts[0]])
    ]
    assert not wrong


def test_within_search_nothing_reaches_up():
    wrong = [
        f"{module_of(path)} imports {name}"
        for path in FILES
        for below, above in ABOVE.items()
        if under(module_of(path), below)
        for name in imports(path)
        if any(under(name, upper) for upper in above)
    ]
    assert not wrong


@pytest.mark.parametrize("package", GATEWAYS)
def test_third_parties_have_their_gateways(package):
    wrong = [
        f"{path.relative_to(ROOT)} imports {package}"
        for path in FILES
        if any(under(name, package) for name in imports(path))
        and not str(path.relative_to(ROOT)).startswith(GATEWAYS[package])
    ]
    assert not wrong


@pytest.mark.parametrize("package", ["rps_core", "baselines"])
def test_the_methods_stand_on_torch_alone(package):
    known = {"torch", "numpy", "safetensors", "triton", "rps_core", "baselines"}
    wrong = {
        f"{module_of(path)} imports {name}"
        for path in FILES
        if path.is_relative_to(ROOT / package)
        for name in imports(path)
        if name.partition(".")[0] not in known | set(__import__("sys").stdlib_module_names)
    }
    assert not wrong


def test_modules_do_not_import_each_other_in_circles():
    """Only imports that run when a module is loaded count."""
    names = {module_of(path) for path in FILES}
    graph: dict[str, set[str]] = {}
    for path in FILES:
        targets = {name if name in names else name.rpartition(".")[0] for name in imports(path, top_level_only=True)}
        graph[module_of(path)] = (targets & names) - {module_of(path)}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"a circle: {' -> '.join([*trail[trail.index(module) :], module])}"
        if module not in done:
            for target in sorted(graph[module]):
                walk(target, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        walk(module, ())


def test_files_stay_small():
    long = {module_of(path): count for path in FILES if (count := len(path.read_text().splitlines())) > 330}
    assert not long
