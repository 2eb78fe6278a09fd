"""The commit order that a weak level of isolation forces, compiled: as few edges as are needed.

Read committed, read atomic and causal consistency are axioms of one form (Biswas & Enea, "On the Complexity of Checking
Transactional Consistency", 2019): where t3 reads a key from t1, every other t2 that wrote the key and that t3 *sees*
has committed before t1. They differ in what a transaction sees. The history is consistent if session order, reads and
these edges have no cycle. Which few of them suffice, so that the whole takes O(n^1.5) for the first two and O(n k) for
the third (n micro-operations, k sessions), is from Møldrup & Pavlogiannis ("AWDIT: An Optimal Weak Database Isolation
Tester", 2025).

Transactions are rows; -1 is none, and as the source of a read the initial state. An edge is (t2, t1, row of the read).
"""

from __future__ import annotations

import numba
import numpy as np

njit = numba.njit(cache=True, nogil=True)


@njit
def _push(edges, used, source, target, read):  # type: ignore[no-untyped-def]
    """Append an edge; answers the array, which may have grown."""
    if used == len(edges):
        larger = np.empty((2 * used, 3), dtype=np.int32)
        larger[:used] = edges
        edges = larger
    edges[used, 0] = source
    edges[used, 1] = target
    edges[used, 2] = read
    return edges


@njit
def topological(happened, previous, start, source):  # type: ignore[no-untyped-def]
    """The transactions that happened with each after those it depends on, as near to their own order as can be.

    It depends on ``previous``, where not -1, and on ``source[start[i]:start[i + 1]]``. Shorter than the number of
    transactions if there is a cycle.
    """
    n = len(happened)
    order = np.empty(n, dtype=np.int32)
    state = np.zeros(n, dtype=np.int8)
    place = np.empty(n, dtype=np.int64)
    stack = np.empty(n, dtype=np.int32)
    done = 0
    for root in range(n):
        if not happened[root] or state[root]:
            continue
        stack[0] = root
        height = 1
        state[root] = 1
        place[root] = start[root] - 1
        while height:
            i = stack[height - 1]
            at = place[i]
            if at == start[i + 1]:
                state[i] = 2
                order[done] = i
                done += 1
                height -= 1
                continue
            place[i] = at + 1
            before = previous[i] if at < start[i] else source[at]
            if before < 0 or state[before] == 2:
                continue
            if state[before] == 1:
                return order[:done]
            state[before] = 1
            place[before] = start[before] - 1
            stack[height] = before
            height += 1
    return order[:done]


@njit
def _wrote(write_key, begin, end, key):  # type: ignore[no-untyped-def]
    """Whether a key is among the sorted ones from ``begin`` to ``end``."""
    stop = end
    while begin < end:
        middle = (begin + end) >> 1
        if write_key[middle] < key:
            begin = middle + 1
        else:
            end = middle
    return begin < stop and write_key[begin] == key


@njit
def read_committed(keys, read_start, read_key, read_source, write_start, write_key):  # type: ignore[no-untyped-def]
    """t3 sees t2 once it has read from it, for the rest of its reads.

    The first later read of a key that t2 wrote suffices, if that is not of t2 itself: its own source is seen from there
    on. So two reads of each key are kept while going backwards, of different sources.
    """
    n = len(read_start) - 1
    edges, used = np.empty((1024, 3), dtype=np.int32), 0
    stamp = np.full(keys, -1, dtype=np.int64)
    first = np.empty(keys, dtype=np.int64)
    second = np.empty(keys, dtype=np.int64)
    later = np.empty(keys, dtype=np.int64)
    earliest = np.full(n, -1, dtype=np.int64)
    for i in range(n):
        for row in range(read_start[i + 1] - 1, read_start[i] - 1, -1):
            if read_source[row] >= 0:
                earliest[read_source[row]] = row
        count = 0
        for row in range(read_start[i + 1] - 1, read_start[i] - 1, -1):
            t2 = read_source[row]
            if t2 >= 0 and earliest[t2] == row:
                begin, end = write_start[t2], write_start[t2 + 1]
                few = end - begin <= count
                for at in range(end - begin if few else count):
                    key = write_key[begin + at] if few else later[at]
                    if stamp[key] != i if few else not _wrote(write_key, begin, end, key):
                        continue
                    reads = first[key]
                    if read_source[reads] == t2:
                        reads = second[key]
                    if reads >= 0:
                        edges = _push(edges, used, t2, read_source[reads], reads)
                        used += 1
            key = read_key[row]
            if stamp[key] != i:
                stamp[key] = i
                second[key] = -1
                later[count] = key
                count += 1
            elif read_source[first[key]] != t2:
                second[key] = first[key]
            first[key] = row
    return edges[:used]


