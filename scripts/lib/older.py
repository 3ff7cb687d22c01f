"""Source of Python 3.11 in the words of Python 3.6: what `scripts/recorder` makes of the program's modules.

Only the form changes, never what is done: each rewriting below is one that the two are equal by. What a rewriting calls at run time is in
packaging/recorder/_older.py. What this does not know is an error of the build, or is found in its result by tests/packaging/test_recorder.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

HELPERS = "_older"
# PEP 585: not to be subscripted before 3.9.
_GENERIC = frozenset(
    (
        *("tuple", "list", "dict", "set", "frozenset", "type", "Counter", "defaultdict"),
        *("Callable", "Collection", "Generator", "Iterable", "Iterator", "Mapping", "MutableMapping", "Sequence"),
    )
)
# What came after 3.6, by module: taken from the helpers.
_LATER = {
    "typing": frozenset(("Annotated",)),
    "enum": frozenset(("StrEnum",)),
    "functools": frozenset(("cache",)),
    "itertools": frozenset(("pairwise",)),
    "dataclasses": frozenset(("dataclass",)),
}
_METHODS = frozenset(("removeprefix", "removesuffix", "isascii"))
_ATTRIBUTES = {("os", "memfd_create"): "memfd_create", ("os", "MFD_CLOEXEC"): "MFD_CLOEXEC", ("gzip", "BadGzipFile"): "BadGzipFile"}
_POSSESSIVE = re.compile(r"(?<!\\)(?<=[*+?}])\+(?![^\[]*(?<!\\)\])")
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FUNCTION_KINDS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def older(source: str, name: str) -> str:
    """The same module; ``ValueError`` where something has no older form here."""
    tree = ast.parse(source, name)
    tree = _Form(name).visit(tree)
    tree = _Boxes(name).module(tree)
    _imports(tree)
    ast.fix_missing_locations(tree)
    return ast.unparse(tree) + "\n"


def _several(types: ast.expr) -> ast.expr:
    """``A | B`` as ``(A, B)``, for isinstance()."""
    found: list[ast.expr] = []
    while isinstance(types, ast.BinOp) and isinstance(types.op, ast.BitOr):
        found.insert(0, types.right)
        types = types.left
    return ast.Tuple([types, *found], ast.Load()) if found else types


def _helper(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Name(HELPERS, ast.Load()), name, ast.Load()), list(arguments), [])


class _Form(ast.NodeTransformer):
    """Annotations, unions, f-strings, later functions and keywords."""

    def __init__(self, name: str) -> None:
        self.name = name

    def visit_If(self, node: ast.If) -> Any:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return [self.visit(one) for one in node.orelse] or ast.Pass()
        return self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        if node.module == "__future__":
            return None
        later = _LATER.get(node.module or "", frozenset())
        taken = [alias for alias in node.names if alias.name in later]
        kept = [alias for alias in node.names if alias.name not in later]
        found = [ast.ImportFrom(module, names, 0) for module, names in ((node.module, kept), (HELPERS, taken)) if names]
        return found

    def visit_Import(self, node: ast.Import) -> Any:
        for alias in node.names:
            if alias.name in ("tomllib", "ipaddress") and alias.asname is None:
                alias.name, alias.asname = f"{HELPERS}.{alias.name}", alias.name
                return ast.ImportFrom(HELPERS, [ast.alias(alias.asname)], 0)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.returns = None
        node.args.args = node.args.posonlyargs + node.args.args
        node.args.posonlyargs = []
        for argument in (*node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg):
            if argument is not None:
                argument.annotation = None
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        node.bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
        # Fields of a Struct are known by their annotations; as texts, since what they name need not be there at run time, and in a table that
        # every Python takes: since 3.14 annotations are a function (PEP 649).
        body: list[ast.stmt] = []
        fields: list[tuple[ast.expr | None, ast.expr]] = []
        for one in node.body:
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                kind = ast.unparse(ast.fix_missing_locations(self.visit(one.annotation)))
                fields.append((ast.Constant(one.target.id), ast.Constant(kind)))
                if one.value is not None:
                    body.append(ast.Assign([one.target], self.visit(one.value), lineno=one.lineno))
                continue
            made = self.visit(one)
            body += made if isinstance(made, list) else [made] if made is not None else []
        if fields:
            table = ast.Dict([name for name, _ in fields], [kind for _, kind in fields])
            at = 1 if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) else 0
            body.insert(at, ast.Assign([ast.Name("__annotations__", ast.Store())], table, lineno=node.lineno))
        node.body = body or [ast.Pass()]
        node.keywords = [ast.keyword(keyword.arg, self.visit(keyword.value)) for keyword in node.keywords]
        node.decorator_list = [self.visit(one) for one in node.decorator_list]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is None:
            return ast.Pass()
        return ast.Assign([node.target], self.visit(node.value), lineno=node.lineno)

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id in _GENERIC and isinstance(node.ctx, ast.Load):
            arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return _helper("generic", node.value, *arguments)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        self.generic_visit(node)
        return _helper("either", node.left, node.right) if isinstance(node.op, ast.BitOr) else node

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        self.generic_visit(node)
        if not isinstance(node.op, ast.BitOr):
            return node
        read: Any = ast.parse(ast.unparse(node.target), mode="eval").body
        return ast.Assign([node.target], _helper("either_in_place", read, node.value), lineno=node.lineno)

    def visit_Call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            node.args[1] = _several(node.args[1])
        self.generic_visit(node)
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in _METHODS:
            return _helper(function.attr, function.value, *node.args)
        if isinstance(function, ast.Name) and function.id == "zip" and any(keyword.arg == "strict" for keyword in node.keywords):
            called = _helper("zip_strict", *node.args)
            called.keywords = node.keywords
            return called
        if isinstance(function, ast.Attribute) and function.attr == "compile" and isinstance(function.value, ast.Name) and function.value.id == "re":
            node.args[0] = _Possessive().visit(node.args[0])
        keywords: list[ast.keyword] = []
        for keyword in node.keywords:
            if keyword.arg == "capture_output":
                keywords += [ast.keyword(stream, ast.Constant(-1)) for stream in ("stdout", "stderr")]  # subprocess.PIPE
            elif keyword.arg == "text":
                keywords.append(ast.keyword("universal_newlines", keyword.value))
            else:
                keywords.append(keyword)
        node.keywords = keywords
        return node

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and (helper := _ATTRIBUTES.get((node.value.id, node.attr))):
            return ast.Attribute(ast.Name(HELPERS, ast.Load()), helper, ast.Load())
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> Any:
        # "{}".format(): what unparse() writes of an f-string is for the Python that it runs on.
        self.generic_visit(node)
        arguments: list[ast.expr] = []
        text = "".join(self._piece(piece, arguments) for piece in node.values)
        return ast.Call(ast.Attribute(ast.Constant(text), "format", ast.Load()), arguments, []) if arguments else ast.Constant(text.format())

    def _piece(self, piece: ast.expr, arguments: list[ast.expr]) -> str:
        if isinstance(piece, ast.Constant):
            return str(piece.value).replace("{", "{{").replace("}", "}}")
        if isinstance(piece, ast.Call):  # a specification that was rewritten already: "{}…".format(…)
            raise ValueError(f"{self.name}: a format within a format")
        assert isinstance(piece, ast.FormattedValue)
        arguments.append(piece.value)
        conversion = "" if piece.conversion < 0 else "!" + chr(piece.conversion)
        specification = ""
        if piece.format_spec is not None:
            specification = ":" + self._specification(piece.format_spec, arguments)
        return f"{{{conversion}{specification}}}"

    def _specification(self, made: ast.expr, arguments: list[ast.expr]) -> str:
        if isinstance(made, ast.Constant):
            return str(made.value)
        assert isinstance(made, ast.Call)
        assert isinstance(made.func, ast.Attribute)
        assert isinstance(made.func.value, ast.Constant)
        arguments += made.args
        return str(made.func.value.value)


class _Possessive(ast.NodeTransformer):
    """Possessive repetitions of a pattern (3.11) as plain ones: here they only save time, since what is given back never matches."""

    def visit_Constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, str):
            node.value = _POSSESSIVE.sub("", node.value)
        elif isinstance(node.value, bytes):
            node.value = _POSSESSIVE.sub("", node.value.decode("latin-1")).encode("latin-1")
        return node


class _Boxes:
    """Assignments within expressions (3.8): their names become attributes of an object that the function makes when it is called."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._numbers = count()

    def module(self, tree: ast.Module) -> ast.Module:
        return self._scope(tree, {})

    def _scope(self, node: Any, outside: Mapping[str, str]) -> Any:
        """A module or function with its names; defaults and decorators belong to what is outside."""
        body = node.body if isinstance(node.body, list) else [node.body]
        parameters = _parameters(node)
        assigned = sorted({one.target.id for one in _within(body) if isinstance(one, ast.NamedExpr)})
        names = {name: box for name, box in outside.items() if name not in parameters and name not in _bound(body)}
        if not assigned:
            node.body = self._all(node.body, names)
            return node
        box = f"_box{next(self._numbers)}"
        for one in _within(body):
            held = {one.name} if isinstance(one, (ast.ExceptHandler, ast.FunctionDef, ast.ClassDef)) else set()
            held |= {alias.asname or alias.name for alias in one.names} if isinstance(one, (ast.Import, ast.ImportFrom)) else set()
            held |= set(one.names) if isinstance(one, (ast.Nonlocal, ast.Global)) else set()
            if held & set(assigned):
                raise ValueError(f"{self.name}:{one.lineno}: a name that is assigned within an expression is bound otherwise too")
        names |= dict.fromkeys(assigned, box)
        made = self._all(node.body, names)
        start: list[ast.stmt] = [ast.Assign([ast.Name(box, ast.Store())], _helper("Box"), lineno=0)]
        start += [
            ast.Assign([ast.Attribute(ast.Name(box, ast.Load()), name, ast.Store())], ast.Name(name, ast.Load()), lineno=0)
            for name in assigned
            if name in parameters
        ]
        if isinstance(node, ast.Lambda):
            inner = ast.arguments(posonlyargs=[], args=[ast.arg(box)], kwonlyargs=[], kw_defaults=[], defaults=[])
            node.body = ast.Call(ast.Lambda(inner, made), [_helper("Box")], [])
            if len(start) > 1:
                raise ValueError(f"{self.name}: a lambda assigns its own parameter")
            return node
        at = 1 if made and isinstance(made[0], ast.Expr) and isinstance(made[0].value, ast.Constant) else 0
        node.body = made[:at] + start + made[at:]
        return node

    def _all(self, value: Any, names: Mapping[str, str]) -> Any:
        if isinstance(value, list):
            return [self._all(one, names) for one in value]
        return self._one(value, names) if isinstance(value, ast.AST) else value

    def _one(self, node: Any, names: Mapping[str, str]) -> Any:
        if isinstance(node, _FUNCTION_KINDS):
            node.args.defaults = self._all(node.args.defaults, names)
            node.args.kw_defaults = self._all(node.args.kw_defaults, names)
            if not isinstance(node, ast.Lambda):
                node.decorator_list = self._all(node.decorator_list, names)
            return self._scope(node, names)
        if isinstance(node, ast.NamedExpr):
            box = ast.Name(names[node.target.id], ast.Load())
            return ast.Call(ast.Attribute(box, "put", ast.Load()), [ast.Constant(node.target.id), self._one(node.value, names)], [])
        if isinstance(node, ast.Name) and node.id in names:
            return ast.Attribute(ast.Name(names[node.id], ast.Load()), node.id, node.ctx)
        if isinstance(node, _COMPREHENSIONS):
            own = {one.id for generator in node.generators for one in ast.walk(generator.target) if isinstance(one, ast.Name)}
            node.generators[0].iter = self._one(node.generators[0].iter, names)
            first, node.generators[0].iter = node.generators[0].iter, ast.Constant(None)
            inner = {name: box for name, box in names.items() if name not in own}
            for field, value in ast.iter_fields(node):
                setattr(node, field, self._all(value, inner))
            node.generators[0].iter = first
            return node
        for field, value in ast.iter_fields(node):
            setattr(node, field, self._all(value, names))
        return node


