"""Results that other threads leave for an event loop: each arrives, and the loop is woken once for many."""

from __future__ import annotations

import asyncio
import threading

import pytest

from sentence_transformers.inference.mailbox import Awaited, Mailbox


def test_many_results_wake_the_loop_once(monkeypatch):
    async def run():
        loop = asyncio.get_running_loop()
        woken = []
        wake = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *call: woken.append(wake(*call)))
        mailbox = Mailbox(loop)
        awaited = [Awaited(mailbox) for _ in range(50)]

        def fill():
            for number, one in enumerate(awaited):
                one.set_result(number)
            mailbox.wake()

        thread = threading.Thread(target=fill)
        thread.start()
        found = await asyncio.gather(*(one.future for one in awaited))
        thread.join()
        return found, len(woken)

    assert asyncio.run(run()) == (list(range(50)), 1)


def test_errors_arrive_and_who_has_given_up_disturbs_nobody():
    async def run():
        mailbox = Mailbox(asyncio.get_running_loop())
        gone, wrong, ended, right = (Awaited(mailbox) for _ in range(4))
        gone.future.cancel()
        gone.set_result("too late")
        wrong.set_exception(ValueError("wrong"))
        ended.set_exception(StopIteration("ended"))
        right.set_result("right")
        mailbox.wake()
        with pytest.raises(ValueError, match="wrong"):
            await wrong.future
        with pytest.raises(RuntimeError, match="StopIteration"):
            await ended.future
        return await right.future

    assert asyncio.run(run()) == "right"


def test_a_loop_that_was_closed_gets_nothing():
    async def run():
        return Awaited(Mailbox(asyncio.get_running_loop()))

    awaited = asyncio.run(run())
    awaited.set_result("late")
    awaited.mailbox.wake()
    awaited.cancel()
    assert not awaited.future.done()