@njit
def read_atomic(  # type: ignore[no-untyped-def]
    keys,
    happened,
    crashed,
    process,
    processes,
    read_start,
    read_key,
    read_source,
    write_start,
    write_key,
):
    """t3 sees all of t2 if it read anything of it, or if t2 came before it in its session.

    Nothing comes after what crashed. Of the session the last write of a key suffices. Two reads of a key from different
    transactions contradict each other, so that each must come before the other.
    """
    n = len(read_start) - 1
    edges, used = np.empty((1024, 3), dtype=np.int32), 0
    stamp = np.full(keys, -1, dtype=np.int64)
    first = np.empty(keys, dtype=np.int64)
    distinct = np.empty(keys, dtype=np.int64)
    seen = np.full(n, -1, dtype=np.int64)
    last = np.full(keys, -1, dtype=np.int32)
    last_process = np.full(keys, -1, dtype=np.int64)
    # The transactions of one process after another.
    count = np.zeros(processes + 1, dtype=np.int64)
    for i in range(n):
        if happened[i]:
            count[process[i] + 1] += 1
    for s in range(processes):
        count[s + 1] += count[s]
    order = np.empty(count[processes], dtype=np.int32)
    for i in range(n):
        if happened[i]:
            order[count[process[i]]] = i
            count[process[i]] += 1
    for i in order:
        many = 0
        for row in range(read_start[i], read_start[i + 1]):
            key, t1 = read_key[row], read_source[row]
            if stamp[key] == i:
                if read_source[first[key]] != t1:
                    if t1 >= 0:
                        edges = _push(edges, used, t1, read_source[first[key]], first[key])
                        used += 1
                    if read_source[first[key]] >= 0:
                        edges = _push(edges, used, read_source[first[key]], t1, row)
                        used += 1
                continue
            stamp[key] = i
            first[key] = row
            distinct[many] = key
            many += 1
            if last_process[key] == process[i] and last[key] != t1:
                edges = _push(edges, used, last[key], t1, row)
                used += 1
        for row in range(read_start[i], read_start[i + 1]):
            t2 = read_source[row]
            if t2 < 0 or seen[t2] == i:
                continue
            seen[t2] = i
            begin, end = write_start[t2], write_start[t2 + 1]
            few = end - begin <= many
            for at in range(end - begin if few else many):
                key = write_key[begin + at] if few else distinct[at]
                if stamp[key] != i if few else not _wrote(write_key, begin, end, key):
                    continue
                if read_source[first[key]] != t2:
                    edges = _push(edges, used, t2, read_source[first[key]], first[key])
                    used += 1
        if crashed[i]:
            continue
        for row in range(write_start[i], write_start[i + 1]):
            last[write_key[row]] = i
            last_process[write_key[row]] = process[i]
    return edges[:used]


@njit
def clocks(order, previous, session, position, read_start, read_source, base, width):  # type: ignore[no-untyped-def]
    """The last transaction of each session that happens before each transaction: its place there, or -1.

    Sessions are ``base`` to ``base + width``. Answers (transactions, width).
    """
    clock = np.full((len(previous), width), -1, dtype=np.int32)
    for i in order:
        mine = clock[i]
        for row in range(read_start[i] - 1, read_start[i + 1]):
            before = previous[i] if row < read_start[i] else read_source[row]
            if before < 0:
                continue
            column = session[before] - base
            if column >= 0 and column < width:
                if mine[column] >= position[before]:
                    continue  # what happens before it is there already
                mine[column] = position[before]
            other = clock[before]
            for at in range(width):
                mine[at] = max(mine[at], other[at])
    return clock


@njit
def chains(order, previous, read_start, read_source, width):  # type: ignore[no-untyped-def]
    """Clocks as those of sessions, for chains of transactions that each happen before the next.

    A session is a chain. One that begins when another has ended goes on with that one's chain from where it has seen
    all of it, so that the many short sessions of a run with crashes need few. What happens before nothing is in none,
    and has chain -1. Answers the clocks, the chain of each transaction and its place there, and how many chains there
    are: -1 if they are more than ``width``.
    """
    n = len(previous)
    clock = np.full((n, width), -1, dtype=np.int32)
    chain = np.full(n, -1, dtype=np.int32)
    place = np.full(n, -1, dtype=np.int32)
    goes_on = np.zeros(n, dtype=np.bool_)
    matters = np.zeros(n, dtype=np.bool_)
    for i in order:
        if previous[i] >= 0:
            goes_on[previous[i]] = True
            matters[previous[i]] = True
        for row in range(read_start[i], read_start[i + 1]):
            if read_source[row] >= 0:
                matters[read_source[row]] = True
    last = np.full(width, -1, dtype=np.int64)
    ended = np.zeros(width, dtype=np.bool_)
    used = 0
    for i in order:
        mine = clock[i]
        for row in range(read_start[i] - 1, read_start[i + 1]):
            before = previous[i] if row < read_start[i] else read_source[row]
            if before < 0 or mine[chain[before]] >= place[before]:
                continue
            mine[chain[before]] = place[before]
            other = clock[before]
            for at in range(width):
                mine[at] = max(mine[at], other[at])
        if not matters[i]:
            if previous[i] >= 0:
                ended[chain[previous[i]]] = True
            continue
        own = chain[previous[i]] if previous[i] >= 0 else -1
        if own >= 0 and last[own] != previous[i]:
            own = -1  # another one goes on with that chain already
        if own < 0 or own > 0:
            # The first chain that has ended and was seen to its end; its own is left for others then.
            for at in range(used if own < 0 else own):
                if ended[at] and mine[at] == place[last[at]]:
                    if own >= 0:
                        ended[own] = True
                    own = at
                    break
        if own < 0:
            if used == width:
                return clock, chain, place, -1
            own = used
            used += 1
        chain[i] = own
        place[i] = place[last[own]] + 1 if last[own] >= 0 else 0
        last[own] = i
        ended[own] = not goes_on[i]
    return clock, chain, place, used


