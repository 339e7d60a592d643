"""Lists the commands of this folder by subject, without importing them."""

import ast
from pathlib import Path

_FOLDER = Path(__file__).parent


def commands() -> dict[str, list[tuple[str, str]]]:
    """Commands by subject: the name after `python -m` and what it shows."""
    entries = {path.stem: path for path in _FOLDER.glob("*.py")}
    entries |= {path.parent.name: path for path in _FOLDER.glob("*/__main__.py")}
    found: dict[str, list[tuple[str, str]]] = {}
    for name, path in sorted(entries.items()):
        target = _launched(path)
        if target is not None:
            package = _FOLDER / target.split(".")[1]
            subject = _summary(package / "__init__.py")
            line = _summary(_FOLDER / Path(*target.split(".")[1:]).with_suffix(".py"))
            found.setdefault(subject, []).append((f"benchmarks.{name}", line))
    return found


def _launched(path: Path) -> str | None:
    """The module that an entry launches, or None for other files."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "launch"
            and isinstance(node.args[0], ast.Constant)
        ):
            return str(node.args[0].value)
    return None


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.split("\n")[0]


def main() -> None:
    """Prints one line per command: how to run it and what it shows."""
    found = commands()
    width = max(len(name) for lines in found.values() for name, _ in lines)
    for subject, lines in sorted(found.items()):
        print(f"\n{subject}")
        for name, summary in lines:
            print(f"  python -m {name:<{width}}  {summary}")
    print("\nOptions of a command: --help. Runs are written to runs/.")


if __name__ == "__main__":
    main()
