"""Lowers libcst trees to the small tree of `tree`, in one traversal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import libcst as cst

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
    Delete,
    Dict,
    Display,
    Evaluate,
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
    Starred,
    Statement,
    Subscript,
    Try,
    While,
    With,
)


def lower_block(statements: Sequence[cst.CSTNode]) -> Block:
    """Lower libcst statements."""
    return _LOWERING.block(statements)


_OPERATORS: dict[type, str] = {
    cst.Add: "+", cst.Subtract: "-", cst.Multiply: "*", cst.Divide: "/", cst.FloorDivide: "//", cst.Modulo: "%",
    cst.Power: "**", cst.MatrixMultiply: "@", cst.BitAnd: "&", cst.BitOr: "|", cst.BitXor: "^",
    cst.LeftShift: "<<", cst.RightShift: ">>", cst.And: "and", cst.Or: "or", cst.Not: "not", cst.Minus: "-",
    cst.Plus: "+", cst.BitInvert: "~", cst.Equal: "==", cst.NotEqual: "!=", cst.LessThan: "<",
    cst.LessThanEqual: "<=", cst.GreaterThan: ">", cst.GreaterThanEqual: ">=", cst.Is: "is", cst.IsNot: "is not",
    cst.In: "in", cst.NotIn: "not in", cst.AddAssign: "+", cst.SubtractAssign: "-", cst.MultiplyAssign: "*",
    cst.DivideAssign: "/", cst.FloorDivideAssign: "//", cst.ModuloAssign: "%", cst.PowerAssign: "**",
    cst.MatrixMultiplyAssign: "@", cst.BitAndAssign: "&", cst.BitOrAssign: "|", cst.BitXorAssign: "^",
    cst.LeftShiftAssign: "<<", cst.RightShiftAssign: ">>",
}  # fmt: skip


class _Lowering:
    # -- statements

    def block(self, statements: Sequence[cst.CSTNode]) -> Block:
        out: Block = []
        for node in statements:
            if type(node) is cst.SimpleStatementLine:
                for small in node.body:
                    lower = _SMALL.get(type(small))
                    if lower is not None:
                        out.append(lower(self, small))
            else:
                lower = _COMPOUND.get(type(node))
                if lower is not None:
                    out.append(lower(self, node))
        return out

    def suite(self, suite: cst.BaseSuite) -> Block:
        if type(suite) is cst.IndentedBlock:
            return self.block(suite.body)
        out: Block = []
        for small in suite.body:
            lower = _SMALL.get(type(small))
            if lower is not None:
                out.append(lower(self, small))
        return out

    def assign(self, node: cst.Assign) -> Statement:
        return Assign(node, [self.expression(t.target) for t in node.targets], self.expression(node.value), None)

    def annotated(self, node: cst.AnnAssign) -> Statement:
        value = self.expression(node.value) if node.value is not None else None
        return Assign(node, [self.expression(node.target)], value, self.expression(node.annotation.annotation))

    def augment(self, node: cst.AugAssign) -> Statement:
        op = _OPERATORS.get(type(node.operator), "?")
        return Augment(node, self.expression(node.target), op, self.expression(node.value))

    def evaluate(self, node: cst.Expr) -> Statement:
        return Evaluate(node, self.expression(node.value))

    def return_(self, node: cst.Return) -> Statement:
        return Return(node, self.expression(node.value) if node.value is not None else None)

    def raise_(self, node: cst.Raise) -> Statement:
        return Raise(node, self.expression(node.exc) if node.exc is not None else None)

    def break_(self, node: cst.Break) -> Statement:
        return Jump(node, "break")

    def continue_(self, node: cst.Continue) -> Statement:
        return Jump(node, "continue")

    def delete(self, node: cst.Del) -> Statement:
        return Delete(node, self.expression(node.target))

    def assert_(self, node: cst.Assert) -> Statement:
        return Assert(node, self.expression(node.test))

    def import_(self, node: cst.Import) -> Statement:
        names = []
        for alias in node.names:
            full = _cst_dotted(alias.name)
            bound = _cst_dotted(alias.asname.name) if alias.asname is not None else None
            names.append((full, bound))
        return Import(node, None, 0, names)

    def import_from(self, node: cst.ImportFrom) -> Statement:
        module = _cst_dotted(node.module) if node.module is not None else ""
        names: list[tuple[str, str | None]] = []
        if isinstance(node.names, cst.ImportStar):
            names.append(("*", None))
        else:
            for alias in node.names:
                bound = _cst_dotted(alias.asname.name) if alias.asname is not None else None
                names.append((_cst_dotted(alias.name), bound))
        return Import(node, module, len(node.relative), names)

    def global_(self, node: cst.Global) -> Statement:
        return Scope(node, "global", [n.name.value for n in node.names])

    def nonlocal_(self, node: cst.Nonlocal) -> Statement:
        return Scope(node, "nonlocal", [n.name.value for n in node.names])

    def if_(self, node: cst.If) -> Statement:
        orelse: Block = []
        if isinstance(node.orelse, cst.If):
            orelse = [self.if_(node.orelse)]
        elif node.orelse is not None:
            orelse = self.suite(node.orelse.body)
        return If(node, self.expression(node.test), self.suite(node.body), orelse)

    def for_(self, node: cst.For) -> Statement:
        orelse = self.suite(node.orelse.body) if node.orelse is not None else []
        return For(node, self.expression(node.target), self.expression(node.iter), self.suite(node.body), orelse)

    def while_(self, node: cst.While) -> Statement:
        orelse = self.suite(node.orelse.body) if node.orelse is not None else []
        return While(node, self.expression(node.test), self.suite(node.body), orelse)

    def try_(self, node: cst.Try | cst.TryStar) -> Statement:
        orelse = self.suite(node.orelse.body) if node.orelse is not None else []
        final = self.suite(node.finalbody.body) if node.finalbody is not None else []
        return Try(node, self.suite(node.body), [self.suite(h.body) for h in node.handlers], orelse, final)

    def with_(self, node: cst.With) -> Statement:
        items: list[tuple[Expression, Expression | None]] = [
            (self.expression(i.item), self.expression(i.asname.name) if i.asname is not None else None)
            for i in node.items
        ]
        return With(node, items, self.suite(node.body))

    def match_(self, node: cst.Match) -> Statement:
        return Match(node, self.expression(node.subject), [self.suite(c.body) for c in node.cases])

    def function(self, node: cst.FunctionDef) -> Statement:
        decorators = [self.expression(d.decorator) for d in node.decorators]
        return Function(node, node.name.value, self.parameters(node.params), decorators, self.suite(node.body))

    def class_(self, node: cst.ClassDef) -> Statement:
        bases = [self.expression(a.value) for a in node.bases]
        keywords = [self.argument(a) for a in node.keywords]
        decorators = [self.expression(d.decorator) for d in node.decorators]
        return Class(node, node.name.value, bases, keywords, decorators, self.suite(node.body))

    def parameters(self, params: cst.Parameters) -> list[Parameter]:
        out: list[Parameter] = []

        def add(param: cst.Param, star: str) -> None:
            default = self.expression(param.default) if param.default is not None else None
            annotation = self.expression(param.annotation.annotation) if param.annotation is not None else None
            out.append(Parameter(param.name.value, default, annotation, star))

        for param in params.posonly_params:
            add(param, "")
        for param in params.params:
            add(param, "")
        if isinstance(params.star_arg, cst.Param):
            add(params.star_arg, "*")
        for param in params.kwonly_params:
            add(param, "")
        if params.star_kwarg is not None:
            add(params.star_kwarg, "**")
        return out

    # -- expressions

    def expression(self, node: cst.CSTNode) -> Expression:
        lower = _EXPRESSIONS.get(type(node))
        if lower is not None:
            result: Expression = lower(self, node)
            return result
        return Other(node, type(node).__name__, [])

    def name(self, node: cst.Name) -> Expression:
        value = node.value
        if value in _SINGLETONS:
            return Constant(node, _SINGLETONS[value])
        return Name(node, value)

    def attribute(self, node: cst.Attribute) -> Expression:
        return Attribute(node, self.expression(node.value), node.attr.value)

    def argument(self, node: cst.Arg) -> Argument:
        keyword = node.keyword.value if node.keyword is not None else None
        return Argument(node, self.expression(node.value), keyword, node.star)

    def call(self, node: cst.Call) -> Expression:
        return Call(node, self.expression(node.func), [self.argument(a) for a in node.args])

    def number(self, node: cst.Integer | cst.Float) -> Expression:
        try:
            return Constant(node, int(node.value, 0) if isinstance(node, cst.Integer) else float(node.value))
        except ValueError:  # an integer with leading zeros, or longer than Python converts
            return Constant(node, ...)

    def string(self, node: cst.SimpleString) -> Expression:
        text = node.value
        if len(text) > 200 or "\\" in text or "b" in node.prefix.lower():
            return Constant(node, ...)
        return Constant(node, node.raw_value)

    def opaque(self, node: cst.CSTNode) -> Expression:
        return Constant(node, ...)

    def display(self, node: cst.List | cst.Tuple | cst.Set) -> Expression:
        kind = "list" if type(node) is cst.List else "tuple" if type(node) is cst.Tuple else "set"
        return Display(node, kind, [self.element(e) for e in node.elements])

    def element(self, node: cst.BaseElement) -> Expression:
        value = self.expression(node.value)
        return Starred(node, value) if type(node) is cst.StarredElement else value

    def dict_(self, node: cst.Dict) -> Expression:
        pairs: list[tuple[Expression | None, Expression]] = []
        for element in node.elements:
            key = self.expression(element.key) if type(element) is cst.DictElement else None
            pairs.append((key, self.expression(element.value)))
        return Dict(node, pairs)

    def comprehension(self, node: cst.BaseComp) -> Expression:
        clauses: list[tuple[Expression, Expression, list[Expression]]] = []
        clause: cst.CompFor | None = node.for_in
        while clause is not None:
            conditions = [self.expression(c.test) for c in clause.ifs]
            clauses.append((self.expression(clause.target), self.expression(clause.iter), conditions))
            clause = clause.inner_for_in
        if isinstance(node, cst.DictComp):
            return Comprehension(node, "dict", self.expression(node.key), self.expression(node.value), clauses)
        kind = {cst.ListComp: "list", cst.SetComp: "set"}.get(type(node), "generator")
        return Comprehension(node, kind, self.expression(node.elt), None, clauses)  # type: ignore[attr-defined]

    def subscript(self, node: cst.Subscript) -> Expression:
        value = self.expression(node.value)
        if len(node.slice) == 1:
            return Subscript(node, value, self.index(node.slice[0].slice))
        parts = [self.index(element.slice) for element in node.slice]
        return Subscript(node, value, Other(node, "Indices", parts))

    def index(self, node: cst.BaseSlice) -> Expression:
        if isinstance(node, cst.Index):
            return self.expression(node.value)
        bounds = [getattr(node, name, None) for name in ("lower", "upper", "step")]
        return Other(node, "Slice", [self.expression(b) for b in bounds if b is not None])

    def binary(self, node: cst.BinaryOperation | cst.BooleanOperation) -> Expression:
        op = _OPERATORS.get(type(node.operator), "?")
        return Operation(node, op, [self.expression(node.left), self.expression(node.right)])

    def unary(self, node: cst.UnaryOperation) -> Expression:
        op = _OPERATORS.get(type(node.operator), "?")
        operand = self.expression(node.expression)
        if op == "-" and isinstance(operand, Constant) and isinstance(operand.value, (int, float)):
            return Constant(node, -operand.value)
        return Operation(node, op, [operand])

    def comparison(self, node: cst.Comparison) -> Expression:
        op = _OPERATORS.get(type(node.comparisons[0].operator), "?")
        operands = [self.expression(node.left)]
        operands += [self.expression(c.comparator) for c in node.comparisons]
        return Operation(node, op, operands)

    def conditional(self, node: cst.IfExp) -> Expression:
        return Conditional(node, self.expression(node.test), self.expression(node.body), self.expression(node.orelse))

    def lambda_(self, node: cst.Lambda) -> Expression:
        value = self.expression(node.body)
        function = Function(node, "<lambda>", self.parameters(node.params), [], [Return(node, value)])
        return Lambda(node, function)

    def named(self, node: cst.NamedExpr) -> Expression:
        return Named(node, self.expression(node.target), self.expression(node.value))

    def await_(self, node: cst.Await) -> Expression:
        return self.expression(node.expression)

    def yield_(self, node: cst.Yield) -> Expression:
        value = node.value.item if isinstance(node.value, cst.From) else node.value
        return Other(node, "Yield", [self.expression(value)] if value is not None else [])

    def formatted(self, node: cst.FormattedString) -> Expression:
        parts = [self.expression(p.expression) for p in node.parts if isinstance(p, cst.FormattedStringExpression)]
        return Other(node, "FormattedString", parts)


_LOWERING = _Lowering()

_SINGLETONS: dict[str, object] = {"None": None, "True": True, "False": False}

_SMALL: dict[type, Callable[[_Lowering, Any], Statement]] = {
    cst.Assign: _Lowering.assign,
    cst.AnnAssign: _Lowering.annotated,
    cst.AugAssign: _Lowering.augment,
    cst.Expr: _Lowering.evaluate,
    cst.Return: _Lowering.return_,
    cst.Raise: _Lowering.raise_,
    cst.Break: _Lowering.break_,
    cst.Continue: _Lowering.continue_,
    cst.Del: _Lowering.delete,
    cst.Assert: _Lowering.assert_,
    cst.Import: _Lowering.import_,
    cst.ImportFrom: _Lowering.import_from,
    cst.Global: _Lowering.global_,
    cst.Nonlocal: _Lowering.nonlocal_,
}

_COMPOUND: dict[type, Callable[[_Lowering, Any], Statement]] = {
    cst.If: _Lowering.if_,
    cst.For: _Lowering.for_,
    cst.While: _Lowering.while_,
    cst.Try: _Lowering.try_,
    cst.TryStar: _Lowering.try_,
    cst.With: _Lowering.with_,
    cst.Match: _Lowering.match_,
    cst.FunctionDef: _Lowering.function,
    cst.ClassDef: _Lowering.class_,
}

_EXPRESSIONS: dict[type, Callable[[_Lowering, Any], Expression]] = {
    cst.Name: _Lowering.name,
    cst.Attribute: _Lowering.attribute,
    cst.Call: _Lowering.call,
    cst.Integer: _Lowering.number,
    cst.Float: _Lowering.number,
    cst.SimpleString: _Lowering.string,
    cst.ConcatenatedString: _Lowering.opaque,
    cst.Ellipsis: _Lowering.opaque,
    cst.Imaginary: _Lowering.opaque,
    cst.FormattedString: _Lowering.formatted,
    cst.List: _Lowering.display,
    cst.Tuple: _Lowering.display,
    cst.Set: _Lowering.display,
    cst.Dict: _Lowering.dict_,
    cst.ListComp: _Lowering.comprehension,
    cst.SetComp: _Lowering.comprehension,
    cst.DictComp: _Lowering.comprehension,
    cst.GeneratorExp: _Lowering.comprehension,
    cst.Subscript: _Lowering.subscript,
    cst.BinaryOperation: _Lowering.binary,
    cst.BooleanOperation: _Lowering.binary,
    cst.UnaryOperation: _Lowering.unary,
    cst.Comparison: _Lowering.comparison,
    cst.IfExp: _Lowering.conditional,
    cst.Lambda: _Lowering.lambda_,
    cst.NamedExpr: _Lowering.named,
    cst.Await: _Lowering.await_,
    cst.Yield: _Lowering.yield_,
}


def _cst_dotted(node: cst.CSTNode) -> str:
    if isinstance(node, cst.Attribute):
        return f"{_cst_dotted(node.value)}.{node.attr.value}"
    return node.value if isinstance(node, cst.Name) else ""
