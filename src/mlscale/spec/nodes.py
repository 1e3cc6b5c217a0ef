"""YAML text → plain values that know where they stand; refuses what a spec can't mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from mlscale.errors import Problem

LARGEST_BYTES = 1_000_000
MOST_NODES = 10_000
DEEPEST = 50
TOO_DEEP_FOR_YAML = "exceeded maximum nesting depth"
"""What libyaml says itself of a thousand levels, since PyYAML 6.0.4: it reads that far ahead of what it gives out."""


Path: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[int, int]

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML 1.1 allows nowhere in a document (its production c-printable), and our texts nowhere either."""

_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_NEAR = 2
_LONGEST_SHOWN = 60


@dataclass(slots=True)
class Tree:
    """A document's values, and where each stands: `keys` for a mapping's key, `values` for what it holds.

    `plain` has the text of each scalar written without quotes, as it was written; `spoiled` the paths whose value is
    not what was meant, because a problem is known there.
    """

    value: Any = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    plain: dict[Path, str] = field(default_factory=dict)
    spoiled: set[Path] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def tree_of(text: str | bytes, file: str) -> Tree:
    """Return the tree of a spec; `problems` says what is wrong with it, and then `value` may be None."""
    tree = Tree()
    if len(text) > LARGEST_BYTES:
        why = f"{len(text):,} bytes, {LARGEST_BYTES:,} at most"
        return _refused(tree, Problem(file, 1, 1, "the spec is too large", why, "a spec names files, it holds none"))
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            return _refused(tree, _not_utf8(error, file))
    root = _composed(text.removeprefix("\ufeff"), file, tree)
    if root is None:
        if not tree.problems:
            hint = "mlscale init makes one"
            tree.problems.append(Problem(file, 1, 1, "the spec is empty", "it must have keys like name:", hint))
        return tree
    if not isinstance(root, yaml.MappingNode):
        line, column = _place(root)
        return _refused(tree, Problem(file, line, column, "the spec is not a mapping", "it must have keys like name:"))
    _Reader(file, tree).read(root)
    return tree


def value_of(text: str, file: str) -> Tree:
    """Return the tree of any YAML value, as it stands on a command line: empty is null."""
    tree = Tree()
    root = _composed(text, file, tree)
    if root is not None:
        _Reader(file, tree).read(root)
    return tree


def typed(text: str) -> Any:
    """Return what YAML makes of a plain scalar: `4` → 4, `true` → True, `a` → `a`, nothing → None."""
    text = text.strip()
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
    try:
        return _plain_value(_kind(tag), yaml.ScalarNode(tag, text))
    except (ValueError, LookupError, ArithmeticError):
        return text


def _refused(tree: Tree, problem: Problem) -> Tree:
    tree.problems.append(problem)
    return tree


def _not_utf8(error: UnicodeDecodeError, file: str) -> Problem:
    line, column = _place_after(error.object[: error.start].decode("utf-8"))
    why = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
    return Problem(file, line, column, "the spec is not UTF-8", why, "save it as UTF-8")


def _place_after(text: str) -> Place:
    """Return the place right after `text`, lines counted as YAML counts them."""
    lines = _BREAK.split(text.removeprefix("\ufeff"))
    return len(lines), len(lines[-1]) + 1


def _composed(text: str, file: str, tree: Tree) -> yaml.Node | None:
    """Return the root node, None if there is none or there are problems."""
    if found := _UNPRINTABLE.search(text):
        line, column = _place_after(text[: found.start()])
        why = f"U+{ord(found[0]):04X}"
        tree.problems.append(Problem(file, line, column, "a character is not allowed in YAML", why, "remove it"))
        return None
    try:
        if problem := _excess(text, file):
            tree.problems.append(problem)
            return None
        loader = _Loader(text)
        try:
            root: yaml.Node | None = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        tree.problems.append(_syntax_problem(error, text, file))
        return None
    return root


