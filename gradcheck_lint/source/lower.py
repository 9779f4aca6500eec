"""Lowers the trees of Python's `ast` to the small tree of `tree`, in one traversal."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from typing import Any

from gradcheck_lint.source import limits
from gradcheck_lint.source.place import Chunk, bracketed, segment
from gradcheck_lint.source.position import OfBrackets, position
from gradcheck_lint.source.tree import (
    Argument,
    Assert,
    Assign,
    Attribute,
    Augment,
    Block,
    Call,
    Class,
    Comprehension,
    Conditional,
    Constant,
    Container,
    Delete,
    Dict,
    Display,
    Evaluate,
    Exit,
    Expression,
    For,
    Function,
    If,
    Import,
    Jump,
    Lambda,
    Match,
    Name,
    Named,
    Operation,
    Other,
    Parameter,
    Raise,
    Return,
    Scope,
    Slice,
    Starred,
    Statement,
    Subscript,
    Try,
    While,
    With,
    Yield,
    YieldFrom,
)


def lower_block(statements: Sequence[ast.stmt], chunk: Chunk) -> Block:
    """Lower statements of a chunk."""
    return _Lowering(chunk).block(statements)


_CONTAINERS: dict[type, Container] = {
    ast.List: Container.LIST, ast.Tuple: Container.TUPLE, ast.Set: Container.SET,
    ast.ListComp: Container.LIST, ast.SetComp: Container.SET, ast.GeneratorExp: Container.GENERATOR,
}  # fmt: skip

_OPERATORS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.MatMult: "@", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>",
    ast.And: "and", ast.Or: "or", ast.Not: "not", ast.USub: "-", ast.UAdd: "+", ast.Invert: "~", ast.Eq: "==",
    ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Is: "is", ast.IsNot: "is not",
    ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip

_LONGEST = 200  # characters of a string that is kept


class _Lowering:
    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk

    # -- statements

    def block(self, statements: Sequence[ast.stmt]) -> Block:
        out: Block = []
        for node in statements:
            lower = _STATEMENTS.get(type(node))
            if lower is not None:
                out.append(lower(self, node))
        return out

    def assign(self, node: ast.Assign) -> Statement:
        return Assign(position(node), [self.expression(t) for t in node.targets], self.expression(node.value), None)

    def annotated(self, node: ast.AnnAssign) -> Statement:
        value = self.expression(node.value) if node.value is not None else None
        return Assign(position(node), [self.expression(node.target)], value, self.expression(node.annotation))

    def augment(self, node: ast.AugAssign) -> Statement:
        return Augment(
            position(node), self.expression(node.target), _OPERATORS[type(node.op)], self.expression(node.value)
        )

    def evaluate(self, node: ast.Expr) -> Statement:
        return Evaluate(position(node), self.expression(node.value))

    def return_(self, node: ast.Return) -> Statement:
        return Return(position(node), self.expression(node.value) if node.value is not None else None)

    def raise_(self, node: ast.Raise) -> Statement:
        return Raise(position(node), self.expression(node.exc) if node.exc is not None else None)

    def break_(self, node: ast.Break) -> Statement:
        return Jump(position(node), Exit.BREAK)

    def continue_(self, node: ast.Continue) -> Statement:
        return Jump(position(node), Exit.CONTINUE)

    def delete(self, node: ast.Delete) -> Statement:
        targets = [self.expression(t) for t in node.targets]
        return Delete(
            position(node), targets[0] if len(targets) == 1 else Display(position(node), Container.TUPLE, targets)
        )

    def assert_(self, node: ast.Assert) -> Statement:
        return Assert(position(node), self.expression(node.test))

    def import_(self, node: ast.Import) -> Statement:
        return Import(position(node), None, 0, [(alias.name, alias.asname) for alias in node.names])

    def import_from(self, node: ast.ImportFrom) -> Statement:
        return Import(
            position(node), node.module or "", node.level, [(alias.name, alias.asname) for alias in node.names]
        )

    def global_(self, node: ast.Global) -> Statement:
        return Scope(position(node), True, node.names)

    def nonlocal_(self, node: ast.Nonlocal) -> Statement:
        return Scope(position(node), False, node.names)

    def if_(self, node: ast.If) -> Statement:
        if node.orelse and _elifs(node) > limits.CHAIN:
            return self.cases(node)
        return If(position(node), self.expression(node.test), self.block(node.body), self.block(node.orelse))

    def cases(self, node: ast.If) -> Statement:
        """A very long `elif` chain: one choice of many, where otherwise each would be inside the one before."""
        tests: list[Expression] = []
        arms: list[Block] = []
        rest: list[ast.stmt] = [node]
        while len(rest) == 1 and isinstance(rest[0], ast.If):
            tests.append(self.expression(rest[0].test))
            arms.append(self.block(rest[0].body))
            rest = rest[0].orelse
        if rest:
            arms.append(self.block(rest))
        return Match(position(node), Other(position(node.test), tests), arms)

    def for_(self, node: ast.For | ast.AsyncFor) -> Statement:
        target, iterable = self.expression(node.target), self.expression(node.iter)
        return For(position(node), target, iterable, self.block(node.body), self.block(node.orelse))

    def while_(self, node: ast.While) -> Statement:
        return While(position(node), self.expression(node.test), self.block(node.body), self.block(node.orelse))

    def try_(self, node: ast.Try) -> Statement:
        handlers = [self.block(h.body) for h in node.handlers]
        return Try(position(node), self.block(node.body), handlers, self.block(node.orelse), self.block(node.finalbody))

    def with_(self, node: ast.With | ast.AsyncWith) -> Statement:
        items: list[tuple[Expression, Expression | None]] = [
            (
                self.expression(i.context_expr),
                self.expression(i.optional_vars) if i.optional_vars is not None else None,
            )
            for i in node.items
        ]
        return With(position(node), items, self.block(node.body))

    def match_(self, node: ast.Match) -> Statement:
        return Match(position(node), self.expression(node.subject), [self.case(c) for c in node.cases])

    def case(self, node: ast.match_case) -> Block:
        """An arm: its guard is looked at first, as if it were asserted."""
        body = self.block(node.body)
        return body if node.guard is None else [Assert(position(node.guard), self.expression(node.guard)), *body]

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Statement:
        decorators = [self.expression(d) for d in node.decorator_list]
        return Function(position(node), node.name, self.parameters(node.args), decorators, self.block(node.body))

    def class_(self, node: ast.ClassDef) -> Statement:
        bases = [self.expression(b.value if isinstance(b, ast.Starred) else b) for b in node.bases]
        keywords = [self.argument(k) for k in node.keywords]
        decorators = [self.expression(d) for d in node.decorator_list]
        return Class(position(node), node.name, bases, keywords, decorators, self.block(node.body))

    def parameters(self, params: ast.arguments) -> list[Parameter]:
        plain = [*params.posonlyargs, *params.args]
        defaults: list[ast.expr | None] = [None] * (len(plain) - len(params.defaults))
        defaults += params.defaults
        out = [self.parameter(p, d, "") for p, d in zip(plain, defaults, strict=True)]
        if params.vararg is not None:
            out.append(self.parameter(params.vararg, None, "*"))
        out += [self.parameter(p, d, "") for p, d in zip(params.kwonlyargs, params.kw_defaults, strict=True)]
        if params.kwarg is not None:
            out.append(self.parameter(params.kwarg, None, "**"))
        return out

    def parameter(self, param: ast.arg, default: ast.expr | None, star: str) -> Parameter:
        value = self.expression(default) if default is not None else None
        annotation = self.expression(param.annotation) if param.annotation is not None else None
        return Parameter(param.arg, value, annotation, star)

    # -- expressions

    def expression(self, node: ast.expr) -> Expression:
        lower = _EXPRESSIONS.get(type(node))
        if lower is not None:
            result: Expression = lower(self, node)
            return result
        return Other(position(node), [])

    def name(self, node: ast.Name) -> Expression:
        return Name(position(node), node.id)

    def attribute(self, node: ast.Attribute) -> Expression:
        return Attribute(position(node), self.expression(node.value), node.attr)

    def argument(self, node: ast.expr | ast.keyword) -> Argument:
        if isinstance(node, ast.keyword):
            return Argument(position(node), self.expression(node.value), node.arg, "" if node.arg is not None else "**")
        if isinstance(node, ast.Starred):
            return Argument(position(node), self.expression(node.value), None, "*")
        return Argument(position(node), self.expression(node), None, "")

    def call(self, node: ast.Call) -> Expression:
        given: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
        if node.keywords and any(type(a) is ast.Starred for a in node.args):
            given.sort(key=lambda a: (a.lineno, a.col_offset))  # `f(a=1, *rest)`
        return Call(position(node), self.expression(node.func), [self.argument(a) for a in given])

    def constant(self, node: ast.Constant) -> Expression:
        value = node.value
        if isinstance(value, (bytes, complex)) or (isinstance(value, str) and len(value) > _LONGEST):
            return Constant(position(node), ...)
        return Constant(position(node), value)

    def display(self, node: ast.List | ast.Tuple | ast.Set) -> Expression:
        kind = _CONTAINERS[type(node)]
        elements = node.elts
        if len(elements) <= limits.LITERAL or not all(map(_plain, elements[limits.LITERAL :])):
            return Display(position(node), kind, [self.expression(e) for e in elements])
        rest = elements[limits.LITERAL]
        kept = [self.expression(e) for e in elements[: limits.LITERAL]]
        return Display(position(node), kind, [*kept, Starred(position(rest), Other(position(rest), []))])

    def starred(self, node: ast.Starred) -> Expression:
        return Starred(position(node), self.expression(node.value))

    def dict_(self, node: ast.Dict) -> Expression:
        pairs: list[tuple[Expression | None, Expression]] = []
        plain = len(node.values) > limits.LITERAL and all(
            key is not None and _plain(key) and _plain(value)
            for key, value in zip(node.keys[limits.LITERAL :], node.values[limits.LITERAL :], strict=True)
        )
        for index, (key, value) in enumerate(zip(node.keys, node.values, strict=True)):
            if plain and index == limits.LITERAL:
                pairs.append((None, Other(position(value), [])))
                break
            pairs.append((self.expression(key) if key is not None else None, self.expression(value)))
        return Dict(position(node), pairs)

    def clauses(self, generators: list[ast.comprehension]) -> list[tuple[Expression, Expression, list[Expression]]]:
        return [
            (self.expression(g.target), self.expression(g.iter), [self.expression(test) for test in g.ifs])
            for g in generators
        ]

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Expression:
        kind = _CONTAINERS[type(node)]
        clauses = self.clauses(node.generators)
        return Comprehension(position(node), kind, self.expression(node.elt), None, clauses)

    def dict_comprehension(self, node: ast.DictComp) -> Expression:
        clauses = self.clauses(node.generators)
        return Comprehension(
            position(node), Container.DICT, self.expression(node.key), self.expression(node.value), clauses
        )

    def subscript(self, node: ast.Subscript) -> Expression:
        value, index = self.expression(node.value), node.slice
        if isinstance(index, ast.Tuple) and not self.bracketed(index):
            return Subscript(position(node), value, Other(position(node), [self.expression(e) for e in index.elts]))
        return Subscript(position(node), value, self.expression(index))

    def bracketed(self, node: ast.Tuple) -> bool:
        at = position(node)
        return isinstance(at, OfBrackets) and bracketed(self.chunk.lines, at)

    def slice(self, node: ast.Slice) -> Expression:
        bounds = (node.lower, node.upper, node.step)
        return Slice(position(node), [self.expression(b) for b in bounds if b is not None])

    def binary(self, node: ast.BinOp) -> Expression:
        return Operation(
            position(node), _OPERATORS[type(node.op)], [self.expression(node.left), self.expression(node.right)]
        )

    def boolean(self, node: ast.BoolOp) -> Expression:
        """`a and b and c` is `(a and b) and c`."""
        op = _OPERATORS[type(node.op)]
        result = self.expression(node.values[0])
        for value in node.values[1 : limits.CHAIN]:
            result = Operation(position(node), op, [result, self.expression(value)])
        if len(node.values) > limits.CHAIN:
            rest = Other(position(node), [self.expression(value) for value in node.values[limits.CHAIN :]])
            result = Operation(position(node), op, [result, rest])
        return result

    def unary(self, node: ast.UnaryOp) -> Expression:
        op = _OPERATORS[type(node.op)]
        operand = self.expression(node.operand)
        if op == "-" and isinstance(operand, Constant) and isinstance(operand.value, (int, float)):
            return Constant(position(node), -operand.value)
        return Operation(position(node), op, [operand])

    def comparison(self, node: ast.Compare) -> Expression:
        operands = [self.expression(node.left), *[self.expression(c) for c in node.comparators]]
        return Operation(position(node), _OPERATORS[type(node.ops[0])], operands)

    def conditional(self, node: ast.IfExp) -> Expression:
        return Conditional(
            position(node), self.expression(node.test), self.expression(node.body), self.expression(node.orelse)
        )

    def lambda_(self, node: ast.Lambda) -> Expression:
        value = self.expression(node.body)
        return Lambda(
            position(node),
            Function(position(node), "<lambda>", self.parameters(node.args), [], [Return(position(node), value)]),
        )

    def named(self, node: ast.NamedExpr) -> Expression:
        return Named(position(node), self.expression(node.target), self.expression(node.value))

    def await_(self, node: ast.Await) -> Expression:
        return self.expression(node.value)

    def yield_(self, node: ast.Yield | ast.YieldFrom) -> Expression:
        kind = YieldFrom if isinstance(node, ast.YieldFrom) else Yield
        return kind(position(node), [self.expression(node.value)] if node.value is not None else [])

    def formatted(self, node: ast.JoinedStr) -> Expression:
        values = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        if sys.version_info < (3, 12):
            values = [value for value in values if _in_place(value, self.chunk)]
        return Other(position(node), [self.expression(value) for value in values])


def _elifs(node: ast.If) -> int:
    """How many tests an `elif` chain has."""
    count = 1
    while len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        node = node.orelse[0]
        count += 1
    return count


def _plain(node: ast.expr) -> bool:
    """Whether it is data: a constant, or a sequence or dict of some."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.operand, ast.Constant)
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return all(map(_plain, node.elts))
    if isinstance(node, ast.Dict):
        return all(k is not None and _plain(k) and _plain(v) for k, v in zip(node.keys, node.values, strict=True))
    return False


