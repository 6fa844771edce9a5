"""The process of one peer: `python -m peers.worker JOB`, with JOB as JSON; workers.py is its other end."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import scipy.sparse

from . import adapters
from .cases import Missing


def main():
    channel = os.fdopen(os.dup(1), "w", buffering=1)  # what libraries print goes to standard error
    os.dup2(2, 1)
    job = json.loads(sys.argv[1])
    say = lambda **message: channel.write(json.dumps(message) + "\n")
    try:
        peer = adapters.create(job)
        setup_seconds = peer.set_up()
    except Missing as reason:
        return say(missing=str(reason))
    say(settings=[label for label, _ in peer.settings], first=peer.first, setup_seconds=setup_seconds,
        versions=peer.versions())
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            say(**ANSWERS[asked["do"]](peer, asked))
        except Missing as reason:
            say(missing=str(reason))
        except Exception as error:
            say(error=f"{type(error).__name__}: {error}")


def solve(peer, asked):
    seconds, codes = peer.attempt(asked["lambdas"], asked["count"], peer.settings[asked["setting"]][1], asked["limit"])
    return {"seconds": seconds, "codes": save(codes)}


def latency(peer, asked):
    seconds, codes = peer.one_by_one(asked["lambdas"], asked["count"], peer.settings[asked["setting"]][1],
                                     asked["limit"])
    return {"seconds": seconds, "codes": save(codes)}


def peak(peer, asked):
    return {"peak_bytes": peer.peak_bytes()}


ANSWERS = {"solve": solve, "latency": latency, "peak": peak}


def save(codes):
    scipy.sparse.save_npz("codes.npz", scipy.sparse.csr_matrix(codes, dtype=np.float64), compressed=False)
    return "codes.npz"


if __name__ == "__main__":
    main()
