"""YAML text → plain values that know where they stand; refuses what a spec can't mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from mlscale.errors import Problem

LARGEST_BYTES = 1_000_000
MOST_NODES = 10_000
DEEPEST = 50

Path: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[int, int]

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Tree:
    """A document's values, and where each stands: `keys` for a mapping's key, `values` for what it holds.

    `plain` has the paths of scalars written without quotes: only those are typed again when a variable fills them.
    """

    value: Any = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    plain: set[Path] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def tree_of(text: str | bytes, file: str) -> Tree:
    """Return the tree of a document; `problems` says what is wrong with it, and then `value` may be None."""
    tree = Tree()
    if len(text) > LARGEST_BYTES:
        why = f"{len(text):,} bytes, {LARGEST_BYTES:,} at most"
        return _refused(tree, Problem(file, 1, 1, "the spec is too large", why, "a spec names files, it holds none"))
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            column = error.start - error.object.rfind(b"\n", 0, error.start)
            why = f"byte 0x{error.object[error.start]:02x}"
            return _refused(tree, Problem(file, line, column, "the spec is not UTF-8", why, "save it as UTF-8"))
    root = _composed(text, file, tree)
    if root is None:
        return tree
    if not isinstance(root, yaml.MappingNode):
        line, column = _place(root)
        return _refused(tree, Problem(file, line, column, "the spec is not a mapping", "it must have keys like name:"))
    _Reader(file, tree).read(root)
    return tree


def _refused(tree: Tree, problem: Problem) -> Tree:
    tree.problems.append(problem)
    return tree


def _composed(text: str, file: str, tree: Tree) -> yaml.Node | None:
    depth = _depth_problem(text, file)
    if depth:
        tree.problems.append(depth)
        return None
    loader = _Loader(text)
    try:
        root: yaml.Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        words = error.problem or error.context or "it can't be read"
        if error.context == "expected a single document in the stream":
            words = "one document a file"
        tree.problems.append(Problem(file, line, column, "this is not YAML", words, "check indentation and colons"))
        return None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reader = getattr(error, "position", None)
        line = text.count("\n", 0, reader) + 1 if isinstance(reader, int) else 1
        words = str(error).splitlines()[0]
        tree.problems.append(Problem(file, line, 1, "this is not YAML", words, "remove the special character"))
        return None
    finally:
        loader.dispose()
    if root is None:
        hint = "mlscale init makes one"
        tree.problems.append(Problem(file, 1, 1, "the spec is empty", "it must have keys like name:", hint))
    return root


def _depth_problem(text: str, file: str) -> Problem | None:
    """Return a problem when brackets nest so deeply that reading them would exhaust the stack."""
    depth = 0
    for number, line in enumerate(text.split("\n"), start=1):
        indent = len(line) - len(line.lstrip(" -?"))
        depth += line.count("[") + line.count("{") - line.count("]") - line.count("}")
        if depth > DEEPEST or indent > DEEPEST * 4:
            return Problem(file, number, 1, "the spec nests too deeply", f"{DEEPEST} levels at most")
    return None


class _Reader:
    """Turns nodes into values; remembers places, and counts what aliases unfold to."""

    def __init__(self, file: str, tree: Tree) -> None:
        self._file = file
        self._tree = tree
        self._count = 0
        self._open: set[int] = set()
        self._constructor = yaml.constructor.SafeConstructor()

    def read(self, root: yaml.Node) -> None:
        self._tree.value = self._value(root, ())

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._count += 1
        self._tree.values[path] = _place(node)
        if self._count > MOST_NODES:
            if self._count == MOST_NODES + 1:
                self._problem(node, "the spec unfolds to too much", f"{MOST_NODES:,} values at most, aliases unfolded")
            return None
        if id(node) in self._open or len(path) > DEEPEST:
            self._problem(node, "the spec nests too deeply", "an alias holds itself" if id(node) in self._open else "")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self._value(each, (*path, number)) for number, each in enumerate(node.value)]
            return dict(self._entries(node, path))
        finally:
            self._open.discard(id(node))

    def _entries(self, node: yaml.Node, path: Path) -> Iterator[tuple[str, Any]]:
        first: dict[str, Place] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key_node.tag not in _TEXTLIKE:
                self._problem(key_node, "this key is not a word", f"it is {_kind(key_node)}", "write it in quotes")
                continue
            if key == "<<":
                self._problem(key_node, "a merge key is not allowed", "<<", "use environments: for variations")
                continue
            if key in first:
                self._problem(key_node, f"{key} is written twice", f"first in line {first[key][0]}", "keep one of them")
                continue
            first[key] = _place(key_node)
            self._tree.keys[(*path, key)] = first[key]
            yield key, self._value(value_node, (*path, key))

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        if node.style is None:
            self._tree.plain.add(path)
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind in ("str", "timestamp", "value"):
            return node.value
        try:
            match kind:
                case "null" | "bool" | "int" | "float":
                    return getattr(self._constructor, f"construct_yaml_{kind}")(node)
                case _:
                    hint = "remove the tag"
                    self._problem(node, f"a value of type {node.tag} is not allowed", "plain values only", hint)
        except (ValueError, KeyError, IndexError, OverflowError):
            self._problem(node, "this is not a value that YAML can read", node.value[:60], "write it in quotes")
        return None

    def _problem(self, node: yaml.Node, what: str, why: str = "", hint: str = "") -> None:
        line, column = _place(node)
        self._tree.problems.append(Problem(self._file, line, column, what, why, hint))


_TEXTLIKE = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "value", "merge"))


def typed(text: str) -> Any:
    """Return what YAML makes of a plain scalar: `4` → 4, `true` → True, `a` → `a`."""
    tree = tree_of(f"value: {text}" if text else "value:", "")
    return tree.value["value"] if not tree.problems and isinstance(tree.value, dict) else text


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _kind(node: yaml.Node) -> str:
    return {"bool": "true or false to YAML", "int": "a number", "null": "nothing"}.get(
        node.tag.removeprefix("tag:yaml.org,2002:"), "a list or mapping" if not isinstance(node.value, str) else "odd"
    )
