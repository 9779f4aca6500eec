"""Which statement of a running function gave a variable its value; looked up in the bytecode, on a finding only.

Works without the source, and on whatever the user's function is called. Where nothing is found there is no mark, and
the finding names the variable alone.
"""

from __future__ import annotations

import dis
from itertools import pairwise
from types import CodeType, FrameType
from typing import TYPE_CHECKING

from gradcheck_lint.runtime.sites import Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

_ADDS = ("append", "extend", "add", "appendleft")
_FLAGS = ("requires_grad", "requires_grad_")
_ARITHMETIC = ("BINARY_OP", "BINARY_ADD", "INPLACE_ADD")


def stored(frame: FrameType, name: str) -> Mark | None:
    """The latest assignment to `name` before the place at which the frame is."""
    return _last(frame.f_code, name, lambda before: True, frame.f_lasti)


def assignments(code: CodeType, name: str) -> list[Mark]:
    """All that give `name` a value: a variable, or an attribute of whatever object for `self.name`."""
    wanted, attribute = _base(name)
    instructions = list(dis.get_instructions(code))
    found = []
    for index, instruction in enumerate(instructions):
        stores = instruction.opname == "STORE_ATTR" if attribute else _of_variable(instruction, "STORE_")
        if index and stores and _named(instruction, wanted):
            found.append(_mark(code, _value(instructions, index).offset))
    return found


def flagged(frame: FrameType, name: str) -> Mark | None:
    """The latest `name.requires_grad = ...` or `name.requires_grad_()` before the place at which the frame is."""
    found = None
    instructions = list(dis.get_instructions(frame.f_code))
    for before, instruction in pairwise(instructions):
        if instruction.offset > frame.f_lasti:
            break
        if instruction.argval in _FLAGS and _of_variable(before, "LOAD_") and _named(before, _base(name)[0]):
            found = instruction
    return _mark(frame.f_code, found.offset) if found is not None else None


def grown(frame: FrameType, name: str) -> Mark | None:
    """Where something is added to `name`: `name += x`, `name = name + x` or `name.append(x)`."""
    added = _last(frame.f_code, name, lambda before: before.opname.startswith(_ARITHMETIC))
    return added or _appended(frame.f_code, name)


def returned(code: CodeType) -> Mark | None:
    """The last `return` of a function."""
    found = [
        instruction
        for instruction in dis.get_instructions(code)
        if instruction.opname.startswith("RETURN_") and instruction.opname != "RETURN_GENERATOR"
    ]
    return _mark(code, found[-1].offset) if found else None


def set_on(code: CodeType, name: str) -> Mark | None:
    """Where a function assigns to an attribute called `name`, of whatever object."""
    return _last(code, f".{name}", lambda before: True)


def first_set_on(code: CodeType, name: str) -> Mark | None:
    """Where a function first assigns to an attribute called `name`, of whatever object."""
    instructions = list(dis.get_instructions(code))
    for index, instruction in enumerate(instructions):
        if index and instruction.opname == "STORE_ATTR" and _named(instruction, name):
            return _mark(code, _value(instructions, index).offset)
    return None


def owners_of(code: CodeType, name: str) -> Iterator[tuple[Mark, str]]:
    """Each assignment to an attribute called `name`, and what it is an attribute of as the code writes it.

    Only names, their attributes and their items by number are told, "" stands for anything else.
    """
    instructions = list(dis.get_instructions(code))
    for index, instruction in enumerate(instructions):
        if instruction.opname == "STORE_ATTR" and _named(instruction, name):
            yield _mark(code, instruction.offset), _written(instructions[:index])


def _written(before: Sequence[dis.Instruction]) -> str:
    """`net.body[0]` for the instructions that end with loading it."""
    rest = ""
    left = list(before)
    while left:
        instruction = left.pop()
        if instruction.opname == "LOAD_ATTR":
            rest = f".{instruction.argval}{rest}"
        elif instruction.opname == "BINARY_SUBSCR" or instruction.argrepr == "[]":  # the latter from Python 3.14 on
            index = left.pop() if left else instruction
            if not isinstance(index.argval, int) or not index.opname.startswith(("LOAD_CONST", "LOAD_SMALL_INT")):
                break
            rest = f"[{index.argval}]{rest}"
        elif _of_variable(instruction, "LOAD_"):
            value = instruction.argval[-1] if isinstance(instruction.argval, tuple) else instruction.argval
            return f"{value}{rest}" if isinstance(value, str) else ""
        else:
            break
    return ""


def called_with(code: CodeType, method: str, constant: str) -> Mark | None:
    """Where a function first calls a method of that name with that constant among the arguments."""
    return next(calls_with(code, method, constant), None)


