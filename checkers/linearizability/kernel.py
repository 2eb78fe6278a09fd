"""The bounded search, compiled: which sets of pending operations may have taken effect, return by return.

Just-in-time linearization (Wing & Gong, "Testing and Verifying Concurrent Objects", 1993; Lowe, "Testing for
linearizability", 2017): operations are put in order only when one of them returns, since until then nothing can be
said. A *configuration* is what a partial order of the past leaves behind: the state of the object, which of the
operations pending now have taken effect, and how many crashed ones of each kind. Its size depends on how many
operations overlap, not on the length of the history.

What keeps the configurations few, each by a short proof:

- *Dominance.* With the same state and the same pending operations done, fewer crashed operations used can do everything
  that more can.
- *Symmetry.* Crashed operations of one kind are counted, not named.
- *Earliest deadline.* Of two pending operations of one kind, take the one that returns first.
- *Greedy observers.* An operation that never changes any state is done the moment the state makes it possible.
- *Absorption.* An operation that overwrites whatever it finds can be placed, without effect, directly before another
  one that does. So once one overwrites, all others pending then are *optional*: they need not take effect any more,
  and still can. An optional operation can do what a done one can and what an open one can. And of two that overwrite
  directly one after the other, with nobody observing in between, the first is never needed.

Two orders share this code. Depth first finds a witness of a correct history quickly; breadth first forgets the
configurations of earlier returns, which bounds the memory when there is no witness.

Rows of ``rows``: state, done mask, optional mask (``words`` words each), crashed operations used by kind.
"""

from __future__ import annotations

import numba
import numpy as np

BITS = 62
"""Slots in one word of a mask: a signed word less its sign and one spare."""

OBSERVES, OVERWRITES = 1, 2
"""Bits of a kind's flags."""

ILLEGAL, MISSING = -1, -2
"""Values of the transition table: impossible in that state; not asked for yet."""

LINEARIZABLE, IMPOSSIBLE, NEED, FULL, PAUSED = 1, 2, 3, 4, 5
"""What ``explore`` returns: two verdicts, and three reasons to call it again."""

STACK, ROWS, NEEDS, FURTHEST, FUEL, LEVEL, FOLLOWING, EXPANDED = range(8)
"""Places in ``registers``, the search's own variables between two calls."""

LAST_OVERWROTE, INSIDE, DEAD = 1, 2, 4
"""Bits of ``row_flag``: the last step at this return overwrote; there was a step; another row dominates this one."""

njit = numba.njit(cache=True, nogil=True)
part_of_explore = numba.njit(cache=True, nogil=True, forceinline=True)
"""For pieces of the innermost loop: a call would pass, and count, a dozen arrays each time."""


@njit
def pending_lists(call, ret, kind, kinds):  # type: ignore[no-untyped-def]
    """For each return, in order, the operations pending then in the order of their returns, with slots assigned.

    ``call`` and ``ret`` are times of live operations sorted by ``ret``; an invocation at the time of a return is
    concurrent with it. Answers (slot of each operation, list bounds, list of operations, for each entry the previous
    entry of its kind in the list or -1, slots used).
    """
    count = len(call)
    by_call = np.argsort(call, kind="mergesort")
    slot = np.zeros(count, dtype=np.int64)
    bounds = np.zeros(count + 1, dtype=np.int64)
    active = np.zeros(count + 1, dtype=np.int64)
    free = np.zeros(count + 1, dtype=np.int64)
    last = np.full(kinds, -1, dtype=np.int64)
    capacity = max(16, 4 * count)
    entries = np.zeros(capacity, dtype=np.int32)
    previous = np.zeros(capacity, dtype=np.int32)
    living = freed = slots = at = used = 0
    for event in range(count):
        while at < count and call[by_call[at]] <= ret[event]:
            operation = by_call[at]
            at += 1
            if freed:
                freed -= 1
                slot[operation] = free[freed]
            else:
                slot[operation] = slots
                slots += 1
            place = living
            while place > 0 and active[place - 1] > operation:
                active[place] = active[place - 1]
                place -= 1
            active[place] = operation
            living += 1
        if used + living > capacity:
            capacity = 2 * (used + living)
            larger = np.zeros(capacity, dtype=np.int32)
            larger[:used] = entries[:used]
            entries = larger
            larger = np.zeros(capacity, dtype=np.int32)
            larger[:used] = previous[:used]
            previous = larger
        for place in range(living):
            operation = active[place]
            entries[used] = operation
            previous[used] = last[kind[operation]]
            last[kind[operation]] = used
            used += 1
        for place in range(living):
            last[kind[active[place]]] = -1
        bounds[event + 1] = used
        # The operation that returns now is the first of the list.
        free[freed] = slot[active[0]]
        freed += 1
        living -= 1
        for place in range(living):
            active[place] = active[place + 1]
    return slot, bounds, entries[:used], previous[:used], slots