def _in_place(value: ast.expr, chunk: Chunk) -> bool:
    """Whether an expression inside an f-string stands where `ast` says: before Python 3.12 it does not always.

    One that does not is left out: nothing could be said of it, and no fix made, in the right place.
    """
    if not 0 < value.lineno <= (value.end_lineno or 0) <= len(chunk.lines):
        return False
    found = segment(chunk.lines, position(value))
    if isinstance(value, ast.Name):
        return found == value.id
    try:
        return ast.dump(ast.parse(f"({found})", mode="eval").body) == ast.dump(value)
    except SyntaxError:
        return False


_STATEMENTS: dict[type, Callable[[_Lowering, Any], Statement]] = {
    ast.Assign: _Lowering.assign,
    ast.AnnAssign: _Lowering.annotated,
    ast.AugAssign: _Lowering.augment,
    ast.Expr: _Lowering.evaluate,
    ast.Return: _Lowering.return_,
    ast.Raise: _Lowering.raise_,
    ast.Break: _Lowering.break_,
    ast.Continue: _Lowering.continue_,
    ast.Delete: _Lowering.delete,
    ast.Assert: _Lowering.assert_,
    ast.Import: _Lowering.import_,
    ast.ImportFrom: _Lowering.import_from,
    ast.Global: _Lowering.global_,
    ast.Nonlocal: _Lowering.nonlocal_,
    ast.If: _Lowering.if_,
    ast.For: _Lowering.for_,
    ast.AsyncFor: _Lowering.for_,
    ast.While: _Lowering.while_,
    ast.Try: _Lowering.try_,
    ast.With: _Lowering.with_,
    ast.AsyncWith: _Lowering.with_,
    ast.Match: _Lowering.match_,
    ast.FunctionDef: _Lowering.function,
    ast.AsyncFunctionDef: _Lowering.function,
    ast.ClassDef: _Lowering.class_,
}
if sys.version_info >= (3, 11):
    _STATEMENTS[ast.TryStar] = _Lowering.try_