def calls_with(code: CodeType, method: str, constant: str) -> Iterator[Mark]:
    """The same, everywhere."""
    instructions = list(dis.get_instructions(code))
    for index, instruction in enumerate(instructions):
        if instruction.argval == method and instruction.opname.startswith("LOAD_"):
            for following in instructions[index + 1 :]:
                if following.argval == method:
                    break
                if following.opname == "LOAD_CONST" and following.argval == constant:
                    yield _call(code, instructions[index:])
                    break


def loads(code: CodeType, name: str) -> list[Mark]:
    """Where a function asks for one of its variables, in the order of the lines."""
    found = [at for at in dis.get_instructions(code) if _of_variable(at, "LOAD_") and _named(at, name)]
    return [_mark(code, at.offset) for at in found]


def uncalled(code: CodeType, method: str, owner: str = "") -> Mark | None:
    """Where a function names a method in a statement of its own and does not call it: `optimizer.zero_grad`.

    owner: what it has to be a method of, if that matters.
    """
    instructions = list(dis.get_instructions(code))
    for before, named, following in zip(instructions, instructions[1:], instructions[2:], strict=False):
        if named.opname == "LOAD_ATTR" and named.argval == method and following.opname == "POP_TOP":
            if not owner or _named(before, owner):
                return _mark(code, named.offset)
    return None


def uses(code: CodeType, names: Collection[str]) -> Mark | None:
    """Where a function first asks for a method or a function of one of these names."""
    for instruction in dis.get_instructions(code):
        if instruction.opname.startswith("LOAD_") and not instruction.opname.startswith("LOAD_CONST"):
            if any(_named(instruction, name) for name in names):
                return _mark(code, instruction.offset)
    return None


def calls(code: CodeType, name: str) -> list[Mark]:
    """Where a function calls a method or a function of that name, or hands it on."""
    instructions = list(dis.get_instructions(code))
    return [
        _call(code, instructions[index:])
        for index, at in enumerate(instructions)
        if at.opname.startswith("LOAD_") and not at.opname.startswith("LOAD_CONST") and _named(at, name)
    ]


def line_of(code: CodeType, offset: int) -> int:
    """The line that an instruction belongs to."""
    return _mark(code, offset).line


def _base(name: str) -> tuple[str, bool]:
    """`total` for `self.total` and for `total['loss']`, and whether it is an attribute."""
    owner = name.partition("[")[0]
    return owner.rpartition(".")[2], "." in owner


def _last(code: CodeType, name: str, fits: Callable[[dis.Instruction], bool], end: int | None = None) -> Mark | None:
    found = None
    wanted, attribute = _base(name)
    instructions = list(dis.get_instructions(code))
    for index, instruction in enumerate(instructions):
        if end is not None and instruction.offset > end:
            break
        stores = instruction.opname == "STORE_ATTR" if attribute else _of_variable(instruction, "STORE_")
        if index and stores and _named(instruction, wanted):
            before = _value(instructions, index)
            if fits(before):
                found = before
    return _mark(code, found.offset) if found is not None else None


def _value(instructions: Sequence[dis.Instruction], index: int) -> dis.Instruction:
    """The instruction that made what is stored; an attribute's owner is loaded in between."""
    before = instructions[index - 1]
    if instructions[index].opname != "STORE_ATTR" or before.opname.count("LOAD_FAST") == 2:
        return before  # from Python 3.13 on one instruction may load both
    return instructions[max(index - 2, 0)]


def _appended(code: CodeType, name: str) -> Mark | None:
    wanted, attribute = _base(name)
    instructions = list(dis.get_instructions(code))
    for index, instruction in enumerate(instructions[:-1]):
        method = instructions[index + 1]
        loads = instruction.opname == "LOAD_ATTR" if attribute else _of_variable(instruction, "LOAD_")
        if not loads or not _named(instruction, wanted):
            continue
        if method.opname.startswith("LOAD_") and method.argval in _ADDS:
            return _call(code, instructions[index + 1 :])
    return None


def _call(code: CodeType, following: Sequence[dis.Instruction]) -> Mark:
    """The call of the method that the first of these loads."""
    start = _start(following[0])
    for instruction in following[1:]:
        if start is not None and instruction.opname.startswith("CALL") and _start(instruction) == start:
            return _mark(code, instruction.offset)
    return _mark(code, following[0].offset)


def _of_variable(instruction: dis.Instruction, prefix: str) -> bool:
    name = instruction.opname
    return name.startswith(prefix) and name not in (f"{prefix}ATTR", f"{prefix}METHOD")


def _named(instruction: dis.Instruction, name: str) -> bool:
    value = instruction.argval
    return name == value or (isinstance(value, tuple) and name in value)


def _start(instruction: dis.Instruction) -> tuple[int, int] | None:
    positions = getattr(instruction, "positions", None)
    if positions is None or positions.lineno is None or positions.col_offset is None:
        return None
    return positions.lineno, positions.col_offset


def _mark(code: CodeType, offset: int) -> Mark:
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if number is not None and start <= offset < end:
            line = number
    return Mark(code, offset, line)