@njit
def pairs_of(keys, order, session, position, write_start, write_key):  # type: ignore[no-untyped-def]
    """The writes of each key by each session that has any, in session order.

    ``order`` are the transactions, those of one session together and in their order. Answers the first pair of each
    key, each pair's session and first write, the writers, and their places in their sessions.
    """
    begins = np.zeros(keys + 1, dtype=np.int64)
    for i in order:
        for row in range(write_start[i], write_start[i + 1]):
            begins[write_key[row] + 1] += 1
    for key in range(keys):
        begins[key + 1] += begins[key]
    place = begins[:-1].copy()
    writer = np.empty(begins[keys], dtype=np.int32)
    writer_at = np.empty(begins[keys], dtype=np.int32)
    for i in order:
        for row in range(write_start[i], write_start[i + 1]):
            writer[place[write_key[row]]] = i
            writer_at[place[write_key[row]]] = position[i]
            place[write_key[row]] += 1
    first_pair = np.zeros(keys + 1, dtype=np.int64)
    pair_session = np.empty(len(writer), dtype=np.int32)
    pair_start = np.empty(len(writer) + 1, dtype=np.int64)
    pairs = 0
    for key in range(keys):
        for at in range(begins[key], begins[key + 1]):
            if at == begins[key] or session[writer[at]] != session[writer[at - 1]]:
                pair_session[pairs] = session[writer[at]]
                pair_start[pairs] = at
                pairs += 1
        first_pair[key + 1] = pairs
    pair_start[pairs] = len(writer)
    return first_pair, pair_session[:pairs], pair_start[: pairs + 1], writer, writer_at


@njit
def causal(  # type: ignore[no-untyped-def]
    order,
    clock,
    base,
    read_start,
    read_key,
    read_source,
    first_pair,
    pair_session,
    pair_start,
    writer,
    writer_at,
):
    """t3 sees t2 if t2 happens before it by sessions and reads: of each session its last such write of the key.

    The search for it begins where the one before ended, since transactions come nearly in the order of time; an edge
    that is in the order already is left out.
    """
    width = clock.shape[1]
    edges, used = np.empty((1024, 3), dtype=np.int32), 0
    hint = pair_start[:-1].copy()
    for i in order:
        mine = clock[i]
        for row in range(read_start[i], read_start[i + 1]):
            key, t1 = read_key[row], read_source[row]
            for pair in range(first_pair[key], first_pair[key + 1]):
                column = pair_session[pair] - base
                if column < 0 or column >= width or mine[column] < 0:
                    continue
                limit = mine[column]
                if t1 >= 0 and clock[t1, column] >= limit:
                    continue  # all that is seen of that session is before t1
                low, high = pair_start[pair], pair_start[pair + 1]
                # The first write after the limit, by steps that double, and then by halves.
                at, step = hint[pair], 1
                if writer_at[at] <= limit:
                    while at + step < high and writer_at[at + step] <= limit:
                        at += step
                        step *= 2
                    low, high = at + 1, min(at + step, high)
                else:
                    while at - step >= low and writer_at[at - step] > limit:
                        at -= step
                        step *= 2
                    low, high = max(at - step, low), at
                while low < high:
                    middle = (low + high) >> 1
                    if writer_at[middle] <= limit:
                        low = middle + 1
                    else:
                        high = middle
                if low == pair_start[pair]:
                    continue
                hint[pair] = low - 1
                if t1 >= 0 and clock[t1, column] >= writer_at[low - 1]:
                    continue
                t2 = writer[low - 1]
                if t2 == t1:
                    continue
                edges = _push(edges, used, t2, t1, row)
                used += 1
    return edges[:used]
