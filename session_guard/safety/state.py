"""What may be true of a session at one place of its block, and what is different for it later."""

from __future__ import annotations

from session_guard.records import dataclass


@dataclass(frozen=True, slots=True)
class State:
    """What may be true at one place of the block; joined with `or`."""

    reached: bool = True
    dirty: bool = False
    """Something was, or may have been, written since the last commit."""
    unflushed: bool = False
    """Something may wait in the session for a flush."""
    loaded: bool = False
    """The session may know objects."""
    stale: bool = False
    """A commit came after objects were loaded: they expired, and would no longer."""
    escaped: bool = False
    """Objects of the session may be in the hands of code that was not followed."""
    ended: bool = False
    """The transaction was ended by a call, which those round the block may not take."""
    foreign: bool = False
    """The session has an object from outside the block, which a rollback would put back."""
    had_foreign: bool = False
    """A commit expired such an object; it may be read again."""
    fresh: frozenset[str] = frozenset()
    """The names whose objects were read anew, or made, since the last commit."""

    def joined(self, other: State) -> State:
        """Return what may be true where two ways meet."""
        if not self.reached:
            return other
        if not other.reached:
            return self
        return State(
            True,
            self.dirty or other.dirty,
            self.unflushed or other.unflushed,
            self.loaded or other.loaded,
            self.stale or other.stale,
            self.escaped or other.escaped,
            self.ended or other.ended,
            self.foreign or other.foreign,
            self.had_foreign or other.had_foreign,
            self.fresh & other.fresh,
        )


ENDED = State(reached=False)
"""Behind a `return`, a `raise` and the like."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is different under the handler."""

    autoflush_ends: bool
    """The session flushed before queries, and the handler's does not."""
    expiry_ends: bool
    """A commit expired what was loaded, and under the handler it does not."""
    commits_itself: bool
    """The old form commits on leaving already: `factory.begin()`."""
    is_handed_out: bool = False
    """The block yields its session to what a framework runs, and goes on when that is done."""
