"""The shape of the package: floors, cycles, budgets, forbidden calls, and one file of each kind for every op."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import tiny

ROOT = tiny.ROOT
PACKAGE = ROOT / "refmoe"
MODULES = {path.relative_to(PACKAGE).as_posix().removesuffix(".py"): path for path in PACKAGE.rglob("*.py")}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}
(SOURCES,) = (ast.literal_eval(node.value) for node in TREES["jit"].body
              if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SOURCES")  # fmt: skip

# A module imports only from lower floors, or from its own folder where the floor says so. Prefix -> floor; the longest
# prefix counts. Within one floor, single modules may import each other as long as there is no cycle.
FLOORS = {
    "__init__": 0, "errors": 0, "jit": 0, "numerics": 0, "steps": 0, "places": 0,
    "kernels": 1, "weight": 1,
    "formats": 2,
    "ops": 3,
    "signature": 4, "config": 4, "program": 4, "program_text": 4, "static_check": 4, "archs": 4,
    "assemble": 4,
    "checkpoint": 5, "kvcache": 5, "decode": 5, "decode_plan": 5,
    "engine": 6,
    "model": 7, "sampler": 7, "text": 7, "detokenize": 7, "generate": 7, "trace": 7, "golden": 7, "verify": 7,
    "comparison": 7, "quantize": 7, "capture": 7, "spec": 7, "info": 7, "bench": 7, "synthetic": 7, "verifier": 7,
    "vocab": 7, "chat": 7, "suggested": 7,
    "endpoint": 7, "published": 7, "conformance": 7, "verify_checkpoint": 7, "structure": 7,
    "cli": 8, "__main__": 8, "pytest_plugin": 8,
}  # fmt: skip
BUDGETS = {"ops": 110, "formats": 150, "archs": 120, "cli": 200}  # of one file; all others 300
SPECIAL_BUDGETS = {
    "archs/parts": (150, "fragments of all families: the files that use it stay below 80"),
    "numerics/vec": (520, "some fifty intrinsics of one instruction each, which belong together"),
    "kernels/matmul": (330, "one row, many rows and grouped rows share tables, packing and tiles"),
    "ops/__init__": (60, "the registry"),
    "formats/__init__": (160, "the registry, and what all formats are asked for"),
}
WITHOUT_NUMBA = ("signature", "config", "program", "program_text", "static_check", "steps", "spec")
SIBLINGS = ("ops", "formats", "archs")
DEFINING = ("ops/", "formats/", "numerics/", "kernels/", "engine", "kvcache")


def floor(module: str) -> int:
    """The floor of a module by its longest listed prefix."""
    while module not in FLOORS:
        assert "/" in module, f"{module}: not in FLOORS"
        module = module.rpartition("/")[0]
    return FLOORS[module]


def imports(module: str) -> set[str]:
    """Modules of the package that a module imports anywhere in it."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    found = {name.removeprefix("refmoe").removeprefix(".").replace(".", "/") for name in found if
             name.partition(".")[0] == "refmoe"}  # fmt: skip
    names = {name if name in MODULES else f"{name}/__init__".removeprefix("/") for name in found}
    return {name for name in names if name in MODULES} - {module}


def folder(module: str) -> str:
    """First part of a module's path, "" for those at the top."""
    return module.partition("/")[0] if "/" in module else ""


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_come_from_lower_floors(module):
    for other in imports(module):
        same = floor(other) == floor(module)
        assert floor(other) <= floor(module), f"{module} imports {other} from a higher floor"
        if same and folder(module) in SIBLINGS and folder(other) == folder(module):
            shared = ("archs/parts", "archs/parts_latent", f"{folder(module)}/__init__")
            assert other in shared, f"{module} imports its sibling {other}"


def test_no_import_cycles():
    state: dict[str, str] = {}

    def visit(module: str, path: tuple[str, ...]) -> None:
        if state.get(module) == "done":
            return
        assert state.get(module) != "open", " -> ".join([*path, module])
        state[module] = "open"
        for other in sorted(top_level(module)):
            visit(other, (*path, module))
        state[module] = "done"

    for module in sorted(MODULES):
        visit(module, ())


