"""The house keeps its own rules: imports one way, notebooks stripped, commands that exist, nothing of one machine."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import typer

ROOT = Path(__file__).parents[1]
ROOMS = ("gmsa_models", "analysis", "figures")
LONGEST_FILE = 400
LONGEST_HEAD = 10  # lines of a module's docstring; theory stands in docs/concepts
MOST_ERRORS = 25  # a new one only for what a caller handles in another way
# Words that say what happened to a thing, and not what it is.
COINED = {
    "afresh", "asked", "came", "chances", "crew", "doubtful", "firsts", "found", "given", "gone", "having",
    "heard", "hearing", "held", "judge", "lacking", "look", "looked", "met", "mine", "misfit", "odd", "offer",
    "ours", "partner", "rivals", "said", "seal", "sealed", "seeing", "sees", "settle", "settled", "sole",
    "spoil", "spoiled", "story", "strange", "telling", "theirs", "there", "told", "untold",
}  # fmt: skip
# Of those, what files of earlier versions call a table that a figure is drawn from.
KEPT_NAMES = {"figures/paper/evidence.py": {"found"}}
# Where a file of one machine would lie, or a tool of one workplace.
MACHINE = re.compile(r"(?<![\w.])/(?:work|home|root|Users|tmp|mnt|var)/\w|\.library\b|[A-Z]:\\\\Users")


def tracked() -> list[Path]:
    """Every file that git knows and that is there; without git, every file of the rooms and the tests."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        names = [ROOT / name for name in done.stdout.split("\0") if name]
        return [path for path in names if path.is_file()]
    return [path for room in (*ROOMS, "tests") for path in (ROOT / room).rglob("*") if path.is_file()]