@njit
def find(table_key, table_value, state, kind, kinds):  # type: ignore[no-untyped-def]
    """The transition of a state by a kind, or MISSING."""
    key = state * kinds + kind + 1
    mask = len(table_key) - 1
    at = (key * 0x9E3779B97F4A7C1 >> 20) & mask
    while table_key[at] != 0:
        if table_key[at] == key:
            return table_value[at]
        at = (at + 1) & mask
    return MISSING


@njit
def store(table_key, table_value, state, kind, kinds, value):  # type: ignore[no-untyped-def]
    """Enter a transition; the table must have room."""
    key = state * kinds + kind + 1
    mask = len(table_key) - 1
    at = (key * 0x9E3779B97F4A7C1 >> 20) & mask
    while table_key[at] != 0 and table_key[at] != key:
        at = (at + 1) & mask
    table_key[at] = key
    table_value[at] = value


@njit
def dominates(rows, a, b, words, width, overwriting, observing):  # type: ignore[no-untyped-def]
    """Whether row ``a`` can do everything that row ``b`` can; both have the same state."""
    for word in range(words):
        done_a, done_b = rows[a, 1 + word], rows[b, 1 + word]
        optional_a, optional_b = rows[a, 1 + words + word], rows[b, 1 + words + word]
        blind, seen = overwriting[word], observing[word]
        if ((done_a ^ done_b) | optional_b) & ~optional_a & blind:
            return False
        if done_b & ~done_a & seen:
            return False
        if (done_a ^ done_b) & ~blind & ~seen:
            return False
    for place in range(1 + 2 * words, width):  # noqa: SIM110 - compiled, and faster as a loop
        if rows[a, place] > rows[b, place]:
            return False
    return True


@part_of_explore
def insert(shelf, stamp, new, words, masks):  # type: ignore[no-untyped-def]
    """Keep row ``new`` unless another of its return dominates it: whether it was kept."""
    rows, row_event, row_flag, row_next, row_code, head, head_stamp = shelf
    width = rows.shape[1]
    event = row_event[new]
    overwriting, observing = masks[0], masks[1]
    code = rows[new, 0] * 0x9E3779B97F4A7C1 + event * 0x2545F4914F6CDD1D
    for word in range(words):
        code = (code ^ (rows[new, 1 + word] & ~overwriting[word] & ~observing[word])) * 0x5851F42D4C957F2D
    code ^= code >> 29
    row_code[new] = code
    at = code & (len(head) - 1)
    if head_stamp[at] != stamp:
        head_stamp[at] = stamp
        head[at] = -1
    other = head[at]
    while other >= 0:
        if row_event[other] == event and rows[other, 0] == rows[new, 0] and not row_flag[other] & DEAD:
            if not row_flag[other] & ~row_flag[new] and dominates(
                rows, other, new, words, width, overwriting, observing
            ):
                return False
            if not row_flag[new] & ~row_flag[other] and dominates(
                rows, new, other, words, width, overwriting, observing
            ):
                row_flag[other] |= DEAD
        other = row_next[other]
    row_next[new] = head[at]
    head[at] = new
    return True


@part_of_explore
def pass_return(shelf, new, words, event, returning):  # type: ignore[no-untyped-def]
    """Row ``new`` gets past a return: the slot of the operation that returned is free again."""
    rows, row_event, row_flag = shelf[0], shelf[1], shelf[2]
    word, bit = returning // BITS, np.int64(1) << (returning % BITS)
    rows[new, 1 + word] &= ~bit
    rows[new, 1 + words + word] &= ~bit
    row_event[new] = event + 1
    row_flag[new] = 0


@part_of_explore
def keep(shelf, stamp, words, masks, later, stack, following, registers):  # type: ignore[no-untyped-def]
    """Keep the row behind the last one unless it is dominated, to be looked at next, or with the next return."""
    new = registers[ROWS]
    if not insert(shelf, stamp, new, words, masks):
        return
    registers[ROWS] += 1
    if later:
        following[registers[FOLLOWING]] = new
        registers[FOLLOWING] += 1
    else:
        stack[registers[STACK]] = new
        registers[STACK] += 1