def top_level(module: str) -> set[str]:
    """Imports that happen when the module is imported; those inside functions can close no cycle. The package itself
    imports nothing but errors."""
    inside = {node for function in ast.walk(TREES[module]) if isinstance(function, ast.FunctionDef | ast.Lambda)
              for node in ast.walk(function)}  # fmt: skip
    body = [node for node in ast.walk(TREES[module]) if node not in inside]
    guarded = {node for test in body if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
               for node in ast.walk(test)}  # fmt: skip
    found = set()
    for node in body:
        if isinstance(node, ast.ImportFrom) and node not in guarded and (node.module or "").startswith("refmoe"):
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                key = name.removeprefix("refmoe").removeprefix(".").replace(".", "/")
                found.add(key if key in MODULES else f"{key}/__init__".removeprefix("/"))
    return {name for name in found if name in MODULES} - {module, "__init__"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_line_budget(module):
    lines = len(MODULES[module].read_text("utf-8").splitlines())
    budget, _ = SPECIAL_BUDGETS.get(module, (BUDGETS.get(folder(module), 300), ""))
    assert lines <= budget, f"{module}: {lines} lines, the budget is {budget}: split or simplify"


def test_special_budgets_are_needed_and_have_a_reason():
    for module, (budget, reason) in SPECIAL_BUDGETS.items():
        assert module in MODULES and reason and budget != BUDGETS.get(folder(module), 300)


def test_programs_are_built_without_numba():
    code = f"""
import importlib, sys
for name in ("numba", "llvmlite"):
    sys.modules[name] = None
for name in {[*WITHOUT_NUMBA, *(f"archs/{n}" for n in ("llama", "qwen3_moe"))]}:
    importlib.import_module("refmoe." + name.replace("/", "."))
from refmoe import program
import json
built = program.build(json.load(open(sys.argv[1])))
print(built.arch, "numpy" in sys.modules)
"""
    assert tiny.python(code, str(tiny.TINY / "qwen3_moe" / "config.json")).split() == ["qwen3_moe", "False"]


def test_the_package_itself_imports_nothing_heavy():
    code = "import sys, refmoe, refmoe.cli; print([m for m in ('numpy', 'numba', 'tokenizers') if m in sys.modules])"
    assert tiny.python(code).strip() == "[]"


FORBIDDEN = {
    *(f"np.{name}" for name in (
        "sum", "dot", "mean", "exp", "sin", "cos", "tan", "tanh", "log", "log2", "power", "einsum", "matmul", "inner",
        "vdot", "tensordot", "var", "std", "prod", "cumsum", "average", "add.reduce", "add.accumulate", "linalg.norm")),
    *(f"math.{name}" for name in ("exp", "log", "log2", "pow", "sin", "cos", "tanh", "fsum", "sqrt")),
}  # fmt: skip
ALLOWED = {
    ("engine", "np.cumsum"): "row numbers, integers",
    ("kernels/matmul", "rows.sum"): "row numbers, integers",
}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith(DEFINING)))
def test_forbidden_calls(module):
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            method = isinstance(node.func, ast.Attribute) and node.func.attr in ("sum", "dot", "mean", "cumsum")
            forbidden = name in FORBIDDEN or (method and not name.startswith(("reduce.", "np.")))
            assert not forbidden or (module, name) in ALLOWED, f"{module}:{node.lineno}: {name}"
        if isinstance(node, ast.BinOp | ast.AugAssign):
            assert not isinstance(node.op, ast.MatMult), f"{module}:{node.lineno}: @"
        if isinstance(node, ast.keyword):
            assert node.arg != "fastmath", f"{module}: fastmath"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_numba_only_through_jit(module):
    for node in ast.walk(TREES[module]):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] in ("numba", "llvmlite") and module != "jit":
                allowed = ("numerics/fma", "numerics/vec", "numerics/vec_bytes", "numerics/vec_int",
                           "numerics/vec_codes", "numerics/vec_dots", "numerics/vec_panels", "numerics/vec_unpack")
                assert module in allowed, f"{module}: {name}"
                assert name.startswith(("numba.core", "numba.np.arrayobj", "llvmlite")), f"{module}: {name}"


def kernels(tree: ast.AST) -> list[ast.FunctionDef]:
    """Functions compiled by jit.kernel, jit.inlined or jit.item_kernel."""
    names = {"kernel", "item_kernel", "inlined"}
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
            and any(ast.unparse(d).rpartition(".")[2] in names for d in node.decorator_list)]


def test_kernels_use_only_sources_that_name_the_compile_cache():
    places = {name.removesuffix(".py") for name in SOURCES}
    for module, tree in TREES.items():
        found = kernels(tree)
        assert not found or module in places or folder(module) in places, f"{module}: not in jit.SOURCES"
        used = {node.id for function in found for node in ast.walk(function) if isinstance(node, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("refmoe"):
                source = node.module.removeprefix("refmoe").removeprefix(".").partition(".")[0]
                for alias in node.names:
                    origin = source or alias.name
                    assert alias.name not in used or origin in places, f"{module}: {alias.name} of {node.module}"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if folder(name) in ("ops", "formats")))