def texts() -> list[tuple[Path, str]]:
    """Tracked files that are UTF-8 text."""
    found = []
    for path in tracked():
        try:
            found.append((path, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return found


def commands() -> dict[str, typer.core.TyperCommand]:
    import gmsa

    return typer.main.get_command(gmsa.app).commands


def test_imports_point_one_way():
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_module_of_figures_loads_without_torch():
    script = (
        "import importlib, pkgutil, sys\nfor name in ('torch', 'captum'): sys.modules[name] = None\nimport figures\n"
        "for each in pkgutil.walk_packages(figures.__path__, 'figures.'): importlib.import_module(each.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_figures_copy_no_constant_from_below():
    def collections(room: str) -> set[tuple[str, str]]:
        found = set()
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple | ast.List | ast.Dict):
                    found |= {(ast.unparse(each), ast.unparse(node.value)) for each in node.targets}
        return {(name, value) for name, value in found if not name.lstrip("(").startswith("_")}

    assert "MODEL_ATTRIBUTES" in {name for name, _ in collections("analysis")}
    assert not collections("figures") & (collections("analysis") | collections("gmsa_models"))


def test_the_command_line_alone_imports_all_rooms():
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {name.split(".")[0] for name in names} & {"gmsa", "tests"}, path


def test_notebooks_carry_no_output():
    books = [path for path in tracked() if path.suffix == ".ipynb"]
    assert books
    done = subprocess.run(
        [sys.executable, "-m", "nbstripout", "--verify", *books], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_no_file_names_a_place_on_one_machine():
    for path, text in texts():
        if path == Path(__file__):
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            found = MACHINE.search(line)
            assert not found, f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"


def test_no_file_is_pickle_and_none_is_of_the_real_data():
    for path in tracked():
        assert path.suffix not in {".pkl", ".pickle", ".pt", ".pth", ".tfrecord"}, path


def test_files_are_short():
    for path, text in texts():
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] != "tests":
            assert len(text.splitlines()) <= LONGEST_FILE, path


def test_heads_of_modules_are_short_and_the_pages_that_they_name_exist():
    for path, text in texts():
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in (*ROOMS, "gmsa"):
            head = ast.get_docstring(ast.parse(text)) or ""
            assert len(head.splitlines()) <= LONGEST_HEAD, path
            for page in re.findall(r"docs/[\w/]+\.md", text):
                assert (ROOT / page).is_file(), f"{path}: {page}"


def test_nothing_is_left_for_later():
    unfinished = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX|NotImplemented" r"Error)\b")
    for path, text in texts():
        if path.suffix == ".py":
            assert not unfinished.search(text), path


def test_every_command_says_what_it_does_and_what_its_options_mean():
    for name, command in commands().items():
        assert command.help, name
        for parameter in command.params:
            if parameter.name != "help":
                assert parameter.opts, (name, parameter.name)


def test_every_name_that_a_package_exports_is_there():
    for package in ("analysis", "gmsa_models", "gmsa_models.data", "figures.inspector"):
        module = importlib.import_module(package)
        assert {name for name in module.__all__ if not hasattr(module, name)} == set(), package


def defined_names(tree: ast.Module) -> set[str]:
    """What stands at the top of a module: definitions, assignments, imports, and what it loads when asked."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {each.asname or each.name for each in node.names}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {each.id for target in targets if target for each in ast.walk(target) if isinstance(each, ast.Name)}
    return names


def exported_names(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return None


def test_every_module_exports_what_exists_and_what_others_use():
    """In `__all__` of each public module: all that others import from it; else only classes and what others name."""
    files = {path: text for path, text in texts() if path.suffix in {".py", ".md", ".ipynb"}}
    trees = {path: ast.parse(text) for path, text in files.items() if path.suffix == ".py"}
    words = Counter(word for text in files.values() for word in set(re.findall(r"\w+", text)))
    imported: dict[str, set[str]] = {}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and path.relative_to(ROOT).parts[0] != "tests":
                imported.setdefault(node.module or "", set()).update(each.name for each in node.names)
    for path, tree in trees.items():
        parts = path.relative_to(ROOT).with_suffix("").parts
        own = {name for name in defined_names(tree) if not name.startswith("_")}
        if parts[0] not in (*ROOMS, "gmsa") or parts[-1] == "__main__" or not own:
            continue
        exported = exported_names(tree)
        assert exported is not None, f"{path}: no __all__"
        assert set(exported) <= own, path
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules = {other.relative_to(ROOT).stem for other in trees if other.parent == path.parent}
        missing = {name for name in imported.get(module, set()) & own if not name.startswith("_")} - set(exported)
        assert not missing - modules, f"{path}: {missing} are imported from it"
        classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        assert not {name for name in exported if name not in classes and words[name] < 2}, f"{path}: used nowhere else"


def classes() -> dict[str, list[ast.ClassDef]]:
    """Every public class at the top of a module of the rooms, by its name."""
    by_name: dict[str, list[ast.ClassDef]] = {}
    for path in tracked():
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in (*ROOMS, "gmsa"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    by_name.setdefault(node.name, []).append(node)
    return by_name


def test_no_two_public_classes_share_a_name():
    assert len(classes()) > 100
    assert {name for name, nodes in classes().items() if len(nodes) > 1} == set()


def test_errors_have_one_base_and_few_kinds():
    bases = {name: {ast.unparse(base) for base in nodes[0].bases} for name, nodes in classes().items()}

    def ancestors(name: str) -> set[str]:
        return bases.get(name, set()).union(*(ancestors(base) for base in bases.get(name, ())))

    kinds = {name: ancestors(name) for name in bases if name.endswith("Error")}
    assert kinds["GMSAError"] == {"Exception"}
    assert {name for name, above in kinds.items() if "GMSAError" not in above} == {"GMSAError"}
    assert len(kinds) <= MOST_ERRORS
    # What a caller catches who knows nothing of this software.
    plain = {"ArithmeticError", "FileNotFoundError", "KeyError", "OSError", "RuntimeError", "ValueError"}
    assert {name for name, above in kinds.items() if not above & plain} == {"GMSAError"}
    named = {name for name in bases if ancestors(name) & (plain | {"Exception"})}
    assert named == set(kinds)  # an error is called one


def bound_names(tree: ast.Module) -> set[str]:
    """What a module binds anywhere: variables, arguments, attributes, functions, classes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


def test_names_are_terms_of_the_field():
    used = {}
    for path in tracked():
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in (*ROOMS, "gmsa"):
            names = {name.strip("_") for name in bound_names(ast.parse(path.read_text(encoding="utf-8")))}
            used[path.relative_to(ROOT).as_posix()] = names & COINED
    assert {path: names for path, names in used.items() if names} == KEPT_NAMES


def test_every_package_says_that_it_is_typed_and_no_module_is_exempt():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["mypy"]["strict"]
    for override in settings["tool"]["mypy"]["overrides"]:
        assert set(override) == {"module", "ignore_missing_imports"}, override["module"]
    for package in (*ROOMS, "gmsa"):
        assert (ROOT / package / "py.typed").is_file(), package
        assert "py.typed" in settings["tool"]["setuptools"]["package-data"][package], package
