"""Make mutants of a module: copies of its source in which one operator, constant or statement differs.

Left alone are texts, annotations, decorators, docstrings, log calls and blocks under TYPE_CHECKING: no test should depend on them.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from textwrap import shorten

MAX_SHOWN = 100  # characters of the changed code in a report

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}

_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}

#: Statements that are replaced by `pass`. Assignments are not: that mostly ends in a NameError, which any test notices.
_REMOVABLE = (ast.Expr, ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.Delete)

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`source` is the module with one change. `before` and `after` show the changed code, cut to one line."""

    line: int
    before: str
    after: str
    source: str


@dataclass(frozen=True, slots=True)
class _Change:
    """Replaces the node at `position` in the order of ast.walk, with what `edit` makes of it."""

    position: int
    edit: Callable[[ast.AST], ast.AST]


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    changes = list(_changes(tree))
    nodes = list(ast.walk(tree))
    for change in sorted(changes, key=lambda change: getattr(nodes[change.position], "lineno", 0)):
        yield _mutant(tree, change)


def _mutant(tree: ast.Module, change: _Change) -> Mutant:
    mutated = copy.deepcopy(tree)
    node = list(ast.walk(mutated))[change.position]
    before = _first_line(node)
    replacement = change.edit(node)
    after = _first_line(replacement)
    if replacement is not node:
        _replace(mutated, node, replacement)
    return Mutant(getattr(node, "lineno", 0), before, after, ast.unparse(ast.fix_missing_locations(mutated)) + "\n")


def _first_line(node: ast.AST) -> str:
    return shorten(ast.unparse(ast.fix_missing_locations(node)).splitlines()[0], MAX_SHOWN, placeholder=" …")


def _replace(tree: ast.AST, node: ast.AST, replacement: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, name, replacement)
            elif isinstance(value, list):
                setattr(parent, name, [replacement if element is node else element for element in value])


def _changes(tree: ast.Module) -> Iterator[_Change]:
    excluded = set(map(id, _excluded(tree)))
    for position, node in enumerate(ast.walk(tree)):
        if id(node) not in excluded:
            yield from (_Change(position, edit) for edit in _edits(node))


def _edits(node: ast.AST) -> Iterator[Callable[[ast.AST], ast.AST]]:
    """Yield the changes of one node. Each gets a copy of the node, which it may edit in place."""
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            if type(operator) in _COMPARISONS:
                yield _swap_comparison(index)
    elif isinstance(node, ast.BoolOp):
        yield _set("op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _ARITHMETIC:
        yield _set("op", _ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _remove_not
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield _set("value", not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield _set("value", node.value + 1)
        yield _set("value", node.value - 1)
    elif isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp):
        yield _negate_test
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield _set("value", ast.Constant(None))
    if isinstance(node, _REMOVABLE):
        yield _remove


def _set(name: str, value: object) -> Callable[[ast.AST], ast.AST]:
    def edit(node: ast.AST) -> ast.AST:
        setattr(node, name, value)
        return node

    return edit


def _swap_comparison(index: int) -> Callable[[ast.AST], ast.AST]:
    def edit(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Compare)
        node.ops[index] = _COMPARISONS[type(node.ops[index])]()
        return node

    return edit


def _remove_not(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.UnaryOp)
    return node.operand


def _negate_test(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.If | ast.While | ast.IfExp)
    node.test = ast.UnaryOp(ast.Not(), node.test)
    return node


def _remove(_node: ast.AST) -> ast.AST:
    return ast.Pass()


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _excluded(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that are not changed."""
    for node in ast.walk(tree):
        for part in _excluded_parts(node):
            yield from ast.walk(part)


def _excluded_parts(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.AnnAssign | ast.arg):
        yield from [node.annotation] if node.annotation else []
    elif isinstance(node, _FUNCTIONS):
        yield from node.decorator_list
        if node.returns is not None:
            yield node.returns
    elif isinstance(node, ast.ClassDef):
        yield from node.decorator_list
        yield from node.keywords
    elif isinstance(node, ast.JoinedStr) or _is_docstring(node) or _is_log_call(node) or _is_type_checking(node):
        yield node


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_log_call(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and isinstance(node.value.func.value, ast.Name)
        and node.value.func.value.id == "log"
    )


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
