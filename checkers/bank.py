"""Banks: money is neither made nor lost, no account is overdrawn, no transfer forgotten, and no balance spent twice.

After Jepsen's bank. ``init`` says what each account holds at first, ``balances``, or ``read``, is answered with the
balance of every account at one moment, ``transfer`` moves an amount from one account to another, ``withdraw`` pays out
and ``deposit`` pays in. By intervals: what was acknowledged before counts, what is open or of unknown outcome may.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.checkers.findings import Findings
from harness.checkers.sums import Sums
from harness.checkers.timeline import Timeline, begins, by_key, ends, select
from harness.columns import LARGEST, Ints
from harness.errors import HistoryError
from harness.history import FAIL, OK, History, Operations
from harness.verdict import Budget, Checker, Verdict
from harness.words import named, show

_READS: Final = ("balances", "read")


class Bank(Checker):
    """Judges banks: the totals that reads show, balances below zero, and withdrawals that spend one balance twice.

    Where ``init`` says what each account held at first, each balance must also be a sum of what was done to it.
    ``total`` is what all accounts hold at first; without it what ``init`` says, or else a read that nothing disturbs.
    The answer to a withdrawal or a transfer may say the ``balance`` that it left.
    """

    def __init__(self, total: int | None = None) -> None:
        self._total = total

    def blind(self, history: History) -> str:
        """Why nothing could have been wrong; empty where something could."""
        operations: Operations = history.operations()
        return "" if (operations.type[select(operations, *_READS)] == OK).any() else "no balances were read"

    def check(self, history: History, budget: Budget) -> Verdict:
        operations: Operations = history.operations()
        findings = Findings(operations)
        reads = moves = 0
        why = ""
        inits, asked = select(operations, "init"), select(operations, *_READS)
        banks = by_key(operations, inits, asked, select(operations, "transfer", "withdraw", "deposit"))
        for key, parts in sorted(banks.items(), key=lambda item: item[0]):
            ledger = _Ledger(operations, key, parts, self._total, findings)
            ledger.judge()
            reads, moves, why = reads + len(ledger.reads), moves + len(ledger.moved), why or ledger.unknown
        return findings.verdict("wrong balance", {"bank_reads": reads, "bank_moves": moves}, why)


class _Ledger:
    """One bank, of openings, reads and changes; what changes a balance stands once for each account that it changes."""

    def __init__(
        self, operations: Operations, key: int, parts: Sequence[Ints], total: int | None, findings: Findings
    ) -> None:
        self._operations, self._findings = operations, findings
        self._title = (
            "The bank" if operations.history.keys[key] is None else f"Bank {named(operations.history.keys[key])}"
        )
        self.unknown = ""
        """Why the totals could not be judged."""
        self._initial: dict[str, int] = {}
        inits, reads, changes = parts
        for row in inits.tolist():
            if operations.type[row] != FAIL and not self._initial:
                self._initial = _map(operations, row, operations.argument(row))
        self._total = sum(self._initial.values()) if total is None and self._initial else total
        reads = reads[operations.type[reads] == OK]
        balances = [_map(operations, row, operations.result(row)) for row in reads.tolist()]
        some = np.array([bool(held) for held in balances], dtype=bool)
        # Before it was opened a bank has no accounts.
        judged = some | (begins(operations, reads) > self._opened(inits))
        self.reads = reads[judged]
        self._balances = [held for held, is_judged in zip(balances, judged.tolist(), strict=True) if is_judged]
        self._numbers = {name: number for number, name in enumerate(self._initial)}
        self.moved = changes[operations.type[changes] != FAIL]
        rows: list[int] = []
        accounts: list[int] = []
        amounts: list[int] = []
        outside: list[bool] = []
        value = operations.history.value
        f = operations.history.functions
        did = [f[code] for code in operations.f[self.moved].tolist()]
        for row, event, move in zip(self.moved.tolist(), operations.told[self.moved].tolist(), did, strict=True):
            amount, losing, gaining = _move(operations, row, move, value[event])
            for account, gain in ((losing, -amount), (gaining, amount)):
                if account is not None:
                    rows.append(row)
                    accounts.append(self._numbers.setdefault(account, len(self._numbers)))
                    amounts.append(gain)
                    outside.append(move != "transfer")
        self._row, self._account, self._amount = (np.array(c, dtype=np.int64) for c in (rows, accounts, amounts))
        self._outside = np.array(outside, dtype=bool)
        self._call, self._ret = begins(operations, self._row), ends(operations, self._row)
        self._ok = operations.type[self._row] == OK

    def _opened(self, inits: Ints) -> int:
        """The place at which an ``init`` had certainly taken effect; before everything where there is none."""
        done = inits[self._operations.type[inits] == OK]
        return int(ends(self._operations, done).min(initial=len(self._operations.history))) if len(inits) else -1

    def judge(self) -> None:
        """Hold the bank against each rule."""
        wrong = self._totals()
        self._single_balances()
        if self._initial:
            self._histories(wrong)
            self._overdrawn()
        self._spent_twice()

    def _add(self, kind: str, text: str, rows: list[int]) -> None:
        self._findings.add(kind, f"{self._title}: {text}", rows)

    def _totals(self) -> set[int]:
        """Each read shows a total that is possible; those that do not, by their places in ``reads``."""
        operations, rows = self._operations, self._row[self._outside]
        sums = Sums(operations, rows, self._amount[self._outside], np.zeros(len(rows), dtype=np.int64))
        same_key = np.zeros(len(self.reads), dtype=np.int64)
        call, ret = begins(operations, self.reads), ends(operations, self.reads)
        bounds = sums.bounds(same_key, call, ret)
        shown = np.array([sum(balances.values()) for balances in self._balances], dtype=np.int64)
        if self._total is None:
            sure = np.flatnonzero(bounds.least == bounds.most)
            if not len(sure):
                self.unknown = "what the bank held at first is not known: no init says it" if len(self.reads) else ""
                return set()
            self._total = int(shown[sure[0]] - bounds.certain[sure[0]])
        wrong: list[int] = sums.impossible(bounds, same_key, call, ret, shown - self._total).tolist()
        for at in wrong:
            if self._findings.enough("wrong total"):
                continue
            least, most = self._total + int(bounds.least[at]), self._total + int(bounds.most[at])
            text = (
                f"{self._findings.did(self.reads[at])}: {int(shown[at])} altogether. The bank held {self._total} at "
                "first, and transfers do not change that. "
            )
            if least == most == self._total:
                text += "Nothing was paid in or out, so that it must still hold as much."
            elif least == most:
                text += f"What was paid in and out until then leaves {least}."
            else:
                clause = ", and a sum of what was" if least <= shown[at] <= most else ""
                text += f"With what may have been paid in and out until then it must be from {least} to {most}{clause}."
            self._add("wrong total", text, [int(self.reads[at])])
        return set(wrong)

    def _histories(self, wrong: set[int]) -> None:
        """Each balance is a sum of what was done to its account, in reads that show all accounts and a right total."""
        accounts = list(self._initial)
        judged = [
            at
            for at, balances in enumerate(self._balances)
            if at not in wrong and balances.keys() == self._initial.keys()
        ]
        reads = np.repeat(self.reads[np.array(judged, dtype=np.int64)], len(accounts))
        number = np.tile(np.array([self._numbers[name] for name in accounts], dtype=np.int64), len(judged))
        shown = np.array([self._balances[at][name] for at in judged for name in accounts], dtype=np.int64)
        changed = shown - np.tile(np.array([self._initial[name] for name in accounts], dtype=np.int64), len(judged))
        sums = Sums(self._operations, self._row, self._amount, self._account)
        call, ret = begins(self._operations, reads), ends(self._operations, reads)
        bounds = sums.bounds(number, call, ret)
        reported = -1
        for at in sums.impossible(bounds, number, call, ret, changed).tolist():
            row, name = int(reads[at]), accounts[at % len(accounts)]
            if row == reported:
                continue
            reported = row
            if self._findings.enough("wrong balance"):
                continue
            first = self._initial[name]
            least, most = first + int(bounds.least[at]), first + int(bounds.most[at])
            possible = f"{least}" if least == most else f"from {least} to {most}"
            clause = ", and a sum of these" if least != most and least <= shown[at] <= most else ""
            text = (
                f"{self._findings.did(row)}: account {name} holds {int(shown[at])}. It held {first} at first, and "
                f"with all that was, or may have been, done to it until then it must be {possible}{clause}."
            )
            self._add("wrong balance", text, [row])

    def _single_balances(self) -> None:
        """No balance is below zero, and each account that there is at first, and no other one, has one."""
        for row, balances in zip(self.reads.tolist(), self._balances, strict=True):
            if min(balances.values(), default=0) < 0 and not self._findings.enough("overdraft"):
                account = min(balances, key=balances.__getitem__)
                text = f"{self._findings.did(row)}: account {account} holds {balances[account]}, less than nothing."
                self._add("overdraft", text, [row])
            differs = bool(self._initial) and balances.keys() != self._initial.keys()
            if differs and not self._findings.enough("wrong accounts"):
                strange = sorted(balances.keys() ^ self._initial.keys())
                known = sorted(self._initial)
                text = f"{self._findings.did(row)}. The accounts are {show(known)}: {show(strange)} is missing or new."
                self._add("wrong accounts", text, [row])

    def _overdrawn(self) -> None:
        """What was certainly taken from an account is no more than what it can have held."""
        debit, credit = self._ok & (self._amount < 0), self._amount > 0
        span = len(self._operations.history)
        taken = Timeline(self._account[debit], self._ret[debit], span)
        given = Timeline(self._account[credit], self._call[credit], span)
        account, moment = self._account[debit], self._ret[debit] + 1
        first = np.array([self._initial.get(name, 0) for name in self._numbers], dtype=np.int64)
        most = first[account] + given.total(self._amount[credit], account, moment)
        spent = -taken.total(self._amount[debit], account, moment)
        names = list(self._numbers)
        wrong = np.flatnonzero(spent > most)
        wrong = wrong[np.argsort(moment[wrong], kind="stable")]
        _, firsts = np.unique(account[wrong], return_index=True)
        rows = self._row[debit]
        for at in wrong[np.sort(firsts)].tolist():
            of_account = np.flatnonzero((account == account[at]) & (moment <= moment[at]))
            last = rows[of_account[np.argsort(moment[of_account])]][-4:].tolist()
            text = (
                f"account {names[account[at]]} held {int(first[account[at]])} at first, and with all that was paid in "
                f"it can have held no more than {int(most[at])}. Yet {int(spent[at])} were taken from it, and that was "
                f"acknowledged; the last of it: {'; '.join(self._findings.did(row) for row in last)}."
            )
            self._add("overdraft", text, last)

    def _spent_twice(self) -> None:
        """Two that took from one account and found the same balance, while too little was paid in between."""
        operations = self._operations
        left: list[tuple[int, int, int]] = []
        for at in np.flatnonzero(self._ok & (self._amount < 0)).tolist():
            answer = operations.result(int(self._row[at]))
            if isinstance(answer, Mapping) and type(answer.get("balance")) is int:
                left.append((int(self._account[at]), answer["balance"] - int(self._amount[at]), at))
        if not left:
            return
        table = np.array(left, dtype=np.int64)
        table = table[np.lexsort((self._call[table[:, 2]], table[:, 1], table[:, 0]))]
        account, balance, debit = table[:, 0], table[:, 1], table[:, 2]
        pair = np.flatnonzero((np.diff(account) == 0) & (np.diff(balance) == 0))
        first, second = debit[pair], debit[pair + 1]
        begin = np.minimum(self._call[first], self._call[second])
        end = np.maximum(self._ret[first], self._ret[second])
        between = self._paid_in(account[pair], begin, end)
        least = np.minimum(-self._amount[first], -self._amount[second])
        names = list(self._numbers)
        for number in np.flatnonzero(between < least).tolist():
            if self._findings.enough("spent twice"):
                continue
            rows = [int(self._row[first[number]]), int(self._row[second[number]])]
            paid = int(between[number])
            meanwhile = f"At most {paid} was paid in meanwhile" if paid else "Nothing was paid in meanwhile"
            text = (
                f"{self._findings.did(rows[0])}, and {self._findings.did(rows[1])}. Both succeeded, and both found "
                f"{int(balance[pair[number]])} in account {names[account[pair[number]]]}. {meanwhile}, so that whoever "
                "came second must have found less: one balance was spent twice."
            )
            self._add("spent twice", text, rows)

    def _paid_in(self, account: Ints, begin: Ints, end: Ints) -> NDArray[np.int64]:
        """The most that may have been paid into an account between two moments."""
        credit, span = self._amount > 0, len(self._operations.history)
        sure = credit & self._ok
        begun = Timeline(self._account[credit], self._call[credit], span).total(self._amount[credit], account, end)
        over = Timeline(self._account[sure], self._ret[sure], span).total(self._amount[sure], account, begin)
        between: NDArray[np.int64] = begun - over
        return between


def _map(operations: Operations, row: int, value: Any) -> dict[str, int]:
    """Balances by account, without those that are nothing. Raises ``HistoryError`` for anything else."""
    if isinstance(value, Mapping) and {int, type(None)}.issuperset(map(type, value.values())):
        return {str(name): balance for name, balance in value.items() if balance is not None}
    line = operations.history.line_of(int(operations.invoked[row]))
    raise HistoryError(f"a bank has a map from accounts to whole numbers, not {str(value)[:40]}", line=line)


def _move(operations: Operations, row: int, name: str, value: Any) -> tuple[int, str | None, str | None]:
    """How much goes from which account to which. Raises ``HistoryError`` where that is not said."""
    if isinstance(value, Mapping):
        amount = value.get("amount")
        losing = value.get({"transfer": "from", "withdraw": "account"}.get(name, ""))
        gaining = value.get({"transfer": "to", "deposit": "account"}.get(name, ""))
        named_ = (losing is not None or name == "deposit") and (gaining is not None or name == "withdraw")
        if type(amount) is int and 0 <= amount < LARGEST and named_:
            return amount, None if losing is None else str(losing), None if gaining is None else str(gaining)
    line = operations.history.line_of(int(operations.invoked[row]))
    fields = "from, to" if name == "transfer" else "account"
    raise HistoryError(f"a {name} has {fields} and an amount of 0 or more, not {str(value)[:60]}", line=line)
