"""Lists the benchmarks: every module of this folder that has a `main`."""

import ast
from pathlib import Path


def main() -> None:
    """Prints one line per benchmark: its command and what it shows."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        module = ast.parse(path.read_text())
        functions = {n.name for n in module.body if isinstance(n, ast.FunctionDef)}
        if "main" in functions and path.stem != "__main__":
            summary = (ast.get_docstring(module) or "").split("\n")[0]
            print(f"python -m benchmarks.{path.stem:<14} {summary}")


if __name__ == "__main__":
    main()
