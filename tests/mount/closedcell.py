"""The cell of `usersd` without a mount: `python -m tests.mount.closedcell ADDRESS`.

It says `ready` when it answers, takes the orders of `usersd`, and one more: `("token", USER, {})`
is answered by a token for a user, as JSON with its key in it.
"""

from __future__ import annotations

import ast
import sys
from functools import partial

import trio

from afsfuse.auth.token import Secret, Token
from tests.mount.usersd import make_cell, obey


async def main(address: str) -> None:
    cell = make_cell(address)
    async with cell.serving():
        print("ready", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            verb, name, more = ast.literal_eval(line)
            if verb != "token":
                await obey(cell, verb, name, more)
                print("done", flush=True)
                continue
            made = cell.token_for(name)
            key = Secret(made.session_key)
            token = Token(
                made.cell,
                made.client,
                made.enctype,
                key,
                made.data,
                made.start,
                made.end,
                made.kvno,
            )
            print(token.encode(), flush=True)


if __name__ == "__main__":
    trio.run(partial(main, sys.argv[1]))