def _within(body: Iterable[ast.AST]) -> Iterator[Any]:
    """The nodes of one scope, comprehensions included: what is assigned in them is assigned outside of them."""
    for node in body:
        yield node
        if isinstance(node, _FUNCTION_KINDS):
            defaults = [*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)]
            yield from _within(defaults if isinstance(node, ast.Lambda) else [*defaults, *node.decorator_list])
        else:
            yield from _within(ast.iter_child_nodes(node))


def _outside_comprehensions(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for node in body:
        yield node
        if not isinstance(node, (*_FUNCTION_KINDS, *_COMPREHENSIONS)):
            yield from _outside_comprehensions(ast.iter_child_nodes(node))


def _bound(body: Iterable[ast.AST]) -> set[str]:
    nodes = list(_outside_comprehensions(body))
    kept = {name for node in nodes if isinstance(node, (ast.Nonlocal, ast.Global)) for name in node.names}
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)} - kept


def _parameters(node: Any) -> set[str]:
    if not isinstance(node, _FUNCTION_KINDS):
        return set()
    every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
    return {one.arg for one in every if one is not None}


def _imports(tree: ast.Module) -> None:
    """The helpers, and of typing and the like only what is still used: half of it came after 3.6."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    body: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "typing":
            node.names = [alias for alias in node.names if alias.name in used]
            if not node.names:
                continue
        body.append(node)
    at = 1 if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) else 0
    tree.body = [*body[:at], *([ast.Import([ast.alias(HELPERS)])] if HELPERS in used else []), *body[at:]]
