"""Runs the modules and functions of a program, each into a timeline of events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradcheck_lint.source import limits, tree
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.effort import Allowance, Stop
from gradcheck_lint.source.project import Module
from gradcheck_lint.source.run import (
    assignment,
    calling,
    definitions,
    expressions,
    flow,
    following,
    names,
    objects,
    shape,
    statements,
    uncalled,
)
from gradcheck_lint.source.run.machine import Frame, Language, Machine
from gradcheck_lint.source.run.passing import Passing
from gradcheck_lint.source.run.spotted import Spotted
from gradcheck_lint.source.values import FunctionValue, Value, new_serial


def namespace(machine: Machine, module: Module) -> int:
    """The scope of a module, its own code run first if it has not been."""
    scope = machine.scope_of.get(module.path)
    if scope is None:
        scope = machine.scope_of[module.path] = new_serial()
        machine.parents[scope] = None
        machine.globals[scope] = {}
        saved = (
            machine.frames,
            machine.sequence,
            machine.timeline,
            machine.steps,
            machine.followed,
            machine.depth,
            machine.spotted,
        )
        loops = (machine.looping, machine.unrolled)
        machine.looping, machine.unrolled = 0, 1
        machine.frames, machine.sequence, machine.steps, machine.followed, machine.depth = [], tl.Sequence(), 0, {}, 0
        machine.spotted = Spotted()
        trains, machine.trains = machine.trains, True
        trying, machine.trying, unsettled, machine.unsettled = machine.trying, False, machine.unsettled, False
        reached = set(machine.reached)
        # what a module binds stays, also if a function was the first to ask for it
        undo, machine.undo = machine.undo, []
        machine.timeline = tl.Timeline(module, None)
        machine.timeline.tree = machine.sequence
        frame = Frame(module, module.chunk, None, None)
        frame.serial = scope
        body = module.body
        lines = module.chunk.text.count("\n")
        budget, machine.budget = machine.budget, machine.budget_of(lines)
        with machine.purse.allowance(limits.ENTRY_LINE * lines) as allowance, machine.passing.lasting():
            try:
                machine.run_frame(frame, body)
                _look_back(machine, frame)
            except Stop:
                machine.timeline.cut = True
                machine.unwind(0)
                _look_back_from_cut(machine, frame)
            except Exception as error:  # whoever imports the module is not to suffer from it
                machine.timeline.cut = True
                machine.broken(module.path, error)
        machine.purse.pay(allowance.used)
        machine.budget = budget
        machine.undo = undo
        machine.trying, machine.unsettled, machine.trains = trying, unsettled, trains
        machine.reached_by_modules |= machine.reached - reached
        machine.looping, machine.unrolled = loops
        machine.timelines.append(machine.timeline)
        (
            machine.frames,
            machine.sequence,
            machine.timeline,
            machine.steps,
            machine.followed,
            machine.depth,
            machine.spotted,
        ) = saved
    return scope


def run_function(machine: Machine, function: FunctionValue) -> None:
    """Run a function that nothing known calls, with unknown arguments."""
    home = function.home
    machine.timeline = tl.Timeline(home, function.function, function.owner)
    machine.sequence = machine.timeline.tree
    machine.spent += machine.steps
    lines = machine.lines(function.function)
    machine.budget = machine.budget_of(lines)
    machine.steps = 0
    machine.followed = {}
    machine.looks, machine.looked_at = {}, 0
    machine.spotted, machine.passing = Spotted(), Passing()
    machine.trains = home.trains
    machine.depth = 0
    machine.frames = []
    machine.looping, machine.unrolled = 0, 1  # a run that was cut short has left them as they were
    level = len(machine.undo)
    machine.undo.append({})
    with machine.purse.allowance(limits.ENTRY_LINE * lines) as allowance:
        try:
            _run_entry(machine, function)
        finally:
            machine.unwind(level)
    machine.forget()
    machine.purse.pay(allowance.used)
    machine.timelines.append(machine.timeline)
    machine.timeline = None


def _run_entry(machine: Machine, function: FunctionValue) -> None:
    timeline = machine.timeline
    assert timeline is not None
    undo = len(machine.undo)
    try:
        receiver: Value | None = None
        if function.owner is not None:
            instance, made = objects.instance(machine, function.owner)
            timeline.tree.steps.append(made)
            timeline.cut = timeline.skipped = function.owner.serial in machine.unmade
            machine.sequence = timeline.tree
            receiver = instance
        kind = shape.method_kind(function.function)
        bound = function if kind == "static" or receiver is None else function.bind(receiver)
        machine.followed[id(function.function)] = 1
        machine.follow(bound, None, None)
        _look_back(machine, Frame(function.home, function.home.chunk, function.function, None))
    except Stop:
        timeline.cut = True
        machine.unwind(undo)
        _look_back_from_cut(machine, Frame(function.home, function.home.chunk, function.function, None))


def _look_back(machine: Machine, frame: Frame) -> None:
    """At the end of an entry point: was a function that turns the cycle at hand, and not seen to be called?"""
    if machine.timeline is None or not machine.trains or not machine.timeline.turns:
        return
    machine.frames.append(frame)
    try:
        node = frame.function or next(iter(frame.home.body), None)
        if node is not None and uncalled.turning(machine, node):
            machine.timeline.loose = True
    finally:
        machine.frames.pop()


def _look_back_from_cut(machine: Machine, frame: Frame) -> None:
    """The same where the work was cut short; what is too much for that, too, may do anything."""
    machine.steps = machine.budget - limits.BUDGET // 10
    try:
        with Allowance(limits.ENTRY_WORK // limits.SHARE) as allowance:
            _look_back(machine, frame)
    except Stop:
        assert machine.timeline is not None
        machine.timeline.loose = True
    machine.purse.pay(allowance.used)


_EXPRESSIONS: Mapping[type, Callable[[Machine, Any], Value]] = {
    tree.Name: names.eval_name,
    tree.Attribute: names.eval_attribute,
    tree.Constant: expressions.eval_constant,
    tree.Display: expressions.eval_display,
    tree.Dict: expressions.eval_dict,
    tree.Comprehension: expressions.eval_comprehension,
    tree.Subscript: expressions.eval_subscript,
    tree.Operation: expressions.eval_operation,
    tree.Conditional: expressions.eval_conditional,
    tree.Lambda: definitions.eval_lambda,
    tree.Starred: expressions.eval_starred,
    tree.Named: assignment.eval_named,
    tree.Other: expressions.eval_other,
    tree.Slice: expressions.eval_other,
    tree.Yield: expressions.eval_other,
    tree.YieldFrom: expressions.eval_other,
    tree.Call: calling.eval_call,
}

_STATEMENTS: Mapping[type, Callable[[Machine, Any], bool]] = {
    tree.Evaluate: statements.do_evaluate,
    tree.Assign: assignment.do_assign,
    tree.Augment: assignment.do_augment,
    tree.Return: statements.do_return,
    tree.Raise: statements.do_raise,
    tree.Jump: statements.do_jump,
    tree.Delete: assignment.do_delete,
    tree.Assert: statements.do_assert,
    tree.Import: names.do_import,
    tree.Scope: names.do_scope,
    tree.If: flow.do_if,
    tree.For: flow.do_for,
    tree.While: flow.do_while,
    tree.Try: flow.do_try,
    tree.With: flow.do_with,
    tree.Match: flow.do_match,
    tree.Function: definitions.do_function,
    tree.Class: definitions.do_class,
}

LANGUAGE = Language(_EXPRESSIONS, _STATEMENTS, calling.apply, following.follow, following.prepare, namespace)