def _excess(text: str, file: str) -> Problem | None:
    """Return a problem if the document is too deep or has too many values.

    Its events are counted before any tree is made: making one recurses in C, where depth ends the process.
    """
    loader = _Loader(text)
    depth = count = 0
    try:
        while loader.check_event():
            event = loader.get_event()
            count += isinstance(event, yaml.NodeEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            line, column = event.start_mark.line + 1, event.start_mark.column + 1
            if depth > DEEPEST:
                return Problem(file, line, column, "the spec nests too deeply", f"{DEEPEST} levels at most")
            if count > MOST_NODES:
                return Problem(file, line, column, "the spec has too many values", f"{MOST_NODES:,} at most")
    finally:
        loader.dispose()
    return None


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    # At the end of a text without a last line break, libyaml counts a line that is not there.
    line, column = min((mark.line + 1, mark.column + 1), _place_after(text)) if mark else (1, 1)
    if error.problem == TOO_DEEP_FOR_YAML:
        return Problem(file, line, column, "the spec nests too deeply", f"{DEEPEST} levels at most")
    why = error.problem or error.context or "it can't be read"
    lines = text.split("\n")[max(0, line - _NEAR) : line]
    hint = "check indentation, colons and quotes"
    if error.context == "expected a single document in the stream":
        why, hint = "it has several documents", "one deployment a file; give several files instead"
    elif any("\t" in each for each in lines):
        hint = "YAML is indented with spaces, never with tabs"
    elif any("${" in each for each in lines):
        hint = "inside [] and {} a ${VARIABLE} must be in quotes, or the mapping written on lines of its own"
    return Problem(file, line, column, "this is not YAML", why, hint)


class _UnfoldsTooFar(Exception):
    """What the document unfolds to is not worth another look."""


class _Reader:
    """Turns nodes into values; remembers places, and counts what aliases unfold to."""

    def __init__(self, file: str, tree: Tree) -> None:
        self._file = file
        self._tree = tree
        self._count = 0
        self._open: set[int] = set()

    def read(self, root: yaml.Node) -> None:
        """Fill the tree; with a problem alone where aliases unfold to too much."""
        try:
            self._tree.value = self._value(root, ())
        except _UnfoldsTooFar:
            self._tree.value = None
            self._tree.problems = self._tree.problems[-1:]

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._count += 1
        self._tree.values[path] = _place(node)
        if self._count > MOST_NODES:
            self._problem(node, path, "the aliases unfold to too much", f"{MOST_NODES:,} values at most")
            raise _UnfoldsTooFar
        if id(node) in self._open:
            return self._problem(node, path, "an alias holds itself", "", "write the value out")
        if len(path) > DEEPEST:
            return self._problem(node, path, "the spec nests too deeply", f"{DEEPEST} levels at most")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if _kind(node.tag) not in ("map", "seq"):
            return self._problem(node, path, "a tag is not allowed", shown(node.tag), "remove it")
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
            if key is None or _kind(key_node.tag) not in ("str", "merge", "value", "timestamp"):
                self._key_problem(key_node, "a key is not a text", _key_words(key_node), "write it in quotes")
            elif _kind(key_node.tag) == "merge":
                self._key_problem(key_node, "a merge key is not carried out", "<<", "use environments: for variations")
            elif key in first:
                why = f"first in line {first[key][0]}"
                self._key_problem(key_node, f"{shown(key)} is written twice", why, "keep one of them")
            else:
                first[key] = _place(key_node)
                self._tree.keys[(*path, key)] = first[key]
                yield key, self._value(value_node, (*path, key))

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        if not node.style:  # None from PyYAML's own parser, '' from libyaml's
            self._tree.plain[path] = node.value
        kind = _kind(node.tag)
        if kind not in _KINDS:
            return self._problem(node, path, "a tag is not allowed", shown(node.tag), "remove it")
        if found := unprintable(node.value):
            return self._problem(node, path, "a character is not allowed", found, "remove it")
        try:
            return _plain_value(kind, node)
        except (ValueError, LookupError, ArithmeticError):
            return self._problem(node, path, "YAML can't read this value", shown(node.value), "write it in quotes")

    def _problem(self, node: yaml.Node, path: Path, what: str, why: str = "", hint: str = "") -> None:
        self._tree.spoiled.add(path)
        self._key_problem(node, what, why, hint)

    def _key_problem(self, node: yaml.Node, what: str, why: str, hint: str) -> None:
        line, column = _place(node)
        self._tree.problems.append(Problem(self._file, line, column, what, why, hint))


_KINDS = frozenset({"str", "timestamp", "value", "null", "bool", "int", "float"})
_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_RESOLVER: Any = yaml.resolver.Resolver()


def _plain_value(kind: str, node: yaml.ScalarNode) -> Any:
    """Return the value of a scalar; a date stays the text that it is."""
    if kind in ("null", "bool", "int", "float"):
        return getattr(_CONSTRUCTOR, f"construct_yaml_{kind}")(node)
    return node.value


def unprintable(text: str) -> str:
    """Return the first character of `text` that a spec can't hold, like `U+0000`; empty if there is none."""
    found = _UNPRINTABLE.search(text)
    return f"U+{ord(found[0]):04X}" if found else ""


def shown(text: str) -> str:
    """Return `text` fit for a line of a message: cut where it is long, quoted where it would not be seen or read."""
    plain = text if text.strip() and text.isprintable() else repr(text)
    return plain if len(plain) <= _LONGEST_SHOWN else f"{plain[:_LONGEST_SHOWN]}..."


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _kind(tag: str) -> str:
    return tag.removeprefix("tag:yaml.org,2002:")


def _key_words(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        return "it is a list or a mapping"
    kinds = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing"}
    return f"YAML reads {shown(node.value) or 'it'} as {kinds.get(_kind(node.tag), 'something else')}"
