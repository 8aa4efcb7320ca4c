"""List the tasks."""

import ast
from pathlib import Path


def tasks() -> dict[str, str]:
    """Each app's name and the first line of its docstring, read without importing anything."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        found[path.stem] = (docstring or "").splitlines()[0]
    return found


if __name__ == "__main__":
    print("python -m apps.TASK [OPTIONS]; each takes --help\n")
    for name, line in tasks().items():
        print(f"  {name:12} {line}")
