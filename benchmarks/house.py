"""How the package is built, in numbers: rooms and imports between them, and the longest of what grows unseen.

    python -m benchmarks.house [ROOT ...]

ROOT: a folder that holds the folder dcgan_eval, such as a checkout of another commit; by default this one. A room is a
module or a package directly below dcgan_eval.
"""

import argparse
import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def measured(root: Path) -> dict[str, str]:
    """Every number of one checkout, by what it counts."""
    package = root / "dcgan_eval"
    trees = {
        path.relative_to(package): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))
    }
    nodes = [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]
    rooms = {room(path) for path in trees}
    imports = {
        (path, other)
        for path, node in nodes
        for name in _imported(node)
        if (other := name.split(".")[1]) in rooms and other != room(path)
    }
    functions = [(path, node) for path, node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    longest = max(functions, key=lambda found: _lines(found[1]))
    widest = max(functions, key=lambda found: len(_parameters(found[1])))
    classes = [node for _, node in nodes if isinstance(node, ast.ClassDef)]
    return {
        "rooms": f"{len(rooms)}",
        "imports of another room, by file": f"{len(imports)}",
        "arrows between rooms": f"{len({(room(path), other) for path, other in imports})}",
        "lines": f"{sum(len((package / path).read_text(encoding='utf-8').splitlines()) for path in trees):,}",
        "longest function": f"{_lines(longest[1])} lines ({longest[0]}: {longest[1].name})",
        "longest parameter list": f"{len(_parameters(widest[1]))} ({widest[0]}: {widest[1].name})",
        "constructions of Row": f"{sum(_is_call(node, 'Row') for _, node in nodes)}",
        "enumerations": f"{sum(any(ast.unparse(base).endswith('Enum') for base in c.bases) for c in classes)}",
        "declarations of an option --seed": f"{sum(_declares_seed(node) for _, node in nodes)}",
    }


def room(path: Path) -> str:
    """'options' of options.py, 'features' of everything in features/."""
    return path.parts[0].removesuffix(".py")


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return []
    return [name for name in names if name.startswith("dcgan_eval.")]


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _is_call(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == name


def _declares_seed(node: ast.AST) -> bool:
    """A parameter or an alias that says what a seed on the command line may be."""
    text = ast.unparse(node) if isinstance(node, ast.arg | ast.Assign) else ""
    return "Option(" in text and text.lower().startswith(("seed:", "seed ="))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", type=Path, nargs="*", default=[ROOT], metavar="ROOT")
    found = [measured(root) for root in parser.parse_args().roots]
    for name in found[0]:
        print(f"{name:34}" + "".join(f"{each[name]:55}" for each in found).rstrip())


if __name__ == "__main__":
    main()
