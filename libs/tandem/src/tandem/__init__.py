"""Two services, two databases, one change: both or neither.

The initiator records an *intent* in its database, asks the decider for a *decision*, and follows it
with a *completion*. The decider records the decision under the operation's id in the statement that
makes the change, so that a lost answer is asked for again, and an operation that shall not happen
gets a tombstone under the same id: the first writer wins.
"""
