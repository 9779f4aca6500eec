"""What else is looked at while a run is watched: each check is a class with the hooks that it needs (`check`).

A check turns what it sees into sightings and leaves the judgement to the rules. It lives in a module of the folder of
the law that it serves, and has its place in `listed`.
"""