_EXPRESSIONS: dict[type, Callable[[_Lowering, Any], Expression]] = {
    ast.Name: _Lowering.name,
    ast.Attribute: _Lowering.attribute,
    ast.Call: _Lowering.call,
    ast.Constant: _Lowering.constant,
    ast.JoinedStr: _Lowering.formatted,
    ast.List: _Lowering.display,
    ast.Tuple: _Lowering.display,
    ast.Set: _Lowering.display,
    ast.Starred: _Lowering.starred,
    ast.Dict: _Lowering.dict_,
    ast.ListComp: _Lowering.comprehension,
    ast.SetComp: _Lowering.comprehension,
    ast.DictComp: _Lowering.dict_comprehension,
    ast.GeneratorExp: _Lowering.comprehension,
    ast.Subscript: _Lowering.subscript,
    ast.Slice: _Lowering.slice,
    ast.BinOp: _Lowering.binary,
    ast.BoolOp: _Lowering.boolean,
    ast.UnaryOp: _Lowering.unary,
    ast.Compare: _Lowering.comparison,
    ast.IfExp: _Lowering.conditional,
    ast.Lambda: _Lowering.lambda_,
    ast.NamedExpr: _Lowering.named,
    ast.Await: _Lowering.await_,
    ast.Yield: _Lowering.yield_,
    ast.YieldFrom: _Lowering.yield_,
}