@njit
def relink(row_event, row_next, row_code, head, head_stamp, registers, depth_first):  # type: ignore[no-untyped-def]
    """Chain all rows anew, in a hash table of another size."""
    for row in range(registers[ROWS]):
        stamp = 1 if depth_first else 2 * registers[LEVEL] + (row_event[row] > registers[LEVEL])
        at = row_code[row] & (len(head) - 1)
        row_next[row] = head[at] if head_stamp[at] == stamp else -1
        head[at] = row
        head_stamp[at] = stamp


@njit
def fill_masks(event, bounds, entries, slot, kind, kind_flag, masks):  # type: ignore[no-untyped-def]
    """The slots of pending operations that overwrite, and of those that observe, at a return."""
    masks[:] = 0
    for place in range(bounds[event], bounds[event + 1]):
        operation = entries[place]
        flags = kind_flag[kind[operation]]
        if flags & OVERWRITES:
            masks[0, slot[operation] // BITS] |= np.int64(1) << (slot[operation] % BITS)
        elif flags & OBSERVES:
            masks[1, slot[operation] // BITS] |= np.int64(1) << (slot[operation] % BITS)


@njit
def want(needs, registers, state, kind):  # type: ignore[no-untyped-def]
    """Note that a transition is missing."""
    if registers[NEEDS] < len(needs):
        needs[registers[NEEDS], 0] = state
        needs[registers[NEEDS], 1] = kind
        registers[NEEDS] += 1


@njit
def explore(  # type: ignore[no-untyped-def]
    depth_first, slot, kind, bounds, entries, previous, kind_flag, kinds,
    crash_kind, crash_bounds, crash_event,
    table_key, table_value, pool, words,
    rows, row_event, row_flag, row_next, row_code, row_parent, row_step, head, head_stamp,
    stack, following, needs, registers,
):  # fmt: skip
    """Go on with the search until it has a verdict, needs something, or is out of fuel."""
    shelf = (rows, row_event, row_flag, row_next, row_code, head, head_stamp)
    returns = len(slot)
    crashes = len(crash_kind)
    now_masks = np.zeros((2, words), dtype=np.int64)
    next_masks = np.zeros((2, words), dtype=np.int64)
    masked = -1
    registers[NEEDS] = 0
    while True:
        if registers[STACK] == 0:
            if depth_first or registers[FOLLOWING] == 0:
                return IMPOSSIBLE
            # Breadth first: the rows of the next return move to the front, all others are forgotten.
            kept = 0
            for place in range(registers[FOLLOWING]):
                row = following[place]
                if not row_flag[row] & DEAD:
                    rows[kept] = rows[row]
                    row_event[kept] = row_event[row]
                    row_flag[kept] = 0
                    stack[kept] = kept
                    kept += 1
            registers[LEVEL] += 1
            registers[ROWS] = registers[STACK] = kept
            registers[FOLLOWING] = 0
            fill_masks(registers[LEVEL], bounds, entries, slot, kind, kind_flag, now_masks)
            for row in range(kept):
                insert(shelf, 2 * registers[LEVEL], row, words, now_masks)
        if registers[FUEL] <= 0:
            return PAUSED
        registers[FUEL] -= 1
        registers[EXPANDED] += 1
        row = stack[registers[STACK] - 1]
        if row_flag[row] & DEAD:
            registers[STACK] -= 1
            continue
        event = row_event[row]
        state = rows[row, 0]
        first, end = bounds[event], bounds[event + 1]
        # Room for every row that this one can lead to, before anything is changed.
        if registers[ROWS] + 8 * (end - first + crashes + 2) >= len(rows):
            return FULL
        registers[FURTHEST] = max(registers[FURTHEST], event)
        for place in range(first, end):
            operation = entries[place]
            if kind_flag[kind[operation]] & OBSERVES:
                word, bit = slot[operation] // BITS, np.int64(1) << (slot[operation] % BITS)
                if not rows[row, 1 + word] & bit:
                    value = find(table_key, table_value, state, kind[operation], kinds)
                    if value == MISSING:
                        want(needs, registers, state, kind[operation])
                    elif value != ILLEGAL:
                        rows[row, 1 + word] |= bit
                        # Somebody saw what was written: overwriting it now is another history.
                        row_flag[row] &= ~LAST_OVERWROTE
        if registers[NEEDS]:
            return NEED
        returning = slot[event]
        word, bit = returning // BITS, np.int64(1) << (returning % BITS)
        is_done = rows[row, 1 + word] & bit != 0
        is_optional = rows[row, 1 + words + word] & bit != 0
        if not is_done:
            for place in range(first, end):
                operation = entries[place]
                observes = kind_flag[kind[operation]] & OBSERVES
                if not observes and find(table_key, table_value, state, kind[operation], kinds) == MISSING:
                    want(needs, registers, state, kind[operation])
            for crash in range(crashes):
                if find(table_key, table_value, state, crash_kind[crash], kinds) == MISSING:
                    want(needs, registers, state, crash_kind[crash])
            if registers[NEEDS]:
                return NEED
        if masked != event:
            fill_masks(event, bounds, entries, slot, kind, kind_flag, now_masks)
            if event + 1 < returns:
                fill_masks(event + 1, bounds, entries, slot, kind, kind_flag, next_masks)
            masked = event
        registers[STACK] -= 1
        now_stamp = 1 if depth_first else 2 * event
        next_stamp = 1 if depth_first else 2 * event + 1
        if not is_done:
            last_overwrote = row_flag[row] & LAST_OVERWROTE
            # Crashed operations are pushed first and so tried last; the one that returns now is tried first.
            for choice in range(crashes + end - first):
                if choice < crashes:
                    chosen = crash_kind[choice]
                    used = rows[row, 1 + 2 * words + choice]
                    begin = crash_bounds[choice]
                    if begin + used >= crash_bounds[choice + 1] or crash_event[begin + used] > event:
                        continue
                    taken = -1
                else:
                    place = end - 1 - (choice - crashes)
                    operation = entries[place]
                    chosen = kind[operation]
                    if kind_flag[chosen] & OBSERVES:
                        continue
                    taken = slot[operation]
                    if rows[row, 1 + taken // BITS] >> (taken % BITS) & 1:
                        continue
                    earlier = previous[place]
                    while earlier >= 0:
                        other = slot[entries[earlier]]
                        if not rows[row, 1 + other // BITS] >> (other % BITS) & 1:
                            break
                        earlier = previous[earlier]
                    if earlier >= 0:
                        continue
                overwrites = kind_flag[chosen] & OVERWRITES
                if overwrites and last_overwrote:
                    continue
                value = find(table_key, table_value, state, chosen, kinds)
                if value == ILLEGAL:
                    continue
                count, offset = 1, 0
                if value < ILLEGAL:
                    offset = -(value + 3)
                    count = pool[offset]
                if registers[ROWS] + count + 4 >= len(rows):
                    stack[registers[STACK]] = row
                    registers[STACK] += 1
                    return FULL
                for successor in range(count):
                    new = registers[ROWS]
                    rows[new] = rows[row]
                    rows[new, 0] = value if value >= 0 else pool[offset + 1 + successor]
                    if taken < 0:
                        rows[new, 1 + 2 * words + choice] += 1
                    else:
                        rows[new, 1 + taken // BITS] |= np.int64(1) << (taken % BITS)
                        rows[new, 1 + words + taken // BITS] &= ~(np.int64(1) << (taken % BITS))
                    if overwrites:
                        for w in range(words):
                            rows[new, 1 + words + w] |= now_masks[0, w] & ~rows[new, 1 + w]
                        if not is_optional and taken != returning:
                            rows[new, 1 + words + word] &= ~bit
                    row_parent[new] = row
                    row_step[new] = taken if taken >= 0 else -2 - choice
                    row_flag[new] = INSIDE | LAST_OVERWROTE if overwrites else INSIDE
                    row_event[new] = event
                    if taken != returning:
                        keep(shelf, now_stamp, words, now_masks, False, stack, following, registers)
                        continue
                    pass_return(shelf, new, words, event, returning)
                    if event + 1 == returns:
                        registers[ROWS] += 1
                        registers[FURTHEST] = returns
                        return LINEARIZABLE
                    keep(shelf, next_stamp, words, next_masks, not depth_first, stack, following, registers)
        # An optional operation may as well be absorbed before any other step: those can follow at the next return.
        if is_done or (is_optional and not row_flag[row] & INSIDE):
            new = registers[ROWS]
            rows[new] = rows[row]
            pass_return(shelf, new, words, event, returning)
            row_parent[new] = row
            row_step[new] = -1
            if event + 1 == returns:
                registers[ROWS] += 1
                registers[FURTHEST] = returns
                return LINEARIZABLE
            keep(shelf, next_stamp, words, next_masks, not depth_first, stack, following, registers)
