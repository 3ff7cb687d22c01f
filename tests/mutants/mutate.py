"""Every small fault that could be put into a module, as a change of one place of its source.

The kinds are those that people make: the other comparison, `and` for `or`, a number that is one too large, the other branch, a line left
out. Nothing else of the file changes, so that a mutant is read as a line of a difference.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
CALCULATED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.Mod: ast.FloorDiv,
}  # fmt: skip
LEFT_OUT = (ast.Expr, ast.AugAssign, ast.Raise, ast.Continue, ast.Delete)


@dataclass(frozen=True)
class Mutant:
    """A fault: the lines that it is in, as they are and as they become; in bytes of the source from where to where it is another text."""

    kind: str
    line: int
    before: str
    after: str
    begin: int
    end: int
    text: str

    def in_place_of(self, source: str) -> str:
        """The whole source with the fault in it; ``SyntaxError`` where that is no Python, which is a fault of this file."""
        whole = source.encode()
        made = (whole[: self.begin] + self.text.encode() + whole[self.end :]).decode()
        ast.parse(made)
        return made


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its source; those that read the same as another are told once."""
    seen = set()
    lines = source.encode().splitlines(keepends=True)  # columns are bytes
    starts = [0, *accumulate(map(len, lines))]
    for kind, node, text in _faults(ast.parse(source)):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        first, last = node.lineno - 1, node.end_lineno - 1
        begin, end = starts[first] + node.col_offset, starts[last] + node.end_col_offset
        was = b"".join(lines[first : last + 1])
        made = was[: node.col_offset] + text.encode() + was[end - starts[first] :]
        if made != was and (first, made) not in seen:
            seen.add((first, made))
            yield Mutant(kind, node.lineno, _shown(was), _shown(made), begin, end, text)


def _shown(lines: bytes) -> str:
    return " ".join(lines.decode().split())


def _faults(tree: ast.Module) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    skipped = set(map(id, _not_run(tree)))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.expr):
            yield from ((kind, node, f"({ast.unparse(made)})") for kind, made in _expressions(node))
        if isinstance(node, LEFT_OUT) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            yield "statement left out", node, "pass"
        if isinstance(node, ast.If):
            yield "branches swapped", node.test, f"(not ({ast.unparse(node.test)}))"
        if isinstance(node, ast.comprehension):
            yield from (("filter left out", test, "True") for test in node.ifs)


def _expressions(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Compare(left, [op, *ops], comparators) if type(op) in COMPARED:
            yield "comparison", ast.Compare(left, [COMPARED[type(op)](), *ops], comparators)
        case ast.BoolOp(ast.And(), values):
            yield "boolean", ast.BoolOp(ast.Or(), values)
        case ast.BoolOp(ast.Or(), values):
            yield "boolean", ast.BoolOp(ast.And(), values)
        case ast.UnaryOp(ast.Not(), operand):
            yield "boolean", operand
        case ast.BinOp(left, op, right) if type(op) in CALCULATED:
            yield "arithmetic", ast.BinOp(left, CALCULATED[type(op)](), right)
        case ast.IfExp(test, body, other):
            yield "branches swapped", ast.IfExp(test, other, body)
        case ast.Constant(bool(value)):
            yield "constant", ast.Constant(not value)
        case ast.Constant(int(value)):
            yield "constant", ast.Constant(value + 1)
        case ast.Constant(str(value)) if value:
            yield "constant", ast.Constant(value + "X")


def _not_run(tree: ast.Module) -> Iterator[ast.AST]:
    """Annotations, docstrings, decorators and imports; the parts of f-strings, which are no expressions of their own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            yield from ast.walk(node.annotation)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                yield from ast.walk(decorator)
            if not isinstance(node, ast.ClassDef) and node.returns:
                yield from ast.walk(node.returns)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value
        if isinstance(node, ast.JoinedStr):
            yield from (part for part in ast.walk(node) if part is not node)
        if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            yield from ast.walk(node.value)
        if isinstance(node, ast.MatchValue | ast.MatchMapping | ast.MatchClass):
            yield from ast.walk(node)  # a pattern takes no expression
