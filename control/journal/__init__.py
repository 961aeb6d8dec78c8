"""The journal: calls and replies on file, for the relay that is started after this one."""

from control.journal.files import JournalTaken
from control.journal.format import JournalError
from control.journal.journal import Journal, flush

__all__ = ["Journal", "JournalError", "JournalTaken", "flush"]
