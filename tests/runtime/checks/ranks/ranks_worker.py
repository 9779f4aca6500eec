"""One rank: runs programs under the watcher, one after the other, and writes what rank 0 has found.

    RANK=0 WORLD_SIZE=2 MASTER_ADDR=... MASTER_PORT=... python ranks_worker.py RESULTS PROGRAM...

All of them share one process group: to end it and begin another makes gloo hang now and then.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from pathlib import Path

import torch.distributed as dist

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence
from gradcheck_lint.runtime.session import Options, Session


def main() -> None:
    results, *programs = sys.argv[1:]
    dist.init_process_group("gloo")
    end = dist.destroy_process_group
    dist.init_process_group = dist.destroy_process_group = lambda *args, **options: None
    rules = registry.load(packs=False)
    found = {}
    for program in programs:
        session = Session(rules, Options(everything=True, least=Confidence.MEDIUM), lambda finding: None)
        session.start()
        ended = "ended"
        try:
            runpy.run_path(program, run_name="__main__")
        except Exception as error:
            ended = f"{type(error).__name__}: {error}"
        begin = time.monotonic()
        session.stop(ended)
        record = session.record
        found[program] = {
            "findings": [
                [finding.code, str(finding.confidence), finding.span.line, finding.label] for finding in record.findings
            ],
            "problems": record.problems,
            "ended": ended,
            "rank": record.rank,
            "ranks": record.ranks,
            "blind": [sentence for optimizer in record.optimizers for sentence in optimizer.blind],
            "stopping": time.monotonic() - begin,
        }
    if os.environ["RANK"] == "0":
        Path(results).write_text(json.dumps(found), encoding="utf-8")
    end()


if __name__ == "__main__":
    main()