def test_no_bare_float_literals_in_kernels(module):
    for function in kernels(TREES[module]):
        wrapped = {node for call in ast.walk(function) if isinstance(call, ast.Call)
                   and ast.unparse(call.func) in ("np.float32", "np.float64") for node in ast.walk(call)}  # fmt: skip
        for node in ast.walk(function):
            if isinstance(node, ast.Constant) and isinstance(node.value, float):
                assert node in wrapped, f"{module}:{node.lineno}: {node.value} outside np.float32(...)"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if folder(name) in ("ops", "formats", "kernels")))
def test_kernels_are_short(module):
    for function in kernels(TREES[module]):
        assert function.end_lineno - function.lineno < 60, f"{module}: {function.name}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_assert_and_no_print(module):
    for node in ast.walk(TREES[module]):
        assert not isinstance(node, ast.Assert), f"{module}:{node.lineno}: assert"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write"):
            assert folder(module) == "cli", f"{module}:{node.lineno}: prints outside refmoe/cli"


OPS = sorted(path.stem for path in (PACKAGE / "ops").glob("[!_]*.py"))
FORMATS = sorted(path.stem for path in (PACKAGE / "formats").glob("[!_]*.py"))


def test_one_op_one_family_one_test_one_oracle():
    assert sorted(path.name for path in (ROOT / "golden" / "ops").iterdir()) == OPS
    assert sorted(path.stem.removeprefix("test_") for path in (ROOT / "tests" / "ops").glob("test_*.py")) == OPS
    oracles = {path.stem for path in (ROOT / "tests" / "oracles").glob("[!_]*.py")}
    assert oracles - set(OPS) <= {"arithmetic", "sampler", *FORMATS, "formats", "blocks"} and set(OPS) <= oracles


def test_one_format_one_family_one_test():
    assert sorted(path.name for path in (ROOT / "golden" / "formats").iterdir()) == FORMATS
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "formats").glob("test_*.py")}
    assert tests - {"processors"} == set(FORMATS)  # that one runs all formats on other instruction sets


def test_every_family_has_vectors_and_every_listed_case_is_there():
    from refmoe import spec

    for kind, names in (("ops", OPS), ("formats", FORMATS)):
        for name in names:
            files = {path.stem for path in (ROOT / "golden" / kind / name).glob("*.safetensors")}
            assert files, f"golden/{kind}/{name} is empty"
            if kind == "ops":
                golden = next(line for line in spec._docstring(PACKAGE / "ops" / f"{name}.py").splitlines()
                              if line.startswith("Golden"))  # fmt: skip
                listed = set(re.findall(r"\w+", golden.partition(":")[2]))
                assert listed <= files, f"{name}: the clause names {sorted(listed - files)}, there is no such case"


def test_oracles_do_not_import_ops():
    for path in (ROOT / "tests" / "oracles").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith(("refmoe.ops", "refmoe.kernels", "refmoe.engine")) for name in names), path


def test_every_architecture_has_a_tiny_model():
    archs = {path.stem for path in (PACKAGE / "archs").glob("[!_]*.py")} - {"parts", "parts_latent"}
    assert {name.partition("-")[0] for name in tiny.NAMES} == archs


def repository() -> list[Path]:
    """Files that are committed or would be."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for line in done.stdout.splitlines() if (path := ROOT / line).is_file()]


def test_no_paths_of_some_machine():
    roots = "|".join(["work", "home", "Users", "root", "opt", "mnt", "private", "tmp"])
    pattern = re.compile(rf"(?<![\w.~$}}/-])/({roots})/[A-Za-z]")
    for path in repository():
        if path.suffix in (".py", ".md", ".toml", ".sh", ".json", ".cfg", "") and path.stat().st_size < 1 << 20:
            for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
                assert not pattern.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"


def test_files_are_small_and_the_top_is_tidy():
    files = repository()
    for path in files:
        assert path.stat().st_size <= 8 << 20, path
    top = {path.relative_to(ROOT).parts[0] for path in files}
    folders = {".ci", "golden", "refmoe", "scripts", "tests"}
    assert top <= folders | {".gitignore", "LICENSE", "README.md", "pyproject.toml"}
    golden = sum(path.stat().st_size for path in files if path.is_relative_to(ROOT / "golden"))
    assert golden < 12_000_000
