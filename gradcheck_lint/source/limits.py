"""The numbers that keep time and memory linear in the size of a file, whatever it says.

Three kinds. Some bound one thing (a list, a set, a walk), so that what is done for one line of code never depends on
how long the file is. Some bound how often the same code is run again. And some bound the work of an entry point or of
a rule as a whole (`effort` counts it), for shapes that nobody has thought of: what comes after the limit is not
looked at, what came before is judged all the same, and an outcome says that something was cut.

All are far above what code needs that people write: see `benchmarks/bombs.py` for what they are there for.
"""

from __future__ import annotations

# ---------------------------------------------------------------- files

LARGEST_IMPORTED = 1_000_000  # bytes of a file that is only imported: nobody asked about it, so it is read for less

UNPACKED = 16_000_000  # bytes of files that are kept as they are; those of further ones are kept packed
ISLAND = 5_000_000  # bytes of files that are analysed together, which takes 20 to 60 times as much memory
GARBAGE = 500_000  # objects, about 60 MB, that were made and are still there: then garbage is looked for

# ---------------------------------------------------------------- text

LITERAL = 100  # items of a literal that are kept, where they are constants and there are more: data, not parameters
CHAIN = 100  # tests of an `elif` chain, operands of `and` or `or`: more are taken in one go, not one inside the other

# ---------------------------------------------------------------- values

ITEMS = 512  # items of a list, or entries of a dict, that is made of others: `l = l + l` doubles each time
DEPENDENCIES = 200  # things that are remembered to have taken part in making a value: `x = x + f(x)` adds one each time
ALTERNATIVES = 12  # values that are remembered of one which paths that meet, or writes in place, may have given it
PARENTS = 64  # attributes read from one another, up to the thing where they start: `x = x.next` adds one each time
LINEAGE = 64  # classes that a class derives from, and that are asked for a method

# ---------------------------------------------------------------- running code again

RERUN = 4  # loops inside one another whose body is run again on its own; the ones inside are run again by those
UNROLLED = 216  # runs of a body in loops over known lists inside one another, each of which is run for each item

# ---------------------------------------------------------------- following calls

DEPTH = 9  # calls followed into one another
REPEATS = 16  # times that one function is followed for one entry point
BUDGET = 12_000  # calls and statements run for one entry point; from half of it on, no call is followed
LOOKS = 4  # times that one is gone through for one entry point only to see how its result comes of what it is given,
LOOK = 1000  # calls and statements in each of them,
LOOK_WORK = 10_000  # and work, in units of about 1 µs (what takes little is gone through as often as it comes),
LOOKED_AT = 40_000  # of which there may be so much in all
HEAVY = 100_000  # calls and statements run in one function for all entry points; from there on, it is not followed
LENGTHY = BUDGET // 2  # calls and statements run in one call of a function, at whose end calls were not followed then:
# after two such calls (more where there are more files, as for the purses below) no other is followed
LONG = 150_000  # calls and statements run for all of them; from there on, each gets a tenth of its budget

# ---------------------------------------------------------------- judging

STATES = 64  # states in which gradients may be at one point; of those that differ in their history only, a few are kept
HISTORIES = 2  # how many are kept then

WAY = 300  # operations from a loss back to what it was computed from; what lies behind them is not known
CUTS = 8  # operations that are remembered to have cut something off from a value, and leaf tensors that it leads to

# ---------------------------------------------------------------- the last guard, in units of about 1 µs

# Of 35,000 times that a rule was asked about an entry point of public code, the longest took 11,000 units; entry
# points took 6,000 to interpret and to follow.
ENTRY_WORK = 100_000  # for interpreting one entry point,
ENTRY_LINE = 30  # and for each of its own lines: code that is long is no bomb;
FOLLOW_WORK = 100_000  # for taking the protocol's machine along the paths of one, for all its optimizers,
FOLLOW_EVENT = 30  # and for each of its events
RULE_WORK = 40_000  # for what one rule asks of one
EVERY = 50_000  # files that belong together may take that once for so many characters,
AT_LEAST = 2  # and as often if they are small;
SHARE = 20  # once this is used up, each entry point gets such a part of it,
LEAST_SHARE = 1000  # and once it is used up twice, such a part
JUDGED = 40_000  # events in all entry points for so many characters; then only small ones are judged:
SMALL = 100  # events (what a class does at the start comes before what each of its methods does)
