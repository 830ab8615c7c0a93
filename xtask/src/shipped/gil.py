"""Holds Python's lock for known times while a tokio task has a result for Python.

usage: gil.py ROUNDS URL MODULE_SETUP CALL

Each round starts CALL, whose answer comes while the lock is held, and writes when it was called and when
the lock was let go (monotonic clock, seconds). The rounds begin with a line on standard input; the program ends with it.
"""

import asyncio
import ctypes
import sys
import time

HELD = 0.4
BEFORE = 0.05
AFTER = 0.1

rounds, url, setup, call = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
# PyDLL, unlike CDLL, keeps the lock during the call.
libc = ctypes.PyDLL(None)
names = {"url": url, "port": url.rsplit(":", 1)[1].strip("/")}
exec(setup, names)


async def begin():
    print("CALLED", time.clock_gettime(time.CLOCK_MONOTONIC), flush=True)
    return await eval(call, names)


async def one_round():
    task = asyncio.ensure_future(begin())
    await asyncio.sleep(BEFORE)
    libc.usleep(int(HELD * 1e6))
    print("HELD", time.clock_gettime(time.CLOCK_MONOTONIC), flush=True)
    try:
        await asyncio.wait_for(task, 5)
    except Exception as error:
        print("ERROR", repr(error)[:200], flush=True)
    await asyncio.sleep(AFTER)


async def main():
    # The first one loads and starts things.
    try:
        await asyncio.wait_for(begin(), 5)
    except Exception:
        pass
    print("READY", flush=True)
    sys.stdin.readline()
    for _ in range(rounds):
        await one_round()
    print("DONE", flush=True)
    while sys.stdin.readline():
        pass


asyncio.run(main())
