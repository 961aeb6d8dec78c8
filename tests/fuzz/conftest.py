"""Settings of hypothesis for this tier."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no fault of the code: what takes too long is for pytest's own timeout to say.
settings.register_profile("hairpin", deadline=None)
settings.load_profile("hairpin")
