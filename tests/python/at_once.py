"""Calls on several threads at the same time."""

import threading


def at_once(call, count=4):
    """What so many threads, started together, have got from the call; an exception of one comes through."""
    results, errors, start = [None] * count, [], threading.Barrier(count)

    def work(i):
        try:
            start.wait()
            results[i] = call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
